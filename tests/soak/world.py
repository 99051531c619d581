"""A small undisturbed world: inputs, one artifact of every kind, stopped runs; each made by the command line."""

import contextlib
import gzip
import hashlib
import importlib
import io
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cmgems_cli.artifacts import DIGESTED, MANIFEST, canonical_json
from tests.kills import Kill
from tests.soak.forked import Ended, cmgems, run_cmgems, run_forked

PACKAGE = Path(__file__).resolve().parents[2] / "cmgems_cli"

SHORT = ("--max-batch-tokens", "256", "--precision", "fp32", "--device", "cpu", "--quiet")
K = 4
SHAPE = {
    "model_type": "bert",
    "vocab_size": 4**K + 5,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "hidden_dropout_prob": 0.1,
}


@dataclass(frozen=True)
class Stage:
    """A command of the world.

    Attributes
    ----------
    words : tuple of str
    outs : tuple of str
        Paths that it writes, its `--out` first; empty if it only prints.
    reads : tuple of str
        Artifacts that it reads.
    """

    words: tuple[str, ...]
    outs: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()


def _stage(line: str, *outs: str, reads: str = "", more: Iterable[str] = ()) -> Stage:
    return Stage((*line.split(), *more), outs, tuple(reads.split()))


STAGES = {
    "corpus": _stage(
        "prepare-genome genome.fa --contigs all --k 4 --max-tokens 30 --out corpus --quiet", "corpus"
    ),
    "pmi": _stage("build-pmi corpus --min-count 5 --out pmi --quiet", "pmi", reads="corpus"),
    "counted": _stage("build-pmi --from-counts counts.csv --min-count 5 --out counted --quiet", "counted"),
    "model": _stage(
        "pretrain corpus --pmi pmi --model shape --init random --strategy cm-gems --steps 8 --global-batch 4"
        " --eval-every 2 --save-every 2 --eval-sequences 32 --out model",
        "model",
        reads="corpus pmi",
        more=SHORT,
    ),
    "classifier": _stage(
        "finetune model data --max-steps 8 --eval-every 2 --global-batch 4 --out classifier",
        "classifier",
        reads="model",
        more=SHORT,
    ),
    "fewshot": _stage(
        "build-fewshot positives.fa --shots 4 --out benchmarks/fewshot --quiet", "benchmarks/fewshot"
    ),
    "shot": _stage(
        "finetune model benchmarks/fewshot/4/train.tsv --max-steps 2 --global-batch 4 --out shot",
        "shot",
        reads="model fewshot",
        more=SHORT,
    ),
    "scores": _stage(
        "evaluate model --bench bench.toml --seeds 42 --max-steps 2 --global-batch 4 --out scores",
        "scores",
        reads="model",
        more=SHORT,
    ),
    "predicted": _stage(
        "predict classifier reads.fa --out predicted.tsv", "predicted.tsv", reads="classifier", more=SHORT
    ),
    "embedded": _stage(
        "embed model reads.fa --out embedded.npy",
        "embedded.npy",
        "embedded.names.tsv",
        reads="model",
        more=SHORT,
    ),
    "scored": _stage(
        "score-variants classifier calls.vcf --genome genome.fa --window 31 --out scored.vcf",
        "scored.vcf",
        reads="classifier",
        more=SHORT,
    ),
    "explained": _stage(
        "explain classifier two.fa --out explained.tsv",
        "explained.tsv",
        "explained.npz",
        reads="classifier",
        more=SHORT,
    ),
    "hits": _stage(
        "predict classifier --regions peaks.bed --genome genome.fa --strand both --out hits.bed",
        "hits.bed",
        reads="classifier",
        more=SHORT,
    ),
    "track": _stage(
        "predict classifier genome.fa --window 40 --stride 40 --out track.bw",
        "track.bw",
        reads="classifier",
        more=SHORT,
    ),
    "divided": _stage("split data/train.csv --dev 0.2 --test 0.2 --out divided --quiet", "divided"),
    "matched": _stage(
        "build-task peaks.bed --genome genome.fa --length 40 --gc-tolerance 0.2 --repeat-tolerance 1"
        " --out matched --quiet",
        "matched",
    ),
    "masks": _stage(
        "show-masks corpus --pmi pmi --sequences 50 --html masks.html --quiet",
        "masks.html",
        reads="corpus pmi",
    ),
    "report": _stage("report model pmi scores --out report --quiet", "report", reads="model pmi scores"),
    "ttest": _stage("ttest scores scores/scores.csv --json --quiet", reads="scores"),
}
ARTIFACTS = tuple(name for name, stage in STAGES.items() if stage.outs and "." not in stage.outs[0])
# Those whose kill leaves something to resume.
STOPPED = ("model", "classifier", "predicted", "embedded", "scored", "explained", "hits", "track")
# They import the most.
FIRST = ("corpus", "pmi", "model")
# Those that start no threads, which forked processes would lack.
WARMED = (
    "corpus", "pmi", "counted", "fewshot", "predicted", "embedded", "scored", "explained", "hits", "track", "divided",
    "matched", "masks", "ttest",
)  # fmt: skip


