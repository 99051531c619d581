"""The `prepare-genome` stage: from FASTA files to a corpus (paper 3.1; method, section 2)."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from cmgems_cli.artifacts import Manifest, environment, sha256_of_file
from cmgems_cli.errors import InputError, UsageError
from cmgems_cli.genome.arrays import read_array
from cmgems_cli.genome.codec import check_k
from cmgems_cli.genome.contigs import Contig, ContigSelection, indexed_records
from cmgems_cli.genome.corpus import BASES, CONTIGS, RUN, RUNS, WINDOW, WINDOWS
from cmgems_cli.genome.fasta import FastaFile, check_is_dna, check_is_fasta, check_readable
from cmgems_cli.genome.scanner import BLANKS, Scanner
from cmgems_cli.genome.windows import WindowSpec, first_occurrences, tile
from cmgems_cli.growing_array import growing_array
from cmgems_cli.outputs import Output

# Rows of windows.npy handled at a time.
WINDOWS_PER_WRITE = 1 << 20

# An estimate for dry runs: letters per byte of gzipped DNA (3.4 in a bgzip of GRCh37's chromosome 20).
ZIPPED_LETTERS = 3

# n_tokens is stored in 16 bits.
MAX_MAX_TOKENS = 2**16 - 1


def _ignore(_: float) -> None:
    pass


def prepare_genome(
    fasta: Sequence[Path],
    out: Path,
    *,
    k: int = 6,
    contigs: str = "primary",
    min_tokens: int = 5,
    max_tokens: int = 510,
    full_share: float = 0.5,
    valid_share: float = 0.1,
    seed: int = 42,
    overwrite: bool = False,
    advance: Callable[[float], None] = _ignore,
) -> Manifest:
    """Write a corpus artifact from FASTA files.

    Parameters
    ----------
    fasta : sequence of Path
        Plain, gzip or bgzip files, recognised by content. Each is read once, in this order.
    out : Path
        The artifact's folder.
    k : int, default 6
        Bases per token, 3 … 8.
    contigs : str, default "primary"
        `primary`, `all` or names, as in `ContigSelection`.
    min_tokens, max_tokens : int, default 5 and 510
        Tokens per sequence: of the shortest, and of full-length ones.
    full_share : float, default 0.5
        Probability that a sequence has full length; other lengths are uniform between the two bounds.
    valid_share : float, default 0.1
        Probability that a sequence is used for validation.
    seed : int, default 42
    overwrite : bool, default False
        Replace a finished corpus at `out` once the new one is complete.
    advance : callable, optional
        Called with the number of raw file bytes newly read.

    Returns
    -------
    Manifest
        Its digest depends only on the files' bytes and the parameters.

    Raises
    ------
    UsageError
        If a parameter is out of range.
    InputError
        If the input cannot be read, is not FASTA of DNA, lacks a requested contig, or has no run long
        enough for one sequence. `out` is then unchanged.
    OverwriteError
        If `out` may not be written.
    """
    started = time.perf_counter()
    spec = WindowSpec(k, min_tokens, max_tokens, full_share, valid_share, seed)
    check_window_spec(spec)
    selection = ContigSelection(contigs)
    for path in fasta:
        check_readable(path)
    output = Output(
        out,
        "corpus",
        params={
            "k": k,
            "contigs": selection.text,
            "min_tokens": min_tokens,
            "max_tokens": max_tokens,
            "full_share": full_share,
            "valid_share": valid_share,
            "seed": seed,
        },
        inputs=lambda: _inputs(map(sha256_of_file, fasta)),
    )
    with output.claim(overwrite=overwrite) as claim:
        if claim.done is not None:
            return claim.done
        hashes = _scan(fasta, selection, claim.folder, spec, advance)
        return claim.finish(
            stats=_write_windows(claim.folder, selection.kept, spec),
            files=[BASES, WINDOWS, RUNS, CONTIGS],
            environment=environment(started),
            inputs=_inputs(hashes),
        )


def _inputs(hashes: Iterable[str]) -> dict[str, str]:
    return {f"fasta_{number}": sha256 for number, sha256 in enumerate(hashes, start=1)}


def check_window_spec(spec: WindowSpec) -> None:
    """Check that the parameters of a corpus are in range.

    Raises
    ------
    UsageError
        If one is not.
    """
    check_k(spec.k)
    if not 1 <= spec.min_tokens <= spec.max_tokens <= MAX_MAX_TOKENS:
        raise UsageError(
            f"`min_tokens` is {spec.min_tokens} and `max_tokens` is {spec.max_tokens}; needed"
            f" 1 <= `min_tokens` <= `max_tokens` <= {MAX_MAX_TOKENS:,}"
        )
    for name, fraction in (("full_share", spec.full_share), ("valid_share", spec.valid_share)):
        if not 0 <= fraction <= 1:
            raise UsageError(f"`{name}` is {fraction}; needed a fraction, from 0 to 1")


def _scan(
    fasta: Sequence[Path],
    selection: ContigSelection,
    folder: Path,
    spec: WindowSpec,
    advance: Callable[[float], None],
) -> list[str]:
    """Write bases.npy and runs.npy; return each file's sha256."""
    hashes = []
    with (
        growing_array(folder / BASES, np.dtype(np.uint8)) as bases,
        growing_array(folder / RUNS, RUN) as runs,
    ):
        scanner = Scanner(selection, bases.append, runs.append)
        for path in fasta:
            hashes.append(_scan_file(path, scanner, selection, advance))
        scanner.finish()
    selection.check_complete()
    if scanner.longest_run < spec.shortest_bases:
        raise InputError(
            f"the longest run of A, C, G, T has {scanner.longest_run:,} bases, too few for a sequence"
            f" of {spec.min_tokens} tokens ({spec.shortest_bases} bases); give longer sequences or lower `min_tokens`"
        )
    return hashes


