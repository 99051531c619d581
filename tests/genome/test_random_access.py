"""Any interval of a genome is what a reader of the whole file has there, whatever the file looks like."""

import gzip
import os
from pathlib import Path

import pyfaidx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmgems_cli.errors import InputError
from cmgems_cli.genome import random_access
from cmgems_cli.genome.random_access import GenomeFile

RECORDS = {"chr1": "ACGTNacgtR" * 7, "chr20": "TTGACA", "scaffold": "G" * 33, "empty": ""}


def write(path: Path, *, width: int = 10, end: str = "\n", final: bool = True, gz: bool = False) -> Path:
    lines = []
    for name, letters in RECORDS.items():
        lines += [f">{name} words", *(letters[i : i + width] for i in range(0, len(letters), width))]
    text = end.join(lines) + (end if final else "")
    path.write_bytes(gzip.compress(text.encode()) if gz else text.encode())
    return path


FORMS = [
    {},
    {"width": 7, "end": "\r\n"},
    {"width": 9, "end": "\r"},
    {"final": False},
    {"gz": True},
    {"width": 100},
]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_interval_of_every_form_of_file(tmp_path: Path, form: dict[str, object]) -> None:
    path = write(tmp_path / "genome.fa", **form)  # type: ignore[arg-type]
    with GenomeFile(path) as genome:
        assert genome.contigs == {name: len(letters) for name, letters in RECORDS.items()}
        for name, letters in RECORDS.items():
            for start in range(0, len(letters) + 1, 3):
                for end in range(start, len(letters) + 1, 5):
                    assert genome.letters(name, start, end) == letters[start:end].upper().encode()
    assert [found.name for found in tmp_path.iterdir()] == ["genome.fa"]


