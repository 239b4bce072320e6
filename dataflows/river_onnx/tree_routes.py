"""Which leaves of a River tree a row reaches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto
from river.tree.nodes.branch import (
    DTBranch,
    NominalBinaryBranch,
    NominalMultiwayBranch,
    NumericBinaryBranch,
    NumericMultiwayBranch,
)

from .graph import Graph
from .registry import Columns, UnsupportedEstimatorError
from .tree_ensemble import Tree, append_trees
from .tree_layout import Among, Numbered, Split, lay_out, search_tree


@dataclass(frozen=True)
class Routes:
    """The leaves that rows reach.

    Attributes:
        ids: name of an int64 tensor ``[N, S]``: numbers of leaves; a tree has as many of the S
            columns as its rows reach leaves at the most (one, unless it is adaptive), next to each
            other. Number 0 is no leaf at all.
        leaves: of number 1, 2, 3 ...: the leaf and its tree.
        widths: how many columns each tree has.
    """

    ids: str
    leaves: Sequence[tuple[Any, Any]]
    widths: Sequence[int]


def append_routes(trees: Sequence[Any], graph: Graph, columns: Columns) -> Routes:
    """Add the nodes that find the leaves; of trees that all have a root."""
    lookups = _Lookups(trees, columns)
    numbered = Numbered()
    laid_out: list[Tree] = []
    targets: list[int] = []
    widths: list[int] = []
    for tree in trees:
        reached: list[tuple[Any, ...]] = []
        walk = _Walk(lookups, reached)
        shape = lay_out(_Step(tree._root), walk.expand)
        widths.append(max(map(len, reached)))
        for slot in range(widths[-1]):
            ids = [
                1.0 + numbered.place((leaves[slot], tree), id(leaves[slot]))
                if slot < len(leaves)
                else 0.0
                for leaves in reached
            ]
            targets.append(len(targets))
            laid_out.append(
                Tree(
                    shape.features,
                    shape.tests,
                    shape.thresholds,
                    shape.lefts,
                    shape.rights,
                    shape.missing_left,
                    ids,
                )
            )
    found = append_trees(graph, lookups.append(graph), laid_out, targets, len(targets))
    return Routes(graph.node("Cast", [found], to=TensorProto.INT64), numbered.things, widths)


def with_gaps(graph: Graph, columns: Columns) -> Columns:
    """The columns with NaN where River's dictionary lacks the name: trees do the same with both."""
    if columns.present is None:
        return columns
    value = graph.node("Where", [columns.present, columns.value, graph.constant(math.nan)])
    return Columns(value, columns.names)


@dataclass(frozen=True)
class _Step:
    """A row arrives at a node.

    Attributes:
        node: a branch or a leaf.
        reached: leaves of alternate trees that were passed.
        arrivals: how often River counts the node; twice after it took the most common path.
    """

    node: Any
    reached: tuple[Any, ...] = ()
    arrivals: int = 1


class _Lookups:
    """Columns that splits into many branches look at: the number of the branch to take."""

    def __init__(self, trees: Sequence[Any], columns: Columns) -> None:
        self._value = columns.value
        self._places = {name: place for place, name in enumerate(columns.names)}
        self._slots: dict[tuple[int, float], int] = {}
        self._trees: list[Tree] = []
        for tree in trees:
            for node in tree._root.iter_dfs():
                if isinstance(node, NumericMultiwayBranch) and node.feature in self._places:
                    key = (self._places[node.feature], float(node.radius))
                    self._slots.setdefault(key, len(columns.names) + len(self._slots))
        self._first = len(columns.names) + len(self._slots)

    def place(self, feature: Any) -> int | None:
        """The column of a feature, None if there is none."""
        return self._places.get(feature)

    def add(self, node: Any, numbers: dict[Any, int], otherwise: int) -> int:
        """A new column: the number of a branch's child; ``numbers`` by value or slot."""
        column = self._places[node.feature]
        if isinstance(node, NumericMultiwayBranch):
            column = self._slots[column, float(node.radius)]
        found = {number_of(value): float(number) for value, number in numbers.items()}
        self._trees.append(search_tree(column, found, float(otherwise)))
        return self._first + len(self._trees) - 1

    def append(self, graph: Graph) -> str:
        """The input with these columns behind it."""
        value = self._value
        if self._slots:
            axes = graph.constant([column for column, _ in self._slots], np.int64)
            radii = graph.constant([radius for _, radius in self._slots])
            picked = graph.node("Gather", [value, axes], axis=1)
            slots = graph.node("Floor", [graph.node("Div", [picked, radii])])
            value = graph.node("Concat", [value, slots], axis=1)
        if self._trees:
            count = len(self._trees)
            numbers = append_trees(graph, value, self._trees, range(count), count)
            value = graph.node("Concat", [value, numbers], axis=1)
        return value


