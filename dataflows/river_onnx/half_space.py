"""Half-space trees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from river import anomaly

from .convert import zeros
from .graph import Graph
from .registry import Columns, Converter, Wanted, never, register
from .tree_ensemble import Tree, append_trees
from .tree_layout import Split, lay_out
from .tree_routes import with_gaps


def teach() -> None:
    """Register what is in this module."""
    register(
        anomaly.HalfSpaceTrees, Converter("anomaly", never, _append_half_space, takes_gaps=True)
    )


def _append_half_space(
    model: anomaly.HalfSpaceTrees, graph: Graph, columns: Columns, _: Wanted
) -> str:
    if model._first_window:
        return zeros(graph, columns)
    places = {name: place for place, name in enumerate(columns.names)}
    size_limit = 0.1 * model.window_size
    trees = [_laid_out(root, model.height, size_limit, places) for root in model.trees]
    masses = append_trees(graph, with_gaps(graph, columns).value, trees)
    total = graph.node("Squeeze", [masses, graph.constant([1], np.int64)])
    share = graph.node("Div", [total, graph.constant(float(model._max_score))])
    return graph.node("Sub", [graph.constant(1.0), share])


def _laid_out(root: Any, height: int, size_limit: float, places: Mapping[Any, int]) -> Tree:
    """One tree; a leaf's value is the mass that was gathered down to where River stops."""

    def expand(found: tuple[Any, int, float]) -> Split | float:
        node, depth, mass = found
        while True:  # over nodes that split by a feature that no row has
            mass += node.r_mass * 2.0**depth
            if depth == height or node.r_mass < size_limit:
                return float(mass)
            left, right = node.children
            missing_left = not left.l_mass < right.l_mass
            depth += 1
            place = places.get(node.feature)
            if place is not None:
                ways = (left, depth, mass), (right, depth, mass)
                return Split(place, "<", float(node.threshold), *ways, missing_left)
            node = left if missing_left else right

    return lay_out((root, 0, 0.0), expand)
