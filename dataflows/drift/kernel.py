"""Counting rows in cells, and comparing the counts; compiled by numba.

The probabilities are bounds that hold for any number of rows, whatever the distribution, if rows of
reference and window come from the same one, independently, and cells were learned from other rows:

- KS: at one cut, the two shares differ by D or more with a probability of at most
  ``2 exp(-2 D^2 W R^2 / ((W + R) (R + 1)))`` (Serfling 1974, drawing W of W + R without putting
  back); the sum over all cuts bounds the largest difference.
- PSI: W times the relative entropy of counts in k groups to their truth has the moments
  ``E exp(t x) <= (1 - t)^-(k - 1)`` (Agrawal 2020). The likelihood ratio G of two samples is at
  most the sum of two such, so ``P(G >= x) <= exp(a - x) (x / a)^a`` with ``a = 2 (k - 1)``.
- Missing: the same with two groups.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from dataflows.drift.cells import GROUPS_MAX, Floats, Ints

Counts = NDArray[np.uint16]
PSI, KS, MISSING = 0, 1, 2
KINDS = 3


@numba.njit(cache=True)
def count(rows: Floats, edges: Floats, edge_counts: Ints, counts: Counts, missing: Counts) -> None:
    """Add rows float64 ``[n, c]`` to counts ``[c, CELLS]`` and ``[c]``; not finite is missing."""
    for row in range(rows.shape[0]):
        for column in range(rows.shape[1]):
            value = rows[row, column]
            if not math.isfinite(value):
                missing[column] += 1
                continue
            low, high = 0, edge_counts[column]
            while low < high:
                middle = (low + high) // 2
                if edges[column, middle] < value:
                    low = middle + 1
                else:
                    high = middle
            is_edge = low < edge_counts[column] and edges[column, low] == value
            counts[column, 2 * low + (1 if is_edge else 0)] += 1


@numba.njit(cache=True)
def log_p_groups(window: Ints, reference: Ints, groups: int) -> float:
    """Log of the bound on the probability that two samples differ so in their groups."""
    rows, reference_rows = 0, 0
    for group in range(groups):
        rows += window[group]
        reference_rows += reference[group]
    if rows == 0 or reference_rows == 0 or groups < 2:
        return 0.0
    ratio = 0.0
    for group in range(groups):
        both = window[group] + reference[group]
        if both == 0:
            continue
        expected = both / (rows + reference_rows)
        if window[group]:
            ratio += window[group] * math.log(window[group] / (rows * expected))
        if reference[group]:
            ratio += reference[group] * math.log(reference[group] / (reference_rows * expected))
    freedom = 2.0 * (groups - 1)
    if ratio <= freedom:
        return 0.0
    return freedom - ratio + freedom * math.log(ratio / freedom)


@numba.njit(cache=True)
def psi(window: Ints, reference: Ints, groups: int) -> float:
    """Population stability index; half a row more in each group, so that none is empty."""
    rows, reference_rows = 0.0, 0.0
    for group in range(groups):
        rows += window[group] + 0.5
        reference_rows += reference[group] + 0.5
    total = 0.0
    for group in range(groups):
        share = (window[group] + 0.5) / rows
        expected = (reference[group] + 0.5) / reference_rows
        total += (share - expected) * math.log(share / expected)
    return total


@numba.njit(cache=True)
def _distance(window: Ints, reference: Ints, rows: int, reference_rows: int) -> float:
    largest, below, reference_below = 0.0, 0, 0
    for cell in range(len(window)):
        below += window[cell]
        reference_below += reference[cell]
        largest = max(largest, abs(below / rows - reference_below / reference_rows))
    return largest


@numba.njit(cache=True)
def log_p_distance(distance: float, rows: int, reference_rows: int, cuts: int) -> float:
    """Log of the bound on the probability of such a KS distance at any of the cuts."""
    scale = rows * reference_rows / (rows + reference_rows) * reference_rows / (reference_rows + 1)
    return min(0.0, math.log(2.0 * max(cuts, 1)) - 2.0 * distance * distance * scale)


@numba.njit(cache=True)
def compare(
    window: Ints, reference: Ints, missing: Ints, reference_missing: Ints,
    edge_counts: Ints, groups: Ints, group_counts: Ints, values: Floats, logs: Floats,
) -> None:  # fmt: skip
    """Compare counts ``[c, CELLS]`` of window and reference, and those of missing ones ``[c]``.

    Writes ``values`` and ``logs`` (of probabilities), each float64 ``[KINDS, c]``.
    """
    ours = np.empty(GROUPS_MAX, np.int64)
    theirs = np.empty(GROUPS_MAX, np.int64)
    for column in range(window.shape[0]):
        rows = window[column].sum()
        reference_rows = reference[column].sum()
        values[:, column] = 0.0
        logs[:, column] = 0.0
        if rows and reference_rows:
            ours[:] = 0
            theirs[:] = 0
            for cell in range(2 * edge_counts[column] + 1):
                ours[groups[column, cell]] += window[column, cell]
                theirs[groups[column, cell]] += reference[column, cell]
            values[PSI, column] = psi(ours, theirs, group_counts[column])
            logs[PSI, column] = log_p_groups(ours, theirs, group_counts[column])
            distance = _distance(window[column], reference[column], rows, reference_rows)
            values[KS, column] = distance
            logs[KS, column] = log_p_distance(
                distance, rows, reference_rows, 2 * edge_counts[column]
            )
        ours[0], ours[1] = missing[column], rows
        theirs[0], theirs[1] = reference_missing[column], reference_rows
        all_rows, all_reference = rows + missing[column], reference_rows + reference_missing[column]
        if all_rows and all_reference:
            rate, reference_rate = missing[column] / all_rows, theirs[0] / all_reference
            values[MISSING, column] = abs(rate - reference_rate)
            logs[MISSING, column] = log_p_groups(ours, theirs, 2)
