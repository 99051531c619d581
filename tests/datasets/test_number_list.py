"""Lists of numbers as options take them."""

import pytest

from cmgems_cli.datasets.number_list import parse_numbers
from cmgems_cli.errors import UsageError


@pytest.mark.parametrize(
    ("text", "numbers"), [("7", [7]), ("1,3-5", [1, 3, 4, 5]), ("3,1-3", [3, 1, 2]), (" 1 , 2 ", [1, 2])]
)
def test_numbers_and_ranges_are_taken_once_each_in_their_order(text: str, numbers: list[int]) -> None:
    assert list(parse_numbers("seeds", text, least=0)) == numbers


@pytest.mark.parametrize("text", ["", "a", "5-3", "1,,2", "-1", "1-", "1.5", "1-999999999", "9" * 5000])
def test_odd_lists_of_numbers_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="`seeds`"):
        parse_numbers("seeds", text, least=0)


def test_numbers_below_the_least_are_refused() -> None:
    assert list(parse_numbers("shots", "1", least=1)) == [1]
    with pytest.raises(UsageError, match="`shots`"):
        parse_numbers("shots", "0", least=1)
