"""The byte scanner against a line-by-line reader, in pieces of any size."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyfaidx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cmgems_cli.errors import InputError
from cmgems_cli.genome import fasta, scanner
from cmgems_cli.genome.contig_names import MAX_HEADER_BYTES
from cmgems_cli.genome.contigs import ContigSelection
from cmgems_cli.genome.corpus import RUN
from tests.genome import reference
from tests.genome.reference import NotFasta, Record, read_records, unpack


class Scanned:
    """What a scanner made of text handed over in pieces of `sizes` bytes, in turn."""

    def __init__(
        self, text: bytes, sizes: list[int], contigs: str = "all", runs_buffered: int = 1 << 14
    ) -> None:
        bases: list[np.ndarray] = []
        runs: list[np.ndarray] = []
        self.selection = ContigSelection(contigs)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scanner, "RUNS_BUFFERED", runs_buffered)
            patch.setattr(fasta, "_LETTERS_TO_JUDGE", 10**9)
            self.scanner = scanner.Scanner(
                self.selection, lambda rows: bases.append(rows.copy()), lambda rows: runs.append(rows.copy())
            )
            self.scanner.begin_file(Path("g.fa"))
            at = turn = 0
            while at < len(text):
                piece = np.frombuffer(text[at : at + sizes[turn % len(sizes)]], np.uint8)
                piece.flags.writeable = False
                self.scanner.feed(piece)
                at += piece.size
                turn += 1
            self.scanner.end_file()
            self.scanner.finish()
        self.bases = np.concatenate([*bases, np.zeros(0, np.uint8)])
        self.runs = np.concatenate([*runs, np.zeros(0, RUN)])

    def runs_of(self, row: int) -> list[tuple[int, str]]:
        return [
            (int(run["contig_start"]), unpack(self.bases, int(run["start"]), int(run["length_bases"])))
            for run in self.runs
            if run["contig"] == row
        ]

    def compare(self, records: list[Record]) -> None:
        """Fail unless what was kept is `records`."""
        assert [contig.name for contig in self.selection.kept] == [record.name for record in records]
        for row, (contig, record) in enumerate(zip(self.selection.kept, records, strict=True)):
            assert self.runs_of(row) == record.runs
            assert contig.length_bases == len(record.letters)
            assert contig.bases == len(record.letters) - record.dropped.total()
            assert contig.runs == len(record.runs)
            assert contig.dropped_n == record.dropped["N"]
            assert contig.dropped_iupac == sum(record.dropped[letter] for letter in "RYSWKMBDHV")
            total = contig.bases + contig.dropped_n + contig.dropped_iupac + contig.dropped_other
            assert total == contig.length_bases
        n_bases = sum(contig.bases for contig in self.selection.kept)
        assert self.scanner.n_bases == n_bases
        assert len(self.bases) == (n_bases + 3) // 4
        dropped = sum((record.dropped for record in records), Counter())
        assert {chr(byte): n for byte, n in enumerate(self.scanner.dropped) if n} == dict(dropped)
        # Runs lie one behind the other in the packed bases.
        assert self.runs["start"].tolist() == [0, *np.cumsum(self.runs["length_bases"])][: len(self.runs)]


sizes = st.lists(st.integers(1, 40), min_size=1, max_size=3)


@given(st.text("ACGTacgtACGTNNnRyx-*> \t\n\n\r", max_size=90), sizes, st.integers(1, 4))
@example("ACGTACGTAC\r\nGTNNNNNNNNNNNNNNNNNNNACG>T\n>b c\n\n>d\r\rACG\n A\t\nTTTTTTTTTTTTTTTT", [1], 1)
@example("ACGTACGTACGTACG\nNNNNNNNNNNNNNNNNnnnnnnnnACGTACGTA", [1000], 1)
@example("AC\r>b\nACGTACGTACG>T\nACGTACGTACGTACGTACGT\n>c\nACGT", [5], 1)
@example("ACGTAC\n>b\nACGT", [1000], 1)
@settings(max_examples=400)
def test_any_text_is_read_as_line_by_line(body: str, sizes: list[int], runs_buffered: int) -> None:
    text = b">a\n" + body.encode()
    try:
        records = read_records(text)
    except NotFasta:
        with pytest.raises(InputError):
            Scanned(text, sizes)
        return
    Scanned(text, sizes, runs_buffered=runs_buffered).compare(records)
    # The last record alone: what is skipped must not hide or invent a header.
    last = Scanned(text, sizes, contigs=records[-1].name)
    last.compare(records[-1:])
    assert list(last.selection.names) == [record.name for record in records]


letters = st.text("ACGTACGTACGTacgtNRn-", max_size=200)
bodies = st.lists(st.tuples(letters, st.integers(1, 70)), min_size=1, max_size=5)


@given(bodies, st.sampled_from(["\n", "\r\n", "\r"]), st.booleans(), sizes, st.data())
def test_records_with_lines_of_any_width_and_any_line_end(
    bodies: list[tuple[str, int]], line_end: str, last_line_end: bool, sizes: list[int], data: st.DataObject
) -> None:
    lines: list[str] = []
    for number, (body, width) in enumerate(bodies):
        lines += [f">r{number} described", *re.findall(f".{{1,{width}}}", body)]
    text = (line_end.join(lines) + line_end * last_line_end).encode()
    records = read_records(text)
    assert [record.letters for record in records] == [body.upper() for body, _ in bodies]
    Scanned(text, sizes).compare(records)
    kept = data.draw(st.sets(st.sampled_from(records and [record.name for record in records]), min_size=1))
    some = Scanned(text, sizes, contigs=",".join(sorted(kept)))
    some.compare([record for record in records if record.name in kept])


def test_every_piece_size_gives_the_same_from_one_byte_to_the_whole() -> None:
    body = "ACGTACGTAANNNNNNNNNNNNNacgtggRACGTTTTTTTTTTTGGGAC"
    text = f">a x\r\n{body[:20]}\r\n{body[20:]}\r\n>b\n\n>c\n{body}".encode()
    records = read_records(text)
    for size in range(1, len(text) + 2):
        Scanned(text, [size]).compare(records)


@given(bodies)
@settings(max_examples=25)
def test_well_formed_files_are_read_as_pyfaidx_reads_them(
    tmp_path_factory: pytest.TempPathFactory, bodies: list[tuple[str, int]]
) -> None:
    width = bodies[0][1]
    records = {f"r{number}": body for number, (body, _) in enumerate(bodies) if body} or {"r0": "A"}
    path = reference.write_fasta(tmp_path_factory.mktemp("faidx") / "g.fa", records, width)
    with pyfaidx.Fasta(str(path), as_raw=True, sequence_always_upper=True) as genome:
        Scanned(path.read_bytes(), [7]).compare([Record(name, genome[name][:]) for name in genome.keys()])  # noqa: SIM118


def test_letters_are_never_joined_across_a_gap() -> None:
    scanned = Scanned(b">a\nACGTN\nNACGT\n>b\nACGT", [100])
    assert scanned.runs_of(0) == [(0, "ACGT"), (6, "ACGT")]
    assert scanned.runs_of(1) == [(0, "ACGT")]


def test_several_files_follow_each_other() -> None:
    selection = ContigSelection("all")
    kept: list[np.ndarray] = []
    both = scanner.Scanner(selection, lambda rows: kept.append(rows.copy()), lambda rows: None)
    for name, text in (("one.fa", b">a\nACGTA"), ("two.fa", b"\n>b\nCC")):
        both.begin_file(Path(name))
        both.feed(np.frombuffer(text, np.uint8))
        both.end_file()
    both.finish()
    assert unpack(np.concatenate(kept), 0, 7) == "ACGTACC"
    both.begin_file(Path("three.fa"))
    with pytest.raises(InputError, match=r"three.fa has a second record named 'a'"):
        both.feed(np.frombuffer(b">a\nAC", np.uint8))


def test_a_header_without_an_end_does_not_fill_memory() -> None:
    endless = b">" + b"x" * (2 * MAX_HEADER_BYTES)
    with pytest.raises(InputError, match="header line of more than 1,048,576 bytes"):
        Scanned(endless, [1 << 16])


@pytest.mark.parametrize(
    ("text", "where"), [(b">\nACGT", "the first one"), (b">a\nAC\n> \t\nACGT", "after 'a'")]
)
def test_a_record_without_a_name_is_an_error(text: bytes, where: str) -> None:
    with pytest.raises(InputError, match=f"record without a name \\({where}\\)"):
        Scanned(text, [3])
