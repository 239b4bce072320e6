"""Cells of a column: learned from a sample, in which all other values are counted.

``m`` edges make ``2 m + 1`` cells, in order: below the first edge, exactly the first edge, between
the first and the second, and so on. So a value that many rows share has a cell of its own, and so
has whatever comes between values that were seen: a new category. Cells are put together to groups
for the PSI.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EDGES_MAX = 40
CELLS = 2 * EDGES_MAX + 1
_GROUPS = 10
# Two more: values that were never seen, and rare ones.
GROUPS_MAX = _GROUPS + 2

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Cells:
    """Edges float64 ``[m]``, ascending, and for each of ``CELLS`` cells the number of its group."""

    edges: Floats
    groups: Ints
    group_count: int


def learn_ordered(sample: Floats) -> Cells:
    """Cells of a column of numbers from values float64 ``[n]`` without NaN; n may be 0.

    Up to 40 distinct values are an edge each, and what lies between them is a group of its own.
    Else edges are quantiles.
    """
    values, counts = np.unique(sample, return_counts=True)
    is_discrete = len(values) <= EDGES_MAX
    if is_discrete:
        edges = values
    else:
        ordered = np.sort(sample)
        places = len(ordered) * np.arange(1, EDGES_MAX) // EDGES_MAX
        edges = np.unique(ordered[places])
    masses = _masses(values, counts, edges)
    groups = np.zeros(CELLS, np.int64)
    group, mass, limit = 0, 0, len(sample) / _GROUPS
    for cell in range(2 * len(edges) + 1):
        if is_discrete and cell % 2 == 0:
            continue
        if mass and (mass >= limit or masses[cell] >= limit):
            group, mass = group + 1, 0
        # The last group takes what is left.
        group = min(group, _GROUPS - 1)
        groups[cell] = group
        mass += int(masses[cell])
    count = group + 1
    if is_discrete:
        groups[0 : 2 * len(edges) + 1 : 2] = count
        count += 1
    return Cells(edges, groups, count)


def learn_nominal(sample: Floats) -> Cells:
    """Cells of a column of codes: the most frequent values, each by itself, and all others.

    The nine most frequent are groups; the other frequent ones are one group, all others another.
    """
    values, counts = np.unique(sample, return_counts=True)
    frequent = np.lexsort((values, -counts))[:EDGES_MAX]
    edges = np.sort(values[frequent])
    groups = np.zeros(CELLS, np.int64)
    rank = {float(values[place]): number for number, place in enumerate(frequent)}
    named = min(len(edges), _GROUPS - 1)
    # All groups: the named ones, the rest of the frequent ones if any, all others.
    others = named + (len(edges) > named)
    for place, edge in enumerate(edges.tolist()):
        groups[2 * place + 1] = min(rank[edge], named)
    groups[0 : 2 * len(edges) + 1 : 2] = others
    return Cells(edges, groups, others + 1)


def _masses(values: Floats, counts: Ints, edges: Floats) -> Ints:
    """How many values of the sample lie in each cell."""
    below = np.searchsorted(edges, values)
    is_edge = np.zeros(len(values), np.bool_)
    inside = below < len(edges)
    is_edge[inside] = edges[below[inside]] == values[inside]
    masses = np.zeros(2 * len(edges) + 1, np.int64)
    np.add.at(masses, 2 * below + is_edge, counts)
    return masses
