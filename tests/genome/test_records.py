"""Records of FASTA files: against the plainest reader, whatever the pieces the file comes in."""

import gzip
import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cmgems_cli.errors import InputError
from cmgems_cli.genome import fasta
from cmgems_cli.genome.fasta import FastaFile
from cmgems_cli.genome.records import Record, fasta_records


def slow_records(text: str) -> list[Record]:
    found: list[Record] = []
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if line.startswith(">"):
            found.append(Record(line[1:].split()[0], b""))
        elif found:
            letters = "".join(line.split()).upper().encode()
            found[-1] = Record(found[-1].name, found[-1].letters + letters)
    return found


lines = st.one_of(
    st.text("ACGTacgtN -", max_size=12),
    st.sampled_from([">a", ">b two words", "> c", ">a\t1", ""]),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(lines, max_size=12),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.integers(1, 9),
    st.booleans(),
)
def test_records_are_what_a_plain_reader_finds(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    body: list[str],
    end: str,
    last: bool,
    size: int,
    zipped: bool,
) -> None:
    monkeypatch.setattr(fasta, "CHUNK_BYTES", size)
    text = end.join(["", ">first", *body]) + end * last
    path = tmp_path / "some.fa"
    path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    read: list[float] = []
    assert list(fasta_records(FastaFile(path), read.append)) == slow_records(text)
    assert sum(read) == path.stat().st_size


def test_the_hash_is_the_file_s(tmp_path: Path) -> None:
    path = tmp_path / "some.fa"
    path.write_bytes(b">a\nAC\n")
    source = FastaFile(path)
    assert list(fasta_records(source)) == [Record("a", b"AC")]
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "begins with ''"),
        (b"\n\n", "begins with ''"),
        (b"ACGT\n", "begins with 'ACGT'; needed FASTA"),
        (b">a\nAC\n>\nGT\n", "has a record without a name .after 'a'."),
        (b">p\n" + b"MKVLAADTGLAV" * 5, "looks like protein"),
    ],
)
def test_what_is_not_fasta_of_dna_is_refused(tmp_path: Path, text: bytes, words: str) -> None:
    path = tmp_path / "some.fa"
    path.write_bytes(text)
    with pytest.raises(InputError, match=words):
        list(fasta_records(FastaFile(path)))


def test_m_a_record_longer_than_needed_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "long.fa"
    for last, other in (("", b""), ("N", b"N")):
        path.write_text(">long\n" + 300_000 * ("ACGT" * 20 + "\n") + last + "\n>short\nacgt\n")
        long, short = fasta_records(FastaFile(path), max_bases=30)
        assert short == Record("short", b"ACGT")
        assert 30 < len(long.letters) < 4_000_000
        assert long.letters.translate(None, b"ACGT") == other
