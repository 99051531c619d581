"""Small files that are enormous when read: each is read in bounded memory, or refused with one line."""

import gzip
import json
import os
import random
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.soak import trials
from tests.soak.forked import cmgems
from tests.soak.mutations import bgzip, reseal
from tests.soak.trials import Outcome
from tests.soak.world import World

MEGABYTES = 600
# ours: 600 MB are inflated and read in 5 to 15 s.
SECONDS = 60.0

Bomb = tuple[str, Callable[[], object], list[str]]

GENOME = ["prepare-genome", "bomb.gz", "--contigs", "all", "--k", "4", "--out", "made", "--quiet"]
PREDICT = ["predict", "classifier", "bomb.gz", "--out", "made.tsv", "--quiet"]
FEWSHOT = ["build-fewshot", "bomb.gz", "--shots", "2", "--out", "made", "--quiet"]
EMBED = ["embed", "model", "reads.fa", "--out", "made.npy", "--quiet"]


def _zipped(
    name: str, before: bytes, filling: bytes, after: bytes = b"\n", megabytes: int = MEGABYTES
) -> None:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    block = filling * ((1 << 20) // len(filling))
    with Path(name).open("wb") as stream:
        stream.write(packer.compress(before))
        for _ in range(megabytes):
            stream.write(packer.compress(block))
        stream.write(packer.compress(after) + packer.flush())


def _plain(name: str, before: bytes, filling: bytes, megabytes: int = 200) -> None:
    with Path(name).open("wb") as stream:
        stream.write(before)
        for _ in range(megabytes):
            stream.write(filling * ((1 << 20) // len(filling)))


def _config(**changed: object) -> None:
    """Give a model of another program's a configuration that declares too much."""
    for name in ("manifest.json", "metrics.jsonl"):
        Path("model", name).unlink()
    path = Path("model/config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def _nested(name: str, opening: str, closing: str) -> None:
    Path(name).write_text(opening * 100_000 + closing * 100_000)


def _array(name: str, shape: str) -> None:
    path = Path("corpus", name)
    content = path.read_bytes()
    header = content[10 : 10 + struct.unpack("<H", content[8:10])[0]].decode()
    header = header[: header.index("'shape'")] + f"'shape': {shape}, }}"
    raw = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
    path.write_bytes(content[:8] + struct.pack("<H", len(raw)) + raw)
    reseal(Path("corpus"))


def _safetensors(size: int, header: bytes = b"{}") -> None:
    _config()
    Path("model/model.safetensors").write_bytes(struct.pack("<Q", size) + header)


def bombs() -> Iterator[Bomb]:
    """Yield a name, what writes the input into the current folder, and the command that reads it."""
    for words in (GENOME, PREDICT, FEWSHOT, [*PREDICT, "--truncate"]):
        for what, before, filling in (
            ("of N", b">a\n", b"N"),
            ("of A", b">a\n", b"A"),
            ("a name", b">", b"x"),
        ):
            name = f"{words[0]} a record of 600 MB: {what}"
            yield name, lambda b=before, f=filling: _zipped("bomb.gz", b, f), words
        yield f"{words[0]} 1 M records", lambda: _zipped("bomb.gz", b"", b">a\nA\n", megabytes=5), words
        yield f"{words[0]} 600 MB of blank lines", lambda: _zipped("bomb.gz", b"", b"\n"), words
        yield (
            f"{words[0]} 100,000 empty blocks",
            lambda: Path("bomb.gz").write_bytes(bgzip(b"")[-28:] * 100_000),
            words,
        )
        yield (
            f"{words[0]} gzip inside gzip",
            lambda: (
                _zipped("inner.gz", b">a\n", b"A"),
                Path("bomb.gz").write_bytes(gzip.compress(Path("inner.gz").read_bytes())),
            ),
            words,
        )
    yield "predict a cell of 300 MB", lambda: _zipped("bomb.gz", b"sequence\n", b"A", megabytes=300), PREDICT
    yield (
        "predict a column name of 300 MB",
        lambda: _zipped("bomb.gz", b"sequence,", b"x", megabytes=300),
        PREDICT,
    )
    finetune = ["finetune", "model", "data", "--dry-run", "--quiet"]
    yield "finetune a cell of 200 MB", lambda: _plain("data/train.csv", b"sequence,label\n", b"A"), finetune
    yield (
        "finetune a label of 200 MB",
        lambda: _plain("data/dev.csv", b"sequence,label\nACGT,", b"1"),
        finetune,
    )
    counts = ["build-pmi", "--from-counts", "bomb.csv", "--out", "made", "--quiet"]
    yield "a count of 200 MB", lambda: _plain("bomb.csv", b"kmer,count\nAAAA,", b"1"), counts
    yield "a k-mer of 200 MB", lambda: _plain("bomb.csv", b"kmer,count\n", b"A"), counts
    yield (
        "scores of 200 MB",
        lambda: _plain("bomb.csv", b"bench,task\n", b"x"),
        ["ttest", "bomb.csv", "bomb.csv"],
    )
    yield (
        "a manifest of 200 MB",
        lambda: _plain("corpus/manifest.json", b'{"kind": "', b"x"),
        ["info", "corpus"],
    )
    yield "a config.json of 200 MB", lambda: (_config(), _plain("model/config.json", b'{"a": "', b"x")), EMBED
    yield (
        "a tokenizer.json of 200 MB",
        lambda: (_config(), _plain("model/tokenizer.json", b'{"a": "', b"x")),
        EMBED,
    )
    dry = ["prepare-genome", "genome.fa", "--dry-run", "--quiet", "--config", "bomb.toml"]
    bench = ["evaluate", "model", "--bench", "bomb.toml", "--dry-run", "--quiet", "--out", "made"]
    for words in (dry, bench):
        yield f"{words[0]} a TOML file of 200 MB", lambda: _plain("bomb.toml", b'a = "', b"x"), words
        yield f"{words[0]} a TOML file nested deeply", lambda: _nested("bomb.toml", "a = [", "]"), words
        yield (
            f"{words[0]} a TOML key of many parts",
            lambda: Path("bomb.toml").write_text("a." * 200_000 + "b = 1"),
            words,
        )
    yield "a manifest nested deeply", lambda: _nested("corpus/manifest.json", "[", "]"), ["info", "corpus"]
    yield (
        "a config.json nested deeply",
        lambda: (_config(), _nested("model/config.json", '{"a":', "}")),
        EMBED,
    )
    yield (
        "a tokenizer.json nested deeply",
        lambda: (_config(), _nested("model/tokenizer.json", "[", "]")),
        EMBED,
    )
    for name, value in (
        ("hidden_size", 32_768), ("hidden_size", 10**12), ("num_hidden_layers", 100_000), ("intermediate_size", 10**9),
        ("max_position_embeddings", 10**9), ("type_vocab_size", 10**9), ("vocab_size", 10**9),
    ):  # fmt: skip
        yield f"config.json {name} {value:,}", lambda n=name, v=value: _config(**{n: v}), EMBED
        yield f"config.json {name} {value:,}, finetune", lambda n=name, v=value: _config(**{n: v}), finetune
    reading = ["build-pmi", "corpus", "--min-count", "5", "--out", "made", "--quiet"]
    for name in ("bases.npy", "windows.npy", "runs.npy"):
        for shape in (f"({10**18},)", f"({2**62}, {2**62})", "(0,)"):
            yield f"{name} of shape {shape}", lambda n=name, s=shape: _array(n, s), reading
    for size in (2**60, 2**63, 2**64 - 1, 10**8):
        yield f"a safetensors header of {size:,} bytes", lambda s=size: _safetensors(s), EMBED
    header = json.dumps(
        {"w": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}
    ).encode()
    yield "a tensor of 4 TB", lambda: _safetensors(len(header), header), EMBED


class Bombs:
    """Trials of one world: number n is the n-th bomb.

    Parameters
    ----------
    world : World
    scratch : Path
        Folder for the trials.
    """

    def __init__(self, world: World, scratch: Path) -> None:
        self.world, self.folder = world, scratch / "bomb"
        self.all = list(bombs())

    def read(self, number: int) -> Outcome:
        """Read one bomb."""
        name, write, words = self.all[number]
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.world.folder, self.folder)
        before = Path.cwd()
        try:
            os.chdir(self.folder)
            write()
            ended = cmgems(*words, folder=self.folder, seconds=SECONDS)
        finally:
            os.chdir(before)
            shutil.rmtree(self.folder)
        verdict = (
            trials.READ if ended.code == 0 and not trials.fault(ended) else trials.refused(ended, (2, 3))
        )
        return Outcome(words[0], verdict, f"{name}: {ended.seconds:.1f} s, {trials.said(ended)}"[:600])


def shuffled(seed: int, total: int) -> list[int]:
    """Return the numbers of all bombs in an order of the seed, so that a short soak has other ones with each."""
    numbers = list(range(total))
    random.Random(seed).shuffle(numbers)
    return numbers
