"""The small classifier of three classes that tests of inference use, and what a stock model says of one sequence."""

from collections.abc import Callable

import numpy as np
import pytest

from tests.inference.conftest import Stock, classifier, labeller, regressor, shape, stock_probabilities

__all__ = ["classifier", "labeller", "regressor", "shape", "stock_probabilities"]

COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


def on_other_strand(sequence: str) -> str:
    return sequence.upper()[::-1].translate(COMPLEMENT)


@pytest.fixture(scope="session")
def naive(stock_probabilities: Stock) -> Callable[[str, int, str], float]:
    """Return a function: log p / (1 - p) of a class for one sequence alone, on a strand or as the mean of both."""

    def log_odds(sequence: str, label: int, strand: str = "forward") -> float:
        strands = {"forward": [sequence], "reverse": [on_other_strand(sequence)]}
        read = strands.get(strand) or [sequence, on_other_strand(sequence)]
        p = [float(stock_probabilities(one.upper())[label]) for one in read]
        return float(np.mean([np.log(one / (1 - one)) for one in p]))

    return log_odds
