"""Sums of doubles that do not depend on their order, against fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflows.evaluation.exact_sums import ANY, SMALL, Ints, Range, carry, pieces, scatter

numbers = st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=40)
losses = st.lists(st.floats(0.0, 64.0), max_size=40)


def summed(values: list[float], kind: Range, group: int = 0) -> Ints:
    """A sum's cells, in a table of two groups."""
    table = np.zeros((2, kind.limbs), dtype=np.int64)
    limbs, parts = pieces(np.array(values, dtype=np.float64), kind.low)
    scatter(table, np.full((len(values), 1), group), limbs, parts)
    carry(table, np.array([group]), np.array([[0, kind.limbs]]))
    assert not table[1 - group].any()
    return np.asarray(table[group])


@given(numbers)
def test_any_doubles_are_summed_exactly(values: list[float]) -> None:
    """From the smallest double to the largest nothing is lost."""
    exact = sum(map(Fraction, values), Fraction(0))
    assert Fraction(ANY.value(summed(values, ANY).tolist()), 1 << -ANY.low) == exact


@given(losses)
def test_losses_are_summed_but_for_what_is_tiny(values: list[float]) -> None:
    """A small sum cuts each number off below 2 ** -64, and nothing else."""
    exact = sum((Fraction(int(Fraction(v) * 2**64), 2**64) for v in values), Fraction(0))
    assert Fraction(SMALL.value(summed(values, SMALL).tolist()), 2**64) == exact


@given(numbers, st.randoms(use_true_random=False), st.integers(0, 40))
def test_order_and_parts_do_not_count(values: list[float], random: object, cut: int) -> None:
    """Shuffled, or put together from two parts, a sum has the same cells."""
    once = summed(values, ANY)
    parts = np.stack([summed(values[:cut], ANY), summed(values[cut:], ANY, group=1)])
    both = parts.sum(axis=0, keepdims=True)
    carry(both, np.array([0]), np.array([[0, ANY.limbs]]))
    assert (both[0] == once).all()
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert (summed(shuffled, ANY) == once).all()


def test_means_are_rounded_once() -> None:
    """Where doubles would lose everything, the mean is the nearest double to the true one."""
    assert ANY.mean(summed([1e300, 1.0, -1e300, 1e-300], ANY).tolist(), 3) == 1 / 3
    assert ANY.mean(summed([5e-324] * 4, ANY).tolist(), 4) == 5e-324
    with pytest.raises(OverflowError):
        ANY.mean(summed([1.7e308] * 3, ANY).tolist(), 1)
