"""`cmgems doctor`: the machine, the speed of pretraining on it, and what to change."""

import platform
from dataclasses import asdict
from typing import TYPE_CHECKING

from cmgems_cli.console import Console
from cmgems_cli.errors import CmgemsError
from cmgems_cli.modeling.presets import PRESETS
from cmgems_cli.option_fields import option
from cmgems_cli.options import Shared, takes
from cmgems_cli.readable import amount, duration, size

if TYPE_CHECKING:
    from cmgems_cli.doctor.diagnostics import Diagnosis


@takes("device json quiet config")
def doctor(
    model: str | None = option(
        None, "--model", "Model to time.", choices=tuple(PRESETS), shown="dnabert on CUDA, logo on a CPU"
    ),
    *,
    io: Shared,
) -> None:
    """Examine the machine: versions, devices, speed, memory and disk space, and what to change.

    Speed is measured by pretraining steps on the human sequence that ships with
    the package; hours are that speed over the tokens of the paper's recipe.

    Example: cmgems doctor
    """
    console = io.console()
    try:
        from cmgems_cli.doctor.diagnostics import STEPS, advice, diagnose, problems
    except (ImportError, OSError) as error:
        raise CmgemsError(
            f"a library that training needs cannot be loaded ({error}); install it again: pip install"
            " --force-reinstall torch transformers"
        ) from None
    from cmgems_cli.fetching.sources import offline

    console.say("timing pretraining steps …")
    diagnosis = diagnose(io.device, model, offline())
    to_fix, to_consider = problems(diagnosis), advice(diagnosis)
    console.result(
        {
            "versions": {
                version.name: {"installed": version.installed, "needed": version.needed, "fits": version.fits}
                for version in diagnosis.versions
            },
            "platform": platform.platform(),
            "devices": [asdict(one) for one in diagnosis.devices],
            "cores": diagnosis.cores,
            "threads": diagnosis.threads,
            "probe": {
                **asdict(diagnosis.probe),
                "of_matrix_rate": diagnosis.probe.of_matrix_rate,
                "of_nominal_peak": diagnosis.probe.of_nominal_peak,
                "hours_1000_steps": diagnosis.probe.recipe_s / 3600 * 1000 / STEPS,
                "hours_10000_steps": diagnosis.probe.recipe_s / 3600 * 10_000 / STEPS,
            },
            "capacity_checks": [{**asdict(check), "fits": check.fits} for check in diagnosis.capacity_checks],
            "problems": to_fix,
            "advice": to_consider,
        }
    )
    _show(console, diagnosis, to_fix, to_consider)


def _show(console: Console, diagnosis: "Diagnosis", problems: list[str], advice: list[str]) -> None:
    probe = diagnosis.probe
    console.table(
        f"versions, on {platform.platform()}",
        ["package", "installed", "needed"],
        [
            [one.name, one.installed or "none", (one.needed or "any") + ("" if one.fits else "  not met")]
            for one in diagnosis.versions
        ],
    )
    console.table(
        f"devices; {diagnosis.cores:g} cores, torch uses {diagnosis.threads} of them on the CPU",
        ["device", "model", "memory", "free", "bf16"],
        [[d.name, d.model, _bytes(d.memory_bytes), _bytes(d.free_bytes), d.bf16] for d in diagnosis.devices],
    )
    console.table(
        f"what would run, timed with {probe.model} ({amount(probe.parameters)} parameters)",
        ["what", "value"],
        [
            ["device", probe.device],
            ["precision", probe.precision],
            ["attention", probe.attention],
            ["tokens per micro-batch", f"{probe.max_batch_tokens:,}"],
            ["tokens per second", f"{probe.tokens_per_s:,.0f}"],
            ["matrix products that the loss needs", f"{_tflops(probe.flop_per_s)} TFLOP/s"],
            [
                f"of the measured matrix rate, {_tflops(probe.matrix_flop_per_s)}",
                f"{probe.of_matrix_rate:.1%}",
            ],
            *(
                [
                    [
                        f"of the nominal peak, {_tflops(probe.nominal_flop_per_s)}",
                        f"{probe.of_nominal_peak:.1%}",
                    ]
                ]
                if probe.nominal_flop_per_s
                else []
            ),
            ["1,000 steps (paper, Table 6)", _time(probe.recipe_s / 10)],
            ["10,000 steps (paper, Table 2)", _time(probe.recipe_s)],
        ],
    )
    console.table(
        "memory and disk space for the full recipe",
        ["what", "where", "needed", "free", "fits"],
        [
            [r.what, r.where, _bytes(r.needed_bytes), _bytes(r.free_bytes), r.fits]
            for r in diagnosis.capacity_checks
        ],
    )
    rows = [["problem", sentence] for sentence in problems] + [["advice", sentence] for sentence in advice]
    console.table("what to change", ["", "what"], rows or [["nothing", "everything fits"]])


def _time(seconds: float) -> str:
    return duration(seconds) if seconds < 48 * 3600 else f"{seconds / 86400:,.1f} days"


def _tflops(flop_per_s: float) -> str:
    return f"{flop_per_s / 1e12:.3g}"


def _bytes(number: int | None) -> str | None:
    return None if number is None else size(number)