def number_of(value: Any) -> float:
    """A nominal value as the column has it.

    Raises:
        UnsupportedEstimatorError: it is no number.
    """
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UnsupportedEstimatorError(
            f"nominal value {value!r} is no number and cannot be exported to ONNX; "
            "give the estimator numbers, such as category codes"
        ) from None


class _Walk:
    """River's walk down one tree, all rows at once."""

    def __init__(self, lookups: _Lookups, reached: list[tuple[Any, ...]]) -> None:
        self._lookups = lookups
        self._reached = reached
        self._weights: dict[int, float] = {}

    def expand(self, found: Any) -> Split | float:
        """The split of a node; a leaf is numbered by its place in ``reached``."""
        while not isinstance(found, Split):
            if isinstance(found, Among):
                found = found.expand()
                continue
            assert isinstance(found, _Step)
            if not isinstance(found.node, DTBranch):
                self._reached.append((*found.reached, found.node))
                return float(len(self._reached) - 1)
            found = self._branch(found)
        return found

    def _branch(self, step: _Step) -> Split | _Step | Among:
        node = step.node
        alternate = getattr(node, "_alternate_tree", None)
        reached = step.reached if alternate is None else step.reached + (alternate,) * step.arrivals
        many = isinstance(node, (NumericMultiwayBranch, NominalMultiwayBranch))
        # A split that River thought better of may have kept the children of one into many.
        kept = node.children if many else node.children[:2]
        common = self._most_common(kept)
        lost = _Step(kept[common], reached, 2)
        place = self._lookups.place(node.feature)
        if place is None:
            return lost
        children = [_Step(child, reached) for child in kept]
        # River counts alternates twice if it got here for want of a value.
        differs = getattr(lost.node, "_alternate_tree", None) is not None
        if many:
            numbers = {
                value: child
                for value, child in node._mapping.items()
                if child < len(children) and value == value
            }
            options = [*children, lost] if differs else children
            otherwise = len(children) if differs else common
            column = self._lookups.add(node, numbers, otherwise)
            return Among(column, options, 0, len(options))
        pair = (children[0], children[1])
        if isinstance(node, NumericBinaryBranch):
            split = Split(place, "<=", float(node.threshold), *pair, common == 0)
        elif isinstance(node, NominalBinaryBranch):
            split = Split(place, "==", number_of(node.value), *pair, common == 0)
        else:
            raise UnsupportedEstimatorError(
                f"{type(node).__name__} cannot be exported to ONNX; use a tree of River's own"
            )
        if differs:
            return Split(place, "<=", math.inf, split, lost, missing_left=False)
        return split

    def _most_common(self, children: Sequence[Any]) -> int:
        """River's ``most_common_path``: the place of the child, the first of equals."""
        weights = [self._weight(child) for child in children]
        return max(range(len(weights)), key=weights.__getitem__)

    def _weight(self, node: Any) -> float:
        """``total_weight``, without asking for the same subtree again on each level."""
        if type(node).total_weight is not DTBranch.total_weight:
            return float(node.total_weight)
        weight = self._weights.get(id(node))
        if weight is None:
            weight = float(sum(self._weight(child) for child in node.children))
            self._weights[id(node)] = weight
        return weight
