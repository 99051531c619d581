"""The options of `prepare-genome`, each declared once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cmgems_cli.errors import UsageError
from cmgems_cli.option_fields import option

if TYPE_CHECKING:
    from cmgems_cli.genome.windows import WindowSpec

# n_tokens is stored in 16 bits.
MAX_MAX_TOKENS = 2**16 - 1


@dataclass(frozen=True)
class PreparationOptions:
    """The options of `cmgems prepare-genome`; the manifest's params."""

    contigs: str = option(
        "primary",
        "--contigs",
        "primary is 1–22, X and Y, or all if the names are not human; a NAME matches chr20, 20 and NC_000020.11 alike.",
        metavar="primary|all|NAME,…",
    )
    prefix: str = option(
        "",
        "--prefix",
        "For several genomes, one for each FASTA file: records become hg38.chr1, mm39.chr1.",
        metavar="NAME,…",
        shown="none",
    )
    max_tokens: int = option(
        510, "--max-tokens", "Tokens of a full-length sequence.", min=1, max=MAX_MAX_TOKENS
    )
    min_tokens: int = option(5, "--min-tokens", "Tokens of the shortest sequence.", min=1, max=MAX_MAX_TOKENS)
    full_share: float = option(
        0.5,
        "--full-share",
        "Fraction of sequences cut to full length; the rest get random lengths.",
        min=0,
        max=1,
    )
    valid_share: float = option(
        0.1, "--valid-share", "Fraction of sequences kept for validation.", min=0, max=1
    )
    k: int = option(6, "--k", "Bases per token.", min=3, max=8)
    seed: int = 42

    def window_spec(self) -> WindowSpec:
        """Return how runs are cut, after checking that it is possible.

        Raises
        ------
        UsageError
            If a parameter is out of range.
        """
        from cmgems_cli.genome.codec import check_k
        from cmgems_cli.genome.windows import WindowSpec

        check_k(self.k)
        if not 1 <= self.min_tokens <= self.max_tokens <= MAX_MAX_TOKENS:
            raise UsageError(
                f"`min_tokens` is {self.min_tokens} and `max_tokens` is {self.max_tokens}; needed"
                f" 1 <= `min_tokens` <= `max_tokens` <= {MAX_MAX_TOKENS:,}"
            )
        for name, fraction in (("full_share", self.full_share), ("valid_share", self.valid_share)):
            if not 0 <= fraction <= 1:
                raise UsageError(f"`{name}` is {fraction}; needed a fraction, from 0 to 1")
        return WindowSpec(
            self.k, self.min_tokens, self.max_tokens, self.full_share, self.valid_share, self.seed
        )

    def prefixes(self, n_files: int) -> list[str]:
        """Return each file's prefix, "" without.

        Raises
        ------
        UsageError
            If their number is not the number of files.
        """
        names = [name.strip() for name in self.prefix.split(",")] if self.prefix else [""] * n_files
        if len(names) != n_files or (self.prefix and not all(names)):
            raise UsageError(
                f"`prefix` is {self.prefix} for {n_files} FASTA files; needed one name for each file,"
                " separated by commas"
            )
        return names
