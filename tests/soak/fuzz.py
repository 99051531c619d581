"""Fuzzed inputs for every reader: each gives a result or one line with exit 2 or 3, in time and within memory.

Many inputs are read in one forked process, which is watched; one that dies is a crash of the input it had begun.
"""

import contextlib
import io
import json
import mmap
import os
import random
import shutil
import signal
import struct
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.soak import trials
from tests.soak.forked import UNCAUGHT, Ended, fork, seconds_computed, text_of
from tests.soak.mutations import (
    CELLS,
    mutate,
    mutate_array,
    mutate_json,
    mutate_table,
    reseal,
    reseal_state,
    zipped,
)
from tests.soak.trials import Outcome
from tests.soak.world import STAGES, STOPPED, World, letters
from tests.soak.world import regions as bed_of

SECONDS = 10.0
_POSITION = struct.Struct("<qd")

Words = list[str]
# Writes an input into the current folder, with the words of the command that reads it.
Reader = Callable[[random.Random], Words]


def _fastas(bases: int) -> list[bytes]:
    rng = random.Random(5)
    one, two, three = (letters(rng, bases) for _ in range(3))
    wrapped = "\n".join(two[at : at + 30] for at in range(0, len(two), 30))
    return [
        f">chr1 some text\n{one}\n>chr2\n{wrapped}\n>chrX\n{three.lower()}NNNN{one}\n".encode(),
        f">NC_000001.11 Homo sapiens\r\n{one}\r\n>2\r\n{two}\r\n".encode(),
        f";comment\n>a\n{one[:40]}RYKM{two}\n>b\n\n>c\n{three}".encode(),
        b"".join(f">r{i}\n{letters(rng, 25)}\n".encode() for i in range(30)),
    ]


GENOMES, RECORDS = _fastas(300), _fastas(30)


def _table(mark: str, header: str, n: int, cells: Callable[[random.Random, int], str]) -> bytes:
    rng = random.Random(6)
    rows = [mark.join((letters(rng, 30), cells(rng, i))) for i in range(n)]
    return "\n".join([header.replace(",", mark), *rows, ""]).encode()


READS = [
    *RECORDS,
    _table(",", "sequence,name", 12, lambda rng, i: f"row {i}"),
    _table("\t", "sequence,id", 12, lambda rng, i: str(i)),
    b"name,sequence\na,ACG CGT GTA\nb,AAAA TTTT\n",
]
LABELLED = [
    _table(",", "sequence,label", 20, lambda rng, i: str(i % 2)),
    _table(",", "sequence,label", 12, lambda rng, i: ("no", "yes", "maybe")[i % 3]),
    _table("\t", "sequence,label", 12, lambda rng, i: str(i % 2)),
]
SCORES = (
    "bench,task,species,shots,seed,metric,value,n_train,n_test,model,note\n"
    + "".join(f"gue,t{i},,,42,mcc,0.{i}5,100,50,one,\n" for i in range(5))
).encode()
CONFIG = b"""seed = 7
[prepare-genome]
contigs = ["chr1", "chr2"]
max-tokens = 30
full-share = 0.25
[pretrain]
steps = 10
lr = 1e-3
"""
BENCH = b"""name = "own"
metric = "mcc"
[[task]]
name = "data"
path = "data"
group = "human"
recipe = { epochs = 3, lr = 3e-5, max_steps = 10 }
"""
PEAKS = bed_of(range(100, 400, 100)).encode()
COUNTED = "counts.csv"
ODD = [cell for cell in CELLS if "\0" not in cell and "\ud800" not in cell and len(cell) < 10_000]


def _plain(rng: random.Random, seeds: list[bytes], *, table: bool = False) -> bytes:
    seed = rng.choice(seeds)
    if rng.random() < 0.03:
        return b""
    if table and rng.random() < 0.5:
        return mutate_table(rng, seed)
    return mutate(rng, seed, tuple(seeds))


def _write(name: str, content: bytes) -> str:
    Path(name).write_bytes(content)
    return name


def _json_of(rng: random.Random, path: str) -> bytes:
    """Return a JSON file with odd values, or with other bytes."""
    content = Path(path).read_bytes()
    if rng.random() < 0.3:
        return mutate(rng, content)
    return json.dumps(mutate_json(rng, json.loads(content))).encode()


