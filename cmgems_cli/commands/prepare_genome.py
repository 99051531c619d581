"""`cmgems prepare-genome`: from FASTA to training sequences."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cmgems_cli import options, workspace
from cmgems_cli.console import Console
from cmgems_cli.outputs import check_place

if TYPE_CHECKING:
    from cmgems_cli.artifacts import Manifest


def prepare_genome(
    fasta: Annotated[
        list[Path],
        typer.Argument(help="FASTA files: plain, gzip or bgzip.", metavar="FASTA", show_default=False),
    ],
    contigs: Annotated[
        str,
        typer.Option(
            "--contigs",
            help="primary is 1–22, X and Y; a NAME matches chr20, 20 and NC_000020.11 alike.",
            metavar="primary|all|NAME,…",
        ),
    ] = "primary",
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=1, max=65535, help="Tokens of a full-length sequence.")
    ] = 510,
    min_tokens: Annotated[
        int, typer.Option("--min-tokens", min=1, max=65535, help="Tokens of the shortest sequence.")
    ] = 5,
    full_share: Annotated[
        float,
        typer.Option("--full-share", min=0, max=1, help="Share cut at full length; others are any length."),
    ] = 0.5,
    valid_share: Annotated[
        float, typer.Option("--valid-share", min=0, max=1, help="Share kept for validation.")
    ] = 0.1,
    k: Annotated[int, typer.Option("--k", min=3, max=8, help="Bases per token.")] = 6,
    out: options.Out = None,
    seed: options.Seed = 42,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Cut a genome into training sequences.

    Letters other than A, C, G, T end a sequence; lower case counts as sequence.
    An up-to-date .fai beside a plain FASTA is used to find the records asked for.

    Example: cmgems prepare-genome GRCh38.fa.gz
    """
    started = time.perf_counter()
    console = Console(quiet=quiet, json=json)
    out = out or workspace.corpus_folder()
    check_place(out, "corpus")
    from cmgems_cli.genome import preparation
    from cmgems_cli.genome.windows import WindowSpec

    spec = WindowSpec(k, min_tokens, max_tokens, full_share, valid_share, seed)
    preparation.check_window_spec(spec)
    if dry_run:
        _show_plan(preparation.plan(fasta, contigs=contigs), spec, out, console)
        return
    total = sum(path.stat().st_size for path in fasta if path.is_file())
    with console.progress("prepare-genome", total, "B") as bar:
        manifest = preparation.prepare_genome(
            fasta, out, contigs=contigs, overwrite=overwrite, advance=bar.advance, **spec.__dict__
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
