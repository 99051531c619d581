import csv
import gzip
import hashlib
import io
import itertools
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cmgems_cli.datasets.labelled_table import read_rows
from cmgems_cli.errors import InputError
from tests.timing import within

PLENTY = 10_000


def kmers(bases: str, k: int) -> str:
    return " ".join(bases[i : i + k] for i in range(len(bases) - k + 1))


@st.composite
def files(draw):
    """A file in any of the ways such files are written, and the rows it holds."""
    alphabet = draw(st.sampled_from(["ACGT", "ACGTN", "acgtACGTn"]))
    # No empty sequence in k-mer files: they have none, and "" is not a k-mer.
    rows = draw(
        st.lists(st.tuples(st.text(alphabet, min_size=6, max_size=40), st.sampled_from("01b")), min_size=1)
    )
    delimiter = draw(st.sampled_from(",\t"))
    k = draw(st.sampled_from([0, 0, 3, 6]))
    columns = draw(st.permutations(["Sequence", "label", "id"]))
    text = io.StringIO()
    writer = csv.writer(
        text,
        delimiter=delimiter,
        lineterminator=draw(st.sampled_from(["\n", "\r\n"])),
        quoting=draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
    )
    writer.writerow(columns)
    for number, (sequence, label) in enumerate(rows):
        cells = {"Sequence": kmers(sequence, k) if k else sequence, "label": label, "id": str(number)}
        writer.writerow([cells[column] for column in columns])
        if draw(st.booleans()):
            text.write("\n")
    written = text.getvalue()
    if draw(st.booleans()):
        written = written.rstrip("\r\n")
    return draw(st.sampled_from(["", "\ufeff"])) + written, rows


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files())
def test_every_way_of_writing_holds_the_same_rows(tmp_path, case):
    text, rows = case
    path = tmp_path / "table"
    path.write_bytes(text.encode())
    found = read_rows(path, max_bases=PLENTY)
    assert found.sequences == [sequence.upper().encode() for sequence, _ in rows]
    assert found.labels == [label for _, label in rows]
    upper = [(sequence.upper(), label) for sequence, label in rows]
    assert found.duplicates == len(rows) - len({sequence for sequence, _ in upper})
    by_sequence = {sequence: {label for other, label in upper if other == sequence} for sequence, _ in upper}
    assert found.contradictory == sum(len(labels) > 1 for labels in by_sequence.values())


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.text("AC", min_size=1, max_size=4), min_size=2, max_size=5),
)
def test_kmers_are_joined_exactly_if_each_continues_the_one_before(tmp_path, words):
    overlap = len(set(map(len, words))) == 1 and all(a[1:] == b[:-1] for a, b in itertools.pairwise(words))
    path = tmp_path / "table.tsv"
    path.write_text(f"sequence\tlabel\n{' '.join(words)}\t1\n")
    if overlap:
        assert read_rows(path, max_bases=PLENTY).sequences == [
            (words[0] + "".join(word[-1] for word in words[1:])).encode()
        ]
    else:
        with pytest.raises(InputError, match="line 2 has k-mers that do not overlap"):
            read_rows(path, max_bases=PLENTY)


def test_extra_spaces_between_kmers_do_not_matter(tmp_path):
    path = tmp_path / "table.tsv"
    path.write_text("sequence\tlabel\n ACGTAC  CGTACG GTACGT \t 1 \n")
    found = read_rows(path, max_bases=PLENTY)
    assert (found.sequences, found.labels) == ([b"ACGTACGT"], ["1"])


