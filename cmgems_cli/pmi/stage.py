"""The PMI stage: from a corpus, or from the k-mer counts of another program, to a `pmi` artifact."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cmgems_cli.artifacts import Manifest, environment
from cmgems_cli.errors import InputError, UsageError
from cmgems_cli.genome.vocabulary import MAX_K, MIN_K, kmers
from cmgems_cli.outputs import Output
from cmgems_cli.pmi import DEFINITIONS, Definition
from cmgems_cli.pmi.ranking import KMERS_CSV, write_kmers
from cmgems_cli.pmi.scoring import score, shorter_orders
from cmgems_cli.pmi.tables import KmerTable

if TYPE_CHECKING:
    from cmgems_cli.genome.corpus import Corpus

# paper, Eq. 1, after GeneMask: the constant c.
MIN_COUNT = 101

# A single k-mer cannot be ranked.
_FEWEST_RANKED = 2


def build_pmi(
    source: Corpus | KmerTable,
    out: Path,
    *,
    k: int | None = None,
    definition: Definition = "paper",
    min_count: int = MIN_COUNT,
    overwrite: bool = False,
    advance: Callable[[float], None] | None = None,
) -> Manifest:
    """Rank all k-mers by normalised PMI and write them to a new `pmi` artifact.

    Parameters
    ----------
    source : Corpus or KmerTable
        What to count, or the counts. All runs of a corpus are counted in full, whatever its windows. For a
        table, counts of shorter n-grams are sums over the last base.
    out : Path
        The folder to write.
    k : int, optional
        Bases per k-mer. Default: that of the source; a table supports no other.
    definition : "paper" or "released", default "paper"
        Definition of p(s) and of the segmentations; see `scoring.pmi_nats`.
    min_count : int, default 101, occurrences
        k-mers seen fewer times are unranked; the constant c of the normalisation. At least 2.
    overwrite : bool, default False
        Replace a finished pmi artifact at `out`.
    advance : callable, optional
        Called with the number of bases just counted, from any thread; never called for a table.

    Returns
    -------
    Manifest
        With stats ranked, unranked and positions_counted (k-mers counted).

    Raises
    ------
    UsageError
        If `k`, `definition` or `min_count` is out of range.
    InputError
        If the source is damaged, of another k, or holds fewer than two k-mers that can be ranked.
    OverwriteError
        If something different is at `out`.
    """
    started = time.perf_counter()
    k = check_plan(source, k=k, definition=definition, min_count=min_count)
    with pmi_output(source, out, k=k, definition=definition, min_count=min_count).claim(
        overwrite=overwrite
    ) as claim:
        if claim.done is not None:
            return claim.done
        stats = _rank(source, claim.folder / KMERS_CSV, k, definition, min_count, advance)
        return claim.finish(stats=stats, files=[KMERS_CSV], environment=environment(started))


def pmi_output(source: Corpus | KmerTable, out: Path, *, k: int, definition: str, min_count: int) -> Output:
    """Return the output that `build_pmi` with these parameters writes."""
    params = {"k": k, "definition": definition, "min_count": min_count}
    inputs = (
        {"counts": source.sha256} if isinstance(source, KmerTable) else {"corpus": source.manifest.digest}
    )
    return Output(out, "pmi", params=params, inputs=inputs)


def _rank(
    source: Corpus | KmerTable,
    path: Path,
    k: int,
    definition: Definition,
    min_count: int,
    advance: Callable[[float], None] | None,
) -> dict[str, int]:
    """Count, score and write kmers.csv; return the stats."""
    if isinstance(source, KmerTable):
        orders = shorter_orders(source.counts, k)
    else:
        from cmgems_cli.pmi.counting import count_orders

        runs = source.runs
        orders = count_orders(source.bases, runs["start"], runs["length_bases"], k, advance=advance)
    counts = orders[k]
    _check_counts(counts, k, min_count)
    pmi, npmi = score(orders, definition, min_count=min_count)
    ranked = counts >= min_count
    if not np.isfinite(npmi[ranked]).all():
        impossible = kmers(k)[int(np.flatnonzero(ranked & ~np.isfinite(npmi))[0])]
        raise InputError(
            f"{impossible} holds n-grams with which no {k}-mer of the table starts, so the counts are not of"
            " sequences; give a table of all k-mers"
        )
    write_kmers(path, k, counts, pmi, npmi)
    return {
        "ranked": int(ranked.sum()),
        "unranked": int((~ranked).sum()),
        "positions_counted": int(counts.sum()),
    }


def check_plan(source: Corpus | KmerTable, *, k: int | None, definition: str, min_count: int) -> int:
    """Run the checks of `build_pmi` that need no counting; return the `k` it would use.

    Raises
    ------
    UsageError, InputError
        As `build_pmi`.
    """
    if definition not in DEFINITIONS:
        raise UsageError(f"`definition` {definition!r} is unknown; choose {' or '.join(DEFINITIONS)}")
    if min_count < 2:
        raise UsageError(f"`min_count` is {min_count}; needed 2 or more, since log c must be positive")
    if k is not None and not MIN_K <= k <= MAX_K:
        raise UsageError(f"`k` is {k}; needed {MIN_K} to {MAX_K}")
    if isinstance(source, KmerTable):
        if k not in (None, source.k):
            raise InputError(
                f"{source.path} holds {source.k}-mers, but `k` is {k}; leave `k` out or give a table of {k}-mers"
            )
        _check_counts(source.counts, source.k, min_count)
        return source.k
    return k or source.k


def _check_counts(counts: np.ndarray, k: int, min_count: int) -> None:
    """Check that at least two k-mers are frequent enough to be ranked."""
    if int((counts >= min_count).sum()) >= _FEWEST_RANKED:
        return
    second, largest = (int(count) for count in np.sort(counts)[-_FEWEST_RANKED:])
    if second >= 2:
        remedy = f"use `min_count={second}` or less, or a larger corpus"
    else:
        remedy = "use a larger corpus"
    raise InputError(
        f"fewer than {_FEWEST_RANKED} {k}-mers occur {min_count} times or more (`min_count`); the largest"
        f" count is {largest:,}: {remedy}"
    )
