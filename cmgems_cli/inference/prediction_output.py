"""What predictions are written as: a table of all rows, hits, or a track."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

from cmgems_cli.datasets.targets import Target
from cmgems_cli.errors import UsageError
from cmgems_cli.extras import need
from cmgems_cli.inference.hits import HitSink, bed_of_hits, table_of_hits
from cmgems_cli.inference.inference_options import TABLE_FORMATS, HitOptions, PredictionFormat
from cmgems_cli.inference.output_formats import TableWriter, format_of
from cmgems_cli.inference.places import PlaceColumns
from cmgems_cli.inference.prediction import Sink, TableSink, columns
from cmgems_cli.inference.record_readers import Source
from cmgems_cli.inference.survey import Input
from cmgems_cli.inference.tracks import BedGraph, BigWig, OrderedSource, TrackSink

TRACKS = ("bedgraph", "bigwig")
_SUFFIXES: dict[str, PredictionFormat] = {
    ".bed": "bed",
    ".bedgraph": "bedgraph",
    ".bg": "bedgraph",
    ".bigwig": "bigwig",
    ".bw": "bigwig",
}


def prediction_format(out: Path | None, format: PredictionFormat | None) -> PredictionFormat:
    """Return the requested format, or else the one given by the file name; TSV for stdout.

    Raises
    ------
    UsageError
        If neither gives a format, or a bigWig file would go to stdout.
    CmgemsError
        If bigWig is wanted and pyBigWig is missing.
    """
    if format is None and out is not None and out.suffix.lower() in _SUFFIXES:
        format = _SUFFIXES[out.suffix.lower()]
    if format == "bigwig":
        if out is None:
            raise UsageError("bigWig is written at once, not to a stream; give `out=FILE.bw`")
        need("pyBigWig", "bigwig", "bigWig", instead="write bedGraph")
    return format if format is not None else format_of(out, None, TABLE_FORMATS, more_endings=_SUFFIXES)


def check_options(options: HitOptions, kind: PredictionFormat, *, intervals: bool) -> None:
    """Check that the options and the format go together; `intervals`: whether rows are parts of something.

    Raises
    ------
    UsageError
        If not.
    """
    if kind in TRACKS:
        for name in ("min_prob", "top", "merge"):
            if value := getattr(options, name):
                raise UsageError(
                    f"`{name}={value}` chooses hits, and {kind} has the value of every base; write bed, or leave it"
                    " out"
                )
    if options.merge and options.min_prob is None:
        raise UsageError("`merge` joins hits, and without `min_prob` every window is one; give a probability")
    if options.merge and not intervals:
        raise UsageError("`merge` joins windows or regions, and there are none; give `window` or `regions`")


def check_target(target: Target, options: HitOptions, kind: PredictionFormat) -> None:
    """Check that hits and BED, whose scores are probabilities, are not wanted of values (or raise UsageError)."""
    if target.problem != "regression":
        return
    for name in ("min_prob", "top", "merge"):
        value = getattr(options, name)
        if value is not None and value is not False:
            raise UsageError(
                f"`{name}={value}` chooses hits by the probability of a class, and this model predicts values; leave it"
                " out"
            )
    if kind == "bed":
        raise UsageError(
            "this model predicts values, and BED has probabilities; write a table, bedgraph or bigwig"
        )


def needs_class(options: HitOptions, kind: PredictionFormat) -> bool:
    """Return whether the result depends on which class is asked about."""
    return kind in ("bed", *TRACKS) or options.chooses


def chosen_class(target: Target, name: str | None) -> int:
    """Return the number of the class whose probability counts: the named one, or the second of two.

    Of a regression, that of its value.

    Raises
    ------
    UsageError
        If there is no such class, or several and no name.
    """
    label_names = target.names
    if name is None:
        if target.problem == "regression":
            return 0
        if len(label_names) != 2:
            raise UsageError(
                f"the model has {len(label_names)} classes; name one with `label`: {', '.join(label_names)}"
            )
        return 1
    return target.number_of(name)


def sink_of(
    stream: IO[bytes],
    kind: PredictionFormat,
    data: Input,
    source: Source,
    target: Target,
    options: HitOptions,
    *,
    header: bool = True,
    late: bool = False,
    resumed: Any = None,
) -> Sink:
    """Return what writes predictions to a stream.

    Parameters
    ----------
    stream : binary file
    kind : PredictionFormat
    data : Input
    source : Source
        An `OrderedSource` for a track.
    target : Target
        Of the model.
    options : HitOptions
    header : bool, default True
        Whether a table begins with the names of its columns.
    late : bool, default False
        As in `TableWriter`.
    resumed : Any
        The state of an earlier run, which wrote the stream up to here.
    """
    where = PlaceColumns.of(data)
    if kind == "bedgraph" or kind == "bigwig":
        assert isinstance(source, OrderedSource)
        file = BedGraph(stream) if kind == "bedgraph" else BigWig(stream, source.sizes)
        both = data.tiling.strand == "both"
        return TrackSink(file, chosen_class(target, options.label), both=both, state=resumed)
    chosen = chosen_class(target, options.label) if needs_class(options, kind) else 0
    if kind == "bed":
        write = bed_of_hits(stream, where, target.names[chosen])
    else:
        names = columns(target, where)
        table = TableWriter(stream, kind, names, header=header and resumed is None, late=late)
        if not options.chooses:
            return TableSink(table, target, where)
        write = table_of_hits(table, where)
    return HitSink(
        write,
        chosen,
        min_prob=options.min_prob,
        merge=options.merge,
        top=options.top,
        state=resumed,
    )