def genome(rng: random.Random) -> Words:
    _write("input.fa", zipped(rng, _plain(rng, GENOMES)))
    more = rng.choice(([], ["--dry-run"], ["--contigs", "chr2"], ["--contigs", "primary"]))
    words = [
        "prepare-genome",
        "input.fa",
        "--contigs",
        "all",
        "--k",
        "4",
        "--max-tokens",
        "30",
        "--out",
        "made",
    ]
    return [*words, "--overwrite", "--quiet", *more]


def index(rng: random.Random) -> Words:
    lines, at = [], 0
    text = GENOMES[0]
    for record in text.split(b">")[1:]:
        name, rest = record.split(b"\n", 1)
        width = rest.index(b"\n")
        n = len(rest.replace(b"\n", b""))
        lines.append(f"{name.split()[0].decode()}\t{n}\t{at + len(name) + 2}\t{width}\t{width + 1}\n")
        at += len(record) + 1
    _write("input.fa", text)
    _write("input.fa.fai", _plain(rng, ["".join(lines).encode()], table=True))
    words = ["prepare-genome", "input.fa", "--contigs", rng.choice(("chr1", "chr2", "chrX", "all"))]
    return [*words, "--k", "4", "--max-tokens", "30", "--out", "made", "--overwrite", "--quiet"]


def positives(rng: random.Random) -> Words:
    _write("input.fa", zipped(rng, _plain(rng, RECORDS)))
    words = ["build-fewshot", "input.fa", "--shots", "2", "--out", "made", "--overwrite", "--quiet"]
    return [*words, *rng.choice(([], ["--dry-run"]))]


def reads(rng: random.Random) -> Words:
    _write("input.csv", zipped(rng, _plain(rng, READS, table=True)))
    words = [
        "predict",
        "classifier",
        "input.csv",
        "--out",
        "made.tsv",
        "--overwrite",
        "--quiet",
        "--precision",
        "fp32",
    ]
    return [*words, *rng.choice(([], ["--truncate"], ["--window", "12", "--stride", "4"]))]


SHORT_OUT = ["--overwrite", "--quiet", "--precision", "fp32"]


def variants(rng: random.Random) -> Words:
    seeds = [Path("calls.vcf").read_bytes(), b"chrom,pos,ref,alt\nchr1,41,A,C\nchr2,300,AC,G\n"]
    _write("input.vcf", zipped(rng, _plain(rng, seeds, table=True)))
    words = ["score-variants", "classifier", "input.vcf", "--genome", "genome.fa", "--window", "31"]
    return [*words, "--out", rng.choice(("made.vcf", "made.tsv")), *SHORT_OUT]


def regions(rng: random.Random) -> Words:
    seeds = [PEAKS, b"track name=x\nchr1 100 140\nchr2 7 90 b 3.5 -\n"]
    _write("input.bed", zipped(rng, _plain(rng, seeds, table=True)))
    if rng.random() < 0.4:
        words = [
            "build-task",
            "input.bed",
            "--genome",
            "genome.fa",
            "--length",
            "40",
            "--gc-tolerance",
            "0.2",
        ]
        return [*words, "--repeat-tolerance", "1", "--out", "made", "--overwrite", "--quiet"]
    out = rng.choice(("made.bed", "made.tsv", "made.bedgraph"))
    words = ["predict", "classifier", "--regions", "input.bed", "--genome", "genome.fa"]
    return [*words, "--truncate", "--out", out, *SHORT_OUT]


def genome_of_variants(rng: random.Random) -> Words:
    _write("genome.fa", _plain(rng, [Path("genome.fa").read_bytes(), *GENOMES]))
    words = ["score-variants", "classifier", "calls.vcf", "--genome", "genome.fa", "--window", "31"]
    return [*words, "--out", "made.tsv", *SHORT_OUT]


def explained(rng: random.Random) -> Words:
    _write("input.fa", zipped(rng, _plain(rng, [READS[-1], b">a\nACGTACGTAACC\n>b\nACCTGA\n"], table=True)))
    return ["explain", "classifier", "input.fa", "--truncate", "--out", "made.tsv", *SHORT_OUT]


