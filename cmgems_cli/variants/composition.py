"""The control: the score that base composition alone gives a variant."""

from __future__ import annotations

import math

from cmgems_cli.variants.alleles import Allele


def composition_score(allele: Allele) -> float:
    """Return the log-likelihood ratio of the alleles if every base were drawn from the composition around them.

    The frequencies are those of A or T and of C or G in the flanks, each counted once more than it occurs, so that
    none is 0. Both strands have the same: the score does not depend on the strand. A substitution of A by T or of C
    by G has 0; in flanks that are rich in A and T, one of A by C is negative.

    Parameters
    ----------
    allele : Allele

    Returns
    -------
    float, nats
        log p(alt) - log p(ref).

    Examples
    --------
    >>> round(composition_score(Allele("1", 3, b"AAT", b"A", b"G", b"TAT")), 3)
    -1.946
    """
    flanks = allele.left + allele.right
    strong = flanks.count(b"G") + flanks.count(b"C")
    weak = len(flanks) - strong
    log_odds = math.log((strong + 1) / (weak + 1))
    total = 2 * (len(flanks) + 2)
    log_weak = math.log((weak + 1) / total)
    more_strong = _strong(allele.alt) - _strong(allele.ref)
    longer = len(allele.alt) - len(allele.ref)
    return more_strong * log_odds + longer * log_weak


def _strong(letters: bytes) -> int:
    return letters.count(b"G") + letters.count(b"C")