@given(st.lists(st.tuples(st.integers(0, 299), st.integers(0, 300)), max_size=20))
@settings(max_examples=20)
def test_intervals_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("genome") / "g.fa"
    letters = "".join("ACGT"[(i * i + i // 7) % 4] for i in range(300))
    path.write_text(">a\nACG\n>b\n" + "\n".join(letters[i : i + 13] for i in range(0, 300, 13)) + "\n")
    with GenomeFile(path) as genome:
        assert not genome.copied
        for one, other in pairs:
            start, end = sorted((one, other))
            assert genome.letters("b", start, end).decode() == letters[start:end]


def test_uneven_lines_are_read_from_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "g.fa"
    path.write_text(">a\nAC\nGTT\n\nA\n>b\nC\n")
    with GenomeFile(path) as genome:
        assert genome.copied
        assert (genome.letters("a", 1, 6), genome.letters("b", 0, 1)) == (b"CGTTA", b"C")


BASES = "ACGT" * 30
LAYOUTS = {
    "even": ([50, 50, 20], "\n"),
    "one line": ([120], "\n"),
    "even, CRLF": ([50, 50, 20], "\r\n"),
    "last line longer": ([50, 70], "\n"),
    "last line one longer": ([59, 61], "\n"),
    "even with the index of another width": ([60, 60], "\n"),
    "longer, then shorter": ([50, 51, 19], "\n"),
    "blank line": ([50, 0, 70], "\n"),
    "two line ends": ([50, 50, 20], "\n\n"),
    "a blank at each end": ([50, 50, 20], " \n"),
    "tab": ([50, 50, 20], "\t\n"),
    "CR from a line on": ([50, 50, 20], "\r"),
}


@pytest.mark.parametrize("chunk_bytes", [7, 1 << 20])
@pytest.mark.parametrize("indexed", [False, True], ids=["no index", "index of lines of 60"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_f10_letters_are_those_of_a_reader_of_the_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, indexed: bool, chunk_bytes: int
) -> None:
    """pyfaidx takes the length of a record's first line for all, and never looks at the last."""
    monkeypatch.setattr(random_access, "_CHUNK_BYTES", chunk_bytes)
    widths, line_end = LAYOUTS[layout]
    path = tmp_path / "g.fa"
    if indexed:
        path.write_text("".join(f">{name}\n{BASES[:60]}\n{BASES[60:]}\n" for name in "ab"))
        pyfaidx.Faidx(str(path)).close()
    starts = [sum(widths[:number]) for number in range(len(widths))]
    lines = [BASES[start : start + width] for start, width in zip(starts, widths, strict=True)]
    path.write_bytes(
        "".join(f">{name}\n" + "".join(line + line_end for line in lines) for name in "ab").encode()
    )
    os.utime(path, (1, 1))
    with GenomeFile(path) as genome:
        assert genome.contigs == {"a": 120, "b": 120}
        for start in range(0, 120, 7):
            for end in range(start, 121, 11):
                for name in "ab":
                    assert genome.letters(name, start, end) == BASES[start:end].encode(), (name, start, end)
        if layout in ("even", "even, CRLF", "one line") and not indexed:
            assert not genome.copied


@pytest.mark.parametrize("line", [";comment", "ACGT 50", "#ACGT", "AC>GT", "AC\x00GT"])
@pytest.mark.parametrize("before", [1, 2_000])
def test_f10_lines_that_are_no_sequence_are_refused(tmp_path: Path, line: str, before: int) -> None:
    path = tmp_path / "g.fa"
    path.write_text(">a\n" + f"{BASES}\n" * before + f"{line}\n{BASES}\n")
    with pytest.raises(InputError, match=r"characters that no sequence has|a binary file"):
        GenomeFile(path)


@pytest.mark.parametrize("blank", ["\n\n", "\n\n\n", "\n \n"])
def test_c1_blank_lines_between_records_and_at_the_end(tmp_path: Path, blank: str) -> None:
    path = tmp_path / "g.fa"
    path.write_text(f">a\n{BASES}\n{blank}>b\n{BASES}{blank}")
    with GenomeFile(path) as genome:
        assert genome.contigs == {"a": 120, "b": 120}
        assert genome.letters("b", 3, 120) == BASES[3:].encode()


def test_an_index_is_used_unless_it_is_older(tmp_path: Path) -> None:
    path = write(tmp_path / "g.fa")
    pyfaidx.Faidx(str(path)).close()
    index = tmp_path / "g.fa.fai"
    before = index.read_bytes()
    os.utime(index, (1, 1))
    path.write_text(">other\nACGT\n")
    with GenomeFile(path) as genome:
        assert genome.contigs == {"other": 4}
    assert index.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "found"),
    [("chr1", "chr1"), ("1", "chr1"), ("NC_000020.11", "chr20"), ("2", None), ("scaffold", "scaffold")],
)
def test_a_chromosome_is_found_under_other_names(tmp_path: Path, name: str, found: str | None) -> None:
    with GenomeFile(write(tmp_path / "g.fa")) as genome:
        assert genome.find(name) == found


def test_a_chromosome_that_is_there_twice_has_to_be_named(tmp_path: Path) -> None:
    path = tmp_path / "g.fa"
    path.write_text(">1\nACGT\n>chr1\nACGT\n")
    with GenomeFile(path) as genome:
        assert (genome.find("1"), genome.find("NC_000001.11")) == ("1", None)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b">a\nAC\n>a\nGT\n", "a second record named 'a'"),
        (gzip.compress(b">a\nAC\n>a\nGT\n", mtime=0), "a second record named 'a'"),
        (gzip.compress(b">a\n" + b"ACGT" * 99, mtime=0)[:-12], "truncated gzip"),
        (b"##fileformat=VCFv4.2\n", "VCF"),
        (b"\n\n", "is empty"),
        (b"", "is empty"),
    ],
)
def test_what_is_not_a_genome_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "g.fa"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        GenomeFile(path)


def test_an_interval_outside_is_an_error_of_the_caller(tmp_path: Path) -> None:
    with GenomeFile(write(tmp_path / "g.fa")) as genome, pytest.raises(ValueError, match="not within"):
        genome.letters("chr20", 0, 7)
