"""Tables of counts: every layout that is right is read, everything that is not is refused in one line."""

from collections import Counter
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from cmgems_cli.artifacts import sha256_of_file
from cmgems_cli.errors import InputError
from cmgems_cli.genome.vocabulary import kmers
from cmgems_cli.pmi.tables import check_balance, read_kmer_table
from tests.command_line import CommandLine
from tests.pmi.packing import random_dna

ROWS = [("ACG", 7), ("TTT", 12), ("CGT", 3), ("GGG", 0)]


# As R, pandas and spreadsheets write tables.
F20 = [
    pytest.param('"kmer","Freq"\n"ACG","7"\n"TTT","12"\n"CGT","3"\n', id="every cell quoted"),
    pytest.param('"","Var1","Freq"\n"1","ACG",7\n"2","TTT",12\n"3","CGT",3\n', id="R write.csv"),
    pytest.param('"";"kmer";"n"\n"1";"ACG";7\n"2";"TTT";12\n"3";"CGT";3\n', id="R write.csv2"),
    pytest.param('"kmer" "n"\n"1" "ACG" 7\n"2" "TTT" 12\n"3" "CGT" 3\n', id="R write.table"),
    pytest.param("x\ty\nACG\t7\nTTT\t1.2e+01\nCGT\t3\n", id="R scientific, tabs"),
    pytest.param(",kmer,count\n0,ACG,7\n1,TTT,12\n2,CGT,3\n", id="pandas to_csv"),
    pytest.param("\tkmer\tcount\n0\tACG\t7\n1\tTTT\t12\n2\tCGT\t3\n", id="pandas to_csv with tabs"),
    pytest.param(",0\nACG,7.0\nTTT,12.0\nCGT,3.0\n", id="pandas series of float"),
    pytest.param("'kmer','abundance'\r\n'ACG',7\r\n'TTT',12\r\n'CGT',3\r\n", id="single quotes"),
    pytest.param("tag,count\nACG,7\nTTT,12\nCGT,3\n", id="a header that could be a k-mer"),
    pytest.param("#mer\tfrequency\nACG\t007\nTTT\t12\nCGT\t3\n", id="comment sign, leading zeros"),
    pytest.param("kmer;count;\nACG;7;\nTTT;12;\nCGT;3;\n", id="spreadsheet with a separator at the end"),
]


def reverse_complement(kmer: str) -> str:
    return kmer[::-1].translate(str.maketrans("ACGT", "TGCA"))


