"""A study's pieces and the cmgems command of each, from its file in studies/. The Snakefile runs them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

# What is judged without a model that the study pretrains.
WEIGHTS, LINEAR = "random-weights", "kmer-linear"


class Piece(NamedTuple):
    """One evaluation: a block, a model size, an arm and the seed of its model."""

    block: str
    size: str
    arm: str
    seed: int

    @property
    def name(self) -> str:
        """Its folder below the block's."""
        return f"{self.size}-{self.arm}-s{self.seed}"


@dataclass(frozen=True)
class Study:
    """The content of a study's file, with the defaults filled in."""

    config: dict[str, Any]

    def __getitem__(self, key: str) -> Any:
        defaults = {
            "seeds": [42],
            "data": {},
            "fetch": {},
            "pools": {},
            "ttests": {},
            "launch": "cmgems",
            "threads": 1,
            "jobs": 1,
        }
        return self.config.get(key, defaults.get(key, ""))

    @property
    def work(self) -> str:
        """The workspace of the study's commands."""
        return str(self["work"])

    @property
    def pretrained(self) -> list[str]:
        """The arms that the study pretrains; the others name a folder."""
        return [arm for arm, options in self["arms"].items() if isinstance(options, str)]

    def models(self, size: str | None = None) -> list[str]:
        """Return the folders of the models to pretrain, of all sizes or one."""
        return [
            self.model(one, arm, seed)
            for one in self["models"]
            if size in (None, one)
            for arm in self.pretrained
            for seed in self["seeds"]
        ]

    def model(self, size: str, arm: str, seed: int | str) -> str:
        """Return the folder of a model."""
        return f"{self.work}/models/{size}-{arm}-s{seed}"

    @property
    def judged(self) -> list[str]:
        """The blocks with evaluations of their own; the others choose on dev among the trials of several."""
        return [block for block, how in self["blocks"].items() if "best_of" not in how]

    def pieces(self, block: str) -> Iterator[Piece]:
        """Yield the evaluations that a block needs."""
        judged, seeds = self["blocks"][block], self["seeds"]
        if best_of := judged.get("best_of"):
            yield from (piece for source in best_of for piece in self.pieces(source))
            return
        for size in judged.get("models", self["models"]):
            for arm in judged.get("arms", [*self["arms"], WEIGHTS]):
                # Draws of rows are seeds of their own: one evaluation has them all, and to repeat it changes only
                # what was pretrained.
                once = judged.get("own_seeds") and arm not in self.pretrained
                yield from (Piece(block, size, arm, seed) for seed in (seeds[:1] if once else seeds))
        if judged.get("kmer_linear"):
            yield Piece(block, "any", LINEAR, seeds[0])

    def scores(self, piece: Piece) -> str:
        """Return the folder of an evaluation's scores."""
        return f"{self.work}/scores/{piece.block}/{piece.name}"

    def table(self, piece: Piece) -> str:
        """Return the small table of an evaluation, which is kept."""
        return f"{self['results']}/{piece.block}/{piece.name}.csv"

    def tables(self, block: str) -> list[str]:
        """Return the small tables of a block."""
        return [self.table(piece) for piece in self.pieces(block)]

    # ------------------------------------------------------------------ commands

    def prepare(self) -> str:
        """Return the command that cuts the genome."""
        return self._command(
            "cmgems prepare-genome", self["genome"]["fasta"], self["genome"].get("options", "")
        )

    def pretrain(self, size: str, arm: str, seed: int | str) -> str:
        """Return the command that pretrains a model."""
        return self._command(
            f"{self['launch']} pretrain",
            f"--model {size}",
            self["arms"][arm],
            self["pretrain_options"],
            f"--seed {seed} --out {shlex.quote(self.model(size, arm, seed))}",
        )

    def evaluate(self, piece: Piece) -> str:
        """Return the command of an evaluation."""
        judged, linear = self["blocks"][piece.block], piece.arm == LINEAR
        bench = judged["bench"]
        if linear:
            model = LINEAR
        elif piece.arm == WEIGHTS:
            model = f"{piece.size} --init random"
        elif piece.arm in self.pretrained:
            model = shlex.quote(self.model(piece.size, piece.arm, piece.seed))
        else:
            model = shlex.quote(self["arms"][piece.arm]["folder"])
        return self._command(
            f"cmgems evaluate {model} --bench {bench}",
            f"--data {shlex.quote(self['data'][bench])}" if bench in self["data"] else "",
            judged.get("tasks", ""),
            "" if judged.get("own_seeds") else f"--seeds {piece.seed}",
            # A recipe is nothing to a model without weights; kmer-linear is a piece of its own.
            "" if linear else f"{judged.get('recipe', '')} --no-kmer-linear",
            f"--jobs {self['jobs']} --out {shlex.quote(self.scores(piece))}",
        )

    def compared(self, test: str) -> list[str]:
        """Return the sources of a test: published columns, and folders of scores."""
        named = self["ttests"][test]
        return [source if source.startswith("paper:") else f"{self.work}/scores/{source}" for source in named]

    def ttest(self, test: str) -> str:
        """Return the command of a test."""
        return f"cmgems ttest {shlex.join(self.compared(test))} --json"

    def _command(self, *parts: str) -> str:
        return " ".join(part.strip() for part in (*parts, "--quiet") if part.strip())

    def commands(self) -> list[str]:
        """Return all commands of the study."""
        return [
            *(f"cmgems fetch {name} --quiet" for name in self["fetch"]),
            self.prepare(),
            "cmgems build-pmi --quiet",
            *(
                self.pretrain(size, arm, seed)
                for size in self["models"]
                for arm in self.pretrained
                for seed in self["seeds"]
            ),
            *(self.evaluate(piece) for block in self.judged for piece in self.pieces(block)),
            *(self.ttest(test) for test in self["ttests"]),
        ]
