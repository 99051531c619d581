"""The tasks of both benchmarks and the recipes they were published with (method, section 7)."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar

from cmgems_cli.errors import UsageError

# [CLS] and [SEP], which the published lengths count and ours do not.
SPECIAL_POSITIONS = 2


@dataclass(frozen=True)
class Recipe:
    """How a model is fine-tuned on a task.

    Attributes
    ----------
    max_tokens : int, positions
        Longest input as published: `[CLS]` and `[SEP]` included. See `sequence_tokens`.
    epochs : int
        Passes over the training rows.
    max_steps : int or None
        Stop after this many steps, whatever the epochs; None: no such limit.
    warmup_steps : int or None
        Steps of linear warm-up; None: a share of all steps, `warmup_share`.
    eval_every : int or None, steps
        How often the dev split is evaluated; None: there is no dev split and the last model is kept.
    warmup_share : float, fraction of all steps
        Used where `warmup_steps` is None.
    learning_rate, weight_decay : float
        Of AdamW; the rate then falls linearly to 0.
    global_batch : int, sequences
        Rows a step, over all micro-batches and processes.
    dropout : float or None
        Of hidden layers; None: the model's own.
    """

    max_tokens: int
    epochs: int
    max_steps: int | None
    warmup_steps: int | None
    eval_every: int | None
    warmup_share: float = 0.0
    # method, section 7: AdamW lr 3e-5, decay 0.01, linear schedule, effective batch 32.
    learning_rate: float = 3e-5
    weight_decay: float = 0.01
    global_batch: int = 32
    dropout: float | None = None

    @property
    def sequence_tokens(self) -> int:
        """Longest sequence in tokens, special tokens not counted (510 of 512 positions)."""
        return self.max_tokens - SPECIAL_POSITIONS

    @property
    def keeps(self) -> Literal["best", "last"]:
        """Which model is tested: the best by dev loss, or the last where nothing is evaluated on the way."""
        return "last" if self.eval_every is None else "best"

    def total_steps(self, train_rows: int) -> int:
        """Return the number of steps over `train_rows` rows; an epoch's last step may be smaller."""
        steps = self.epochs * -(-train_rows // self.global_batch)
        return steps if self.max_steps is None else min(steps, self.max_steps)

    def warmup(self, total_steps: int) -> int:
        """Return the number of warm-up steps of a run of `total_steps` (a share is rounded down)."""
        return int(total_steps * self.warmup_share) if self.warmup_steps is None else self.warmup_steps


@dataclass(frozen=True)
class Task:
    """One GUE task.

    Attributes
    ----------
    name : str
        Folder below the benchmark's, forward slashes: `tf/0`, `EMP/H3`, `prom/prom_core_all`.
    species : str
        human, yeast, mouse or virus.
    classes : int
        Number of labels, 0 … classes - 1.
    recipe : Recipe
        As published.
    rows : mapping, split -> int, or None
        Published rows of train, dev and test, where they are known.
    """

    name: str
    species: str
    classes: int
    recipe: Recipe
    rows: Mapping[str, int] | None = field(default=None, hash=False)

    @property
    def group(self) -> str:
        """The paper's species group: human or non-human."""
        return "human" if self.species == "human" else "non-human"


@dataclass(frozen=True)
class FewshotTask:
    """One few-shot dataset: like `Task`, with a recipe that depends on the number of shots.

    Attributes
    ----------
    name : str
        As in the paper, lower case: `prom-core`.
    bases : int
        Length of its sequences (sil-300: the longest); 0 where unknown, as `classes`.
    rows : mapping, split -> int
        Published rows of the full train and test files, from which pools and tests were made.
    """

    name: str
    bases: int
    classes: int
    rows: Mapping[str, int] = field(hash=False)
    species: str = "human"

    def recipe(self, shots: int) -> Recipe:
        """Return the published recipe for `shots` examples a class.

        The paper gives one up to 100 shots and one from 500. Between them, where it is silent, the
        second holds: its reason is overfitting, which sets in with more rows.
        """
        return FEW_SHOTS if shots <= MOST_FEW_SHOTS else MANY_SHOTS


def _recipe(
    max_tokens: int, epochs: int, warmup_steps: int, eval_every: int, max_steps: int | None = None
) -> Recipe:
    return Recipe(max_tokens, epochs, max_steps, warmup_steps, eval_every)


# method, section 7, the table of recipes; one row of it each.
_EMP = _recipe(512, 3, 50, 200)
_PROM_CORE = _recipe(80, 4, 50, 400)
_PROM_CORE_TATA = _recipe(80, 10, 50, 200)
_PROM_300 = _recipe(310, 4, 50, 400)
_PROM_300_TATA = _recipe(310, 10, 50, 200)
_SPLICE = _recipe(410, 5, 50, 200)
_COVID = _recipe(1024, 9, 50, 200)
_MOUSE = _recipe(110, 5, 30, 200, max_steps=1000)
_TF = _recipe(110, 3, 30, 200)

# method, section 7 (the paper's appendix): 20 epochs, lr 4e-4, warm-up 10 % of steps, dropout 0.1, decay
# 0.01, batch 5. No lengths are published for few-shot; 512 is what the models have.
FEW_SHOTS = Recipe(
    max_tokens=512,
    epochs=20,
    max_steps=None,
    warmup_steps=None,
    eval_every=None,
    warmup_share=0.1,
    learning_rate=4e-4,
    global_batch=5,
    dropout=0.1,
)
MOST_FEW_SHOTS = 100
# The same place: from 500 shots on, 5 epochs at lr 5e-5; nothing is said of changing the rest.
MANY_SHOTS = replace(FEW_SHOTS, epochs=5, learning_rate=5e-5)

# The shots in the published data; the paper reports 10 and 50.
SHOTS = (10, 50, 100, 500, 1000)
PAPER_SHOTS = (10, 50)
# Paper, section 5: every few-shot figure is the mean of ten draws.
FEWSHOT_RUNS = 10

_MARKS = ("H3", "H3K14ac", "H3K36me3", "H3K4me1", "H3K4me2", "H3K4me3", "H3K79me3", "H3K9ac", "H4", "H4ac")


def _rows(train: int, dev: int, test: int) -> dict[str, int]:
    return {"train": train, "dev": dev, "test": test}


# method, section 7: the published row counts.
_KNOWN_ROWS = {
    "tf/0": _rows(32378, 1000, 1000),
    "mouse/0": _rows(6478, 810, 810),
    "prom/prom_core_all": _rows(47356, 5920, 5920),
    "EMP/H3": _rows(11971, 1497, 1497),
    "splice/reconstructed": _rows(36496, 4562, 4562),
}


def _task(name: str, species: str, recipe: Recipe, classes: int = 2) -> Task:
    return Task(name, species, classes, recipe, _KNOWN_ROWS.get(name))


GUE: dict[str, Task] = {
    task.name: task
    for task in (
        *(_task(f"EMP/{mark}", "yeast", _EMP) for mark in _MARKS),
        _task("prom/prom_core_all", "human", _PROM_CORE),
        _task("prom/prom_core_notata", "human", _PROM_CORE),
        _task("prom/prom_core_tata", "human", _PROM_CORE_TATA),
        _task("prom/prom_300_all", "human", _PROM_300),
        _task("prom/prom_300_notata", "human", _PROM_300),
        _task("prom/prom_300_tata", "human", _PROM_300_TATA),
        _task("splice/reconstructed", "human", _SPLICE, classes=3),
        *(_task(f"tf/{number}", "human", _TF) for number in range(5)),
        *(_task(f"mouse/{number}", "mouse", _MOUSE) for number in range(5)),
        # DNABERT-2 paper, section 4: nine SARS-CoV-2 variants.
        _task("virus/covid", "virus", _COVID, classes=9),
    )
}

FEWSHOT: dict[str, FewshotTask] = {
    task.name: task
    for task in (
        # Paper, Table 1.
        FewshotTask("prom-core", 70, 2, {"train": 53276, "test": 5920}),
        FewshotTask("prom-300", 300, 2, {"train": 53276, "test": 5920}),
        FewshotTask("cohn-enh", 500, 2, {"train": 20843, "test": 6948}),
        FewshotTask("splice-40", 40, 3, {"train": 24300, "test": 3000}),
        FewshotTask("sil-300", 300, 2, {"train": 14909, "test": 1657}),
    )
}


def paper_27() -> list[Task]:
    """Return the tasks the paper's tables hold: all but covid, whose sequences exceed 512 positions."""
    return [task for task in GUE.values() if task.name != "virus/covid"]


def gue_task(name: str) -> Task:
    """Return the GUE task of that name; a part of a name will do where it fits one task only.

    Raises
    ------
    UsageError
        If no task, or more than one, is meant.

    Examples
    --------
    >>> gue_task("prom_core_tata").name, gue_task("h3k4me1").name, gue_task("splice").name
    ('prom/prom_core_tata', 'EMP/H3K4me1', 'splice/reconstructed')
    """
    return GUE[_resolve(name, GUE, "GUE task")]


def fewshot_task(name: str) -> FewshotTask:
    """Return the few-shot dataset of that name, in any case, `_` as good as `-` (UsageError if unknown)."""
    return FEWSHOT[_resolve(name.replace("_", "-"), FEWSHOT, "few-shot dataset")]


def gue_tasks(names: str) -> list[Task]:
    """Return the tasks of a comma-separated list, in its order, each once (UsageError as `gue_task`)."""
    return _each_once(gue_task(name) for name in _listed(names, "--tasks tf/0,mouse/0"))


def fewshot_tasks(names: str, own: Collection[str] = ()) -> list[FewshotTask]:
    """Return the datasets of a comma-separated list, in its order, each once.

    Parameters
    ----------
    names : str
    own : collection of str
        Names of further datasets: a user's.

    Raises
    ------
    UsageError
        If a name is neither a published dataset's nor among `own`.
    """
    listed = _listed(names, "--tasks prom-core,splice-40")
    mine = {name.casefold(): name for name in own if name.casefold().replace("_", "-") not in FEWSHOT}
    return _each_once(
        own_fewshot_task(mine[name.casefold()]) if name.casefold() in mine else fewshot_task(name)
        for name in listed
    )


def own_fewshot_task(name: str) -> FewshotTask:
    """Return a dataset that was not published: nothing is known of it but its name."""
    return FewshotTask(name, bases=0, classes=0, rows={}, species="")


def gue_task_at(folder: Path) -> Task | None:
    """Return the task whose data a folder seems to hold, by the end of its path; None if it names none.

    >>> gue_task_at(Path("data/GUE/tf/0")).name
    'tf/0'
    """
    ending = "/".join(folder.absolute().parts[-2:]).casefold()
    return next((task for name, task in GUE.items() if name.casefold() == ending), None)


def fewshot_task_at(path: Path) -> tuple[FewshotTask, int | None] | None:
    """Return the few-shot dataset a path lies in, and the shots its folder is named after.

    The last folder (or file) named like a dataset counts; None if there is none.

    >>> task, shots = fewshot_task_at(Path("data/fewshot/Prom-core/10/train.tsv"))
    >>> task.name, shots
    ('prom-core', 10)
    """
    shots = None
    for part in reversed(path.absolute().parts):
        name = part.casefold().replace("_", "-")
        if name in FEWSHOT:
            return FEWSHOT[name], shots
        if part.isdecimal():
            shots = int(part)
    return None


def row_notes(rows: Mapping[str, int], published: Mapping[str, int] | None) -> list[str]:
    """Say where the rows read differ from those published: a note, never an error.

    Parameters
    ----------
    rows, published : mapping, split -> int
        Splits that only one of them has are passed over, as is a task without published counts.

    >>> row_notes({"train": 6470, "test": 810}, gue_task("mouse/0").rows)
    ['train has 6,470 rows, published are 6,478']
    """
    return [
        f"{split} has {rows[split]:,} rows, published are {number:,}"
        for split, number in (published or {}).items()
        if split in rows and rows[split] != number
    ]


def _resolve(name: str, names: Iterable[str], kind: str) -> str:
    wanted = name.strip().casefold()
    by_case = {known.casefold(): known for known in names}
    if wanted in by_case:
        return by_case[wanted]
    partly = [known for known in by_case.values() if wanted in known.casefold().split("/")]
    if len(partly) == 1:
        return partly[0]
    if partly:
        raise UsageError(f"{name!r} could be {', '.join(partly)}: give one {kind} by its full name")
    # Compared with the whole name and with its last part alone, so that a slip in either finds it.
    endings = {part.casefold(): known for known in by_case.values() for part in (known, known.split("/")[-1])}
    close = dict.fromkeys(endings[found] for found in difflib.get_close_matches(wanted, endings, n=5))
    offered = ", ".join(close or by_case.values())
    raise UsageError(f"{name!r} is not a {kind}; {'close are' if close else 'known are'}: {offered}")


def _listed(names: str, example: str) -> list[str]:
    listed = [name for name in (part.strip() for part in names.split(",")) if name]
    if not listed:
        raise UsageError(f"{names!r} names no task; needed at least one: {example}")
    return listed


_AnyTask = TypeVar("_AnyTask", Task, FewshotTask)


def _each_once(tasks: Iterable[_AnyTask]) -> list[_AnyTask]:
    return list({task.name: task for task in tasks}.values())
