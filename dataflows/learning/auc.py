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
    positives = np.sort(scores[labels])
    negatives = np.sort(scores[~labels])
    pairs = len(positives) * len(negatives)
    if pairs == 0:
        return None
    return int(_halves(positives, negatives)) / (2 * pairs)


@numba.njit(cache=True)
def _halves(positives: NDArray[np.float64], negatives: NDArray[np.float64]) -> int:
    """Twice the number of pairs in the right order, ties counting once; both are ascending."""
    halves = below = not_above = 0
    for positive in positives:
        while below < len(negatives) and negatives[below] < positive:
            below += 1
        while not_above < len(negatives) and negatives[not_above] <= positive:
            not_above += 1
        halves += below + not_above
    return halves
