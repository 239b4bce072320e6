"""Metrics of P(True)."""

from __future__ import annotations

from typing import Any

import numpy as np

from contracts.probability_bounds import PROBABILITY_MAX, PROBABILITY_MIN
from dataflows.evaluation.exact_sums import SMALL, Floats, Ints, Range
from dataflows.evaluation.judged import Judged
from dataflows.evaluation.score_bins import BELOW, BETWEEN, auc, score_bins
from dataflows.evaluation.task_metrics import (
    COUNT,
    UNUSABLE,
    Figures,
    TaskMetrics,
    are_judged,
    in_one,
    log_losses,
    mean_of,
    share,
)

CALIBRATION_BINS = 10
_POSITIVES = 2
_HITS = 3  # of the model, and of the two baselines behind it
_BASELINE_COUNTS = 6  # outcomes for which each baseline had a prediction
_SUMS = 8  # log loss and Brier score of the model and of each baseline
_LIMBS = SMALL.limbs
_CALIBRATION = _SUMS + 6 * _LIMBS  # of each bin: outcomes, positives, sum of the scores
_BIN_CELLS = 2 + _LIMBS
_HISTOGRAM = _CALIBRATION + CALIBRATION_BINS * _BIN_CELLS
_NAMES = ("", "baseline_rate_", "baseline_last_")


def _additions(rows: Judged) -> tuple[Ints, Ints]:
    labels = rows.labels != 0
    scores = np.clip(rows.scores, 0.0, 1.0)
    tenth = np.minimum((scores * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    calibration = _CALIBRATION + tenth * _BIN_CELLS
    # 0 and 1 belong to the bins at the ends, not to those for numbers outside.
    places = score_bins(np.clip(scores, 1e-300, np.nextafter(1.0, 0.0))) - BELOW
    counts: list[tuple[Any, Any]] = [
        (COUNT, 1),
        (_POSITIVES, labels),
        (calibration, 1),
        (calibration + 1, labels),
        (_HISTOGRAM + 2 * places + labels, 1),
    ]
    sums: list[tuple[Any, Floats, Range]] = [(calibration + 2, scores, SMALL)]
    columns = (scores, rows.baseline_rates, rows.baseline_lasts)
    for place, column in enumerate(columns):
        if not len(column):
            continue
        known = np.isfinite(column)
        guesses = np.clip(np.where(known, column, 0.5), 0.0, 1.0)
        bounded = np.clip(guesses, PROBABILITY_MIN, PROBABILITY_MAX)
        losses = log_losses(np.where(labels, bounded, 1.0 - bounded))
        squares = (guesses - labels) ** 2
        first = _SUMS + 2 * _LIMBS * place
        sums.append((first, np.where(known, losses, 0.0), SMALL))
        sums.append((first + _LIMBS, np.where(known, squares, 0.0), SMALL))
        counts.append((_HITS + place, known & ((guesses > 0.5) == labels)))
        if place:
            counts.append((_BASELINE_COUNTS + place - 1, known))
    return in_one(counts, sums)


def _figures(cells: Ints) -> Figures:
    row = cells[:_HISTOGRAM].tolist()
    figures: Figures = {
        "outcomes": row[COUNT],
        "unusable": row[UNUSABLE],
        "positives": row[_POSITIVES],
    }
    counts = (row[COUNT], *row[_BASELINE_COUNTS : _BASELINE_COUNTS + 2])
    for place, (name, count) in enumerate(zip(_NAMES, counts, strict=True)):
        if place and not count:
            continue
        first = _SUMS + 2 * _LIMBS * place
        figures[f"{name}log_loss"] = mean_of(row, first, SMALL, count)
        figures[f"{name}brier"] = mean_of(row, first + _LIMBS, SMALL, count)
        figures[f"{name}accuracy"] = share(row[_HITS + place], count)
    ranking, error = auc(cells[_HISTOGRAM:].reshape(BETWEEN, 2))
    gaps = [
        each["outcomes"] * abs(each["score"] - each["positives"] / each["outcomes"])
        for each in _calibration(row)
    ]
    count = row[COUNT]
    figures |= {
        "auc": ranking,
        "auc_error_max": error,
        "calibration_error": sum(gaps) / count if count else None,
    }
    return figures


def _calibration(row: list[int]) -> list[dict[str, Any]]:
    """Of each tenth of the scores that has any: bounds, outcomes, positives, mean score."""
    bins = []
    for place in range(CALIBRATION_BINS):
        first = _CALIBRATION + place * _BIN_CELLS
        count = row[first]
        if count:
            bins.append(
                {
                    "from": place / CALIBRATION_BINS,
                    "to": (place + 1) / CALIBRATION_BINS,
                    "outcomes": count,
                    "positives": row[first + 1],
                    "score": mean_of(row, first + 2, SMALL, count),
                }
            )
    return bins


def _details(cells: Ints, _classes: tuple[str, ...]) -> Figures:
    return {"calibration": _calibration(cells.tolist())}


BINARY = TaskMetrics(
    width=_HISTOGRAM + 2 * BETWEEN,
    sums=(
        *((_SUMS + place * _LIMBS, SMALL) for place in range(6)),
        *((_CALIBRATION + place * _BIN_CELLS + 2, SMALL) for place in range(CALIBRATION_BINS)),
    ),
    additions=_additions,
    usable=are_judged,
    figures=_figures,
    details=_details,
)