def write(path: Path, rows: list[tuple[str, int]], separator: str = ",", header: str = "") -> Path:
    path.write_text(header + "".join(f"{kmer}{separator}{count}\n" for kmer, count in rows), newline="")
    return path


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("kmer,count\nACG,7\nTTT,12\nCGT,3\nGGG,0\n", id="csv with header"),
        pytest.param("ACG,7\nTTT,12\nCGT,3\nGGG,0", id="csv without header or last newline"),
        pytest.param("ACG\t7\nTTT\t12\nCGT\t3\nGGG\t0\n", id="kmc_tools dump"),
        pytest.param("ACG 7\nTTT 12\nCGT 3\nGGG 0\n", id="jellyfish dump -c"),
        pytest.param(
            "kmer\tcount\r\nacg\t7\r\nttt\t12\r\ncgt\t3\r\n\r\nGGG\t0\r\n",
            id="lower case, CRLF, an empty line",
        ),
        pytest.param(
            '\ufeff"kmer","count"\nACG,7\nTTT,12\nCGT,3\nGGG,0\n', id="byte-order mark, quoted header"
        ),
        pytest.param("ACG, 7\nTTT, 12\nCGT, 3\n", id="space after the comma, k-mer of count 0 left out"),
        *F20,
    ],
)
def test_f20_layouts(tmp_path: Path, text: str) -> None:
    path = tmp_path / "counts.csv"
    path.write_bytes(text.encode())
    table = read_kmer_table(path)
    assert table.k == 3
    assert {kmers(3)[code]: int(table.counts[code]) for code in np.flatnonzero(table.counts)} == {
        "ACG": 7, "TTT": 12, "CGT": 3,
    }  # fmt: skip
    assert table.counts.dtype == np.int64
    assert table.sha256 == sha256_of_file(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no k-mer"),
        (b"kmer,count\n", "holds no k-mer"),
        (b"ACG,0\nACT,0\n", "holds no k-mer"),
        (b"ACG,7\nACT,1\nACG,7\n", "names ACG twice .*line 3"),
        (b"ACG,7\nacg,8\n", "names ACG twice"),
        (b"ACG,7\nACN,8\n", "has 'ACN' in line 2; give k-mers of the letters"),
        (b"ACG,7\nACGT,8\n", "has the 4-mer 'ACGT' in line 2 among 3-mers"),
        (b"AC,7\n", "has the 2-mer 'AC' in line 1; give k-mers of 3 to 8"),
        (b"ACGTACGTA,7\n", "9-mer"),
        (b"ACG,-7\n", "count '-7' in line 1"),
        (b"ACG,7.5\n", "count '7.5'"),
        (b"ACG,many\n", "count 'many'"),
        (b"ACG,1_000\n", "count '1_000'"),
        (b"ACG,99999999999999999999999999\n", "whole numbers"),
        ("ACG,\u0667\n".encode(), "whole numbers"),
        (b"ACG\n", "has 'ACG' in line 1; give two fields"),
        (b"1,ACG,7\n", "give two fields"),
        (b">7\nACG\n", "FASTA layout; .*jellyfish dump -c"),
        (b"\x1f\x8b\x08\x00\x00\xff", "is not text"),
        (b"ACG," + 5_000 * b"9", "whole numbers"),
        (b"ACG," + 30 * b"0" + 25 * b"9", "whole numbers"),
        (b"ACG,1e99\n", "whole numbers"),
        (b"ACG,inf\n", "whole numbers"),
        (b"ACG,nan\n", "whole numbers"),
        (b"kmer,count\nkmer,count\nACG,7\n", "count 'count' in line 2"),
        (b"kmer,count\n1,2,ACG,7\n", "give two fields"),
        (b"kmer,gc,count\nACG,2,7\n", "give two fields"),
        (b"\x00" * 100_000, "has|holds"),
        (b"A" * 100_000, "give two fields"),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "counts.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_kmer_table(path)
    assert "\n" not in str(caught.value)


def test_missing_table_and_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.csv", tmp_path):
        with pytest.raises(InputError, match="is not a file"):
            read_kmer_table(path)


@pytest.mark.parametrize("k", [3, 4, 6])
def test_canonical_counts_are_refused(tmp_path: Path, k: int) -> None:
    """KMC without -b and Jellyfish with -C keep the alphabetically smaller of each pair."""
    alphabetical = ["".join(letters) for letters in product("ACGT", repeat=k)]
    smaller = [kmer for kmer in alphabetical if kmer <= reverse_complement(kmer)]
    path = write(tmp_path / "canonical.txt", [(kmer, 300 + n) for n, kmer in enumerate(smaller)], "\t")
    with pytest.raises(InputError, match="kmc -b"):
        read_kmer_table(path)
    larger = [reverse_complement(kmer) for kmer in smaller]
    path = write(tmp_path / "other_choice.txt", [(kmer, 300 + n) for n, kmer in enumerate(larger)], "\t")
    with pytest.raises(InputError, match="kmc -b"):
        read_kmer_table(path)
    # One pair of which both occur is proof of the contrary.
    not_palindromic = next(kmer for kmer in smaller if kmer != reverse_complement(kmer))
    both = [(kmer, 300 + n) for n, kmer in enumerate([*smaller, reverse_complement(not_palindromic)])]
    assert read_kmer_table(write(tmp_path / "both.txt", both, "\t")).counts.sum() > 0


def test_a_few_kmers_of_one_strand_are_not_mistaken_for_canonical_ones(tmp_path: Path) -> None:
    rows = [(kmer, 5) for kmer in kmers(6)[7::400]]
    assert not {kmer for kmer, _ in rows} & {reverse_complement(kmer) for kmer, _ in rows}
    assert read_kmer_table(write(tmp_path / "few.csv", rows)).counts.sum() == 5 * len(rows)


def test_sparse_tables_are_told_apart_by_which_of_a_pair_they_hold(tmp_path: Path) -> None:
    """Of 65,536 8-mers a short sequence holds few, and seldom both of a pair: that alone proves nothing."""
    sequence = random_dna(7, 150)
    one_strand: set[str] = set()
    for at in range(len(sequence) - 7):
        if reverse_complement(sequence[at : at + 8]) not in one_strand:
            one_strand.add(sequence[at : at + 8])
    assert len(one_strand) > 100
    table = write(tmp_path / "one_strand.csv", [(kmer, 3) for kmer in sorted(one_strand)])
    assert read_kmer_table(table).counts.sum() == 3 * len(one_strand)
    canonical = {min(kmer, reverse_complement(kmer)) for kmer in one_strand}
    table = write(tmp_path / "canonical.csv", [(kmer, 3) for kmer in sorted(canonical)])
    with pytest.raises(InputError, match="kmc -b"):
        read_kmer_table(table)


def test_counts_cut_off_at_kmcs_limit_are_refused(tmp_path: Path) -> None:
    rows = [(kmer, min(100 * n, 255)) for n, kmer in enumerate(kmers(3))]
    with pytest.raises(InputError, match="kmc -b -ci1 -cs4294967295"):
        read_kmer_table(write(tmp_path / "cut.txt", rows))
    once = [(kmer, n * 4 + 3) for n, kmer in enumerate(kmers(3))]
    assert read_kmer_table(write(tmp_path / "once.txt", once)).counts.max() == 255


@pytest.fixture(scope="module")
def rows() -> list[tuple[str, int]]:
    """The 4-mers of one sequence."""
    counts = Counter(map("".join, zip(*(SEQUENCE[at:] for at in range(4)), strict=False)))
    return sorted(counts.items())


SEQUENCE = random_dna(3, 200_000)

# What programs do to tables, as a function of all rows.
Lose = Callable[[list[tuple[str, int]]], list[tuple[str, int]]]
LOSSES: dict[str, Lose] = {
    "capped (kmc -cs)": lambda rows: [(kmer, min(count, 1_000)) for kmer, count in rows],
    "capped in the middle": lambda rows: [(kmer, min(count, 3_000)) for kmer, count in rows],
    "low counts left out (kmc -ci, jellyfish -L)": lambda rows: [row for row in rows if row[1] >= 300],
    "high counts left out (kmc -cx, jellyfish -U)": lambda rows: [row for row in rows if row[1] <= 3_000],
    "the first rows lost": lambda rows: rows[10:],
    "the last rows lost": lambda rows: rows[:-3],
    "one row lost": lambda rows: [row for row in rows if row[0] != "ACGT"],
    "one count with another digit": lambda rows: [(k, 10 * n if k == "GTTA" else n) for k, n in rows],
}


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
def test_f3_capped_and_filtered_counts_are_refused(
    cmgems: CommandLine, tmp_path: Path, rows: list[tuple[str, int]], lose: Lose
) -> None:
    table = write(tmp_path / "counts.txt", lose(rows))
    assert lose(rows) != rows
    error = cmgems("build-pmi", "--from-counts", table, "--out", tmp_path / "p", code=3).error
    assert "counts that do not balance" in error
    assert "kmc -b -ci1 -cs4294967295" in error
    assert not (tmp_path / "p").exists()


def test_f3_whole_tables_are_accepted(
    cmgems: CommandLine, tmp_path: Path, rows: list[tuple[str, int]]
) -> None:
    result = cmgems(
        "build-pmi", "--from-counts", write(tmp_path / "counts.txt", rows), "--out", tmp_path / "p"
    )
    assert "balance" not in result.stderr


def test_f3_both_strands_counted_separately_balance(tmp_path: Path, rows: list[tuple[str, int]]) -> None:
    both = Counter(dict(rows))
    for kmer, count in rows:
        both[reverse_complement(kmer)] += count
    check_balance(read_kmer_table(write(tmp_path / "counts.txt", list(both.items()))), pytest.fail)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda k, n: n - 4 if k == "AAAC" else n, "right for sequences of 41,2"),
        (lambda k, n: min(n, 5_500), "has the largest count, 55,000, more than once"),
        (lambda k, n: 0 if k == "AAAA" else n, "has no AAAA; if high counts were left out, dump all counts"),
    ],
    ids=["small difference", "two homopolymers capped", "the most frequent left out"],
)
def test_f3_tables_that_may_be_capped_or_filtered_are_a_warning(
    cmgems: CommandLine,
    tmp_path: Path,
    rows: list[tuple[str, int]],
    change: Callable[[str, int], int],
    said: str,
) -> None:
    counts = dict(rows) | {"AAAA": 7_000, "TTTT": 6_000}
    table = write(tmp_path / "counts.txt", [(kmer, 10 * change(kmer, n)) for kmer, n in counts.items()])
    result = cmgems("build-pmi", "--from-counts", table, "--out", tmp_path / "p")
    assert said in result.stderr


@pytest.mark.parametrize("name", ["c20_10000.txt", "d1000.txt", "full_c20.txt", "full_d.txt"])
def test_f3_real_tables(shared_data: Path, name: str) -> None:
    path = shared_data.parent / "faults" / "inputs" / "capped-counts" / name
    if not path.is_file():
        pytest.skip(f"no real data at {path}")
    table = read_kmer_table(path)
    if name.startswith("full"):
        check_balance(table, pytest.fail)
    else:
        with pytest.raises(InputError, match="capped"):
            check_balance(table, pytest.fail)