def test_blank_lines_are_skipped_wherever_they_are(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("\n  \nsequence,label\n\nACGT,1\n\t\nAC,0\n\n")
    assert read_rows(path, max_bases=PLENTY).sequences == [b"ACGT", b"AC"]


def test_long_sequences_are_cut_and_counted_and_compared_as_cut(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("sequence,label\nACGTA,1\nACGTC,0\nACGT,1\n")
    found = read_rows(path, max_bases=4)
    assert found.sequences == [b"ACGT"] * 3
    assert (found.too_long, found.longest, found.duplicates, found.contradictory) == (2, 5, 2, 1)


HEADER = b"sequence,label\n"
REFUSED = {
    "empty": (b"", "is empty"),
    "only blank lines": (b"\n \n", "is empty"),
    "only a header": (HEADER, "has a header and no rows"),
    "no header": (b"ACGTACGT,1\nACGT,0\n", "starts with a sequence, without a header"),
    "no header, k-mers": (b"ACGTAC CGTACG\t1\n", "starts with a sequence, without a header"),
    "other columns": (b"seq,label\nACGT,1\n", "has no column 'sequence'.*'seq, label'"),
    "no label column": (b"sequence\nACGT\n", "has no column 'label'"),
    "a column twice": (b"sequence,label,Label\nACGT,1,1\n", "more than one column 'label'"),
    "semicolons": (b"sequence;label\nACGT;1\n", "has no column 'sequence'.*'sequence;label'"),
    "too few fields": (HEADER + b"ACGT,1\n\nACGT\n", "line 4 has 1 fields, its header 2"),
    "too many fields": (HEADER + b"ACGT,1,2\n", "line 2 has 3 fields, its header 2"),
    "no label": (HEADER + b"ACGT,1\nACGT, \n", "line 3 has no label"),
    "a digit in a sequence": (HEADER + b"ACG7T,1\n", "line 2 has '7' in its sequence"),
    "a letter beyond ASCII": (HEADER + "ACGÄT,1\n".encode(), "line 2 has 'Ä' in its sequence"),
    "compressed and cut off": (b"\x1f\x8b\x08\x00\x00\xff\xfe", "is a truncated gzip file"),
    "UTF-16 cut off": ("sequence,label\nACGT,1\n".encode("utf-16")[:-1], "is not valid UTF-16"),
    "UTF-16 without a mark": ("sequence,label\nACGT,1\n".encode("utf-16-le"), "has no column 'sequence'"),
    "Latin-1": (HEADER + "ACGT,é\n".encode("latin-1"), "is not UTF-8 text"),
    "zero bytes": (b"\x00\x01\x00\x02\n", "has no column 'sequence'"),
    **{
        f"the missing value {value}": (
            HEADER + f"ACGT,1\nACGT,{value}\n".encode(),
            f"line 3 has the label '{re.escape(value)}', which marks a missing value",
        )
        for value in ("NaN", "nan", "None", "NA", "n/a", "<NA>", "NULL", "?", "#N/A")
    },
    "a header again": (HEADER + b"ACGT,1\n" + HEADER + b"ACGT,0\n", "line 3 repeats the header"),
    "a header again, quoted": (HEADER + b'ACGT,1\n "Sequence",Label\n'.replace(b" ", b""), "line 3 repeats"),
    "a label of many digits": (HEADER + b"ACGT," + b"9" * 5_000 + b"\n", "a label of 5,000 characters"),
    "a label of words": (HEADER + b"ACGT," + b"word " * 100 + b"\n", "a label of 499 characters"),
    "a row without end": (
        HEADER + b'ACGT,"' + b"1\n" * 5_000_001 + b'"\n',
        "ends no row after 10,000,000 characters",
    ),
    "many cells": (HEADER + b"," * 10_000_001, "line 2 has more than 10,000,000 characters"),
    "a long header": (b"sequence,label," + b"x" * 10_000_000, "line 1 has more than 10,000,000"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "git lfs pull"),
    "a vertical tab": (b"\x0b", "is empty"),
    "a form feed": (b"\x0c\n\x0b\n", "is empty"),
    "an open quote": (HEADER + b'"ACGT,1\nACGT,1\n', "line 3 is not a readable row"),
    "a quote inside": (HEADER + b'"AC"GT,1\n', "line 2 is not a readable row"),
    "an endless field": (HEADER + b"A" * 10_000_001 + b",1\n", "line 2 has more than 10,000,000 characters"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_table_is_refused_in_one_line(tmp_path, name):
    content, words = REFUSED[name]
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        read_rows(path, max_bases=PLENTY)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value).replace(str(path), "")) < 200


@pytest.mark.parametrize("letters", [131_072, 131_073, 200_000, 1_000_000])
@pytest.mark.parametrize("as_kmers", [False, True])
def test_f7_long_fields_are_read(tmp_path, letters, as_kmers):
    path = tmp_path / "table.csv"
    sequence = "ACGTT" * (letters // 5)
    path.write_text(f"sequence,label\n{kmers(sequence, 6) if as_kmers else sequence},1\n")
    found = read_rows(path, max_bases=515)
    assert (found.sequences, found.longest) == ([sequence[:515].encode()], len(sequence))


def test_m_a_bomb_of_one_line_is_refused_without_memory(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "bomb.csv"
    path.write_bytes(gzip.compress(HEADER + b"A" * 300_000_000, compresslevel=1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def refused() -> None:
        with pytest.raises(InputError, match="line 2 has more than 10,000,000 characters"):
            read_rows(path, max_bases=PLENTY)

    assert within(10, refused)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_f16_a_byte_order_mark_tells_how_a_table_is_written(tmp_path, encoding):
    path = tmp_path / "table.csv"
    path.write_bytes("sequence,label\nACGT,é\n".encode(encoding))
    found = read_rows(path, max_bases=PLENTY)
    assert (found.sequences, found.labels) == ([b"ACGT"], ["é"])


def test_a_gzip_table_is_read_as_the_plain_one(tmp_path):
    text = b"\xef\xbb\xbfsequence,label\nACGT,'=1\n"
    (tmp_path / "table.csv").write_bytes(gzip.compress(text))
    found = read_rows(tmp_path / "table.csv", max_bases=PLENTY)
    assert (found.sequences, found.labels) == ([b"ACGT"], ["=1"])
    assert found.sha256 == hashlib.sha256((tmp_path / "table.csv").read_bytes()).hexdigest()


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_rows(tmp_path / "none.csv", max_bases=PLENTY)
    with pytest.raises(InputError, match="has no files in folders; needed a folder per class"):
        read_rows(tmp_path, max_bases=PLENTY)


def test_f16_a_table_in_utf_16_is_read_as_in_utf_8(tmp_path):
    text = HEADER.decode() + "ACGT,1\nGGGG,0\n"
    found = []
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path = tmp_path / f"{encoding}.csv"
        path.write_bytes(text.encode(encoding))
        rows = read_rows(path, max_bases=10)
        found.append((rows.sequences, rows.labels))
    assert found[0] == found[1] == found[2] == ([b"ACGT", b"GGGG"], ["1", "0"])
