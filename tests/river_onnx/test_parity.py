"""Every estimator without trees: the exported model says what River says."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.river_onnx import to_onnx
from dataflows.river_onnx.parity import run_onnx, run_river
from tests.river_onnx.estimators import (
    NAMES,
    SUBJECTS,
    Doubles,
    Subject,
    new_rows,
    rows,
    trained,
)

TOLERANCE = 1e-13
EVERY = pytest.mark.parametrize("name", SUBJECTS)


NO_ANSWER = (OverflowError, ZeroDivisionError, ValueError)


def answers(subject: Subject, estimator: Any, matrix: Doubles) -> tuple[Doubles, Doubles]:
    """What River says, and the rows for which it gives an answer and no error."""
    try:
        return run_river(estimator, NAMES, matrix, subject.classes), matrix
    except NO_ANSWER:
        if len(matrix) == 1:
            return np.empty((0, 1 + len(subject.classes or ()))), matrix[:0]
    half = len(matrix) // 2
    parts = [answers(subject, estimator, part) for part in (matrix[:half], matrix[half:])]
    return np.vstack([part[0] for part in parts]), np.vstack([part[1] for part in parts])


def check(subject: Subject, estimator: Any, matrix: Doubles) -> None:
    """Both give the same wherever River gives an answer."""
    with np.errstate(all="ignore"):
        rivers, matrix = answers(subject, estimator, matrix)
    assert len(matrix)
    ours = run_onnx(to_onnx(estimator, NAMES, subject.classes), matrix)
    np.testing.assert_allclose(ours, rivers, rtol=TOLERANCE, atol=TOLERANCE)


@EVERY
@settings(deadline=None, max_examples=3)
@given(seed=st.integers(0, 10_000), examples=st.integers(2, 150))
def test_equals_river(name: str, seed: int, examples: int) -> None:
    """Unseen categories, constant columns, zeros of both signs, missing values where imputed."""
    subject = SUBJECTS[name]
    estimator = trained(subject, seed, examples)
    check(subject, estimator, new_rows(subject, seed + 7, 150))


@EVERY
def test_untrained_equals_river(name: str) -> None:
    """An estimator that has seen nothing is exported too; its NaN, if any, is River's."""
    subject = SUBJECTS[name]
    estimator = subject.make()
    matrix = rows(Subject(subject.kind, subject.make), 3, 20)
    check(subject, estimator, matrix)


@EVERY
def test_exporting_changes_nothing_and_repeats(name: str) -> None:
    """The estimator is the same to the last byte afterwards, and exports to the same bytes."""
    subject = SUBJECTS[name]
    for estimator in (subject.make(), trained(subject, 11, 40)):
        before = pickle.dumps(estimator)
        onnx_bytes = to_onnx(estimator, NAMES, subject.classes)
        assert pickle.dumps(estimator) == before
        assert to_onnx(pickle.loads(before), NAMES, subject.classes) == onnx_bytes


@EVERY
@settings(deadline=None, max_examples=2)
@given(
    values=st.lists(st.floats(allow_nan=False), min_size=24, max_size=24),
    places=st.lists(st.integers(0, len(NAMES) - 1), min_size=24, max_size=24),
)
def test_extreme_values(name: str, values: list[float], places: list[int]) -> None:
    """One value of a row may be any double: huge, tiny, infinite, or one met before."""
    subject = SUBJECTS[name]
    estimator = trained(subject, 5, 40)
    matrix = rows(Subject(subject.kind, subject.make), 6, len(values))
    matrix[np.arange(len(values)), places] = values
    check(subject, estimator, matrix)
