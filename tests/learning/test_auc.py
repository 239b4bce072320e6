"""The AUC against counting all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflows.learning.auc import exact_auc

ROWS = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0])), max_size=40)


def brute_force(rows: list[tuple[bool, float]]) -> float | None:
    """Every (true, false) pair: 1 if the true one scores higher, a half if they tie."""
    true = [score for label, score in rows if label]
    false = [score for label, score in rows if not label]
    if not true or not false:
        return None
    halves = sum((t > f) * 2 + (t == f) for t in true for f in false)
    return halves / (2 * len(true) * len(false))


@given(ROWS)
def test_equals_counting_all_pairs(rows: list[tuple[bool, float]]) -> None:
    """The AUC is the share of (true, false) pairs in the right order, a tie counting a half."""
    labels = np.array([label for label, _ in rows], dtype=np.bool_)
    scores = np.array([score for _, score in rows], dtype=np.float64)
    assert exact_auc(labels, scores) == brute_force(rows)


def test_refuses_nan_and_unequal_lengths() -> None:
    """A NaN score or columns of two lengths raise instead of giving a wrong number."""
    with pytest.raises(ValueError, match="NaN"):
        exact_auc(np.array([True, False]), np.array([0.5, np.nan]))
    with pytest.raises(ValueError, match="one length"):
        exact_auc(np.array([True, False]), np.array([0.5]))
