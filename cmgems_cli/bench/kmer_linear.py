"""The baseline `kmer-linear`: logistic regression on k-mer counts, in seconds (docs/howto/compare-models.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cmgems_cli.artifacts import Manifest
from cmgems_cli.bench.linear_probe import (
    C_GRID,
    DEFAULT_C,
    Candidate,
    Features,
    Labels,
    LinearProbe,
    choose,
    fit_fixed,
)
from cmgems_cli.bench.probe_run import ProbeOutcome, ProbeRun, choice_note, stats_of
from cmgems_cli.comparing.scores import KMER_LINEAR
from cmgems_cli.datasets.labelled_formats import digest_of_rows
from cmgems_cli.datasets.loaded_task import LoadedTask, load_task, recipe_of_task
from cmgems_cli.datasets.splits import Table
from cmgems_cli.datasets.task_files import TaskFiles
from cmgems_cli.genome.tokenization import OverlappingKmers
from cmgems_cli.genome.vocabulary import BASE_CODE_OF_BYTE, NOT_A_BASE
from cmgems_cli.kernels import kernel
from cmgems_cli.metrics import Problem
from cmgems_cli.outputs import Output
from cmgems_cli.training.observer import Observer
from cmgems_cli.training.processes import Processes

# ours: from fewer features than most tasks have rows to as many as 4^7.
K_GRID = (4, 5, 6, 7)
# ours: bases of train in the first round of the choice; it keeps the longest GUE task under a minute.
FIRST_BASES = 1_000_000
# ours, for tasks without a dev split: the fewest features, since these tasks have few rows.
DEFAULT_K = K_GRID[0]
# Sequences are counted whole: no model's longest input applies.
ANY_LENGTH = 2**40


@dataclass(frozen=True)
class KmerChoices:
    """The grid that k-mer features are chosen from on dev.

    Attributes
    ----------
    k : tuple of int
    strands_merged : tuple of bool
        Whether a k-mer and its reverse complement are counted as one.
    scaled : tuple of bool
        Whether each count is divided by the largest of its k-mer in train.
    """

    k: tuple[int, ...] = K_GRID
    strands_merged: tuple[bool, ...] = (False, True)
    scaled: tuple[bool, ...] = (False, True)

    def candidates(self, tables: Mapping[str, Table]) -> list[Candidate]:
        """Return every combination, for the tables of train, test and perhaps dev."""
        return [
            Candidate(
                {"k": k, "strands_merged": merged, "scaled": scaled},
                partial(_features, tables, k, merged, scaled),
            )
            for k, merged, scaled in product(self.k, self.strands_merged, self.scaled)
        ]


WITHOUT_DEV = KmerChoices((DEFAULT_K,), (False,), (True,))


def kmer_counts(table: Table, k: int, *, merged: bool) -> Any:
    """Count the k-mers of each row.

    Parameters
    ----------
    table : Table
    k : int, bases
    merged : bool
        Count a k-mer and its reverse complement as one.

    Returns
    -------
    scipy.sparse.csr_matrix, float32, shape (n_rows, 4^k)
        K-mers with other letters than A, C, G, T are not counted.
    """
    from scipy import sparse

    codes, starts = _kmer_codes(table.bases, table.offsets, k, merged)
    counts = sparse.csr_matrix(
        (np.ones(len(codes), np.float32), codes, starts), shape=(len(table), 4**k), copy=False
    )
    counts.sum_duplicates()
    return counts


def _features(
    tables: Mapping[str, Table], k: int, merged: bool, scaled: bool, rows: NDArray[np.int64] | None
) -> Features:
    if rows is not None:
        tables = {"train": tables["train"].take(rows), "dev": tables["dev"]}
    splits = [split for split in ("train", "dev", "test") if split in tables]
    counts = {split: kmer_counts(tables[split], k, merged=merged) for split in splits}
    if scaled:
        from sklearn.preprocessing import MaxAbsScaler

        scaler = MaxAbsScaler().fit(counts["train"])
        counts = {split: scaler.transform(matrix) for split, matrix in counts.items()}
    return Features(counts["train"], counts.get("dev"), counts.get("test"))


@kernel()
def _kmer_codes(bases, offsets, k, merged):  # type: ignore[no-untyped-def]
    """Return the k-mer codes of all rows, int32, and where each row's start, int64, shape (n_rows + 1,)."""
    codes = np.empty(len(bases), np.int32)
    starts = np.zeros(len(offsets), np.int64)
    low = 4 ** (k - 1)
    filled = 0
    for row in range(len(offsets) - 1):
        run = forward = reverse = 0
        for i in range(offsets[row], offsets[row + 1]):
            base = int(BASE_CODE_OF_BYTE[bases[i]])
            if base == NOT_A_BASE:
                run = 0
                continue
            run += 1
            forward = (forward % low) * 4 + base
            # The codes of A and T, and of C and G, differ in their last bit.
            reverse = reverse // 4 + (base ^ 1) * low
            if run >= k:
                codes[filled] = min(forward, reverse) if merged else forward
                filled += 1
        starts[row + 1] = filled
    return codes[:filled], starts