def out_of(name: str) -> str:
    """Return the first path that a stage writes."""
    return STAGES[name].outs[0]


def write_inputs(folder: Path) -> None:
    """Write a genome, reads, labelled tables, a counts table and a configuration, the same every time."""
    rng = random.Random(20)

    contigs = [letters(rng, 6000) + "N" * 50 + letters(rng, 3000).lower() for _ in range(3)]
    lines = [f">chr{number}\n{_wrapped(text)}" for number, text in enumerate(contigs, 1)]
    (folder / "genome.fa").write_text("".join(lines))
    (folder / "calls.vcf").write_text(variants(contigs, range(40, 9000, 250)))
    (folder / "peaks.bed").write_text(regions(range(100, 5900, 200)))
    for name, number, length in (("reads", 120, 50), ("positives", 60, 40)):
        records = [f">{name}{i}\n{letters(rng, length)}\n" for i in range(number)]
        (folder / f"{name}.fa").write_text("".join(records))
    two = "".join(f">{name}\n{contigs[0][at : at + 24]}\n" for name, at in (("one", 10), ("two", 900)))
    (folder / "two.fa").write_text(two)
    (folder / "data").mkdir()
    for split, number in (("train", 40), ("dev", 12), ("test", 12)):
        rows = [f"{letters(rng, 40)},{i % 2}\n" for i in range(number)]
        (folder / "data" / f"{split}.csv").write_text("sequence,label\n" + "".join(rows))
    (folder / "bench.toml").write_text(
        'name = "own"\nmetric = "mcc"\n[[task]]\nname = "data"\npath = "data"\n'
    )
    (folder / "shape").mkdir()
    (folder / "shape" / "config.json").write_text(json.dumps(SHAPE))
    circle = letters(rng, 20000)
    counts: dict[str, int] = {}
    for start in range(len(circle)):
        kmer = (circle + circle[:K])[start : start + K]
        counts[kmer] = counts.get(kmer, 0) + 1
    rows = [f"{kmer},{count}\n" for kmer, count in sorted(counts.items())]
    (folder / "counts.csv").write_text("kmer,count\n" + "".join(rows))
    (folder / "genome.fa.gz").write_bytes(gzip.compress((folder / "genome.fa").read_bytes(), mtime=0))


def letters(rng: random.Random, n: int) -> str:
    """Return a random sequence."""
    return "".join(rng.choices("ACGT", (3, 2, 2, 3), k=n))


def variants(contigs: list[str], starts: Iterable[int]) -> str:
    """Return a VCF of substitutions and short indels in contigs chr1, chr2, …"""
    lines = [
        "##fileformat=VCFv4.2",
        "\t".join(("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO")),
    ]
    for number, contig in enumerate(contigs, 1):
        for start in starts:
            ref = contig[start : start + 1 + start % 3].upper()
            alt = {"A": "C,G", "C": "T", "G": "GA", "T": "<DEL>"}.get(ref[0], "A")
            lines.append(f"chr{number}\t{start + 1}\t.\t{ref}\t{alt}\t.\t.\tDP=9")
    return "\n".join([*lines, ""])


def regions(starts: Iterable[int]) -> str:
    """Return a BED file of regions of 40 bases in contigs chr1, chr2 and chr3, on both strands."""
    lines = [
        f"chr{number}\t{start}\t{start + 40}\tpeak{start}\t0\t{'+-'[start // 100 % 2]}\n"
        for number in (1, 2, 3)
        for start in starts
    ]
    return "".join(lines)


def _wrapped(text: str) -> str:
    return "".join(text[at : at + 60] + "\n" for at in range(0, len(text), 60))


def world_folder(scratch: Path) -> Path:
    """Return the folder of the world that this version of the code makes."""
    code = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        code.update(path.read_bytes())
    return scratch / f"world-{code.hexdigest()[:16]}"


