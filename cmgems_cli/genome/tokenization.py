"""How a model reads DNA: what every tokenization offers, and overlapping k-mers of our vocabulary."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.genome.codec import check_k, encode_sequences
from cmgems_cli.genome.vocabulary import CLS, PAD, SEP, UNK


@dataclass(frozen=True)
class SpecialIds:
    """Token ids around every input, and those without content.

    Attributes
    ----------
    prefix, suffix : tuple of int
        Before the first and after the last token of a sequence.
    padding : int
    unknown : int or None
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    padding: int
    unknown: int | None

    @property
    def positions(self) -> int:
        """Positions that the prefix and the suffix take."""
        return len(self.prefix) + len(self.suffix)

    @property
    def without_content(self) -> tuple[int, ...]:
        """Ids to leave out of a mean over a sequence's tokens."""
        unknown = () if self.unknown is None else (self.unknown,)
        return (*self.prefix, *self.suffix, self.padding, *unknown)


KMER_SPECIALS = SpecialIds((CLS,), (SEP,), PAD, UNK)


class Tokenization(ABC):
    """Turns bases into token ids.

    Attributes
    ----------
    specials : SpecialIds
    k : int or None
        Bases per token if sequences are read as overlapping k-mers of our vocabulary.
    min_bases : int
        Length of the shortest sequence that has a token.
    """

    specials: SpecialIds
    k: int | None
    min_bases: int

    @abstractmethod
    def most_bases(self, max_tokens: int) -> int:
        """Return the length beyond which a sequence has more than `max_tokens` tokens for certain."""

    @abstractmethod
    def fewest_tokens(self, bases: int) -> int:
        """Return the number of tokens that a sequence of this length has at least."""

    @property
    @abstractmethod
    def unit(self) -> str:
        """What a token is, in messages: `6-mers`, `tokens`."""

    @abstractmethod
    def encode(
        self, letters: NDArray[np.uint8], offsets: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Encode concatenated sequences.

        Parameters
        ----------
        letters : uint8, shape (n_letters,)
            Letters of all sequences, upper or lower case.
        offsets : int64, shape (n + 1,)
            Where each sequence starts in `letters`, and where the last one ends.

        Returns
        -------
        token_ids : int32, shape (n_tokens,)
            Without special tokens.
        offsets : int64, shape (n + 1,), tokens
        """


@dataclass(frozen=True)
class OverlappingKmers(Tokenization):
    """Every k-mer of a sequence, in our vocabulary (method, section 1)."""

    k: int
    specials: SpecialIds = KMER_SPECIALS

    def __post_init__(self) -> None:
        check_k(self.k)

    @property
    def min_bases(self) -> int:  # type: ignore[override]
        return self.k

    @property
    def unit(self) -> str:
        return f"{self.k}-mers"

    def most_bases(self, max_tokens: int) -> int:
        return max_tokens + self.k - 1

    def fewest_tokens(self, bases: int) -> int:
        return max(0, bases - self.k + 1)

    def encode(
        self, letters: NDArray[np.uint8], offsets: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Encode uint8 letters, shape (n_letters,), as int32 token ids, shape (n_tokens,): `Tokenization.encode`."""
        return encode_sequences(letters, offsets, self.k)
