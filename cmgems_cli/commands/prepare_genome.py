"""`cmgems prepare-genome`: from FASTA to training sequences."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cmgems_cli import workspace
from cmgems_cli.console import Console
from cmgems_cli.option_fields import option
from cmgems_cli.options import Shared, takes
from cmgems_cli.output_state import check_place

if TYPE_CHECKING:
    from cmgems_cli.artifacts import Manifest


@takes("out seed overwrite dry_run json quiet config", out="the workspace's corpus")
def prepare_genome(
    fasta: Annotated[
        list[Path],
        typer.Argument(help="FASTA files: plain, gzip or bgzip.", metavar="FASTA", show_default=False),
    ],
    contigs: str = option(
        "primary",
        "--contigs",
        "primary is 1–22, X and Y; a NAME matches chr20, 20 and NC_000020.11 alike.",
        metavar="primary|all|NAME,…",
    ),
    max_tokens: int = option(510, "--max-tokens", "Tokens of a full-length sequence.", min=1, max=65535),
    min_tokens: int = option(5, "--min-tokens", "Tokens of the shortest sequence.", min=1, max=65535),
    full_share: float = option(
        0.5,
        "--full-share",
        "Fraction of sequences cut to full length; the rest get random lengths.",
        min=0,
        max=1,
    ),
    valid_share: float = option(
        0.1, "--valid-share", "Fraction of sequences kept for validation.", min=0, max=1
    ),
    k: int = option(6, "--k", "Bases per token.", min=3, max=8),
    *,
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
    from cmgems_cli.genome.windows import WindowSpec

    spec = WindowSpec(k, min_tokens, max_tokens, full_share, valid_share, io.seed)
    preparation.check_window_spec(spec)
    if io.dry_run:
        _show_plan(preparation.plan(fasta, contigs=contigs), spec, out, console)
        return
    total = sum(path.stat().st_size for path in fasta if path.is_file())
    with console.progress("prepare-genome", total, "B") as bar:
        manifest = preparation.prepare_genome(
            fasta, out, contigs=contigs, overwrite=io.overwrite, advance=bar.advance, **spec.__dict__
        )
    for part, name in (("training", "train_sequences"), ("validation", "valid_sequences")):
        if not manifest.stats[name]:
            console.warn(f"no sequence is left for {part}; give more sequence or another --valid-share")
    _show_summary(manifest, console)
    console.finished(manifest, out, started)


def _show_summary(manifest: "Manifest", console: Console) -> None:
    stats, params = manifest.stats, manifest.params
    letters, sequences = stats["letters"], stats["sequences"]
    rows: list[tuple[str, int, str]] = [
        ("contigs", stats["contigs"], params["contigs"]),
        ("letters", letters, ""),
        ("bases kept (A, C, G, T)", stats["bases"], _share(stats["bases"], letters)),
        ("dropped: N", stats["dropped_n"], _share(stats["dropped_n"], letters)),
        ("dropped: other IUPAC letters", stats["dropped_iupac"], _share(stats["dropped_iupac"], letters)),
        ("dropped: anything else", stats["dropped_other"], _share(stats["dropped_other"], letters)),
        ("runs of bases", stats["runs"], "sequences never cross their ends"),
        ("sequences", sequences, f"{stats['tokens'] / sequences:.1f} {params['k']}-mers on average"),
        (
            f"of full length ({params['max_tokens']} tokens)",
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


def _show_plan(planned: list[Any], spec: Any, out: Path, console: Console) -> None:
    letters = sum(file.letters for file in planned)
    sequences = round(letters / spec.mean_bases)
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
                for file in planned
            ],
            "sequences_expected": sequences,
        }
    )
    console.table(
        "would read",
        ["file", "kind", "bytes", "letters", "contigs"],
        [
            [
                str(file.path),
                file.kind,
                file.size_bytes,
                file.letters if file.contigs is not None else f"about {file.letters:,}",
                "chosen while reading" if file.contigs is None else ", ".join(file.contigs),
            ]
            for file in planned
        ],
    )
    console.say(f"would write about {sequences:,} sequences to {out}; nothing was written")
