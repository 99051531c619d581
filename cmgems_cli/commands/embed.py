"""`cmgems embed`: a model's hidden states of sequences, as an array and a table of names."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from cmgems_cli import options
from cmgems_cli.commands.running import announce, close, described, rows_bar
from cmgems_cli.console import Console
from cmgems_cli.errors import UsageError


def embed(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Any model folder.", show_default=False)],
    sequences: options.InputPath,
    pooling: Annotated[
        Literal["mean", "cls", "tokens"],
        typer.Option("--pooling", help="One vector a sequence: mean or cls; or one a token: tokens."),
    ] = "mean",
    layers: Annotated[
        str,
        typer.Option("--layers", help="Such as -1 (last), -1,-2 or 0 (embeddings)."),
    ] = "-1",
    window: options.Window = None,
    stride: options.Stride = None,
    truncate: options.TruncateInput = False,
    max_batch_tokens: options.InferenceBatchTokens = None,
    precision: options.InferencePrecision = "fp32",
    out: options.Out = None,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Embed sequences: hidden states as float32, .npy or .safetensors, in their order.

    mean: over the k-mers of A, C, G, T; [CLS], [SEP] and [UNK] (k-mers with N)
    do not count. tokens: each k-mer's, [UNK] too. One row a sequence, or with
    --window a window; several layers are the second axis. Beside --out X.npy
    X.names.tsv says which row is which: name, (start, end), and with tokens
    the first row and their number.

    Example: cmgems embed cmgems-work/models/logo-cm-gems promoters.fa --out promoters.npy
    """
    started = time.perf_counter()
    console = Console(quiet=quiet, json=json)
    wanted = _layer_numbers(layers)
    from cmgems_cli.inference.blocks import cutting
    from cmgems_cli.inference.embedding import check_layers, columns, shape_of_row, write_embeddings
    from cmgems_cli.inference.inputs import open_input
    from cmgems_cli.inference.models import open_model
    from cmgems_cli.inference.outputs import (
        ARRAY_SUFFIXES,
        ArrayWriter,
        TableWriter,
        check_out_file,
        complete,
    )
    from cmgems_cli.inference.sources import Source

    if out is None or out.suffix not in ARRAY_SUFFIXES:
        raise UsageError(f"embed writes an array to --out FILE, which ends in {' or '.join(ARRAY_SUFFIXES)}")
    names_out = out.with_suffix(".names.tsv")
    for path in (out, names_out):
        check_out_file(path, overwrite=overwrite)
    source = Source(sequences)
    opened = open_model(model, device=device, precision=precision, max_batch_tokens=max_batch_tokens)
    check_layers(wanted, len(opened.bert.encoder.layer))
    data = open_input(
        source, cutting(opened.k, opened.max_tokens, window=window, stride=stride, truncate=truncate)
    )
    announce(console, opened, data)
    shape = shape_of_row(opened, wanted)
    metadata = {"pooling": pooling, "layers": layers}
    began = time.perf_counter()
    # The names first: where the array is, they are.
    with complete(out) as array_aside, complete(names_out) as names_aside:
        with (
            array_aside.open("wb+") as array_stream,
            names_aside.open("w", encoding="utf-8", newline="") as names_stream,
            rows_bar(console, "embedding", data, to_screen=False) as advance,
        ):
            array = ArrayWriter(array_stream, out.suffix, shape, metadata)
            names = TableWriter(names_stream, "tsv", columns(pooling, windows=window is not None))
            write_embeddings(opened, data, array, names, pooling=pooling, layers=wanted, advance=advance)
            array.finish()
        # An array about to be replaced goes first: no moment has the old one beside the new names.
        out.unlink(missing_ok=True)
    seconds = time.perf_counter() - began
    shown = " × ".join(str(size) for size in (array.rows, *shape))
    console.table(
        f"{out}: {shown}, float32",
        ["what", "value"],
        [["vectors", array.rows], ["pooling", pooling], ["layers", layers], ["names", str(names_out)]],
    )
    close(console, data, seconds, out)
    console.result(
        {
            **described(opened, data, source, seconds),
            "pooling": pooling,
            "layers": wanted,
            "shape": [array.rows, *shape],
            "out": str(out),
            "names": str(names_out),
            "elapsed_s": round(time.perf_counter() - started, 3),
        }
    )


def _layer_numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise UsageError(
            f"--layers {text!r} is no list of layers; give numbers such as -1 or -1,-2"
        ) from None
