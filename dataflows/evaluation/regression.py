"""Metrics of a predicted number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dataflows.evaluation.exact_sums import ANY, Floats, Ints, Range
from dataflows.evaluation.judged import Judged
from dataflows.evaluation.task_metrics import (
    COUNT,
    UNUSABLE,
    Figures,
    TaskMetrics,
    are_judged,
    in_one,
    mean_of,
    without_details,
)

_BASELINE_COUNTS = 2
# Size and square of the error of the model and of each baseline; then the model's signed error, the
# label and its square.
_SUMS = 4
_SIGNED, _LABELS, _SQUARES = 6, 7, 8
_NAMES = ("", "baseline_rate_", "baseline_last_")
# The square of what is larger would be no number, nor the sum of many squares.
_SIZE_MAX = 1e149
_SPLIT = 2.0**27 + 1


def _place(number: int) -> int:
    return _SUMS + number * ANY.limbs


def _additions(rows: Judged) -> tuple[Ints, Ints]:
    labels = np.clip(rows.labels, -_SIZE_MAX, _SIZE_MAX)
    counts: list[tuple[Any, Any]] = [(COUNT, 1)]
    squares, rest = _exact_squares(labels)
    sums: list[tuple[Any, Floats, Range]] = [
        (_place(_LABELS), labels, ANY),
        (_place(_SQUARES), squares, ANY),
        (_place(_SQUARES), rest, ANY),
    ]
    columns = (rows.scores, rows.baseline_rates, rows.baseline_lasts)
    for number, column in enumerate(columns):
        if not len(column):
            continue
        known = np.isfinite(column)
        numbers = np.clip(np.where(known, column, labels), -_SIZE_MAX, _SIZE_MAX)
        errors = numbers - labels
        sums.append((_place(2 * number), np.abs(errors), ANY))
        sums.append((_place(2 * number + 1), errors * errors, ANY))
        if number:
            counts.append((_BASELINE_COUNTS + number - 1, known))
        else:
            sums.append((_place(_SIGNED), errors, ANY))
    return in_one(counts, sums)


def _exact_squares(numbers: Floats) -> tuple[Floats, Floats]:
    """The square as a sum of two doubles (Dekker): rounded, and what rounding took."""
    upper = numbers * _SPLIT
    upper = upper - (upper - numbers)
    lower = numbers - upper
    squares = numbers * numbers
    rest = ((upper * upper - squares) + 2.0 * upper * lower) + lower * lower
    return squares, rest


def _figures(cells: Ints) -> Figures:
    row = cells.tolist()
    count = row[COUNT]
    figures: Figures = {"outcomes": count, "unusable": row[UNUSABLE]}
    counts = (count, *row[_BASELINE_COUNTS : _BASELINE_COUNTS + 2])
    for number, (name, known) in enumerate(zip(_NAMES, counts, strict=True)):
        if number and not known:
            continue
        figures[f"{name}mae"] = mean_of(row, _place(2 * number), ANY, known)
        square = mean_of(row, _place(2 * number + 1), ANY, known)
        figures[f"{name}rmse"] = None if square is None else math.sqrt(square)
    figures["bias"] = mean_of(row, _place(_SIGNED), ANY, count)
    figures["r2"] = _r2(row, count)
    return figures


def _r2(row: list[int], count: int) -> float | None:
    """Share of the labels' variance that is explained; None if they are all alike."""
    errors, labels, squares = (
        ANY.value(row[_place(number) : _place(number) + ANY.limbs])
        for number in (1, _LABELS, _SQUARES)
    )
    unit = 1 << -ANY.low
    # Whole numbers: with doubles, labels far from zero would leave nothing of the difference.
    variance = count * squares * unit - labels * labels
    if variance <= 0:
        return None
    try:
        return 1.0 - (count * errors * unit) / variance
    except OverflowError:
        return None


REGRESSION = TaskMetrics(
    width=_place(9),
    sums=tuple((_place(number), ANY) for number in range(9)),
    additions=_additions,
    usable=are_judged,
    figures=_figures,
    details=without_details,
)