class KmerLinear:
    """Makes the runs of `kmer-linear`, as `Finetuner` makes those of models.

    Parameters
    ----------
    processes : Processes
        Only the main one computes.
    choices : KmerChoices, optional
    problem : str, optional
        What the labels are; by default as the recipe says, or inferred.
    """

    # Of the solver; the features are float32.
    precision = "fp64"
    random_weights = False
    reusable = True

    def __init__(
        self, processes: Processes, choices: KmerChoices | None = None, problem: Problem | None = None
    ) -> None:
        self.processes, self.choices, self.problem = processes, choices or KmerChoices(), problem
        self._last: tuple[TaskFiles, LoadedTask] | None = None
        self._fitted: tuple[LoadedTask, LinearProbe] | None = None
        self._hashed: dict[Path, str] = {}

    @property
    def inputs(self) -> dict[str, str]:
        """Digests of what all runs read: nothing."""
        return {}

    def settings(self) -> dict[str, Any]:
        """Return what an evaluation records of its runs: the grid, and the problem if it was given."""
        return {"grid": self._grid(self.choices, C_GRID), **self.changes()}

    def changes(self) -> dict[str, Any]:
        """Return what differs from the recipes: the problem if it was given."""
        return {} if self.problem is None else {"problem": self.problem}

    @staticmethod
    def _grid(choices: KmerChoices, C: tuple[float, ...]) -> dict[str, Any]:
        return {
            "k": choices.k,
            "strands_merged": choices.strands_merged,
            "scaled": choices.scaled,
            "C": C,
        }

    def load(self, task: TaskFiles, seed: int) -> LoadedTask:
        """Return a task with the rows of the run with this seed (errors as `load_task`)."""
        if self._last is None or self._last[0] != task:
            self._last = (task, load_task(task, **self._read_as()))
        return self._last[1].drawn(seed)

    def _read_as(self) -> dict[str, Any]:
        """Return how the files of a task are read."""
        return {
            "changes": {"max_tokens": ANY_LENGTH, **self.changes()},
            "tokenization": OverlappingKmers(K_GRID[0]),
            "positions": 2 * ANY_LENGTH,
        }

    def describe(
        self, task: TaskFiles, seed: int, finished: Manifest | None = None
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Return the `params` and `inputs` of a run, from the digests of its files alone."""
        problem = recipe_of_task(task, **self._read_as()).problem
        bench = task.benchmark.name or None
        grid = self._grid(self.choices, C_GRID) if task.has_dev else self._grid(WITHOUT_DEV, (DEFAULT_C,))
        params = {
            "model": KMER_LINEAR,
            "init": None,
            "bench": bench,
            "task": task.name if bench else None,
            "shots": task.shots,
            **task.dev_params,
            "seed": seed,
            "grid": grid,
            **({} if problem is None else {"problem": problem}),
        }
        for path in task.files.values() - self._hashed.keys():
            self._hashed[path] = digest_of_rows(path)
        return params, {split: self._hashed[path] for split, path in task.files.items()}

    def build_finetuning_run(
        self, task: TaskFiles, out: Path, seed: int, kind: str = "scores"
    ) -> KmerLinearRun:
        """Return a run (errors as `load`)."""
        params, _ = self.describe(task, seed)
        loaded = self.load(task, seed)
        return KmerLinearRun(self, loaded, Output(out, kind, params=params, inputs=loaded.sha256))

    def fit(self, task: LoadedTask) -> LinearProbe:
        """Choose on dev and apply to test; equal rows, as all seeds of a task without shots have, are fitted once."""
        if self._fitted is None or self._fitted[0] is not task:
            self._fitted = (task, fit_kmer_linear(task, self.choices))
        return self._fitted[1]


def fit_kmer_linear(task: LoadedTask, choices: KmerChoices) -> LinearProbe:
    """Fit k-mer counts of a task: chosen on dev, or with the defaults if there is no dev split."""
    dev = None if task.dev is None else task.dev.labels
    labels = Labels(task.train.labels, dev, len(task.label_names))
    if dev is None:
        return fit_fixed(WITHOUT_DEV.candidates(task.tables)[0], labels)
    train = task.tables["train"]
    first_rows = max(1, int(len(train) * min(1.0, FIRST_BASES / max(1, len(train.bases)))))
    return choose(
        choices.candidates(task.tables), labels, first_rows=first_rows, threads=torch.get_num_threads()
    )


class KmerLinearRun(ProbeRun):
    """One run of `kmer-linear`."""

    def __init__(self, trainer: KmerLinear, task: LoadedTask, output: Output) -> None:
        super().__init__(task, output, trainer.processes, trainer.precision)
        self.trainer = trainer

    def outcome(self, observer: Observer) -> ProbeOutcome:
        """Fit, and apply to test."""
        task, probe = self.task, self.trainer.fit(self.task)
        stats = stats_of(task, probe)
        strands = "both strands as one" if stats["strands_merged"] else "one strand"
        scaled = "divided by their largest" if stats["scaled"] else "as they are"
        choice = f"{stats['k']}-mers of {strands}, counts {scaled}, C {stats['C']:g}"
        stats["notes"] = [choice_note(choice, stats), *task.notes]
        return ProbeOutcome(task.test.labels, probe.probabilities, task.label_names, stats)
