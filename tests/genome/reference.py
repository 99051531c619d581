"""Slow, obvious versions of what the genome stage computes."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cmgems_cli import draws
from cmgems_cli.genome.corpus import BASES, Corpus
from cmgems_cli.genome.vocabulary import BASES as LETTERS
from cmgems_cli.genome.windows import WindowSpec


@dataclass
class Record:
    """One FASTA record: its name and its letters, layout removed."""

    name: str
    letters: str = ""

    @property
    def runs(self) -> list[tuple[int, str]]:
        """(start, bases) of each stretch of A, C, G, T."""
        return [(match.start(), match[0]) for match in re.finditer("[ACGT]+", self.letters)]

    @property
    def dropped(self) -> Counter[str]:
        return Counter(letter for letter in self.letters if letter not in "ACGT")


class NotFasta(Exception):
    """The text breaks a rule that every reader must enforce."""


def read_records(text: bytes) -> list[Record]:
    """Parse FASTA line by line; names must be there and differ, and '>' begins a line."""
    records: list[Record] = []
    for line in re.split("[\r\n]", text.decode()):
        if line.startswith(">"):
            words = line[1:].split()
            if not words or words[0] in {record.name for record in records}:
                raise NotFasta
            records.append(Record(words[0]))
        elif ">" in line or (line.strip(" \t") and not records):
            raise NotFasta
        elif records:
            records[-1].letters += re.sub("[ \t]", "", line).upper()
    if not records:
        raise NotFasta
    return records


def unpack(bases: np.ndarray, start: int, n: int) -> str:
    """Return letters start … start + n - 1 of packed bases."""
    return "".join(LETTERS[(int(bases[i // 4]) >> (2 * (i % 4))) & 3] for i in range(start, start + n))


def pack(letters: str) -> np.ndarray:
    """Return the packed bases of letters A, C, G, T."""
    bases = np.zeros((len(letters) + 3) // 4, np.uint8)
    for i, letter in enumerate(letters):
        bases[i // 4] |= LETTERS.index(letter) << (2 * (i % 4))
    return bases


def token_ids(letters: str, k: int) -> list[int]:
    """Return the token ids of a sequence of any letters (method, section 1)."""
    ids = []
    for i in range(len(letters) - k + 1):
        kmer = letters[i : i + k].upper()
        if set(kmer) <= set(LETTERS):
            code = 0
            for letter in kmer:
                code = 4 * code + LETTERS.index(letter)
            ids.append(5 + code)
        else:
            ids.append(1)
    return ids


@dataclass
class Tiled:
    """One window before duplicates are dropped."""

    start: int
    n_tokens: int
    valid: bool = field(compare=True)


def tile_run(
    start: int, length_bases: int, identity: int, contig_start: int, spec: WindowSpec
) -> list[Tiled]:
    """WindowSpec one run as method, section 2 says."""

    def stream(purpose: int) -> np.uint64:
        return np.uint64(draws.key(np.uint64(spec.seed), purpose, np.uint64(identity), contig_start))

    limit = min(1000, length_bases // 10)
    at = int(draws.below(stream(draws.SEQUENCE_START), 0, limit)) if limit else 0
    tiled: list[Tiled] = []
    while True:
        left = length_bases - at - (spec.k - 1)
        if left < spec.min_tokens:
            return tiled
        lengths = stream(draws.SEQUENCE_LENGTH)
        if draws.uniform(lengths, 2 * len(tiled)) < spec.full_share:
            n_tokens = spec.max_tokens
        else:
            choices = spec.max_tokens - spec.min_tokens + 1
            n_tokens = spec.min_tokens + int(draws.below(lengths, 2 * len(tiled) + 1, choices))
        n_tokens = min(n_tokens, left)
        chance = draws.uniform(stream(draws.SEQUENCE_SPLIT), len(tiled))
        tiled.append(Tiled(start + at, n_tokens, bool(chance < spec.valid_share)))
        at += n_tokens + spec.k - 1


def sequences(corpus: Corpus) -> list[str]:
    """Return every sequence's letters, in the order of `windows.npy`."""
    bases = np.load(corpus.folder / BASES)
    return [
        unpack(bases, int(row["start"]), int(row["n_tokens"]) + corpus.k - 1)
        for row in np.array(corpus.windows)
    ]


def write_fasta(path: Path, records: dict[str, str], width: int = 60) -> Path:
    """Write records with lines of `width` letters."""
    lines = []
    for name, letters in records.items():
        lines += [f">{name}"] + [letters[i : i + width] for i in range(0, len(letters), width)]
    path.write_text("\n".join(lines) + "\n")
    return path
