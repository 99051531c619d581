"""The whole pipeline in miniature, on the human sequence that ships with the package: the stages of `cmgems demo`.

The sequence is cut into pieces. The end of each piece is held out from pretraining and gives a few-shot task:
classify its windows and their DeePromoter negatives. Two pretrained models and one with random weights learn every
task.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cmgems_cli import pipeline
from cmgems_cli.artifacts import Manifest, is_finished, read_manifest
from cmgems_cli.demo.held_out import Segment, as_fasta, hold_out
from cmgems_cli.errors import OverwriteError
from cmgems_cli.files import write_whole
from cmgems_cli.genome.bundled import BASES_BEFORE, bundled_fasta
from cmgems_cli.genome.fasta import FastaFile
from cmgems_cli.genome.records import fasta_records
from cmgems_cli.masking import StrategyName
from cmgems_cli.option_fields import Precision
from cmgems_cli.pipeline import Artifact
from cmgems_cli.staging import read_marker

if TYPE_CHECKING:
    from cmgems_cli.training.observer import Observer

ARCHITECTURE = "tiny"
STRATEGIES: tuple[StrategyName, ...] = ("random", "cm-gems")
# The model with random weights, then the pretrained ones; the last is the reference of the comparison.
MODELS = (ARCHITECTURE, *(f"{ARCHITECTURE}-{strategy}" for strategy in STRATEGIES))

# ours: on short sequences a small model learns faster per token, and k-mers seen 20 times are ranked, since almost
# no k-mer occurs 101 times here (docs/log.md).
MAX_TOKENS = 62
MIN_COUNT = 20
# ours: so short a training never reaches a drop of 1.0 perplexity (method, section 4).
SWITCH_THRESHOLD = "3%"
# ours: bf16 is not faster for so small a model, and every CPU has fp32 (docs/log.md).
PRECISION: Precision = "fp32"
# ours: a third makes ten tasks of 104 windows, each as long as the longest sequence pretrained on (k = 6).
HELD_FRACTION = 1 / 3
WINDOW_BASES = MAX_TOKENS + 5
# ours: half of the pairs, because scores on few rows vary much by chance.
TEST_SHARE = 0.5


@dataclass(frozen=True)
class Sizes:
    """Amount of computation; the default takes two minutes on two cores (docs/log.md).

    Attributes
    ----------
    steps, global_batch, eval_every : int
        Of pretraining.
    regions : int
        Pieces of the sequence; one task each.
    shots : int
        Training rows per class.
    runs : int
        Of each model on each task.
    """

    steps: int = 240
    global_batch: int = 128
    eval_every: int = 30
    regions: int = 10
    # paper, section 5: the lower of its two numbers of shots.
    shots: int = 10
    runs: int = 3


DEMO = Sizes()


class Miniature:
    """The stages, in the folders of a workspace below `out`; each does nothing if its artifact is finished already.

    Parameters
    ----------
    out : Path
    seed : int
        Of all random draws; runs of fine-tuning use it and the next ones.
    overwrite : bool
        Make everything again.
    sizes : Sizes, optional
        Default: `DEMO`.
    """

    def __init__(self, out: Path, *, seed: int, overwrite: bool, sizes: Sizes | None = None) -> None:
        self.out, self.seed, self.overwrite = out, seed, overwrite
        self.sizes = sizes or DEMO
        self.tasks = [f"region-{number + 1:02}" for number in range(self.sizes.regions)]
        self.seeds = list(range(seed, seed + self.sizes.runs))
        self.corpus, self.pmi = out / "corpus", out / "pmi"
        # Tasks, one folder each.
        self.data = out / "benchmarks" / "fewshot"

    def model_folder(self, name: str) -> Path:
        """Return where a pretrained model of `MODELS` is."""
        return self.out / "models" / name

    def scores_folder(self, name: str) -> Path:
        """Return where the scores of a model of `MODELS` are."""
        return self.out / "scores" / f"{name}-fewshot"

    def _fasta(self, name: str) -> Path:
        return self.out / "sequences" / f"{name}.fa"

    def write_sequences(self) -> None:
        """Write the FASTA of pretraining and that of each task.

        Raises
        ------
        OverwriteError
            If a file is there with another content.
        """
        source = FastaFile(bundled_fasta())
        (record,) = fasta_records(source)
        parts = hold_out(
            Segment(record.name, BASES_BEFORE, record.letters), self.sizes.regions, HELD_FRACTION
        )
        texts = {"pretraining": as_fasta([kept for kept, _ in parts])}
        texts |= {
            task: as_fasta(held.windows(WINDOW_BASES))
            for task, (_, held) in zip(self.tasks, parts, strict=True)
        }
        for name, text in texts.items():
            path = self._fasta(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and path.read_bytes() == text:
                continue
            if path.exists() and not self.overwrite:
                raise OverwriteError(
                    f"{path} is not what this demo would write; add `overwrite=True` or choose another `out`"
                )
            write_whole(path, text.decode())

    def prepare(self) -> Artifact:
        """Make the corpus."""
        return pipeline.prepare_genome(
            self._fasta("pretraining"),
            self.corpus,
            contigs="all",
            max_tokens=MAX_TOKENS,
            seed=self.seed,
            overwrite=self.overwrite,
        )

    def rank(self) -> Artifact:
        """Rank the corpus's k-mers."""
        return pipeline.build_pmi(self.corpus, self.pmi, min_count=MIN_COUNT, overwrite=self.overwrite)

    def pretrain(self, strategy: StrategyName, observer: Observer) -> Artifact:
        """Pretrain a model by one of `STRATEGIES` (Interrupted: as any run)."""
        return pipeline.pretrain(
            self.corpus,
            self.pmi,
            self.model_folder(f"{ARCHITECTURE}-{strategy}"),
            device="cpu",
            resume=not self.overwrite,
            overwrite=self.overwrite,
            observer=observer,
            model=ARCHITECTURE,
            strategy=strategy,
            steps=self.sizes.steps,
            global_batch=self.sizes.global_batch,
            eval_every=self.sizes.eval_every,
            switch_threshold=SWITCH_THRESHOLD,
            precision=PRECISION,
            seed=self.seed,
        )

    def build_task(self, task: str) -> Manifest:
        """Make the few-shot data set of one of `tasks`: the windows and a negative of each, split by pairs."""
        from cmgems_cli.fewshot_builder.building import make_fewshot, read_positives, write_fewshot

        positives = read_positives(self._fasta(task))
        made = make_fewshot(positives, shots=[self.sizes.shots], test_share=TEST_SHARE, seed=self.seed)
        return write_fewshot(made, self.data / task, overwrite=self.overwrite)

    def evaluate(self, name: str, run_done: Callable[[str], None]) -> Artifact:
        """Fine-tune and test a model of `MODELS` on every task.

        Parameters
        ----------
        name : str
        run_done : callable
            Called with the run's name after each run.

        Raises
        ------
        Interrupted
            On SIGINT or SIGTERM, after a checkpoint was saved.
        """
        pretrained, out = name != ARCHITECTURE, self.scores_folder(name)
        if self.overwrite and (
            read_marker(out) or (is_finished(out) and read_manifest(out).kind == "scores")
        ):
            # Runs of other seeds too.
            shutil.rmtree(out / "runs", ignore_errors=True)
        return pipeline.evaluate(
            self.model_folder(name) if pretrained else ARCHITECTURE,
            "fewshot",
            out,
            data=self.data,
            tasks=self.tasks,
            shots=[self.sizes.shots],
            seeds=self.seeds,
            baseline=self.scores_folder(ARCHITECTURE) if pretrained else None,
            kmer_linear=False,
            device="cpu",
            overwrite=self.overwrite,
            run_done=run_done,
            precision=PRECISION,
        )
