"""The whole pipeline in miniature, on the human sequence that ships with the package: the stages of `cmgems demo`.

The sequence is cut into pieces. Most of each is pretrained on; its end is held out and gives a few-shot task, to
tell its windows from their DeePromoter negatives. Two pretrained models, and one that is not, learn every task.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmgems_cli.artifacts import MANIFEST, Manifest, check_out, is_finished, read_manifest, sha256_of_file
from cmgems_cli.demo.held_out import Stretch, as_fasta, hold_out
from cmgems_cli.errors import OverwriteError
from cmgems_cli.genome.bundled import BASES_BEFORE, bundled_fasta
from cmgems_cli.genome.fasta import FastaFile
from cmgems_cli.genome.records import fasta_records
from cmgems_cli.option_fields import Precision

if TYPE_CHECKING:
    from cmgems_cli.bench.evaluation import Evaluation
    from cmgems_cli.bench.grids import Cell
    from cmgems_cli.training.finetune_run import FinetuningRun
    from cmgems_cli.training.observer import Observer

ARCHITECTURE = "tiny"
STRATEGIES = ("random", "cm-gems")
# The model that nothing was learnt by before, and the pretrained ones; the last is what the others are judged against.
MODELS = (ARCHITECTURE, *(f"{ARCHITECTURE}-{strategy}" for strategy in STRATEGIES))

# ours: short sequences teach a small model faster a token, and k-mers seen 20 times are ranked, since next to
# none occurs 101 times here (docs/log.md).
MAX_TOKENS = 62
MIN_COUNT = 20
# ours: a drop of 1.0 perplexity is far away on so small a budget (method, section 4).
SWITCH_THRESHOLD = "3%"
# ours: the model is too small for bf16 to pay, and fp32 is what every CPU has (docs/log.md).
PRECISION: Precision = "fp32"
# ours: a third makes ten tasks of 104 windows, each as long as the longest sequence pretrained on (k = 6).
HELD_SHARE = 1 / 3
WINDOW_BASES = MAX_TOKENS + 5
# ours: half of the pairs, since so few rows leave chance much room.
TEST_SHARE = 0.5


@dataclass(frozen=True)
class Sizes:
    """How much is computed; by default what two cores do in two minutes (docs/log.md).

    Attributes
    ----------
    steps, global_batch, eval_every : int
        Of pretraining.
    regions : int
        Pieces of the sequence, and so tasks.
    shots : int
        Training rows a class.
    runs : int
        Of each model on each task.
    """

    steps: int = 240
    global_batch: int = 128
    eval_every: int = 30
    regions: int = 10
    # paper, section 5: the fewer of the two numbers of shots it reports.
    shots: int = 10
    runs: int = 3


DEMO = Sizes()


class Miniature:
    """The stages, each of which keeps what an earlier run of it finished and goes on where one stopped.

    Folders lie below `out` as they do in a workspace.

    Parameters
    ----------
    out : Path
    seed : int
        Of everything drawn; runs of fine-tuning have it and those that follow.
    overwrite : bool
        Make everything anew.
    sizes : Sizes, optional
        `DEMO` when left out.
    """

    def __init__(self, out: Path, *, seed: int, overwrite: bool, sizes: Sizes | None = None) -> None:
        self.out, self.seed, self.overwrite = out, seed, overwrite
        self.sizes = sizes or DEMO
        self.tasks = [f"region-{number + 1:02}" for number in range(self.sizes.regions)]
        self.seeds = list(range(seed, seed + self.sizes.runs))

    @property
    def data(self) -> Path:
        """Where the tasks are: a folder each."""
        return self.out / "benchmarks" / "fewshot"

    def model_folder(self, name: str) -> Path:
        """Return where a pretrained model of `MODELS` is."""
        return self.out / "models" / name

    def scores_folder(self, name: str) -> Path:
        """Return where the scores of a model of `MODELS` are."""
        return self.out / "scores" / f"{name}-fewshot"

    # ------------------------------------------------------------------ pretraining

    def write_sequences(self) -> None:
        """Write the FASTA of pretraining and, of each task, that of its windows (OverwriteError as `_write`)."""
        source = FastaFile(bundled_fasta())
        (record,) = fasta_records(source)
        parts = hold_out(Stretch(record.name, BASES_BEFORE, record.letters), self.sizes.regions, HELD_SHARE)
        self._write("pretraining", [kept for kept, _ in parts])
        for task, (_, held) in zip(self.tasks, parts, strict=True):
            self._write(task, held.windows(WINDOW_BASES))

    def _fasta(self, name: str) -> Path:
        return self.out / "sequences" / f"{name}.fa"

    def _write(self, name: str, stretches: list[Stretch]) -> None:
        path, text = self._fasta(name), as_fasta(stretches)
        if path.exists() and path.read_bytes() != text and not self.overwrite:
            raise OverwriteError(
                f"{path} is not what this demo would write; add --overwrite, or choose another --out"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".partial")
        aside.write_bytes(text)
        aside.replace(path)

    def prepare(self) -> Manifest:
        """Make the corpus."""
        from cmgems_cli.genome.preparation import prepare_genome

        chosen = {"contigs": "all", "max_tokens": MAX_TOKENS, "seed": self.seed}
        fasta, out = self._fasta("pretraining"), self.out / "corpus"
        there = self._there(out, "corpus", {"fasta_1": sha256_of_file(fasta), **chosen})
        return there or prepare_genome(
            [fasta], out, contigs="all", max_tokens=MAX_TOKENS, seed=self.seed, overwrite=self.overwrite
        )

    def rank(self, corpus: Manifest) -> Manifest:
        """Rank the corpus's k-mers."""
        from cmgems_cli.genome.corpus import Corpus
        from cmgems_cli.pmi.stage import build_pmi

        out = self.out / "pmi"
        there = self._there(out, "pmi", {"corpus": corpus.digest, "min_count": MIN_COUNT})
        return there or build_pmi(
            Corpus.open(self.out / "corpus"), out, min_count=MIN_COUNT, overwrite=self.overwrite
        )

    def pretrain(self, strategy: str, corpus: Manifest, pmi: Manifest, observer: Observer) -> Manifest:
        """Pretrain a model by one of `STRATEGIES` (Interrupted: as any run)."""
        sizes = self.sizes
        chosen: dict[str, Any] = {
            "strategy": strategy,
            "steps": sizes.steps,
            "global_batch": sizes.global_batch,
            "eval_every": sizes.eval_every,
            "seed": self.seed,
        }
        out = self.model_folder(f"{ARCHITECTURE}-{strategy}")
        there = self._there(out, "model", {"corpus": corpus.digest, "pmi": pmi.digest, **chosen})
        if there:
            return there
        from cmgems_cli.training.build import build_pretraining_run
        from cmgems_cli.training.pretrain_options import PretrainingOptions
        from cmgems_cli.training.pretrain_run import pretrain
        from cmgems_cli.training.processes import start_processes

        processes = start_processes("cpu")
        options = PretrainingOptions(
            model=ARCHITECTURE,
            switch_threshold=SWITCH_THRESHOLD,
            precision=PRECISION,
            **chosen,
        )
        run = build_pretraining_run(self.out / "corpus", self.out / "pmi", out, options, processes)
        return pretrain(run, resume=not self.overwrite, overwrite=self.overwrite, observer=observer)

    # ------------------------------------------------------------------ judging

    def build_task(self, task: str) -> Manifest:
        """Make the few-shot data set of one of `tasks`: the windows, a negative of each, split by pairs."""
        from cmgems_cli.fewshot_builder.building import make_fewshot, read_positives, write_fewshot

        fasta, out = self._fasta(task), self.data / task
        chosen = {"shots": [self.sizes.shots], "test_share": TEST_SHARE, "seed": self.seed}
        there = self._there(out, "fewshot", {"positives": sha256_of_file(fasta), **chosen})
        if there:
            return there
        made = make_fewshot(
            read_positives(fasta), shots=[self.sizes.shots], test_share=TEST_SHARE, seed=self.seed
        )
        return write_fewshot(made, out, overwrite=self.overwrite)

    def evaluate(
        self, name: str, *, start_at: Callable[[float], None], advance: Callable[[float, str], None]
    ) -> Manifest:
        """Fine-tune and test a model of `MODELS` on every task.

        Parameters
        ----------
        name : str
        start_at : callable
            Told how many runs are done already.
        advance : callable
            Told 1 and the run's name after each further one.

        Raises
        ------
        Interrupted
            On SIGINT or SIGTERM, after a checkpoint was saved.
        """
        started = time.perf_counter()
        out = self.scores_folder(name)
        chosen: dict[str, Any] = {"tasks": self.tasks, "shots": [self.sizes.shots], "seeds": self.seeds}
        if name == ARCHITECTURE:
            made_from: dict[str, Any] = {"model": ARCHITECTURE}
        else:
            made_from = {
                "model": read_manifest(self.model_folder(name), "model").digest,
                "baseline": read_manifest(self.scores_folder(ARCHITECTURE), "scores").digest,
            }
        there = self._there(out, "scores", {**chosen, **made_from})
        if there:
            return there
        from cmgems_cli.training.observer import Observer

        evaluation = self._evaluation(name)
        start_at(sum(map(evaluation.done, evaluation.grid.cells)))

        @contextmanager
        def watch(cell: Cell, number: int, run: FinetuningRun) -> Iterator[Observer]:
            yield Observer()
            advance(1, str(cell))

        left = evaluation.left(evaluation.grid.cells, resume=True, overwrite=False)
        evaluation.run(left, resume=True, watch=watch)
        manifest = evaluation.merge(started, overwrite=False)
        assert manifest is not None
        return manifest

    def _evaluation(self, name: str) -> Evaluation:
        from cmgems_cli.bench import evaluation
        from cmgems_cli.bench.build import Finetuner
        from cmgems_cli.bench.grids import build_grid
        from cmgems_cli.datasets.benchmark_file import shipped
        from cmgems_cli.datasets.finetune_options import FinetuneOptions
        from cmgems_cli.modeling.model_source import ModelSource
        from cmgems_cli.training.processes import start_processes

        out = self.scores_folder(name)
        evaluation.check_out(out, overwrite=self.overwrite)
        if self.overwrite:
            # Runs of other seeds too; the manifest first, so that a half-cleared folder is unfinished.
            (out / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(out / evaluation.RUNS, ignore_errors=True)
        grid = build_grid(
            shipped("fewshot"),
            self.data,
            tasks=",".join(self.tasks),
            shots=[self.sizes.shots],
            seeds=self.seeds,
        )
        options, processes = FinetuneOptions(precision=PRECISION), start_processes("cpu")
        if name == ARCHITECTURE:
            return evaluation.Evaluation(
                grid, Finetuner(ModelSource(ARCHITECTURE), options, processes), out, name
            )
        finetuner = Finetuner(ModelSource(str(self.model_folder(name))), options, processes)
        baseline = evaluation.read_baseline(self.scores_folder(ARCHITECTURE))
        return evaluation.Evaluation(grid, finetuner, out, name, baseline)

    def _there(self, folder: Path, kind: str, made_from: dict[str, Any]) -> Manifest | None:
        """Return what an earlier demo finished in `folder`, None if it is still to be made.

        Raises
        ------
        OverwriteError
            If something is there that this demo, with this seed, would not make.
        """
        if self.overwrite or not is_finished(folder):
            return None
        manifest = read_manifest(folder)
        known = {**manifest.params, **manifest.inputs}
        if manifest.kind != kind or any(known.get(name) != value for name, value in made_from.items()):
            check_out(folder, kind, overwrite=False)
        return manifest
