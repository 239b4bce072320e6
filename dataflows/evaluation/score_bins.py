"""Scores counted in bins by label: ranking figures with a known error, in bounded memory.

Between 0 and 1 bins are equally wide in log odds (512 from -12 to 12: some 5 % of the odds each),
outside in the logarithm of the size (160 from 1e-6 to 1e6 below 0, 160 up to 1e6 above 1).
"""

from __future__ import annotations

import math

import numba
import numpy as np

from dataflows.evaluation.exact_sums import Floats, Ints

BELOW = 160
BETWEEN = 512
ABOVE = 160
BINS = BELOW + BETWEEN + ABOVE
_LOG_ODDS_MAX = 12.0
_LOG_SIZE_MAX = math.log(1e6)
_LOG_SIZE_MIN = math.log(1e-6)
# Above it products of two counts need more than 63 bits.
_COUNT_MAX = 2**31


@numba.njit(cache=True)
def score_bins(scores: Floats) -> Ints:
    """The bin of each score, 0 to ``BINS - 1``; ascends with the score. No NaN."""
    bins = np.empty(len(scores), dtype=np.int64)
    for row, score in enumerate(scores):
        if score <= 0.0:
            place = BELOW - 1
            if score < -1e-6:
                reach = (math.log(-score) - _LOG_SIZE_MIN) / (_LOG_SIZE_MAX - _LOG_SIZE_MIN)
                place = BELOW - 2 - int(min(reach, 1.0) * (BELOW - 2))
        elif score < 1.0:
            reach = (math.log(score) - math.log1p(-score) + _LOG_ODDS_MAX) / (2 * _LOG_ODDS_MAX)
            place = BELOW + min(max(math.floor(reach * BETWEEN), 0), BETWEEN - 1)
        else:
            place = BELOW + BETWEEN + int(min(math.log(score) / _LOG_SIZE_MAX * ABOVE, ABOVE - 1))
        bins[row] = place
    return bins


def halved(bins: Ints) -> Ints:
    """The same bins, but each two neighbours between 0 and 1 as one."""
    inside = BELOW + (bins - BELOW) // 2
    found: Ints = np.where(bins < BELOW + BETWEEN, inside, bins - BETWEEN // 2)
    return np.where(bins < BELOW, bins, found)


def auc(counts: Ints) -> tuple[float | None, float | None]:
    """Area under the ROC curve, and how far from it the exact one can be.

    Two scores in one bin count as equal; the error is what it would make if all of these pairs were
    in the right order, or all in the wrong one.

    Args:
        counts: ``[bins, 2]``: how many False and True; bins ascend.

    Returns:
        None for both where it is not defined: all labels are alike, or there are none.
    """
    falses, trues = _columns(counts)
    pairs = int(falses.sum()) * int(trues.sum())
    if not pairs:
        return None, None
    below = np.cumsum(falses) - falses
    halves = int((trues * (2 * below + falses)).sum())
    return halves / (2 * pairs), int((trues * falses).sum()) / (2 * pairs)


def average_precision(counts: Ints) -> float | None:
    """Mean precision over the recalls; each bin is one threshold. None without a True."""
    falses, trues = _columns(counts[::-1])
    total = int(trues.sum())
    if not total:
        return None
    found, looked_at = np.cumsum(trues), np.cumsum(trues + falses)
    terms = zip(trues.tolist(), found.tolist(), looked_at.tolist(), strict=True)
    return math.fsum(each * hits / seen for each, hits, seen in terms if each) / total


def _columns(counts: Ints) -> tuple[Ints, Ints]:
    used = counts[np.flatnonzero(counts[:, 0] + counts[:, 1])]
    if int(used.sum()) >= _COUNT_MAX:
        used = used.astype(object)
    return used[:, 0], used[:, 1]
