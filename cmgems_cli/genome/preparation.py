"""The `prepare-genome` stage: from FASTA files to a corpus (paper 3.1; method, section 2)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from cmgems_cli.artifacts import Manifest, environment, sha256_of_file
from cmgems_cli.genome.arrays import read_array
from cmgems_cli.genome.contigs import Contig, ContigSelection
from cmgems_cli.genome.corpus import BASES, CONTIGS, RUN, RUNS, WINDOW, WINDOWS
from cmgems_cli.genome.file_scan import Scan, ScannedFile, Sinks, check_files, check_unchanged, scan_files
from cmgems_cli.genome.preparation_options import PreparationOptions
from cmgems_cli.genome.windows import WindowSpec, first_occurrences, tile
from cmgems_cli.growing_array import growing_array
from cmgems_cli.option_fields import recipe_fields
from cmgems_cli.outputs import Output
from cmgems_cli.row_writer import RowWriter

# Rows of windows.npy handled at a time.
WINDOWS_PER_WRITE = 1 << 20

# In place of a digest that is not known yet; as long as what messages show of one.
FROM_A_PIPE = "from a pipe"


def _ignore(_: float) -> None:
    pass


def prepare_genome(
    fasta: Sequence[Path],
    out: Path,
    *,
    overwrite: bool = False,
    advance: Callable[[float], None] = _ignore,
    **options: Any,
) -> Manifest:
    """Write a corpus artifact from FASTA files.

    Parameters
    ----------
    fasta : sequence of Path
        Plain, gzip or bgzip files, recognised by content; `STANDARD_INPUT` for piped input. Each is read once, in
        this order.
    out : Path
        The artifact's folder.
    overwrite : bool, default False
        Replace a finished corpus at `out` once the new one is complete.
    advance : callable, optional
        Called with the number of raw file bytes newly read.
    **options
        The fields of `PreparationOptions`.

    Returns
    -------
    Manifest
        Its digest depends only on the files' bytes and the parameters.

    Raises
    ------
    UsageError
        If a parameter is out of range.
    InputError
        If the input cannot be read, is not FASTA of DNA, changed while it was read, lacks a requested contig, or has no
        run long enough for one sequence. `out` is then unchanged.
    OverwriteError
        If `out` may not be written.
    """
    started = time.perf_counter()
    chosen = PreparationOptions(**options)
    chosen.window_spec()
    chosen.prefixes(len(fasta))
    earlier: list[str] = []

    def inputs() -> dict[str, str]:
        # A pipe can be read once: what comes through it is taken to be new.
        earlier.extend(sha256_of_file(path) if path.is_file() else FROM_A_PIPE for path in fasta)
        return _inputs(earlier)

    check_files(fasta)
    output = _output(out, chosen, inputs)
    with output.claim(overwrite=overwrite) as claim:
        if claim.done is not None:
            return claim.done

        @contextmanager
        def arrays() -> Iterator[Sinks]:
            with (
                growing_array(claim.folder / BASES, np.dtype(np.uint8)) as bases,
                growing_array(claim.folder / RUNS, RUN) as runs,
            ):
                yield bases.append, runs.append

        scan = scan_files(fasta, chosen, arrays, advance)
        hashes = [file.sha256 for file in scan.files]
        before = [new if old == FROM_A_PIPE else old for old, new in zip(earlier, hashes, strict=False)]
        check_unchanged(fasta, before or None, hashes)
        return claim.finish(
            stats=_write_windows(claim.folder, scan, chosen.window_spec()),
            files=[BASES, WINDOWS, RUNS, CONTIGS],
            environment=environment(started),
            inputs=_inputs(hashes),
        )


def _output(out: Path, options: PreparationOptions, inputs: Callable[[], dict[str, str]]) -> Output:
    params = {**recipe_fields(options), "contigs": ContigSelection(options.contigs).text}
    return Output(out, "corpus", params=params, inputs=inputs)


def _inputs(hashes: Iterable[str]) -> dict[str, str]:
    return {f"fasta_{number}": sha256 for number, sha256 in enumerate(hashes, start=1)}


@dataclass(frozen=True)
class Plan:
    """What `prepare_genome` would do.

    Attributes
    ----------
    files : list of ScannedFile
    stats : dict
        As in the manifest, except that sequences that occur more than once are all counted.
    done : Manifest or None
        The corpus that is already at the place, if it is this one.
    """

    files: list[ScannedFile]
    stats: dict[str, Any]
    done: Manifest | None


def plan(
    fasta: Sequence[Path],
    out: Path | None = None,
    *,
    overwrite: bool = False,
    advance: Callable[[float], None] = _ignore,
    **options: Any,
) -> Plan:
    """Read the whole input as `prepare_genome` does, with its parameters and errors, and write nothing.

    Without `out`, the place is not checked.
    """
    chosen = PreparationOptions(**options)
    collected: list[np.ndarray] = []

    @contextmanager
    def counted() -> Iterator[Sinks]:
        collected.clear()
        yield lambda bases: None, lambda rows: collected.append(rows.copy())

    scan = scan_files(fasta, chosen, counted, advance)
    done = None
    if out is not None:
        output = _output(out, chosen, lambda: _inputs(file.sha256 for file in scan.files))
        done = output.finished(overwrite=overwrite, repair=False)
    runs = np.concatenate(collected)
    windows = _tile(runs, scan, chosen.window_spec())
    stats, _ = _count(windows, np.ones(windows.size, np.bool_), scan, chosen.window_spec(), lambda rows: None)
    return Plan(scan.files, {**stats, "runs": len(runs)}, done)


def _tile(runs: np.ndarray, scan: Scan, spec: WindowSpec) -> np.ndarray:
    identities = np.array([contig.identity for contig in scan.selection.kept], np.uint64)
    return tile(runs, identities, spec)


def _count(
    windows: np.ndarray,
    distinct: np.ndarray,
    scan: Scan,
    spec: WindowSpec,
    write: Callable[[np.ndarray], None],
) -> tuple[dict[str, Any], np.ndarray]:
    """Write the distinct windows, training first; return the stats and the sequences of each part and contig.

    windows : array of `WINDOW`, shape (n,). distinct : bool, shape (n,). Returned: int64, shape (2, n_contigs).
    """
    per_contig = np.zeros((2, len(scan.selection.kept)), np.int64)
    full_length = tokens = 0
    for valid in (False, True):
        for begin in range(0, windows.size, WINDOWS_PER_WRITE):
            some = slice(begin, begin + WINDOWS_PER_WRITE)
            rows = windows[some][distinct[some] & (windows["valid"][some] == valid)]
            write(rows)
            per_contig[int(valid)] += np.bincount(rows["contig"], minlength=per_contig.shape[1])
            full_length += int((rows["n_tokens"] == spec.max_tokens).sum())
            tokens += int(rows["n_tokens"].sum(dtype=np.int64))
    n_train, n_valid = (int(total) for total in per_contig.sum(axis=1))
    stats = {
        **scan.stats,
        "sequences": n_train + n_valid,
        "train_sequences": n_train,
        "valid_sequences": n_valid,
        "full_length_sequences": full_length,
        "tokens": tokens,
        "duplicates_dropped": windows.size - n_train - n_valid,
    }
    return stats, per_contig


def _write_windows(folder: Path, scan: Scan, spec: WindowSpec) -> dict[str, Any]:
    """Write windows.npy and contigs.csv; return the corpus's stats."""
    runs = read_array(folder / RUNS, RUN)
    windows = _tile(runs, scan, spec)
    distinct = first_occurrences(folder / BASES, windows, spec.k)
    with growing_array(folder / WINDOWS, WINDOW) as written:
        stats, per_contig = _count(windows, distinct, scan, spec, written.append)
    _write_contigs(folder / CONTIGS, scan.selection.kept, per_contig)
    return {**stats, "runs": len(runs)}


def _write_contigs(path: Path, contigs: list[Contig], per_contig: np.ndarray) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        rows = RowWriter(stream)
        names = [field.name for field in fields(Contig)]
        rows.row(["contig", *names, "sequences", "train_sequences", "valid_sequences"])
        for number, contig in enumerate(contigs):
            n_train, n_valid = (int(count) for count in per_contig[:, number])
            values = [getattr(contig, name) for name in names]
            rows.row([number, *values, n_train + n_valid, n_train, n_valid])
