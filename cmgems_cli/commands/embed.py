"""`cmgems embed`: a model's hidden states of sequences, as an array and a table of names."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from cmgems_cli.commands.inference_progress import close, described, rows_bar, survey_and_announce, task_of
from cmgems_cli.errors import UsageError
from cmgems_cli.inference.inference_options import InferenceOptions, Pooling, RegionOptions
from cmgems_cli.modeling.model_source import check_order
from cmgems_cli.option_fields import option
from cmgems_cli.options import InputPath, Shared, takes


@takes("out device overwrite resume json quiet config", out="none: needed, FILE.npy or FILE.safetensors")
def embed(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Any model folder.", show_default=False)],
    sequences: InputPath = None,
    *,
    pooling: Pooling = option(
        "mean",
        "--pooling",
        "One vector per sequence (mean, max or cls), or one per token (tokens).",
        # As `finetune` calls it.
        alias="--pool",
    ),
    layers: str = option("-1", "--layers", "Such as -1 (last), -1,-2 or 0 (embeddings)."),
    regions: RegionOptions,
    options: InferenceOptions,
    io: Shared,
) -> None:
    """Embed sequences; writes hidden states as float32, .npy or .safetensors, in input order.

    mean: over the k-mers of A, C, G, T; [CLS], [SEP] and [UNK] (k-mers with N)
    do not count. tokens: each k-mer's, [UNK] too. One row a sequence, or with
    --window a window; several layers are the second axis. Beside --out X.npy
    X.names.tsv says which row is which: name, (start, end), and with tokens
    the first row and their number.

    Example: cmgems embed cmgems-work/models/logo-cm-gems promoters.fa --out promoters.npy
    """
    started = time.perf_counter()
    console = io.console()
    check_order(model, sequences, "INPUT")
    wanted = _layer_numbers(layers)
    from cmgems_cli.inference.embedding import check_layers, columns, shape_of_row, write_embeddings
    from cmgems_cli.inference.loading import load_model
    from cmgems_cli.inference.output_formats import (
        ARRAY_SUFFIXES,
        TableWriter,
        array_writer,
    )
    from cmgems_cli.inference.places import PlaceColumns
    from cmgems_cli.inference.region_source import source_of
    from cmgems_cli.inference.resumable_output import check_files, partial_files

    if io.out is None or io.out.suffix not in ARRAY_SUFFIXES:
        raise UsageError(f"embed writes an array to --out FILE, which ends in {' or '.join(ARRAY_SUFFIXES)}")
    names_out = io.out.with_suffix(".names.tsv")
    reads = [model, sequences, regions.regions, regions.genome]
    check_files([io.out, names_out], overwrite=io.overwrite, reads=reads)
    source = source_of(sequences, regions)
    opened = load_model(
        model, device=io.device, precision=options.precision, max_batch_tokens=options.max_batch_tokens
    )
    check_layers(wanted, opened.module.n_layers)
    data = survey_and_announce(console, opened, source, options)
    shape = shape_of_row(opened, wanted)
    metadata = {"pooling": pooling, "layers": layers}
    began = time.perf_counter()
    task = task_of(opened, data, source, **metadata)
    with (
        partial_files([io.out, names_out], task, resume=io.resume) as partial,
        rows_bar(console, "embedding", data, to_screen=False) as advance,
    ):
        array = array_writer(partial.streams[0], io.out.suffix, shape, metadata, rows=partial.saved or 0)
        name_columns = columns(pooling, PlaceColumns.of(data))
        names = TableWriter(partial.streams[1], "tsv", name_columns, header=not partial.blocks)
        write_embeddings(
            opened,
            data,
            array,
            names,
            pooling=pooling,
            layers=wanted,
            skip=partial.blocks,
            block_done=partial.block_done,
            advance=advance,
        )
        array.finish()
    seconds = time.perf_counter() - began
    shown = " × ".join(str(size) for size in (array.rows, *shape))
    console.table(
        f"{io.out}: {shown}, float32",
        ["what", "value"],
        [["vectors", array.rows], ["pooling", pooling], ["layers", layers], ["names", str(names_out)]],
    )
    close(console, data, seconds, io.out)
    console.result(
        {
            **described(opened, data, source, seconds),
            "pooling": pooling,
            "layers": wanted,
            "shape": [array.rows, *shape],
            "out": str(io.out),
            "names": str(names_out),
            "elapsed_s": round(time.perf_counter() - started, 3),
        }
    )


def _layer_numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise UsageError(
            f"--layers {text!r} is not a list of layers; give numbers such as -1 or -1,-2"
        ) from None
