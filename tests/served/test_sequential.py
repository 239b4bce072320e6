"""The test by betting: what it promises, and what it finds."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dataflows.served.sequential import BettingTest

NUMBERS = st.lists(st.floats(-3, 3), max_size=60)


@given(NUMBERS, st.lists(st.integers(0, 60), max_size=5))
@example([0.0, 0.0, 1.0], [2])
def test_cuts_change_nothing(numbers: list[float], cuts: list[int]) -> None:
    """To the last bit, also when it was saved and loaded in between."""
    whole, parts = BettingTest(2.0, 0.1), BettingTest(2.0, 0.1)
    whole.add(np.array(numbers))
    ends = sorted({*cuts, 0, len(numbers)})
    for begin, end in pairwise(ends):
        parts.add(np.array(numbers[begin:end]))
        parts = BettingTest.load(parts.dump())
    assert parts.dump() == whole.dump()


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_without_a_difference_nothing_is_won_on_average(margin: float) -> None:
    """Over all sequences of a fair coin around the margin the mean of the wealth is 1, always."""
    values = [-2.0, 2 * margin + 2.0 if margin == 0.0 else 2.0]
    # The chance of the upper value that gives a mean of the margin.
    chance = (margin - values[0]) / (values[1] - values[0])
    expected = 0.0
    for ups in product((False, True), repeat=8):
        test = BettingTest(2.0, margin)
        test.add(np.array([values[up] for up in ups]))
        expected += test.evidence * float(np.prod([chance if up else 1 - chance for up in ups]))
    assert expected == pytest.approx(1.0, abs=1e-12)


def test_false_alarms_are_as_rare_as_promised() -> None:
    """Of 400 skewed streams without a difference at most 5 % are found at 5 %, at any look."""
    generator = np.random.default_rng(1)
    found = 0
    for _ in range(400):
        test = BettingTest(2.0, 0.0)
        test.add(np.where(generator.random(500) < 0.1, 1.8, -0.2))
        found += test.has_found(0.05)
    assert 0 < found <= 20


def test_a_difference_is_found() -> None:
    """A mean of a tenth of the spread is found in some hundred rows, and stays found."""
    test = BettingTest(2.0, 0.0)
    test.add(np.random.default_rng(2).normal(0.3, 1.0, 400))
    assert test.has_found(0.005)
    test.add(np.full(1_000, -1.0))
    assert test.has_found(0.005)


def test_a_mean_within_the_margin_is_not_found() -> None:
    """What is worse by less than one may be worse is no reason."""
    test = BettingTest(2.0, 0.5)
    test.add(np.random.default_rng(3).normal(0.3, 1.0, 5_000))
    assert not test.has_found(0.01)
    with pytest.raises(ValueError, match="margin is 2"):
        BettingTest(2.0, 2.0)
