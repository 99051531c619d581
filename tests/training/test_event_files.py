"""`--tensorboard`: the event files hold what metrics.jsonl holds."""

import sys
from pathlib import Path

import numpy as np
import pytest

from cmgems_cli.errors import CmgemsError, Interrupted
from cmgems_cli.training.event_files import EventFiles
from cmgems_cli.training.metrics_log import METRICS, MetricsFile, read_metrics
from cmgems_cli.training.pretrain_run import pretrain
from tests.command_line import CommandLine
from tests.training.conftest import StopAfter
from tests.training.test_run import MakeRun


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return all points of a folder's event files, also those that TensorBoard would hide as outdated."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    shown = accumulator.EventAccumulator(str(folder), purge_orphaned_data=False).Reload()
    return {
        name: [(event.step, event.value) for event in shown.Scalars(name)] for name in shown.Tags()["scalars"]
    }


def test_event_files_hold_the_metrics_each_step_once(make_run: MakeRun, tmp_path: Path) -> None:
    observer = StopAfter(5)
    observer.events = EventFiles(tmp_path / "model" / "tensorboard")
    with pytest.raises(Interrupted):
        pretrain(make_run(), resume=True, overwrite=False, observer=observer)
    # As after a kill: a step that the checkpoint lacks.
    observer.events.begin([{"step": 5, "loss": 9.0}, {"step": 6, "loss": 9.0}])
    observer.events.close()
    observer.steps = -1
    manifest = pretrain(make_run(), resume=True, overwrite=False, observer=observer)
    assert observer.resumed_after == [5]
    assert not any(name.startswith("tensorboard") for name in manifest.files)
    records, found = read_metrics(tmp_path / "model" / METRICS), scalars(tmp_path / "model" / "tensorboard")
    assert {"loss", "lr", "grad_norm", "masked_fraction", "valid_perplexity"} <= set(found)
    assert found == {
        name: [(one["step"], float(np.float32(one[name]))) for one in records if name in one]
        for name in {name for one in records for name in one} - {"step", "strategy"}
    }


def test_steps_that_are_gone_back_over_are_there_once(tmp_path: Path) -> None:
    events = EventFiles(tmp_path / "tensorboard")
    metrics = MetricsFile(tmp_path / METRICS, events=events)
    for step in (1, 2):
        metrics.write({"step": step, "loss": 1.0, "strategy": "random"})
    kept = bytes(metrics.content)
    metrics.write({"step": 3, "loss": 50.0})
    metrics.rewind(kept)
    metrics.write({"step": 3, "loss": None, "skipped": True, "lr": 0.5})
    metrics.close()
    assert scalars(tmp_path / "tensorboard") == {"loss": [(1, 1.0), (2, 1.0)], "lr": [(3, 0.5)]}


def test_without_tensorboard_one_line_says_how_to_get_it(
    cmgems: CommandLine, inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    out = tmp_path / "m"
    said = cmgems(
        *("pretrain", inputs[0], "--pmi", inputs[1], "--model", "tiny", "--tensorboard", "--out", out), code=1
    ).error
    assert "--tensorboard needs tensorboard, which cannot be imported" in said
    assert "pip install 'cmgems[tensorboard]', or leave it out" in said
    assert not out.exists()
    with pytest.raises(CmgemsError, match="needs tensorboard"):
        EventFiles(tmp_path)
