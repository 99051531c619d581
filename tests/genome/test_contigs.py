"""Names of contigs, which are chosen, and the index beside a FASTA file."""

import os
from pathlib import Path

import pyfaidx
import pytest

from cmgems_cli.errors import InputError, UsageError
from cmgems_cli.genome import contigs
from cmgems_cli.genome.contigs import ContigSelection, IndexedRecord, indexed_records
from tests.genome.reference import write_fasta

FASTA = Path("genome.fa")


def test_primary_leaves_out_alternatives_and_mitochondria() -> None:
    selection = ContigSelection("primary")
    kept = [selection.add(name, FASTA) for name in ("chr1", "chr1_alt", "chrM", "chrX")]
    assert [contig is not None for contig in kept] == [True, False, False, True]
    assert [contig.canonical_name for contig in selection.kept] == ["1", "X"]


@pytest.mark.parametrize("asked", ["20", "chr20", "NC_000020.10", "scaffold_7, chr20"])
def test_a_name_matches_the_same_chromosome_under_any_scheme(asked: str) -> None:
    selection = ContigSelection(asked)
    assert selection.wants("chr20")
    assert selection.wants("NC_000020.11")
    assert not selection.wants("chr2")
    assert selection.wants("scaffold_7") == ("scaffold_7" in asked)


def test_an_unknown_name_is_an_error_with_the_closest_names() -> None:
    selection = ContigSelection("chrX,scafold_12")
    for name in ("chrX", "scaffold_12", "scaffold_13"):
        selection.add(name, FASTA)
    with pytest.raises(
        InputError, match=r"no record named 'scafold_12'.*the closest: scaffold_12, scaffold_13"
    ):
        selection.check_complete()


def test_no_primary_chromosome_is_an_error_that_lists_names() -> None:
    selection = ContigSelection("primary")
    for number in range(20):
        selection.add(f"contig{number}", FASTA)
    with pytest.raises(InputError, match=r"contig0, contig1, .* and 12 more; use `contigs=all`"):
        selection.check_complete()


def test_a_repeated_name_is_an_error_even_where_it_is_not_kept() -> None:
    selection = ContigSelection("primary")
    selection.add("alt", FASTA)
    with pytest.raises(InputError, match="second record named 'alt'"):
        selection.add("alt", Path("other.fa"))


def test_one_chromosome_under_two_names_is_an_error_unless_all_is_asked_for() -> None:
    selection = ContigSelection("primary")
    selection.add("chr1", FASTA)
    with pytest.raises(InputError, match=r"'chr1' and 'NC_000001\.11' are both chromosome 1"):
        selection.add("NC_000001.11", FASTA)
    everything = ContigSelection("all")
    assert everything.add("chr1", FASTA) is not None
    assert everything.add("1", FASTA) is not None


@pytest.mark.parametrize("kept", ["all", "c0"])
def test_m_more_records_than_memory_is_planned_for_are_an_error(
    kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert contigs.MAX_CONTIGS == 2**20
    monkeypatch.setattr(contigs, "MAX_CONTIGS", 5)
    selection = ContigSelection(kept)
    for number in range(5):
        selection.add(f"c{number}", FASTA)
    with pytest.raises(InputError, match="more than 5 records"):
        selection.add("one", FASTA)


def test_m_names_do_not_fill_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contigs, "MAX_NAMES_BYTES", 1000)
    selection = ContigSelection("all")
    selection.add("x" * 500, FASTA)
    with pytest.raises(InputError, match="or 1,000 letters of names"):
        selection.add("y" * 501, FASTA)


@pytest.mark.parametrize("text", ["", " , ", "primary,chrM", "all,20"])
def test_selections_that_say_nothing_or_two_things_are_usage_errors(text: str) -> None:
    with pytest.raises(UsageError):
        ContigSelection(text)


def test_words_for_several_contigs_are_taken_in_any_case_of_letters() -> None:
    assert (ContigSelection("All").everything, ContigSelection("PRIMARY").text) == (True, "primary")
    assert ContigSelection("Chr1,chrM").text == "Chr1,chrM"
    selection = ContigSelection("primry")
    selection.add("chr1", FASTA)
    with pytest.raises(InputError, match=r"there are: chr1; did you mean primary\?"):
        selection.check_complete()


def test_of_one_record_not_a_number_is_said() -> None:
    selection = ContigSelection("primary")
    selection.add("contig0", FASTA)
    with pytest.raises(InputError, match=r"^no record is a primary chromosome .*there are: contig0;"):
        selection.check_complete()


