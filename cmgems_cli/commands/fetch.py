"""`cmgems fetch`: the human genome, benchmarks and models, downloaded and checked."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cmgems_cli.console import Console
from cmgems_cli.fetching import source_names
from cmgems_cli.option_fields import option
from cmgems_cli.options import Shared, takes
from cmgems_cli.readable import duration, named_rows, size

if TYPE_CHECKING:
    from cmgems_cli.fetching.hub_models import HubModel
    from cmgems_cli.fetching.sources import Download
    from cmgems_cli.fetching.transfer import RemoteFile

# What to do next, by what was fetched; anything else is a benchmark.
NEXT = {
    "grch38": "cmgems prepare-genome {out}",
    "dnabert6": "cmgems finetune {out} DATA",
    "model": "cmgems finetune {out} DATA",
}
NEXT_OF_BENCHMARK = "cmgems evaluate MODEL --bench {what} --data {out}"


@takes("out overwrite dry_run json quiet config", out="the workspace's downloads, benchmarks or models")
def fetch(
    what: Annotated[
        str,
        typer.Argument(
            help="The human genome, a benchmark, DNABERT's weights for 6-mers, or a model of a hub.",
            metavar="|".join(source_names()),
            show_default=False,
        ),
    ],
    hub_id: Annotated[
        str | None,
        typer.Argument(
            metavar="[HUB_ID]", help="model: its OWNER/NAME on the Hugging Face hub.", show_default=False
        ),
    ] = None,
    revision: str | None = option(
        None, "--revision", "model: commit, tag or branch.", metavar="NAME", shown="the main branch's commit"
    ),
    mirror: str | None = option(
        None, "--mirror", "Alternative URL for hg38.fa.gz, or a Hugging Face mirror.", metavar="URL"
    ),
    *,
    io: Shared,
) -> None:
    """Download public data or weights to where the other commands look for them.

    A stopped download resumes. Files get their names only when their checksums
    are right. HF_HUB_OFFLINE=1 keeps it off the network. Models that need code
    of their own are refused before their weights are fetched.

    Examples: cmgems fetch grch38
    cmgems fetch model zhihan1996/DNABERT-2-117M
    """
    started = time.perf_counter()
    console = io.console()
    from cmgems_cli.datasets.benchmark_file import shipped, shipped_names
    from cmgems_cli.errors import CmgemsError, UsageError
    from cmgems_cli.fetching import hub_models, sources, transfer
    from cmgems_cli.fetching.benchmark_sources import look_up_benchmark
    from cmgems_cli.workspace import pretrained_folder

    if what not in source_names():
        raise UsageError(f"{what!r} is not among what can be fetched; needed {', '.join(source_names())}")
    if what == "model":
        hub_id = hub_models.check_hub_id(hub_id)
    elif hub_id or revision:
        raise UsageError(
            f"`revision` and HUB_ID are for `cmgems fetch model`, not for {what}; leave them out"
        )
    target = io.out or (pretrained_folder(hub_id.split("/")[1]) if hub_id else sources.default_out(what))
    if what == "grch38" and target.is_dir():
        target = target / sources.default_out(what).name
    # What an earlier fetch recorded needs no network to be checked; nor does the genome.
    if hub_id:
        download = hub_models.recorded_model(hub_id, target, revision, overwrite=io.overwrite)
    else:
        download = None if io.overwrite else sources.read_record(target)
    model: HubModel | None = None
    if download is None:
        if (forbidden := sources.offline()) and not (
            what == "grch38" and target.exists() and not io.overwrite
        ):
            raise CmgemsError(
                f"{forbidden} forbids the network; unset it to fetch {what}, or put it at {target} yourself"
            )
        if hub_id:
            model = hub_models.look_up_model(hub_id, target, mirror=mirror, revision=revision)
            download = model.download
        elif what in shipped_names() and shipped(what).source:
            download = look_up_benchmark(shipped(what), target, mirror)
        else:
            download = sources.look_up(what, target, mirror)
    # A model is fetched into a folder of its own, in which anything may be replaced.
    replaces = io.overwrite and not hub_id
    left = [
        file
        for file in download.files
        if (not transfer.is_there(file) if model else transfer.check_target(file, overwrite=replaces))
    ]
    _announce(console, download, target)
    plan = {
        "what": what,
        "out": str(target),
        "source": download.source,
        "revision": download.revision,
        "licence": download.licence,
        "verified": download.verified,
        "files": len(download.files),
        "bytes": download.size_bytes,
        "bytes_left": sum(file.size_bytes - file.bytes_here for file in left),
    }
    if io.dry_run:
        console.result({"plan": plan})
        console.table(f"plan for {target} (nothing fetched)", ["what", "value"], named_rows(plan))
        return
    if left:
        transfer.check_space(left, target)
    if model:
        first = [file for file in left if file not in model.weights]
        _bring(console, target.name, first)
        hub_models.check_opens(model)
        _bring(console, target.name, [file for file in left if file not in first])
        if model.pickled:
            console.say(f"converting {len(model.pickled)} file(s) of weights to safetensors")
        download = hub_models.publish(model, overwrite=io.overwrite)
    elif left:
        _bring(console, target.name, left)
    if len(download.files) > 1 and not hub_id:
        sources.write_record(download)
    console.result({**plan, "bytes_left": 0, "elapsed_s": round(time.perf_counter() - started, 3)})
    console.say(
        f"{target}: {len(download.files)} file(s), every checksum is right"
        + ("" if download.verified else " (as the mirror gives them: unverified)")
        + (
            f"; fetched in {duration(time.perf_counter() - started)}"
            if left
            else "; nothing had to be fetched"
        )
    )
    console.say(f"next: {NEXT.get(what, NEXT_OF_BENCHMARK).format(what=what, out=target)}")


def _announce(console: Console, download: "Download", target: Path) -> None:
    from cmgems_cli.readable import counted

    commit = f" at commit {download.revision[:12]}" if download.revision else ""
    console.say(download.title)
    for name, value in (
        ("from", f"{download.source}{commit}"),
        ("licence", download.licence),
        ("size", f"{size(download.size_bytes)} in {counted(len(download.files), 'file')}"),
        ("to", target),
    ):
        console.say(f"  {name:<8}{value}")
    for note in download.notes:
        console.warn(note)


def _bring(console: Console, name: str, left: "list[RemoteFile]") -> None:
    """Fetch what is left, one file after the other, and say what an interruption keeps."""
    if not left:
        return
    from cmgems_cli.errors import Interrupted
    from cmgems_cli.fetching.transfer import fetch as fetch_file
    from cmgems_cli.signals import stopped_by

    had = sum(file.bytes_here for file in left)
    if had:
        console.say(f"resuming: {size(had)} were downloaded before")
    with console.progress(f"fetching {name}", sum(file.size_bytes for file in left), "B") as bar:
        bar.start_at(had)

        def advance(n_bytes: float) -> None:
            bar.advance(n_bytes, note=f"{size(bar.rate(n_bytes))}/s")

        try:
            for file in left:
                fetch_file(file, advance=advance, retrying=console.warn)
        except (KeyboardInterrupt, Interrupted) as error:
            code = getattr(error, "exit_code", 130)
            raise Interrupted(
                f"{stopped_by(code)}; {size(bar.done)} are kept: run the command again to resume", code
            ) from None