def _scan_file(
    path: Path, scanner: Scanner, selection: ContigSelection, advance: Callable[[float], None]
) -> str:
    source = FastaFile(path)
    ranges = _indexed_ranges(path, selection)
    n_bases, dropped = scanner.n_bases, scanner.dropped.copy()
    offset = 0
    scanner.begin_file(path)
    # With an index, records that are not selected are hashed but not scanned.
    with closing(source.chunks()) as chunks:
        for chunk in chunks:
            end = offset + chunk.text.size
            for selected in ranges if ranges is not None else [slice(offset, end)]:
                if selected.start < end and selected.stop > offset:
                    scanner.feed(chunk.text[max(0, selected.start - offset) : selected.stop - offset])
            offset = end
            advance(chunk.bytes_read)
    scanner.end_file()
    letters = scanner.dropped - dropped
    letters[ord("A")] += scanner.n_bases - n_bases
    check_is_dna(letters, path)
    return source.sha256


def _indexed_ranges(path: Path, selection: ContigSelection) -> list[slice] | None:
    """Return the byte ranges of the selected records from an index; None if all must be scanned."""
    records = None if selection.everything else indexed_records(path)
    if records is None or not any(selection.wants(record.name) for record in records):
        return None
    for record in records:
        if not selection.wants(record.name):
            selection.add(record.name, path)
    return [slice(record.begin, record.end) for record in records if selection.wants(record.name)]


def _write_windows(folder: Path, contigs: list[Contig], spec: WindowSpec) -> dict[str, int]:
    """Write windows.npy and contigs.csv; return the corpus's stats."""
    runs = read_array(folder / RUNS, RUN)
    identities = np.array([contig.identity for contig in contigs], np.uint64)
    windows = tile(runs, identities, spec)
    distinct = first_occurrences(folder / BASES, windows, spec.k)
    # Sequences per contig: training, validation.
    per_contig = np.zeros((2, len(contigs)), np.int64)
    full_length = tokens = 0
    with growing_array(folder / WINDOWS, WINDOW) as written:
        for valid in (False, True):
            for begin in range(0, windows.size, WINDOWS_PER_WRITE):
                some = slice(begin, begin + WINDOWS_PER_WRITE)
                rows = windows[some][distinct[some] & (windows["valid"][some] == valid)]
                written.append(rows)
                per_contig[int(valid)] += np.bincount(rows["contig"], minlength=len(contigs))
                full_length += int((rows["n_tokens"] == spec.max_tokens).sum())
                tokens += int(rows["n_tokens"].sum(dtype=np.int64))
    _write_contigs(folder / CONTIGS, contigs, per_contig)
    n_train, n_valid = (int(total) for total in per_contig.sum(axis=1))
    return {
        "bases": sum(contig.bases for contig in contigs),
        "sequences": n_train + n_valid,
        "train_sequences": n_train,
        "valid_sequences": n_valid,
        "full_length_sequences": full_length,
        "contigs": len(contigs),
        "runs": len(runs),
        "tokens": tokens,
        "duplicates_dropped": windows.size - n_train - n_valid,
        "letters": sum(contig.length_bases for contig in contigs),
        "dropped_n": sum(contig.dropped_n for contig in contigs),
        "dropped_iupac": sum(contig.dropped_iupac for contig in contigs),
        "dropped_other": sum(contig.dropped_other for contig in contigs),
    }


def _write_contigs(path: Path, contigs: list[Contig], per_contig: np.ndarray) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        names = [field.name for field in fields(Contig)]
        rows.writerow(["contig", *names, "sequences", "train_sequences", "valid_sequences"])
        for number, contig in enumerate(contigs):
            n_train, n_valid = (int(count) for count in per_contig[:, number])
            values = [getattr(contig, name) for name in names]
            rows.writerow([number, *values, n_train + n_valid, n_train, n_valid])


@dataclass(frozen=True)
class PlannedFile:
    """One input of a dry run.

    Attributes
    ----------
    path : Path
    kind : str
        plain or gzip.
    size_bytes : int
    contigs : list of str, or None
        Records that would be kept; None if unknown because there is no usable index.
    letters : int
        Letters that would be scanned: exact with an index, otherwise estimated from the size.
    """

    path: Path
    kind: str
    size_bytes: int
    contigs: list[str] | None
    letters: int


def plan(fasta: Sequence[Path], *, contigs: str = "primary") -> list[PlannedFile]:
    """Inspect the beginning and, if present, the index of each input; write nothing.

    Parameters
    ----------
    fasta, contigs
        As for `prepare_genome`.

    Raises
    ------
    UsageError
        If `contigs` is empty.
    InputError
        If a file cannot be read or does not begin like FASTA of DNA, or if according to the indexes a
        contig is missing or occurs twice.
    """
    selection = ContigSelection(contigs)
    planned = []
    all_known = True
    for path in fasta:
        check_readable(path)
        source = FastaFile(path)
        with closing(source.chunks()) as chunks:
            head = next(chunks, None)
        check_is_fasta(b"" if head is None else head.text.tobytes().lstrip(BLANKS), path)
        size_bytes = path.stat().st_size
        letters = size_bytes * (ZIPPED_LETTERS if source.zipped else 1)
        records = None if source.zipped else indexed_records(path)
        all_known = all_known and records is not None
        if records is not None:
            records = [record for record in records if selection.add(record.name, path)]
            letters = sum(record.length_bases for record in records)
        planned.append(
            PlannedFile(
                path=path,
                kind="gzip" if source.zipped else "plain",
                size_bytes=size_bytes,
                contigs=None if records is None else [record.name for record in records],
                letters=letters,
            )
        )
    if all_known:
        selection.check_complete()
    return planned