def test_identity_does_not_depend_on_the_naming_scheme() -> None:
    selection = ContigSelection("all")
    added = [selection.add(name, FASTA) for name in ("chr7", "7", "NC_000007.14", "chr8")]
    identities = [contig.identity for contig in added if contig is not None]
    assert identities[0] == identities[1] == identities[2] != identities[3]


@pytest.fixture
def indexed(tmp_path: Path) -> Path:
    fasta = write_fasta(tmp_path / "g.fa", {"chr1 first": "ACGTN" * 30, "chr2": "", "chr3": "ac" * 45})
    pyfaidx.Faidx(str(fasta)).close()
    return fasta


def test_an_index_tells_where_records_stand(indexed: Path) -> None:
    text = indexed.read_bytes()
    records = indexed_records(indexed)
    assert records is not None
    assert [(record.name, record.length_bases) for record in records] == [
        ("chr1", 150),
        ("chr2", 0),
        ("chr3", 90),
    ]
    assert b"".join(text[record.begin : record.end] for record in records) == text
    assert text[records[2].begin : records[2].end].startswith(b">chr3\n")


def test_the_last_line_may_lack_its_line_end(indexed: Path) -> None:
    indexed.write_bytes(indexed.read_bytes()[:-1])
    index = indexed.with_name("g.fa.fai")
    os.utime(index)
    records = indexed_records(indexed)
    assert records is not None
    assert records[-1].name == "chr3"


def _older(fasta: Path, index: Path) -> None:
    os.utime(index, (1, 1))


def _absent(fasta: Path, index: Path) -> None:
    index.unlink()


def _another_name(fasta: Path, index: Path) -> None:
    index.write_text(index.read_text().replace("chr3", "chr4"))


def _another_length(fasta: Path, index: Path) -> None:
    index.write_text(index.read_text().replace("chr3\t90", "chr3\t89"))


def _a_record_less(fasta: Path, index: Path) -> None:
    index.write_text("".join(index.read_text().splitlines(keepends=True)[:-1]))


def _a_record_twice(fasta: Path, index: Path) -> None:
    index.write_text(index.read_text() + index.read_text().splitlines(keepends=True)[-1])


def _not_an_index(fasta: Path, index: Path) -> None:
    index.write_text("this is no index\n")


def _text_appended(fasta: Path, index: Path) -> None:
    fasta.write_text(fasta.read_text() + ">chr4\nACGT\n")
    os.utime(index)


@pytest.mark.parametrize(
    "spoil",
    [
        _older,
        _absent,
        _another_name,
        _another_length,
        _a_record_less,
        _a_record_twice,
        _not_an_index,
        _text_appended,
    ],
)
def test_an_index_that_is_stale_or_disagrees_is_ignored_and_left_alone(spoil, indexed: Path) -> None:
    index = indexed.with_name("g.fa.fai")
    spoil(indexed, index)
    before = index.read_bytes() if index.exists() else None
    assert indexed_records(indexed) is None
    assert (index.read_bytes() if index.exists() else None) == before
    assert {path.name for path in indexed.parent.iterdir()} <= {"g.fa", "g.fa.fai"}


def test_an_index_of_a_zipped_file_is_not_asked_for(tmp_path: Path) -> None:
    zipped = tmp_path / "g.fa.gz"
    zipped.write_bytes(b"\x1f\x8b whatever")
    (tmp_path / "g.fa.gz.fai").write_text("chr1\t4\t6\t4\t5\n")
    assert indexed_records(zipped) is None


HOSTILE = {
    "offset beyond the file": "chr1\t150\t99999999999999999999\t60\t61\n",
    "negative offset": "chr1\t150\t-12\t60\t61\n",
    "no columns": "chr1\n",
    "letters for numbers": "chr1\tA\tB\tC\tD\n",
    "no letters a line": "chr1\t150\t12\t0\t0\n",
    "a length of 20 digits": "chr1\t99999999999999999999\t12\t60\t61\n",
    "not text": "\x00\x01\x02\t\t\t\t\n",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_c3_any_index_is_used_or_ignored(case: str, indexed: Path) -> None:
    index = indexed.with_name("g.fa.fai")
    index.write_text(HOSTILE[case])
    assert indexed_records(indexed) is None
    index.write_bytes(b"\xff\xfe" * 99)
    assert indexed_records(indexed) is None


def test_indexed_record_counts_from_its_header(tmp_path: Path) -> None:
    fasta = write_fasta(tmp_path / "g.fa", {"a": "ACGT"})
    pyfaidx.Faidx(str(fasta)).close()
    assert indexed_records(fasta) == [IndexedRecord("a", 4, 0, 8)]
