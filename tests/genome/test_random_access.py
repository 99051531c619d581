"""Any interval of a genome is what a reader of the whole file has there, whatever the file looks like."""

import gzip
import os
from pathlib import Path

import pyfaidx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmgems_cli.errors import InputError
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