def divided(rng: random.Random) -> Words:
    _write("input.csv", zipped(rng, _plain(rng, LABELLED, table=True)))
    by = rng.choice(("cluster", "stratified", "chromosome"))
    return [
        "split",
        "input.csv",
        "--by",
        by,
        "--dev",
        "0.2",
        "--test",
        "0.2",
        "--out",
        "made",
        "--overwrite",
        "--quiet",
    ]


def task(rng: random.Random) -> Words:
    Path("task").mkdir(exist_ok=True)
    seed = rng.choice(LABELLED)
    ending = "tsv" if b"\t" in seed else "csv"
    damaged = rng.choice(("train", "dev", "test"))
    for split in ("train", "dev", "test"):
        content = _plain(rng, [seed], table=True) if split == damaged else seed
        _write(f"task/{split}.{ending}", content)
    return [
        "finetune",
        "model",
        "task",
        "--dry-run",
        "--quiet",
        *rng.choice(([], ["--truncate"], ["--shots", "2"])),
    ]


def counts(rng: random.Random) -> Words:
    _write("input.csv", zipped(rng, _plain(rng, [Path(COUNTED).read_bytes()], table=True)))
    words = [
        "build-pmi",
        "--from-counts",
        "input.csv",
        "--min-count",
        "5",
        "--out",
        "made",
        "--overwrite",
        "--quiet",
    ]
    return [*words, *rng.choice(([], ["--dry-run"]))]


READ_BY: dict[str, list[Words]] = {
    "corpus": [
        ["build-pmi", "corpus", "--min-count", "5", "--out", "made", "--overwrite", "--quiet"],
        ["show-masks", "corpus", "--pmi", "pmi", "--sequences", "20", "--quiet"],
        ["info", "corpus", "--verify"],
    ],
    "pmi": [["show-masks", "corpus", "--pmi", "pmi", "--sequences", "20", "--quiet"], ["info", "pmi"]],
    "scores": [["ttest", "scores", "other.csv", "--quiet"], ["info", "scores"]],
    "model": [
        ["finetune", "model", "data", "--dry-run", "--quiet"],
        ["info", "model"],
    ],
    "classifier": [
        ["predict", "classifier", "few.fa", "--out", "made.tsv", "--overwrite", "--quiet"],
        ["info", "classifier", "--json"],
    ],
    "benchmarks/fewshot": [["info", "benchmarks/fewshot", "--verify"]],
    "report": [["info", "report"]],
}


def manifest(rng: random.Random) -> Words:
    folder = rng.choice(list(READ_BY))
    path = f"{folder}/manifest.json"
    if rng.random() < 0.3:
        _write(path, _json_of(rng, path))
    else:
        reseal(Path(folder), lambda fields: mutate_json(rng, fields))
    return rng.choice(READ_BY[folder])


def corpus_files(rng: random.Random) -> Words:
    name = rng.choice(("bases.npy", "windows.npy", "runs.npy", "contigs.csv"))
    content = Path("corpus", name).read_bytes()
    _write(
        f"corpus/{name}", mutate_array(rng, content) if name.endswith("npy") else mutate_table(rng, content)
    )
    reseal(Path("corpus"))
    return rng.choice(READ_BY["corpus"][:2])


def ranking(rng: random.Random) -> Words:
    _write("pmi/kmers.csv", _plain(rng, [Path("pmi/kmers.csv").read_bytes()], table=True))
    reseal(Path("pmi"))
    return READ_BY["pmi"][0]


def model_folder(rng: random.Random) -> Words:
    folder = rng.choice(("model", "classifier"))
    (Path(folder) / "manifest.json").unlink()
    (Path(folder) / "metrics.jsonl").unlink()
    names = [
        path.name
        for path in sorted(Path(folder).iterdir())
        if path.suffix in (".json", ".safetensors", ".txt")
    ]
    name = rng.choice(names)
    path = f"{folder}/{name}"
    content = Path(path).read_bytes()
    if name.endswith("json"):
        _write(path, _json_of(rng, path))
    elif name.endswith("safetensors") and rng.random() < 0.5:
        size = struct.unpack("<Q", content[:8])[0]
        header = json.dumps(mutate_json(rng, json.loads(content[8 : 8 + size]))).encode()
        _write(path, struct.pack("<Q", len(header)) + header + content[8 + size :])
    else:
        _write(path, mutate(rng, content))
    if folder == "model":
        return rng.choice((
            ["embed", "model", "few.fa", "--out", "made.npy", "--overwrite", "--quiet"],
            ["finetune", "model", "data", "--dry-run", "--quiet"],
        ))  # fmt: skip
    return READ_BY["classifier"][0]


