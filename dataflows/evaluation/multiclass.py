"""Metrics of one class out of several."""

from __future__ import annotations

from typing import Any

import numpy as np

from contracts.probability_bounds import PROBABILITY_MIN
from dataflows.evaluation.exact_sums import SMALL, Floats, Ints, Range
from dataflows.evaluation.judged import Judged
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

CLASSES_MAX = 64
OTHER_CLASSES = "(other)"
_HITS = 2
_RATE_COUNT, _LAST_COUNT, _LAST_HITS = 3, 4, 5
_LOG_LOSS = 6
_RATE_LOG_LOSS = _LOG_LOSS + SMALL.limbs
_CLASSES = _RATE_LOG_LOSS + SMALL.limbs  # of each: came true, was predicted, both


def _additions(rows: Judged) -> tuple[Ints, Ints]:
    labels = rows.labels.astype(np.int64)
    hits = labels == rows.predicted
    # A model that knows no class yet predicts none (-1); no class is predicted then.
    truths = _CLASSES + 3 * np.clip(labels, 0, CLASSES_MAX)
    guesses = _CLASSES + 3 * np.clip(rows.predicted, 0, CLASSES_MAX)
    counts: list[tuple[Any, Any]] = [
        (COUNT, 1),
        (_HITS, hits),
        (truths, 1),
        (guesses + 1, rows.predicted >= 0),
        (truths + 2, hits),
    ]
    losses = log_losses(np.clip(rows.truth_probabilities, PROBABILITY_MIN, 1.0))
    sums: list[tuple[Any, Floats, Range]] = [(_LOG_LOSS, losses, SMALL)]
    if len(rows.baseline_rates):
        known = np.isfinite(rows.baseline_rates)
        rates = np.where(known, np.clip(rows.baseline_rates, PROBABILITY_MIN, 1.0), 1.0)
        sums.append((_RATE_LOG_LOSS, log_losses(rates), SMALL))
        counts.append((_RATE_COUNT, known))
    if len(rows.baseline_lasts):
        known = np.isfinite(rows.baseline_lasts)
        counts += [(_LAST_COUNT, known), (_LAST_HITS, known & (rows.baseline_lasts == 1.0))]
    return in_one(counts, sums)


def _figures(cells: Ints) -> Figures:
    row = cells[:_CLASSES].tolist()
    count = row[COUNT]
    figures: Figures = {
        "outcomes": count,
        "unusable": row[UNUSABLE],
        "log_loss": mean_of(row, _LOG_LOSS, SMALL, count),
        "accuracy": share(row[_HITS], count),
    }
    each = cells[_CLASSES:].reshape(-1, 3)
    scores = [_class_figures(one)["f1"] for one in each[each.any(axis=1)]]
    figures["macro_f1"] = sum(scores) / len(scores) if scores else None
    if row[_RATE_COUNT]:
        known = row[_RATE_COUNT]
        figures["baseline_rate_log_loss"] = mean_of(row, _RATE_LOG_LOSS, SMALL, known)
    if row[_LAST_COUNT]:
        figures["baseline_last_accuracy"] = share(row[_LAST_HITS], row[_LAST_COUNT])
    return figures


def _class_figures(cells: Ints) -> dict[str, Any]:
    truths, guesses, hits = cells.tolist()
    return {
        "outcomes": truths,
        "predicted": guesses,
        "precision": hits / guesses if guesses else None,
        "recall": hits / truths if truths else None,
        "f1": 2 * hits / (truths + guesses),
    }


def _details(row: Ints, classes: tuple[str, ...]) -> Figures:
    found = {}
    for place, cells in enumerate(row[_CLASSES:].reshape(-1, 3)):
        if cells.any():
            known = classes[place] if place < len(classes) else str(place)
            found[known if place < CLASSES_MAX else OTHER_CLASSES] = _class_figures(cells)
    return {"classes": found}


MULTICLASS = TaskMetrics(
    width=_CLASSES + 3 * (CLASSES_MAX + 1),
    sums=((_LOG_LOSS, SMALL), (_RATE_LOG_LOSS, SMALL)),
    additions=_additions,
    usable=lambda rows: are_judged(rows) & np.isfinite(rows.truth_probabilities),
    figures=_figures,
    details=_details,
)
