"""Library errors name parameters; the command line translates them into options."""

import pytest
import typer

from cmgems_cli.cli import app


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("`mask_rate` is 2; needed a number in (0, 1]", "--mask-rate is 2; needed a number in (0, 1]"),
        ("`steps=5` is below `warmup_steps`", "--steps 5 is below --warmup-steps"),
        ("use `contigs=NAME,…`", "use --contigs NAME,…"),
        ("give `overwrite=True`, or `resume=False`", "give --overwrite, or --no-resume"),
        (
            "run `cmgems fetch grch38`; `strategy_codes` is short",
            "run `cmgems fetch grch38`; `strategy_codes` is short",
        ),
    ],
)
def test_the_command_line_shows_options_for_parameters(message: str, shown: str) -> None:
    assert typer.main.get_command(app)._with_flags(message) == shown