def toml_config(rng: random.Random) -> Words:
    _write("input.toml", _plain(rng, [CONFIG, BENCH]))
    return ["prepare-genome", "few.fa", "--dry-run", "--quiet", "--config", "input.toml"]


def benchmark(rng: random.Random) -> Words:
    _write("input.toml", _plain(rng, [BENCH, CONFIG]))
    return ["evaluate", "model", "--bench", "input.toml", "--dry-run", "--quiet", "--out", "made"]


def score_table(rng: random.Random) -> Words:
    _write("input.csv", _plain(rng, [SCORES], table=True))
    return ["ttest", "input.csv", "other.csv", "--quiet", *rng.choice(([], ["--common"], ["--json"]))]


def checkpoint(rng: random.Random) -> Words:
    """Both checkpoints are damaged alike, or the older one is missing."""
    name = rng.choice(("model", "classifier"))
    _bring_stopped(name)
    folders = sorted(Path(name).glob("checkpoints/step_*"))
    for folder in folders[:-1]:
        shutil.rmtree(folder)
    folder = folders[-1]
    file = rng.choice(sorted(path.name for path in folder.iterdir()))
    if file == "state.json":
        if rng.random() < 0.3:
            _write(str(folder / file), _json_of(rng, str(folder / file)))
        else:
            reseal_state(folder, lambda state: mutate_json(rng, state))
    else:
        content = (folder / file).read_bytes()
        _write(str(folder / file), mutate(rng, content))
        reseal_state(folder)
    return [*STAGES[name].words]


def partial(rng: random.Random) -> Words:
    name = rng.choice(STOPPED)
    _bring_stopped(name)
    paths = [*Path().glob(".*.staging/*.json"), *Path().glob(f"{name}/unfinished.json")]
    path = str(rng.choice(sorted(paths)))
    _write(path, _json_of(rng, path))
    return [*STAGES[name].words]


def runs(rng: random.Random) -> Words:
    path = rng.choice(sorted(path for path in Path("scores/runs").rglob("*") if path.is_file()))
    content = path.read_bytes()
    if path.name == "manifest.json":
        reseal(path.parent, lambda fields: mutate_json(rng, fields))
    else:
        _write(str(path), mutate_table(rng, content) if path.suffix == ".csv" else mutate(rng, content))
        reseal(path.parent)
    return [*STAGES["scores"].words, *rng.choice(([], ["--overwrite"]))]


def metrics(rng: random.Random) -> Words:
    _write("model/metrics.jsonl", mutate(rng, Path("model/metrics.jsonl").read_bytes()))
    reseal(Path("model"))
    return ["report", "model", "--out", "made", "--overwrite", "--quiet"]


def reported(rng: random.Random) -> Words:
    folder = rng.choice(("model", "pmi", "scores", "classifier", "corpus"))
    reseal(Path(folder), lambda fields: mutate_json(rng, fields))
    return [
        "report",
        "model",
        "pmi",
        "scores",
        "classifier",
        "corpus",
        "--out",
        "made",
        "--overwrite",
        "--quiet",
    ]


