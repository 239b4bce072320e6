"""Streams that drift, and rows that ask trees hard questions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dataflows.river_onnx import to_onnx
from dataflows.river_onnx.parity import run_onnx

Doubles = NDArray[np.float64]
Kind = Literal["binary", "multiclass", "regression", "anomaly"]

# The first three decide; "shop" is a category by its code, as large as a double keeps exactly.
NAMES = ("first", "second", "third", "shop")
SHOPS = 2.0**51 + 3.0 * np.arange(6)
NEVER_SEEN = 2.0**51 + 1.0
CLASSES = ("b", "a", "never", "c", "d")
LEARNED = ("a", "b", "c", "d")
_DRIFT_ROWS = 250  # the truth is another one each time
_ABSENT = 0.08


@dataclass(frozen=True)
class Subject:
    """An estimator to test.

    Attributes:
        kind: what it predicts.
        make: makes one.
        unit: whether the features must lie between 0 and 1.
        gaps: whether its rows may lack features, as trees allow it.
        rows: how many it learns from.
    """

    kind: Kind
    make: Callable[[], Any]
    unit: bool = False
    gaps: bool = True
    rows: int = 600

    @property
    def classes(self) -> tuple[str, ...] | None:
        """What ``to_onnx`` is given."""
        return CLASSES if self.kind == "multiclass" else None


def as_river(row: Sequence[float]) -> dict[str, float]:
    """A row as trees take it: a missing feature has no name there."""
    return {name: v for name, v in zip(NAMES, row, strict=True) if not math.isnan(v)}


def rows(subject: Subject, seed: int, count: int) -> Doubles:
    """Rows without truths."""
    generator = np.random.default_rng(seed)
    matrix = generator.normal(size=(count, len(NAMES)))
    matrix[:, 3] = generator.choice(SHOPS, size=count)
    if subject.unit:
        matrix[:, :3] = 1.0 / (1.0 + np.exp(-matrix[:, :3]))
        matrix[:, 3] = (matrix[:, 3] - SHOPS[0]) / 15.0
    if subject.gaps:
        matrix[:, :3][generator.random((count, 3)) < _ABSENT] = math.nan
    return matrix


def truths(subject: Subject, matrix: Doubles, seed: int) -> list[Any]:
    """What is to be predicted; it turns round every ``_DRIFT_ROWS`` rows."""
    first, second, third, shop = np.nan_to_num(matrix).T
    if subject.unit:
        first, second, third = (6.0 * (one - 0.5) for one in (first, second, third))
    sign = np.where(np.arange(len(matrix)) // _DRIFT_ROWS % 2 == 0, 1.0, -1.0)
    noise = np.random.default_rng(seed + 1).normal(size=len(matrix)) * 0.2
    hidden = first * sign + 2.0 * (second > 0.3) * sign - 1.5 * (third < -0.5) + noise
    hidden += np.isin(shop, SHOPS[:2]) * sign
    if subject.kind == "regression":
        return [float(value) for value in hidden]
    if subject.kind == "multiclass":
        return [LEARNED[place] for place in np.digitize(hidden, [-1.0, 0.5, 1.5])]
    return [bool(value > 0.5) for value in hidden]


def learn(subject: Subject, estimator: Any, row: Sequence[float], truth: Any) -> None:
    """One example."""
    if subject.kind == "anomaly":
        estimator.learn_one(as_river(row))
    else:
        estimator.learn_one(as_river(row), truth)


def learning(subject: Subject, seed: int, checks: int = 3) -> Iterator[tuple[Any, Doubles]]:
    """The estimator at some moments while it learns, and rows to ask it about then."""
    estimator = subject.make()
    matrix = rows(subject, seed, subject.rows)
    moments = {0, 1, 7, *np.linspace(30, subject.rows - 1, checks).astype(int).tolist()}
    labels = truths(subject, matrix, seed)
    for place, (row, truth) in enumerate(zip(matrix.tolist(), labels, strict=True)):
        if place in moments:
            yield estimator, questions(subject, estimator, seed + place)
        learn(subject, estimator, row, truth)


def questions(subject: Subject, estimator: Any, seed: int, count: int = 60) -> Doubles:
    """Rows made of the trees' own thresholds, hit and just missed; unseen values; nothing."""
    generator = np.random.default_rng(seed)
    matrix = rows(subject, seed, count)
    splits = [split for root in roots(estimator) for split in _splits(root)]
    for row in matrix[: count // 2] if splits else []:
        for _ in range(2):
            name, value = splits[generator.integers(len(splits))]
            row[NAMES.index(name)] = generator.choice(
                [value, np.nextafter(value, math.inf), np.nextafter(value, -math.inf)]
            )
    matrix[-4:, 3] = NEVER_SEEN
    matrix[-3, :3] = 50.0
    if subject.gaps:
        matrix[generator.random(count) < _ABSENT, 3] = math.nan
        matrix[-1] = math.nan
    return matrix


def roots(estimator: Any) -> list[Any]:
    """Roots of all trees inside."""
    if hasattr(estimator, "_root"):
        return [] if estimator._root is None else [estimator._root]
    inside = getattr(estimator, "trees", None) or getattr(estimator, "data", None) or []
    return [
        root for tree in inside for root in ([tree] if hasattr(tree, "children") else roots(tree))
    ]


def _splits(node: Any) -> Iterator[tuple[str, float]]:
    for child in getattr(node, "children", ()):
        yield from _splits(child)
    value = getattr(node, "threshold", getattr(node, "value", None))
    if value is not None:
        yield node.feature, float(value)
    for value in getattr(node, "_mapping", ()):
        yield node.feature, float(value)


def said(subject: Subject, estimator: Any, matrix: Doubles) -> Doubles:
    """What River says: the score, then the probabilities of the classes."""
    answers = []
    for row in map(as_river, matrix.tolist()):
        if subject.kind in ("binary", "multiclass"):
            found = estimator.predict_proba_one(row)
            shares = [found.get(label, 0.0) for label in subject.classes or ()]
            answers.append([max(shares), *shares] if shares else [found.get(True, 0.0)])
        elif subject.kind == "regression":
            found = estimator.predict_one(row)
            answers.append([math.nan if found is None else found])
        else:
            answers.append([estimator.score_one(row)])
    return np.array(answers, dtype=np.float64)


def exported(subject: Subject, estimator: Any) -> bytes:
    """The estimator as an ONNX model."""
    return to_onnx(estimator, NAMES, subject.classes)


def check(subject: Subject, estimator: Any, matrix: Doubles) -> None:
    """The exported model says what River says."""
    # First: what River is asked may change what it says (an ensemble is made when first asked).
    model = exported(subject, estimator)
    np.testing.assert_allclose(
        run_onnx(model, matrix), said(subject, estimator, matrix), rtol=1e-12, atol=1e-12
    )
