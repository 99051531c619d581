"""Scan FASTA files one after the other: which records are kept, and what they hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmgems_cli.errors import InputError, UsageError
from cmgems_cli.genome.contigs import ContigSelection, indexed_records
from cmgems_cli.genome.fasta import STANDARD_INPUT, FastaFile, check_is_dna, check_readable
from cmgems_cli.genome.preparation_options import PreparationOptions
from cmgems_cli.genome.scanner import Scanner

# Called with packed bases (uint8, shape (n,)) and with rows of `RUN` (shape (n,)).
Sinks = tuple[Callable[[np.ndarray], None], Callable[[np.ndarray], None]]


@dataclass(frozen=True)
class ScannedFile:
    """One input file.

    Attributes
    ----------
    path : Path
    kind : str
        plain or gzip.
    size_bytes : int
    sha256 : str
    contigs : list of str
        Names of the records that are kept.
    letters : int
        Their letters.
    """

    path: Path
    kind: str
    size_bytes: int
    sha256: str
    contigs: list[str]
    letters: int


@dataclass(frozen=True)
class Scan:
    """All input files.

    Attributes
    ----------
    files : list of ScannedFile
    selection : ContigSelection
    letters_passed_over : int
        Letters of the records that are not kept.
    """

    files: list[ScannedFile]
    selection: ContigSelection
    letters_passed_over: int

    @property
    def stats(self) -> dict[str, int | bool | None]:
        """Counts of the records and of their letters."""
        contigs, selection = self.selection.kept, self.selection
        return {
            "bases": sum(contig.bases for contig in contigs),
            "contigs": len(contigs),
            "letters": sum(contig.length_bases for contig in contigs),
            "dropped_n": sum(contig.dropped_n for contig in contigs),
            "dropped_iupac": sum(contig.dropped_iupac for contig in contigs),
            "dropped_other": sum(contig.dropped_other for contig in contigs),
            "records_passed_over": selection.passed_over,
            "letters_passed_over": self.letters_passed_over,
            "human_names": not selection.not_human if selection.primary else None,
        }


def scan_files(
    fasta: Sequence[Path],
    options: PreparationOptions,
    sinks: Callable[[], AbstractContextManager[Sinks]],
    advance: Callable[[float], None],
) -> Scan:
    """Scan each file once; twice if records were passed over before the names turned out not to be human.

    Parameters
    ----------
    fasta, options, advance
        As for `prepare_genome`.
    sinks : callable
        Returns a context with the functions that get the bases and the runs; called again for a second scan, whose
        result replaces the first.

    Raises
    ------
    UsageError
        If `contigs` or `prefix` does not make sense.
    InputError
        If the input cannot be read, is not FASTA of DNA, changed while it was read, lacks a requested contig, or has no
        run long enough for one sequence.
    """
    prefixes = options.prefixes(len(fasta))
    selection = ContigSelection(options.contigs)
    shortest = options.window_spec().shortest_bases
    check_files(fasta)
    earlier: list[str] | None = None
    while True:
        with sinks() as (write_bases, write_runs):
            scanner = Scanner(selection, write_bases, write_runs)
            files = [
                _scan_file(path, prefix, scanner, selection, advance)
                for path, prefix in zip(fasta, prefixes, strict=True)
            ]
            scanner.finish()
        check_unchanged(fasta, earlier, [file.sha256 for file in files])
        if not selection.missed:
            break
        for path in fasta:
            if not path.is_file():
                raise InputError(
                    f"{path}: the names are not those of human chromosomes; give `contigs=all` or `contigs=NAME,…`,"
                    " since a pipe cannot be read twice"
                )
        earlier, advance = [file.sha256 for file in files], lambda n: None
        selection = ContigSelection(options.contigs, selection.not_human)
    selection.check_complete()
    if scanner.longest_run < shortest:
        raise InputError(
            f"the longest run of A, C, G, T has {scanner.longest_run:,} bases, too few for a sequence"
            f" of {options.min_tokens} tokens ({shortest} bases); give longer sequences or lower `min_tokens`"
        )
    return Scan(files, selection, scanner.letters_passed_over)


def check_files(fasta: Sequence[Path]) -> None:
    """Check before any work that each file is readable; standard input may be one of them.

    Raises
    ------
    UsageError
        If standard input is named twice.
    InputError
        If a file is not readable, or empty.
    """
    if list(fasta).count(STANDARD_INPUT) > 1:
        raise UsageError(f"{STANDARD_INPUT} is named twice; standard input can be read once")
    for path in fasta:
        if path != STANDARD_INPUT:
            check_readable(path)


def check_unchanged(fasta: Sequence[Path], earlier: Sequence[str] | None, now: Sequence[str]) -> None:
    """Check the hashes of files that were read twice.

    Raises
    ------
    InputError
        If one changed. `earlier` None: it was not read before.
    """
    for path, one, other in zip(fasta, earlier or now, now, strict=True):
        if one != other:
            raise _changed(path)


def _changed(path: Path) -> InputError:
    return InputError(f"{path} changed while it was read; run the command again when it is complete")


def _version(path: Path) -> tuple[int, ...] | None:
    if not path.is_file():
        return None
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _scan_file(
    path: Path, prefix: str, scanner: Scanner, selection: ContigSelection, advance: Callable[[float], None]
) -> ScannedFile:
    source, before = FastaFile(path), _version(path)
    selection.begin_genome(prefix)
    n_kept, n_bases, n_t, dropped = len(selection.kept), scanner.n_bases, scanner.n_t, scanner.dropped.copy()
    ranges = _indexed_ranges(path, scanner, selection)
    offset = size_bytes = 0
    scanner.begin_file(path)
    # With an index, records that are not selected are hashed but not scanned.
    with closing(source.chunks()) as chunks:
        for chunk in chunks:
            end = offset + chunk.text.size
            for begin, stop, wanted in ranges if ranges is not None else [(offset, end, True)]:
                if begin < end and stop > offset:
                    part = chunk.text[max(0, begin - offset) : stop - offset]
                    if wanted:
                        scanner.feed(part)
                    else:
                        scanner.pass_over(part)
            offset = end
            size_bytes += chunk.bytes_read
            advance(chunk.bytes_read)
    scanner.end_file()
    if _version(path) != before:
        raise _changed(path)
    letters = scanner.dropped - dropped
    letters[ord("T")] += scanner.n_t - n_t
    letters[ord("A")] += scanner.n_bases - n_bases - (scanner.n_t - n_t)
    check_is_dna(letters, path)
    kept = selection.kept[n_kept:]
    return ScannedFile(
        path,
        "gzip" if source.zipped else "plain",
        size_bytes,
        source.sha256,
        [contig.name for contig in kept],
        sum(contig.length_bases for contig in kept),
    )


def _indexed_ranges(
    path: Path, scanner: Scanner, selection: ContigSelection
) -> list[tuple[int, int, bool]] | None:
    """Return (begin, end, whether it is kept) of the records, from an index; None if all must be scanned.

    Neighbours that are not kept are one range.
    """
    records = None if selection.everything else indexed_records(path)
    if records is None or not any(selection.wants(record.name) for record in records):
        return None
    ranges: list[tuple[int, int, bool]] = []
    for record in records:
        if selection.wants(record.name):
            ranges.append((record.begin, record.end, True))
            continue
        selection.add(record.name, path)
        scanner.letters_passed_over -= record.header_letters
        begin = ranges.pop()[0] if ranges and not ranges[-1][2] else record.begin
        ranges.append((begin, record.end, False))
    return ranges