def options(rng: random.Random) -> Words:
    words, names = rng.choice((
        (["prepare-genome", "few.fa", "--dry-run", "--quiet"], ("contigs", "k", "max-tokens", "full-share", "prefix")),
        (["build-fewshot", "few.fa", "--dry-run", "--quiet"], ("shots", "test-share", "max-bases")),
        (["embed", "model", "few.fa", "--out", "made.npy", "--overwrite", "--quiet"], ("layers", "window", "stride")),
        (["finetune", "model", "data", "--dry-run", "--quiet"], ("lr", "warmup-steps", "dropout", "shots")),
        (["evaluate", "model", "--bench", "bench.toml", "--dry-run", "--quiet"], ("tasks", "seeds", "shots", "shard")),
        (["ttest", "other.csv", "other.csv", "--quiet"], ("metric", "seed")),
        (["split", "data/train.csv", "--out", "made", *SHORT_OUT[:2]], ("by", "dev", "test", "dev-chromosomes")),
        (
            ["score-variants", "classifier", "calls.vcf", "--genome", "genome.fa", "--out", "made.tsv", *SHORT_OUT],
            ("window", "label", "format", "max-allele"),
        ),
        (["explain", "classifier", "two.fa", "--out", "made.tsv", *SHORT_OUT], ("block", "strand", "label", "window")),
        (["show-masks", "corpus", "--pmi", "pmi", "--sequences", "20", "--quiet"], ("strategies", "mask-rate", "show")),
    ))  # fmt: skip
    odd = (
        *ODD,
        "1,2",
        "1-3",
        "3-1",
        "1-999999999",
        "-",
        ",",
        "1,,2",
        "1/0",
        "0/1",
        "2/1",
        "5%",
        "-5%",
        "1e-3,1e-4",
        "-1,-99",
    )
    return [*words, f"--{rng.choice(names)}", rng.choice(odd)]


def _bring_stopped(name: str) -> None:
    shutil.rmtree(Path(STAGES[name].outs[0]), ignore_errors=True)
    for out in STAGES[name].outs:
        Path(out).unlink(missing_ok=True)
    shutil.copytree(Path("../stopped-worlds") / name, Path(), dirs_exist_ok=True)


# How often each is drawn: those that start no model take a few milliseconds.
READERS: dict[Reader, int] = {
    genome: 10, index: 4, positives: 10, reads: 4, task: 10, counts: 10, manifest: 8, corpus_files: 8, ranking: 8,
    model_folder: 4, toml_config: 12, benchmark: 10, score_table: 12, checkpoint: 2, partial: 2, runs: 2, metrics: 0.1,
    reported: 0.3, options: 4, variants: 4, regions: 4, genome_of_variants: 2, explained: 2, divided: 6,
}  # type: ignore[dict-item]  # fmt: skip


