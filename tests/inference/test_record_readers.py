"""Sequences from every kind of file, and a sentence for every kind of trouble."""

import gzip
import os
from pathlib import Path

import pytest

from cmgems_cli.errors import InputError
from cmgems_cli.inference.record_readers import Source
from tests.inference.conftest import as_standard_input


def read(path: Path) -> list[tuple[str, str]]:
    """Return names and sequences, pieces joined."""
    found: list[tuple[str, str]] = []
    begins = True
    for chunk in Source(path).chunks():
        if begins:
            found.append((chunk.name, ""))
        found[-1] = (chunk.name, found[-1][1] + chunk.letters.decode())
        begins = chunk.last
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (">a first\nACGT\nNN\n\n>b\nacgt", [("a", "ACGTNN"), ("b", "acgt")]),
        ("\n\n>a\nAC\n", [("a", "AC")]),
        ("sequence\nACGT\nggg\n", [("0", "ACGT"), ("1", "GGG")]),
        ("sequence,label\nACGT,1\nGGG,0\n", [("0", "ACGT"), ("1", "GGG")]),
        ("id\tlabel\tSequence\nx\t1\tACGT\ny\t0\tGGG\n", [("x", "ACGT"), ("y", "GGG")]),
        ("id,name,sequence\n7,x,ACGT\n", [("x", "ACGT")]),
        ('sequence,name\n"ACG CGT",x\n', [("x", "ACGT")]),
        ("\ufeffsequence,name\r\nACGT,x\r\n\r\n,y\r\n", [("x", "ACGT"), ("y", "")]),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_names_and_sequences(
    tmp_path: Path, text: str, expected: list[tuple[str, str]], zipped: bool
) -> None:
    path = tmp_path / "anything"
    path.write_bytes(gzip.compress(text.encode(), mtime=0) if zipped else text.encode())
    assert read(path) == expected


def test_a_table_of_many_rows_is_read_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "many.csv"
    rows = [f"r{i},{'ACGT' * (i % 40)}" for i in range(60_000)]
    path.write_text("\n".join(["name,sequence", *rows]))
    assert [f"{name},{sequence}" for name, sequence in read(path)] == rows


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"sequence,label\n", "has a header and no rows"),
        (b"seq,label\nACGT,1\n", "has no column 'sequence' (its first line: 'seq, label')"),
        (b"sequence,sequence\nA,C\n", "more than one column"),
        (b"ACGTACGTACGT\nACGT\n", "starts with a sequence, without a header"),
        (b"name,sequence\nx,ACGT\ny\n", "line 3 has 1 fields, its header 2"),
        (b"sequence\nACGT\nAC-GT\n", "line 3 has '-' in its sequence"),
        (b"sequence\nACG CCT\n", "line 2 has k-mers that do not overlap"),
        (b'sequence\n"ACGT\n', "line 2 is not a readable row"),
        (b"sequence\nACGT\xff\n", "is not UTF-8 text"),
        (b"@read1\nACGT\n+\nIIII\n", "looks like FASTQ or SAM"),
        (b"PK\x03\x04zzzz", "a zip file; unpack it first"),
        (b"\x7fELF\x00\x00", "is a binary file"),
        (b">p\n" + b"MKVLAAGIVGLLFTAEQWPRSH" * 4, "looks like protein"),
        (gzip.compress(b">a\n" + b"ACGT" * 999, mtime=0)[:-9], "truncated gzip"),
        (b"sequence\n" + b"A" * 10_000_001, "give long sequences as FASTA"),
    ],
)
def test_each_trouble_has_its_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "input"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert words in message
    assert str(path) in message


def test_a_missing_file_and_a_folder_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        Source(tmp_path / "nowhere.fa")
    with pytest.raises(InputError, match="is a folder"):
        Source(tmp_path)


@pytest.mark.parametrize("zipped", [False, True])
def test_standard_input_is_read_once(zipped: bool) -> None:
    text = b"name,sequence\nx,ACGT\n"
    source = Source(Path("-"))
    assert not source.rereadable
    with as_standard_input(gzip.compress(text, mtime=0) if zipped else text):
        assert [tuple(chunk) for chunk in source.chunks()] == [("x", b"ACGT", True)]
        os.fstat(0)  # still open
    with as_standard_input(b""), pytest.raises(InputError, match="standard input is empty"):
        list(source.chunks())
