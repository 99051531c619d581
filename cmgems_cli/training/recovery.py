"""What a run does about a step whose loss is not finite or too high, and what it reports of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from cmgems_cli.errors import CmgemsError, DivergedError, InputError
from cmgems_cli.training.checkpoints import (
    Checkpoint,
    checkpoint_before,
    newest_checkpoint,
    remove_checkpoints_after,
)
from cmgems_cli.training.loss_watch import MOST_RETURNS, as_ranges, steps_to_leave_out
from cmgems_cli.training.metrics_log import MetricsFile
from cmgems_cli.training.observer import Observer
from cmgems_cli.training.step_check import first_not_finite, same_result

if TYPE_CHECKING:
    from cmgems_cli.training.run import Run

# Sequences of a micro-batch that a message names.
_SHOWN = 8


class Recovery:
    """Decides about steps whose update was held back; all processes call each method together.

    Parameters
    ----------
    run : Run
    metrics : MetricsFile or None
        On the main process.
    observer : Observer
    """

    def __init__(self, run: Run[Any, Any], metrics: MetricsFile | None, observer: Observer) -> None:
        self._run, self._metrics, self._observer = run, metrics, observer
        self._returns = 0

    def settle(self, step: int, data: Any, loss: float, norm: float) -> bool:
        """Compute a step again, from the same weights; return whether to go back to an earlier checkpoint.

        If not, the weights are updated after all.

        Parameters
        ----------
        step : int
        data : StepData
        loss, norm : float
            Sum of its losses and norm of its gradient.

        Raises
        ------
        CmgemsError
            If the two results differ, or are not finite. The state before the step is saved if it is good.
        """
        run, n_targets = self._run, max(1, data.n_targets)
        again = run.engine.gradients(step, data.batches, data.n_targets).tolist()
        same = same_result((loss, norm), again, run.processes.device)
        if not run.processes.broadcast_from_main(float(same)):
            first, second = (f"{a / n_targets:.6g}, gradient norm {b:.6g}" for a, b in ((loss, norm), again))
            raise CmgemsError(
                f"step {step} computed twice gave different results (loss {first}; loss {second}): a hardware fault is"
                f" likely; {self._keep(step)}; check the memory, processors and GPUs of this machine, then run the"
                " command again to resume"
            )
        if run.goes_back and self._returns < MOST_RETURNS:
            return True
        if math.isfinite(loss) and math.isfinite(norm):
            run.engine.update(step)
            return False
        what, batch = first_not_finite(run.engine, step, data.batches)
        where = "" if batch is None else f" in micro-batch {batch.index}, {self._sequences(step, batch)}"
        raise DivergedError(
            f"the loss became {loss / n_targets:g} at step {step} (gradient norm {norm:g}; computed twice, equal); the"
            f" first not finite: {what}{where}; {self._keep(step)}; lower `learning_rate` (now"
            f" {run.engine.recipe.learning_rate:g}) and start again with `resume=False`{run.advice}"
        )

    def go_back(self, step: int) -> int:
        """Restore the newest checkpoint before the steps blamed for a spike at `step`; return its step.

        Raises
        ------
        InputError
            If there is none.
        """
        run, blamed = self._run, steps_to_leave_out(step)
        skipped = run.skipped.union(blamed)

        def use(checkpoint: Checkpoint) -> None:
            if checkpoint.step >= blamed[0]:
                raise InputError(f"checkpoint {checkpoint.folder} is not older than step {blamed[0]}")
            run.restore_checkpoint(checkpoint)

        checkpoint = newest_checkpoint(run.folder, use=use)
        assert checkpoint is not None
        run.skipped = skipped
        self._returns += 1
        self.remove_after(checkpoint.step)
        if self._metrics is not None:
            self._metrics.rewind(checkpoint.metrics())
        self._observer.warned(
            f"the loss spiked at step {step}: the run goes back to step {checkpoint.step} and skips {as_ranges(blamed)}"
        )
        self._observer.resumed(checkpoint.step)
        return checkpoint.step

    def report(self, step: int, loss: float, usual: float) -> None:
        """Warn of a spike that begins at `step`."""
        self._observer.warned(
            f"the loss rose to {loss:.3f} at step {step}, {loss / usual:.1f} times that of the steps before (computed"
            f" twice, equal); {self._last_good(step)}{self._run.advice}"
        )

    def remove_after(self, step: int) -> None:
        """Remove the checkpoints of later steps."""
        self._run.processes.barrier()
        if self._run.processes.is_main:
            remove_checkpoints_after(self._run.folder, step)
        self._run.processes.barrier()

    def _keep(self, step: int) -> str:
        """Save the state before `step` unless the loss had risen earlier; name the last good checkpoint."""
        risen_at = (self._run.watch and self._run.watch.risen_at) or step
        if risen_at == step > 1:
            self._run.save(step - 1, self._metrics)
        return self._last_good(risen_at)

    def _last_good(self, step: int) -> str:
        good = checkpoint_before(self._run.folder, step)
        return f"the last good checkpoint is {good}" if good else f"no checkpoint is older than step {step}"

    def _sequences(self, step: int, batch: Any) -> str:
        numbers = self._run.sequences(step, batch)
        more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
        return f"training sequences {', '.join(map(str, numbers[:_SHOWN]))}{more}"