class Fuzz:
    """Trials of one world.

    Parameters
    ----------
    world : World
    scratch : Path
        Folder for the trials.
    kept : Path
        Where inputs are kept whose trial failed.
    """

    def __init__(self, world: World, scratch: Path, kept: Path) -> None:
        self.world, self.kept = world, kept
        self.clean, self.folder = scratch / "fuzz-clean", scratch / "fuzz"
        if self.clean.exists():
            shutil.rmtree(self.clean)
        shutil.copytree(world.folder, self.clean)
        (self.clean / "other.csv").write_bytes(SCORES.replace(b",one,", b",two,"))
        (self.clean / "few.fa").write_bytes(RECORDS[0])
        stopped = scratch / "stopped-worlds"
        shutil.rmtree(stopped, ignore_errors=True)
        for name in STOPPED:
            _difference(world.stopped / name, world.folder, stopped / name)

    def batch(self, seed: int, numbers: list[int]) -> Iterator[tuple[int, Outcome]]:
        """Yield the outcome of each input, in order."""
        left = list(numbers)
        while left:
            done = 0
            for number, outcome in self._some(seed, left):
                done += 1
                yield number, outcome
            left = left[done:]

    def _some(self, seed: int, numbers: list[int]) -> Iterator[tuple[int, Outcome]]:
        """Yield outcomes until all are done or the process has died."""
        out, err = os.memfd_create("stdout"), os.memfd_create("stderr")
        position = mmap.mmap(-1, _POSITION.size)
        child = fork(lambda: self._work(seed, numbers, position), out, err)
        late, watched = False, os.pidfd_open(child)
        while not _has_ended(watched):
            _, begun = _POSITION.unpack(position[:])
            if begun and seconds_computed(child) - begun > SECONDS:
                late = True
                os.kill(child, signal.SIGKILL)
        _, status, _ = os.wait4(child, 0)
        os.close(watched)
        code, n = os.waitstatus_to_exitcode(status), 0
        for line in text_of(out).splitlines():
            number, group, verdict, words = json.loads(line)
            n += 1
            yield number, Outcome(group, verdict, words)
        if n < len(numbers):
            ended = Ended(code or UNCAUGHT, "", text_of(err), 0.0, late)
            yield (
                numbers[n],
                Outcome(
                    self.reader(seed, numbers[n]).__name__,
                    trials.fault(ended) or trials.CRASH,
                    trials.said(ended),
                ),
            )
            self._keep(seed, numbers[n])

    def reader(self, seed: int, number: int) -> Reader:
        """Return the reader of one trial."""
        return random.Random(f"{seed}/fuzz/{number}").choices(list(READERS), list(READERS.values()))[0]

    def _work(self, seed: int, numbers: list[int], position: mmap.mmap) -> int:
        import typer

        from cmgems_cli.cli import app

        command = typer.main.get_command(app)
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.clean, self.folder)
        os.chdir(self.folder)
        clean = _sizes(self.clean)
        report = os.dup(1)
        for number in numbers:
            rng = random.Random(f"{seed}/fuzz/{number}")
            reader = rng.choices(list(READERS), list(READERS.values()))[0]
            words = reader(rng)
            position[:] = _POSITION.pack(number, time.process_time() + 0.001)
            ended = _ran(command, words)
            position[:] = _POSITION.pack(number, 0.0)
            verdict = (
                trials.READ
                if ended.code == 0
                else trials.refused(ended, (2, 3, 4) if reader in MAY_REFUSE else (2, 3))
            )
            if ended.code == 0 and trials.fault(ended):
                verdict = trials.fault(ended)
            if (
                reader is checkpoint
                and ended.code == 1
                and ("diverged" in ended.stderr or "became" in ended.stderr)
            ):
                verdict = trials.NOTICED  # well-formed weights that are not finite
            passed = verdict in trials.PASSED
            text = "" if passed else f"{' '.join(words)[:300]}: {trials.said(ended)}"
            os.write(report, (json.dumps([number, reader.__name__, verdict, text]) + "\n").encode())
            if not passed:
                self._keep(seed, number)
            _restore(self.clean, clean)
        return 0

    def _keep(self, seed: int, number: int) -> None:
        kept = self.kept / f"fuzz-{seed}-{number}"
        shutil.rmtree(kept, ignore_errors=True)
        _difference(self.folder, self.clean, kept)


# These repeat the command that made what is damaged: something in the way is an answer.
MAY_REFUSE = (checkpoint, partial, runs)


def _ran(command: Callable[..., object], words: Words) -> Ended:
    out, err = io.StringIO(), io.StringIO()
    code = 0
    sys.argv = ["cmgems", *words]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            command(args=words, prog_name="cmgems")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            code = UNCAUGHT
            traceback.print_exc()
    return Ended(code, out.getvalue(), err.getvalue(), 0.0)


def _has_ended(watched: int) -> bool:
    import select

    return bool(select.select([watched], [], [], 0.5)[0])


def _sizes(folder: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        found[str(path.relative_to(folder))] = (-1 if path.is_dir() else status.st_size, 0)
    return found


def _restore(clean: Path, names: dict[str, tuple[int, int]]) -> None:
    """Make the current folder what it was before the trial."""
    there = set()
    for path in sorted(Path().rglob("*"), reverse=True):
        name = str(path)
        if name not in names:
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        else:
            there.add(name)
    for name, (size, _) in names.items():
        path = Path(name)
        if size < 0:
            path.mkdir(exist_ok=True)
        elif name not in there or path.lstat().st_mtime_ns != (clean / name).lstat().st_mtime_ns:
            shutil.copyfile(clean / name, path)
            os.utime(path, ns=(0, (clean / name).lstat().st_mtime_ns))


def _difference(folder: Path, base: Path, into: Path) -> None:
    """Copy what is in a folder but not, or with other content, in another."""
    into.mkdir(parents=True)
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if path.is_file() and not (
            (base / name).is_file() and (base / name).read_bytes() == path.read_bytes()
        ):
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(OSError):  # a file of an absurd size
                shutil.copyfile(path, into / name)


def passed_of(outcomes: list[Outcome]) -> Counter[str]:
    """Count the passed outcomes by group and verdict, as `Ledger.add_batch` takes them."""
    return Counter(f"{outcome.group}|{outcome.verdict}" for outcome in outcomes if outcome.passed)
