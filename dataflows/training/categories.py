"""Texts in vectors: what a category says about the label, in the place of its code.

A code only tells whether two texts are equal; a tree or a line needs a number with an order. So
each frequent category becomes the mean of its labels, drawn towards the mean of all where there are
few, and all other categories, also those never seen, become the mean of all. For many classes there
is such a mean for each class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dataflows.river_onnx.graph import Graph
from dataflows.training.examples import Floats

CATEGORIES_MAX = 500
# As many rows of the mean of all are added to each category's own.
_PRIOR_ROWS = 50.0


@dataclass(frozen=True)
class Column:
    """What becomes of one column with codes.

    Attributes:
        place: of the column in the vector.
        codes: of the frequent categories, ``[k]``.
        means: ``[k + 1, m]``; the last row is for every other category.
    """

    place: int
    codes: Floats
    means: Floats


@dataclass(frozen=True)
class Encoding:
    """From vectors ``[n, d]`` to what a learner sees, ``[n, e]``.

    The columns with numbers come first, as they are, and then those made of categories.
    """

    numbers: tuple[int, ...]
    columns: tuple[Column, ...]

    @classmethod
    def learn(
        cls, features: Floats, labels: Floats, categories: Sequence[int], classes: int
    ) -> Encoding:
        """Take the means.

        Args:
            features: ``[n, d]``.
            labels: ``[n]``, places of classes if there are ``classes``, else numbers.
            categories: places of the columns that hold codes.
            classes: number of classes of a multi-class model, else 0.
        """
        values = np.eye(classes)[labels.astype(np.int64)] if classes else labels[:, None]
        numbers = tuple(p for p in range(features.shape[1]) if p not in set(categories))
        return cls(numbers, tuple(_column(features[:, p], values, p) for p in categories))

    def sources(self) -> tuple[int, ...]:
        """For each column that a learner sees, the place in the vector that it comes from."""
        made = [column.place for column in self.columns for _ in range(column.means.shape[1])]
        return (*self.numbers, *made)

    def apply(self, features: Floats) -> Floats:
        """The columns that a learner sees."""
        if not self.columns:
            return features
        parts = [features[:, list(self.numbers)]]
        for column in self.columns:
            order = np.argsort(column.codes)
            ascending = column.codes[order]
            found = np.searchsorted(ascending, features[:, column.place])
            found = np.minimum(found, len(ascending) - 1)
            is_known = ascending[found] == features[:, column.place]
            parts.append(column.means[np.where(is_known, order[found], len(ascending))])
        return np.concatenate(parts, axis=1)

    def append(self, graph: Graph, value: str) -> str:
        """The same as nodes: from a tensor ``[N, d]`` to the name of one ``[N, e]``."""
        if not self.columns:
            return value
        parts = []
        if self.numbers:
            places = graph.constant(self.numbers, np.int64)
            parts.append(graph.node("Gather", [value, places], axis=1))
        for column in self.columns:
            place = graph.constant([column.place], np.int64)
            codes = graph.node("Gather", [value, place], axis=1)
            equal = graph.node("Equal", [codes, graph.constant(column.codes)])
            hits = graph.node("Cast", [equal], to=_FLOAT)
            # The last column wins wherever no code is equal.
            length = graph.node("Shape", [value], start=0, end=1)
            one = graph.constant([1], np.int64)
            shape = graph.node("Concat", [length, one], axis=0)
            half = graph.node("Expand", [graph.constant(0.5, np.float32), shape])
            all_hits = graph.node("Concat", [hits, half], axis=1)
            row = graph.node("ArgMax", [all_hits], axis=1, keepdims=0)
            parts.append(graph.node("Gather", [graph.constant(column.means), row], axis=0))
        return graph.node("Concat", parts, axis=1)


_FLOAT = 1  # onnx.TensorProto.FLOAT: only 0, 0.5 and 1 are in it


def _column(codes: Floats, values: Floats, place: int) -> Column:
    distinct, rows, counts = np.unique(codes, return_inverse=True, return_counts=True)
    # A stable order keeps ties the same in every run.
    kept = np.sort(np.argsort(-counts, kind="stable")[:CATEGORIES_MAX])
    overall = values.mean(axis=0)
    sums = np.stack([np.bincount(rows, column) for column in values.T], axis=1)[kept]
    means = (sums + _PRIOR_ROWS * overall) / (counts[kept, None] + _PRIOR_ROWS)
    return Column(place, distinct[kept], np.concatenate([means, overall[None]]))
