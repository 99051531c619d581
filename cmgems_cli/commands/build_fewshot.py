"""`cmgems build-fewshot`: positives become a few-shot data set with DeePromoter negatives."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cmgems_cli import workspace
from cmgems_cli.console import Console
from cmgems_cli.datasets.number_list import parse_numbers
from cmgems_cli.option_fields import option
from cmgems_cli.options import Shared, takes
from cmgems_cli.output_state import check_place

if TYPE_CHECKING:
    from cmgems_cli.fewshot_builder.building import FewshotSet

# Endings that say how the file is written, not what it holds.
_ENDINGS = (".gz", ".bgz", ".fasta", ".fas", ".fna", ".fa")


@takes("out seed overwrite dry_run json quiet config", out="the workspace's benchmarks/fewshot/NAME")
def build_fewshot(
    positives: Annotated[
        Path,
        typer.Argument(help="FASTA of positives, plain or gzip.", metavar="POSITIVES.fa", show_default=False),
    ],
    shots: str | None = option(
        None,
        "--shots",
        "Training rows per class of a draw; one folder each: 10,50.",
        shown="10,50,100,500,1000, as far as there are rows",
    ),
    test_share: float = option(0.1, "--test-share", "Fraction of the pairs kept for the test.", min=0, max=1),
    max_bases: int = option(300, "--max-bases", "Longer positives are left out.", min=20),
    compat: bool = option(
        False, "--compat", "Split rows instead of pairs, as the original did: leaks into the test."
    ),
    *,
    io: Shared,
) -> None:
    """Make a few-shot data set from positives: DeePromoter negatives, split, pools.

    A negative is its positive with 12 random strings put at random places,
    each a twentieth of its length. Both are on the same side of the split.
    Left out and counted: records with letters other than A, C, G, T, under 20
    or over --max-bases bases, and repeats.

    Example: cmgems build-fewshot silencers.fa.gz --shots 10,50
    """
    started = time.perf_counter()
    console = io.console()
    target = io.out or workspace.fewshot_folder(_name(positives))
    check_place(target, "fewshot")
    wanted = None if shots is None else parse_numbers("shots", shots, least=1)
    from cmgems_cli.fewshot_builder import building as fewshot_building

    total = positives.stat().st_size if positives.is_file() else 0
    with console.progress("reading positives", total, "B") as bar:
        found = fewshot_building.read_positives(positives, max_bases=max_bases, advance=bar.advance)
    dataset = fewshot_building.make_fewshot(
        found, shots=wanted, test_share=test_share, max_bases=max_bases, compat=compat, seed=io.seed
    )
    if dataset.too_few:
        console.warn(f"skipped {', '.join(map(str, dataset.too_few))} shots: fewer training rows per class")
    if io.dry_run:
        console.result({"dry_run": True, "out": str(target), **dataset.stats()})
        _show(console, dataset, f"plan for {target} (nothing written)")
        return
    manifest = fewshot_building.write_fewshot(dataset, target, overwrite=io.overwrite)
    _show(console, dataset, str(target))
    console.finished(manifest, target, started)
    first = f"{next(iter(dataset.pools))}/train.tsv" if dataset.pools else "full-dataset/train.tsv"
    console.say(f"fine-tune on it: cmgems finetune MODEL {target / first}")


def _name(positives: Path) -> str:
    name = positives.name
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    return name or "positives"


def _show(console: Console, dataset: FewshotSet, title: str) -> None:
    """Print what became of the records, and what each file holds."""
    found, pairs_across_split = dataset.positives, dataset.pairs_across_split
    max_bases = dataset.params["max_bases"]
    console.table(
        title,
        ["what", "number"],
        [
            ["records", found.records],
            ["left out: letters other than A, C, G, T", found.other_letters],
            ["left out: under 20 bases", found.too_short],
            [f"left out: over {max_bases} bases", found.too_long],
            ["left out: repeats of an earlier record", found.repeats],
            ["pairs of a positive and its negative", len(found.sequences)],
            ["pairs on both sides of the split", pairs_across_split],
        ],
    )
    rows = []
    for name, (content, _) in dataset.files().items():
        folder = name.split("/")[0]
        n_draws = content.of_label(1) // int(folder) if folder.isdecimal() else 0
        holds = f"{n_draws} draws of {folder} per class" if n_draws else ""
        rows.append([name, content.of_label(1), content.of_label(0), holds])
    console.table("files", ["file", "positives", "negatives", "holds"], rows)
    if pairs_across_split:
        console.warn(
            f"--compat: {pairs_across_split:,} test rows have their own positive or negative in training; scores will"
            " flatter"
        )
