"""`cmgems build-pmi`: count n-grams and rank all k-mers by normalised PMI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cmgems_cli import workspace
from cmgems_cli.console import Console
from cmgems_cli.errors import UsageError
from cmgems_cli.option_fields import option
from cmgems_cli.options import CorpusFolder, Shared, takes
from cmgems_cli.pmi import Definition
from cmgems_cli.readable import named_rows

if TYPE_CHECKING:
    from cmgems_cli.genome.corpus import Corpus
    from cmgems_cli.pmi.ranking import Ranking
    from cmgems_cli.pmi.tables import KmerTable

# Rows shown from either end of the ranking.
SHOWN = 10


@takes("out threads overwrite dry_run json quiet config", out="the workspace's pmi")
def build_pmi(
    corpus: CorpusFolder = None,
    from_counts: Path | None = option(
        None, "--from-counts", "Table of kmer,count rows (KMC or Jellyfish dump) instead of a corpus."
    ),
    definition: Definition = option(
        "paper", "--definition", "PMI as in the paper's equations, or as in the published ranking."
    ),
    min_count: int = option(
        101, "--min-count", "k-mers with fewer occurrences are unranked (the paper's c); at least 2."
    ),
    k: int | None = option(None, "--k", "Bases per k-mer, 3 to 8.", shown="that of the corpus or table"),
    *,
    io: Shared,
) -> None:
    """Rank all k-mers by normalised pointwise mutual information.

    Example: cmgems build-pmi cmgems-work/corpus --definition released
    """
    import time

    from cmgems_cli.pmi import stage
    from cmgems_cli.pmi.ranking import read_ranking
    from cmgems_cli.pmi.tables import check_balance, read_kmer_table

    started = time.perf_counter()
    console = io.console()
    if corpus is not None and from_counts is not None:
        raise UsageError(
            f"both a corpus ({corpus}) and --from-counts {from_counts} were given; give one of them"
        )
    out = io.out or workspace.pmi_folder()
    source: Corpus | KmerTable
    if from_counts is not None:
        source = read_kmer_table(from_counts)
        check_balance(source, console.warn)
        n_bases = int(source.counts.sum())
    else:
        from cmgems_cli.genome.corpus import Corpus

        source = Corpus.open(corpus or workspace.corpus_folder())
        n_bases = int(source.runs["length_bases"].sum())
    plan = stage.check_plan(source, k=k, definition=definition, min_count=min_count)
    stage.pmi_output(source, out, k=plan, definition=definition, min_count=min_count).finished(
        overwrite=io.overwrite
    )
    if plan != source.k:
        console.warn(
            f"the corpus was cut for k = {source.k}; pretraining needs a corpus and a ranking of the same k,"
            f" here {plan}"
        )
    if io.dry_run:
        rows = {
            "source": str(from_counts or corpus or workspace.corpus_folder()),
            "bases": n_bases,
            "k": plan,
            "definition": definition,
            "min_count": min_count,
            "out": str(out),
        }
        console.result({"dry_run": True, **rows})
        console.table("Plan (nothing was written)", ["what", "value"], named_rows(rows))
        return
    with console.progress("counting", n_bases, "bases") as bar:
        manifest = stage.build_pmi(
            source,
            out,
            k=plan,
            definition=definition,
            min_count=min_count,
            overwrite=io.overwrite,
            advance=bar.advance,
        )
    _show(console, read_ranking(out))
    console.finished(manifest, out, started)


def _show(console: Console, ranking: Ranking) -> None:
    """Print both ends of the ranking, and how many k-mers are in it."""
    from cmgems_cli.genome.vocabulary import kmers

    names = kmers(ranking.k)
    codes = ranking.codes_by_rank().tolist()
    all_shown = len(codes) <= 2 * SHOWN
    rows: list[list[object]] = [
        [
            rank,
            names[codes[rank - 1]],
            int(ranking.counts[codes[rank - 1]]),
            f"{ranking.pmi_nats[codes[rank - 1]]:.6f}",
            f"{ranking.npmi_nats[codes[rank - 1]]:.6f}",
        ]
        for rank in range(1, len(codes) + 1)
        if all_shown or rank <= SHOWN or rank > len(codes) - SHOWN
    ]
    if not all_shown:
        rows.insert(SHOWN, ["…", "", "", "", ""])
    params, stats = ranking.manifest.params, ranking.manifest.stats
    console.table(
        f"NPMI ({params['definition']}): {stats['ranked']:,} ranked, {stats['unranked']:,} unranked, "
        f"{stats['positions_counted']:,} counted",
        ["rank", "kmer", "count", "PMI (nats)", "NPMI (nats)"],
        rows,
    )
