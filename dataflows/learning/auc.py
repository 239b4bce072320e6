"""Exact area under the ROC curve."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


def exact_auc(labels: NDArray[np.bool_], scores: NDArray[np.float64]) -> float | None:
    """The probability that a random true row scores above a random false one; a tie is a half.

    This is the Mann-Whitney statistic by ranks with ties averaged, counted in integers, so that
    equal inputs give equal bits in any order of the rows.

    Args:
        labels: shape ``[n]``.
        scores: shape ``[n]``, no NaN.

    Returns:
        A number in ``[0, 1]``; None where it is not defined, because all labels are alike.

    Raises:
        ValueError: the shapes differ or a score is NaN.
    """
    if labels.shape != scores.shape or labels.ndim != 1:
        raise ValueError(
            f"labels and scores must be one-dimensional and of one length, "
            f"got shapes {labels.shape} and {scores.shape}"
        )
    if np.isnan(scores).any():
        raise ValueError("scores must not be NaN: drop such rows before asking for the AUC")
    order = np.argsort(scores)
    return auc_in_order(labels[order], scores[order])


def auc_in_order(labels: NDArray[np.bool_], scores: NDArray[np.float64]) -> float | None:
    """``exact_auc`` of rows whose scores ascend already; that is not checked."""
    positives = int(np.count_nonzero(labels))
    pairs = positives * (len(labels) - positives)
    return int(_halves(labels, scores)) / (2 * pairs) if pairs else None


@numba.njit(cache=True)
def _halves(labels: NDArray[np.bool_], scores: NDArray[np.float64]) -> int:
    """Twice the number of pairs in the right order, ties counting once."""
    halves = negatives_below = row = 0
    while row < len(scores):
        score, positives, negatives = scores[row], 0, 0
        while row < len(scores) and scores[row] == score:
            if labels[row]:
                positives += 1
            else:
                negatives += 1
            row += 1
        halves += positives * (2 * negatives_below + negatives)
        negatives_below += negatives
    return halves
