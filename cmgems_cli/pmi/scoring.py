"""Normalised pointwise mutual information of all k-mers (paper Eq. 1 and 2; method, section 3)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cmgems_cli.pmi import Definition

# method, section 3: the published ranking only cuts k-mers into segments of one and two bases …
RELEASED_LONGEST_SEGMENT = 2
# … and divides every count by twice the number of bases.
RELEASED_BASES_FACTOR = 2

# ours: decimals of the scores. Far finer than any difference between counts, yet coarse enough that scores
# that are mathematically equal stay equal, whatever the order in which their logarithms were added.
DECIMALS = 12

# The fewest terms that reach double precision for |t| <= (sqrt 2 - 1) / (sqrt 2 + 1): t^26 / 27 < 10^-21.
_LOG_TERMS = 13
_LOG_2 = 0.6931471805599453


def shorter_orders(
    counts: np.ndarray, k: int, last_ngrams: Mapping[int, np.ndarray] | None = None
) -> dict[int, np.ndarray]:
    """Derive the counts of orders 1 … k - 1 from those of order k.

    Parameters
    ----------
    counts : int64, shape (4^k,), occurrences
        By k-mer code.
    k : int
        Order of `counts`.
    last_ngrams : mapping, order -> int64, shape (4^order,), optional
        Counts of the n-grams at the end of a sequence, with which no longer n-gram starts. Without them
        shorter orders are plain marginals (sums over the last base), with the same total as `counts`.

    Returns
    -------
    dict, order -> int64, shape (4^order,)
        Orders 1 … k; `counts` itself is order k.
    """
    orders = {k: counts}
    for order in range(k - 1, 0, -1):
        orders[order] = orders[order + 1].reshape(-1, 4).sum(axis=1)
        if last_ngrams is not None:
            orders[order] = orders[order] + last_ngrams[order]
    return orders


def natural_log(values: np.ndarray) -> np.ndarray:
    """Return natural logarithms that are identical to the bit on every machine.

    `np.log` and the C library's `log` differ in the last bit between processors, so an artifact's digest
    would differ too. This function uses only additions, multiplications and divisions, which IEEE 754
    defines to the bit: log(m 2^e) = e log 2 + 2 atanh((m - 1) / (m + 1)).

    Parameters
    ----------
    values : int64 or float64, any shape
        Not negative; 0 gives -inf.

    Returns
    -------
    float64, the shape of `values`, nats
        Accurate to 2 units in the last place or 2e-16, whichever is larger.
    """
    mantissa, exponent = np.frexp(np.asarray(values, dtype=np.float64))
    small = mantissa < 0.7071067811865476  # bring the mantissa from [1/2, 1) to [sqrt 1/2, sqrt 2)
    mantissa = np.where(small, 2 * mantissa, mantissa)
    exponent = np.where(small, exponent - 1, exponent)
    t = (mantissa - 1) / (mantissa + 1)
    square = t * t
    series = np.zeros_like(t)
    for term in range(_LOG_TERMS - 1, -1, -1):
        series = series * square + 1 / (2 * term + 1)
    return np.where(mantissa == 0, -np.inf, exponent * _LOG_2 + 2 * t * series)


def pmi_nats(orders: Mapping[int, np.ndarray], definition: Definition) -> np.ndarray:
    """Return the pointwise mutual information of every k-mer with respect to its likeliest segmentation.

    Parameters
    ----------
    orders : mapping, order -> int64, shape (4^order,), occurrences
        Counts of orders 1 … k by n-gram code.
    definition : "paper" or "released"
        paper: p(s) = f(s) / number of |s|-mers, all 2^(k-1) - 1 segmentations into two segments or more.
        released: p(s) = f(s) / (2 * number of bases), segments of one and two bases only.

    Returns
    -------
    float64, shape (4^k,), nats
        By k-mer code. k-mers that do not occur have -inf or NaN. A value is +inf if every segmentation holds
        an n-gram of count 0, which is impossible for counts of real sequences.
    """
    k = max(orders)
    if definition == "paper":
        longest_segment = k - 1
        totals = {order: counts.sum() for order, counts in orders.items()}
    else:
        longest_segment = RELEASED_LONGEST_SEGMENT
        totals = dict.fromkeys(orders, RELEASED_BASES_FACTOR * orders[1].sum())
    with np.errstate(invalid="ignore"):  # -inf - -inf, for n-grams and orders that do not occur
        log_p = {order: natural_log(counts) - natural_log(totals[order]) for order, counts in orders.items()}
        # likeliest[j]: for all j-mers, the largest sum of log p over their segmentations. The last segment
        # takes all allowed lengths; the prefix before it is a shorter word, solved already.
        likeliest = {0: np.zeros(1)}
        for length in range(1, k + 1):
            likeliest[length] = np.max(
                [
                    np.add.outer(likeliest[length - segment], log_p[segment]).ravel()
                    for segment in range(1, min(length, longest_segment) + 1)
                ],
                axis=0,
            )
        return log_p[k] - likeliest[k]


def normalise(pmi: np.ndarray, counts: np.ndarray, *, min_count: int = 101) -> np.ndarray:
    """Discount the PMI of rare k-mers (paper Eq. 1).

    Parameters
    ----------
    pmi : float64, shape (n_kmers,), nats
        PMI of each k-mer with respect to its likeliest segmentation.
    counts : int64, shape (n_kmers,), occurrences
        Count of each k-mer, in the order of `pmi`; at least `min_count`.
    min_count : int, default 101, occurrences
        The discount constant c, at least 2; also the smallest count the formula is used for.

    Returns
    -------
    float64, shape (n_kmers,), nats
        PMI * log f / (log c + log f).

    Examples
    --------
    >>> normalise(np.array([2.0, 2.0]), np.array([101, 101**3])).round(9)
    array([1. , 1.5])
    """
    log_f = natural_log(counts)
    return pmi * log_f / (natural_log(np.array(min_count)) + log_f)


def score(
    orders: Mapping[int, np.ndarray], definition: Definition, *, min_count: int = 101
) -> tuple[np.ndarray, np.ndarray]:
    """Return PMI and NPMI of every k-mer, NaN for those seen fewer than `min_count` times.

    Parameters
    ----------
    orders, definition
        As for `pmi_nats`.
    min_count : int, default 101, occurrences
        The discount constant c of the paper.

    Returns
    -------
    pmi, npmi : float64, shape (4^k,), nats
        By k-mer code, rounded to 12 decimals.
    """
    counts = orders[max(orders)]
    frequent = counts >= min_count
    pmi = np.where(frequent, pmi_nats(orders, definition), np.nan)
    npmi = np.full_like(pmi, np.nan)
    npmi[frequent] = normalise(pmi[frequent], counts[frequent], min_count=min_count)
    # Adding 0 turns -0.0 into 0.0.
    return np.round(pmi, DECIMALS) + 0.0, np.round(npmi, DECIMALS) + 0.0