class World:
    """The undisturbed folder, and what it holds.

    Parameters
    ----------
    folder : Path
        Made if it does not exist; made anew if it was not completed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "undisturbed"
        self.stopped = folder / "stopped"
        self.printed: dict[str, str] = {}
        done = folder / "world.json"
        _save_often()
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            self._build()
            done.write_text(json.dumps(self.printed))
        self.printed = json.loads(done.read_text())

    def _build(self) -> None:
        write_inputs(self.folder)
        for names in (FIRST, tuple(name for name in STAGES if name not in FIRST)):
            for name in names:
                ended = cmgems(*STAGES[name].words, folder=self.folder)
                if ended.code:
                    raise RuntimeError(f"{name} needs to succeed undisturbed: {ended}")
                self.printed[name] = ended.stdout
            self._import(names)
        for name in STOPPED:
            stage, folder = STAGES[name], self.stopped / name
            shutil.copytree(self.folder, folder)
            remove_outs(folder, stage)
            kill_at(stage, folder, self._last_resumable(name))

    def warm(self) -> None:
        """Import in this process what the commands import, and load what they compile."""
        self._import(STAGES)
        scratch, before = self._scratch(), Path.cwd()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            os.chdir(scratch)
            for name in WARMED:
                remove_outs(scratch, STAGES[name])
                run_cmgems(STAGES[name].words)
        os.chdir(before)

    def _import(self, names: Iterable[str]) -> None:
        scratch = self._scratch()

        def modules() -> int:
            os.chdir(scratch)
            for name in names:
                remove_outs(scratch, STAGES[name])
                run_cmgems(STAGES[name].words)
            print("\nmodules", *sys.modules)
            return 0

        for name in run_forked(modules, seconds=300).stdout.rsplit("modules", 1)[1].split():
            with contextlib.suppress(Exception):
                importlib.import_module(name)

    def _scratch(self) -> Path:
        scratch = self.folder.parent / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        return Path(shutil.copytree(self.folder, scratch))

    def _last_resumable(self, name: str) -> int:
        """Return the last file operation of a command before which most can be resumed."""
        scratch = self._scratch()
        remove_outs(scratch, STAGES[name])

        def work() -> int:
            os.chdir(scratch)
            kept: list[tuple[int, int]] = []

            def look() -> None:
                states = [*scratch.glob("**/step_*/state.json"), *scratch.glob(".*/checkpoint.json")]
                finished = any((scratch / out).is_file() for out in STAGES[name].outs)
                kept.append((0 if finished else len(states), kill.done - 1))

            kill = Kill(setattr, look)
            kill.arm(0)
            code = run_cmgems(STAGES[name].words)
            states, at = max(kept)
            print(f"\n{states} {at}")
            return code

        ended = run_forked(work)
        states, at = map(int, ended.stdout.split()[-2:])
        if ended.code or not states:
            raise RuntimeError(f"{name} leaves nothing to resume: {ended}")
        return at

    def operations(self, name: str, *more: str, folder: Path) -> int:
        """Return how many file operations a command does in a copy of a folder."""
        scratch = self.folder.parent / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(folder, scratch)

        def work() -> int:
            os.chdir(scratch)
            kill = Kill(setattr)
            code = run_cmgems([*STAGES[name].words, *more])
            print(f"\n{kill.done}")
            return code

        ended = run_forked(work)
        if ended.code:
            raise RuntimeError(f"{name}: {ended}")
        return int(ended.stdout.split()[-1])

    def same(self, name: str, folder: Path) -> str:
        """Return how the outputs of a stage differ from the undisturbed ones; empty if they do not."""
        for out in STAGES[name].outs:
            difference = differs(self.folder / out, folder / out)
            if difference:
                return difference
        return ""


def _save_often() -> None:
    """Let commands save a checkpoint after every step or block instead of now and then."""
    from cmgems_cli.inference import resumable_output
    from cmgems_cli.training import finetune_run

    resumable_output.SECONDS_BETWEEN_CHECKPOINTS = finetune_run.SECONDS_BETWEEN_CHECKPOINTS = 0.0


def kill_at(stage: Stage, folder: Path, at: int, *more: str, after: bool = False) -> Ended:
    """Run a command that is killed at its `at`-th file operation."""

    def work() -> int:
        os.chdir(folder)
        Kill(setattr, lambda: os.kill(os.getpid(), signal.SIGKILL)).arm(at, after=after)
        return run_cmgems([*stage.words, *more])

    return run_forked(work)


def remove_outs(folder: Path, stage: Stage) -> None:
    """Remove what a stage wrote."""
    for out in stage.outs:
        path = folder / out
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def content(path: Path) -> bytes:
    """Return the bytes of a file; of a manifest those fields that its digest is made of, since others hold times."""
    whole = path.read_bytes()
    if path.name != MANIFEST:
        return whole
    try:
        fields = json.loads(whole)
        return canonical_json([fields[name] for name in (*DIGESTED, "digest")]).encode()
    except (ValueError, KeyError, TypeError, RecursionError):
        return whole


def differs(one: Path, other: Path) -> str:
    """Return how two files or folders differ, by names and content; empty if they do not."""
    if one.is_file():
        equal = other.is_file() and content(one) == content(other)
        return "" if equal else f"{other.name} differs"
    names = [listing(path) if path.is_dir() else set() for path in (one, other)]
    if names[0] != names[1]:
        return f"names differ: {sorted(names[0] ^ names[1])[:4]}"
    changed = [
        name
        for name in sorted(names[0])
        if (one / name).is_file() and content(one / name) != content(other / name)
    ]
    return f"{', '.join(changed[:4])} differ" if changed else ""


def listing(folder: Path) -> set[str]:
    """Return the names of everything below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
