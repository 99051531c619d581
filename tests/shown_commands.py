"""Commands that pages and examples show, as the real command line takes them."""

from dataclasses import dataclass
from typing import Any

from typer.main import get_command

from cmgems_cli.bench.grids import parse_shard
from cmgems_cli.cli import app
from cmgems_cli.comparing.published import published_scores
from cmgems_cli.datasets.benchmark_file import find_benchmark
from cmgems_cli.datasets.finetune_options import FinetuneOptions
from cmgems_cli.datasets.number_list import parse_numbers
from cmgems_cli.option_fields import options_of
from cmgems_cli.training.pretrain_options import PretrainingOptions


@dataclass(frozen=True)
class Call:
    """One `cmgems` command: the line it stands in, and its arguments."""

    line: int
    words: tuple[str, ...]


def parsed(call: Call) -> Any:
    """Return what the real command line makes of a call (TyperException if nothing)."""
    group: Any = get_command(app)
    command = group.get_command(None, call.words[0])
    assert command is not None, f"there is no command {call.words[0]}"
    # --config looks its keys up among the commands of the group.
    whole = group.make_context("cmgems", [], resilient_parsing=True)
    return command.make_context(call.words[0], list(call.words[1:]), parent=whole).params


def check_values(name: str, params: dict[str, Any]) -> None:
    """Check what parsing alone lets through, as the commands themselves do (CmgemsError)."""
    if name == "pretrain":
        keys = {name: option.key for name, option in options_of(PretrainingOptions).items()}
        PretrainingOptions(**{name: params[key] for name, key in keys.items()}).resolve("cpu")
    if name == "evaluate":
        parse_shard(params["shard"])
        for option, least in (("seeds", 0), ("shots", 1)):
            if params[option] is not None:
                parse_numbers(option, params[option], least=least)
        benchmark = find_benchmark(params["bench"])
        benchmark.selected(params["tasks"])
        keys = {name: option.key for name, option in options_of(FinetuneOptions).items()}
        changes = FinetuneOptions(**{name: params[key] for name, key in keys.items()}).changes()
        several = [name for name, value in changes.items() if isinstance(value, tuple)]
        assert not (params["shots"] and several), f"drawn rows have no dev split to choose {several} on"
    if name == "ttest":
        for model in params["models"]:
            if model.startswith("paper:"):
                published_scores(model.removeprefix("paper:"))
