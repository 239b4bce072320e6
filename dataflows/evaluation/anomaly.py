"""Metrics of an anomaly score, where somebody said afterwards what was one."""

from __future__ import annotations

from dataflows.evaluation.exact_sums import Ints
from dataflows.evaluation.judged import Judged
from dataflows.evaluation.score_bins import (
    BETWEEN,
    BINS,
    auc,
    average_precision,
    halved,
    score_bins,
)
from dataflows.evaluation.task_metrics import (
    COUNT,
    UNUSABLE,
    Figures,
    TaskMetrics,
    are_judged,
    in_one,
    share,
    without_details,
)

_POSITIVES = 2
_HISTOGRAM = 3
_BINS = BINS - BETWEEN // 2


def _additions(rows: Judged) -> tuple[Ints, Ints]:
    labels = rows.labels != 0
    places = _HISTOGRAM + 2 * halved(score_bins(rows.scores)) + labels
    return in_one([(COUNT, 1), (_POSITIVES, labels), (places, 1)], [])


def _figures(row: Ints) -> Figures:
    counts = row[_HISTOGRAM:].reshape(_BINS, 2)
    ranking, error = auc(counts)
    return {
        "outcomes": int(row[COUNT]),
        "unusable": int(row[UNUSABLE]),
        "positives": int(row[_POSITIVES]),
        "auc": ranking,
        "auc_error_max": error,
        "average_precision": average_precision(counts),
        # What scores that say nothing would have.
        "baseline_rate_average_precision": share(int(row[_POSITIVES]), int(row[COUNT])),
    }


ANOMALY = TaskMetrics(
    width=_HISTOGRAM + 2 * _BINS,
    sums=(),
    additions=_additions,
    usable=are_judged,
    figures=_figures,
    details=without_details,
)
