"""`cmgems prepare-genome`: from FASTA to training sequences."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cmgems_cli import workspace
from cmgems_cli.console import Console
from cmgems_cli.genome.preparation_options import PreparationOptions
from cmgems_cli.options import Shared, takes
from cmgems_cli.output_state import check_place
from cmgems_cli.readable import counted

if TYPE_CHECKING:
    from cmgems_cli.genome.preparation import Plan

# How many names a cell of the plan lists.
NAMES_SHOWN = 30


@takes("out seed overwrite dry_run json quiet config", out="the workspace's corpus")
def prepare_genome(
    fasta: Annotated[
        list[Path],
        typer.Argument(
            help="FASTA files: plain, gzip or bgzip; - for standard input.",
            metavar="FASTA",
            show_default=False,
            allow_dash=True,
        ),
    ],
    *,
    options: PreparationOptions,
    io: Shared,
) -> None:
    """Cut a genome into training sequences.

    Letters other than A, C, G, T end a sequence; lower case counts as sequence.
    An up-to-date .fai next to a plain FASTA is used to find the requested records.

    Example: cmgems prepare-genome GRCh38.fa.gz
    """
    started = time.perf_counter()
    console = io.console()
    out = io.out or workspace.corpus_folder()
    check_place(out, "corpus")
    from cmgems_cli.genome import preparation

    options.window_spec()
    chosen = {**options.__dict__, "overwrite": io.overwrite}
    total = sum(path.stat().st_size for path in fasta if path.is_file())
    with console.progress("prepare-genome", total, "B") as bar:
        if io.dry_run:
            plan = preparation.plan(fasta, out, advance=bar.advance, **chosen)
        else:
            manifest = preparation.prepare_genome(fasta, out, advance=bar.advance, **chosen)
    if io.dry_run:
        _warn(plan.stats, console)
        _show_plan(plan, options, out, console)
        return
    _warn(manifest.stats, console)
    _show_summary(manifest.stats, options, console)
    console.finished(manifest, out, started)


def _warn(stats: dict[str, Any], console: Console) -> None:
    if stats["human_names"] is False:
        console.warn(
            "the chromosomes are not human's by their names, so that primary takes every record"
            f" ({counted(stats['contigs'], 'contig')}); choose some with --contigs NAME,…"
        )
    for part, name in (("training", "train_sequences"), ("validation", "valid_sequences")):
        if not stats[name]:
            console.warn(f"no sequence is left for {part}; give more sequence or another --valid-share")


def _show_summary(stats: dict[str, Any], options: PreparationOptions, console: Console) -> None:
    letters, sequences = stats["letters"], stats["sequences"]
    rows: list[tuple[str, int, str]] = [
        ("contigs", stats["contigs"], options.contigs),
        ("records passed over", stats["records_passed_over"], f"{stats['letters_passed_over']:,} letters"),
        ("letters", letters, ""),
        ("bases kept (A, C, G, T)", stats["bases"], _share(stats["bases"], letters)),
        ("dropped: N", stats["dropped_n"], _share(stats["dropped_n"], letters)),
        ("dropped: other IUPAC letters", stats["dropped_iupac"], _share(stats["dropped_iupac"], letters)),
        ("dropped: anything else", stats["dropped_other"], _share(stats["dropped_other"], letters)),
        ("runs of bases", stats["runs"], "sequences never cross their ends"),
        ("sequences", sequences, f"{stats['tokens'] / sequences:.1f} {options.k}-mers on average"),
        (
            f"of full length ({options.max_tokens} tokens)",
            stats["full_length_sequences"],
            _share(stats["full_length_sequences"], sequences),
        ),
        ("training", stats["train_sequences"], _share(stats["train_sequences"], sequences)),
        ("validation", stats["valid_sequences"], _share(stats["valid_sequences"], sequences)),
        ("duplicates dropped", stats["duplicates_dropped"], ""),
    ]
    console.table("corpus", ["what", "number", "share"], rows)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %" if whole else "–"


def _show_plan(plan: "Plan", options: PreparationOptions, out: Path, console: Console) -> None:
    sequences = plan.stats["sequences"]
    console.result(
        {
            "dry_run": True,
            "out": str(out),
            "files": [
                {
                    "path": str(file.path),
                    "kind": file.kind,
                    "bytes": file.size_bytes,
                    "contigs": file.contigs,
                    "letters": file.letters,
                }
                for file in plan.files
            ],
            "sequences_expected": sequences,
            "stats": plan.stats,
        }
    )
    console.table(
        "would read",
        ["file", "kind", "bytes", "letters", "contigs"],
        [
            [str(file.path), file.kind, file.size_bytes, file.letters, _names(file.contigs)]
            for file in plan.files
        ],
    )
    _show_summary(plan.stats, options, console)
    if plan.done is not None:
        console.say(f"{out} is this corpus already; nothing would be done")
    else:
        console.say(
            f"would write {counted(sequences, 'sequence')} or, where some are equal, fewer to {out}; nothing was"
            " written"
        )


def _names(names: list[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more
