"""The rows of fine-tuning steps: each once per epoch, whatever the number of processes."""

import numpy as np
import pytest
import torch

from cmgems_cli.training.finetune_batches import FinetuneBatches, evaluation_batches
from cmgems_cli.training.processes import Processes, start_processes
from tests.training.labelled_rows import TEST, TRAIN


@pytest.mark.parametrize("global_batch", [1, 8, 43, 64])
def test_every_epoch_takes_every_row_once_and_ends_with_a_smaller_step(global_batch: int) -> None:
    steps = FinetuneBatches(TRAIN, global_batch, 64, 7, start_processes("cpu"), fixed_cut=False)
    assert steps.steps_per_epoch == -(-43 // global_batch)
    orders = []
    for epoch in (1, 2):
        made = [
            steps.rows_of(step)
            for step in range((epoch - 1) * steps.steps_per_epoch + 1, epoch * steps.steps_per_epoch + 1)
        ]
        assert [len(part) for part in made[:-1]] == [global_batch] * (len(made) - 1)
        orders.append(np.concatenate(made).tolist())
        assert sorted(orders[-1]) == list(range(43))
    assert orders[0] != orders[1]


@pytest.mark.parametrize("fixed_cut", [True, False])
@pytest.mark.parametrize("world", [2, 3, 5])
def test_processes_share_every_step_and_none_goes_without(world: int, fixed_cut: bool) -> None:
    alone = FinetuneBatches(TRAIN, 8, 64, 7, Processes(0, 1, torch.device("cpu")), fixed_cut)
    for step in range(1, 7):  # the last has 3 rows
        shares = [
            FinetuneBatches(TRAIN, 8, 64, 7, Processes(rank, world, torch.device("cpu")), fixed_cut).make(
                step
            )
            for rank in range(world)
        ]
        assert all(share.batches for share in shares)
        working = [batch for share in shares for batch in share.batches if int(batch.labels[0]) >= 0]
        trained = np.concatenate([batch.rows for batch in working])
        assert sorted(trained.tolist()) == sorted(alone.rows_of(step).tolist())
        if fixed_cut:
            expected = {batch.index: batch.rows.tolist() for batch in alone.make(step).batches}
            assert {batch.index: batch.rows.tolist() for batch in working} == expected


def test_evaluation_covers_every_row_once_whatever_the_number_of_processes() -> None:
    for world in (1, 2, 3):
        parts = [
            evaluation_batches(TEST, 40, Processes(rank, world, torch.device("cpu"))) for rank in range(world)
        ]
        covered = np.concatenate([batch.rows for part in parts for batch in part])
        assert sorted(covered.tolist()) == list(range(30))
