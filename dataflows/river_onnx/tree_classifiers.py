"""Hoeffding trees that classify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from river import tree
from river.tree.nodes.hatc_nodes import AdaLeafClassifier
from river.tree.splitter import ExhaustiveSplitter, GaussianSplitter

from .graph import Graph
from .registry import ByClass, Columns, Converter, Probabilities, Stacked, Wanted, register
from .tree_naive_bayes import append_naive_bayes
from .tree_routes import Routes, append_routes, with_gaps

# Those that reach one leaf and say what it says.
PLAIN_TREES = (
    tree.HoeffdingTreeClassifier,
    tree.ExtremelyFastDecisionTreeClassifier,
    tree.LASTClassifier,
)
_MAJORITY, _NAIVE_BAYES = "mc", "nb"


def teach() -> None:
    """Register what is in this module."""
    for estimator_class in PLAIN_TREES:
        register(
            estimator_class,
            Converter("classifier", refuse_tree, _append_tree, takes_gaps=True),
        )
    register(
        tree.HoeffdingAdaptiveTreeClassifier,
        Converter("classifier", refuse_tree, _append_adaptive_tree, takes_gaps=True),
    )


def refuse_tree(model: Any) -> str | None:
    """Why a tree's leaves cannot be kept, None if they can; also for a forest of such trees."""
    kept = (GaussianSplitter, ExhaustiveSplitter, type(None))
    if model.leaf_prediction != _MAJORITY and type(model.splitter) not in kept:
        return (
            f"splitter={type(model.splitter).__name__} is not supported with "
            f"leaf_prediction={model.leaf_prediction!r}; use leaf_prediction='mc'"
        )
    if type(model) is tree.LASTClassifier and model.leaf_prediction == _NAIVE_BAYES:
        return "leaf_prediction='nb' fails in River itself; use 'nba' or 'mc'"
    root = getattr(model, "_root", None)
    return None if root is None else refuse_alternates(root)


def refuse_alternates(root: Any) -> str | None:
    """Why an adaptive tree cannot be kept, None if it can."""
    for node in root.iter_dfs():
        alternate = getattr(node, "_alternate_tree", None)
        if alternate is not None and alternate.n_nodes > 1:
            return "an alternate tree has branches, with which River itself cannot predict"
    return None


def labels_of(model: Any, first: Sequence[Any]) -> tuple[Any, ...]:
    """``first`` and behind them all other classes that a tree has seen, in a fixed order."""
    others = [label for label in model.classes if label not in first]
    return (*first, *sorted(others, key=lambda label: (type(label).__name__, str(label))))


def append_distributions(
    trees: Sequence[Any], graph: Graph, columns: Columns, classes: Sequence[Any]
) -> tuple[str, Routes]:
    """Add the nodes that compute what the leaves say that a row reaches.

    Args:
        trees: all with a root.
        graph: to which they are added.
        columns: the input.
        classes: all that any of the trees has seen, at least.

    Returns:
        Name of a float64 tensor ``[N, S, len(classes)]``, and what its S leaves are.
    """
    columns = with_gaps(graph, columns)
    routes = append_routes(trees, graph, columns)
    table = np.zeros((len(routes.leaves) + 1, len(classes)))
    factors = np.zeros(len(routes.leaves) + 1)
    bayesian: list[Any] = []
    places = np.zeros(len(routes.leaves) + 1, dtype=np.int64)
    for number, (leaf, model) in enumerate(routes.leaves, start=1):
        total = sum(leaf.stats.values())
        if _by_naive_bayes(leaf, model):
            if total != 0:
                places[number] = len(bayesian)
                factors[number] = _trust(leaf, 1.0)
                bayesian.append(leaf)
            continue
        shares = _normalized(leaf.stats, total)
        trust = _trust(leaf, sum(shares.values()))
        table[number] = [shares.get(label, 0.0) * trust for label in classes]
    said = graph.node("Gather", [graph.constant(table), routes.ids])
    if bayesian:
        found = graph.node("Gather", [graph.constant(places, np.int64), routes.ids])
        by_bayes = append_naive_bayes(bayesian, found, graph, columns, classes)
        factor = graph.node("Gather", [graph.constant(factors[:, None]), routes.ids])
        said = graph.node("Add", [said, graph.node("Mul", [by_bayes, factor])])
    return said, routes


def _by_naive_bayes(leaf: Any, model: Any) -> bool:
    if not leaf.is_active() or model.leaf_prediction == _MAJORITY:
        return False
    if model.leaf_prediction == _NAIVE_BAYES:
        return bool(leaf.total_weight >= model.nb_threshold)
    return bool(leaf._nb_correct_weight >= leaf._mc_correct_weight)


def _normalized(stats: Mapping[Any, float], total: float) -> dict[Any, float]:
    """As ``normalize_values_in_dict`` does it: nothing changes if the total is 0."""
    factor = 1.0 / total if total != 0 else 1.0
    return {label: weight * factor for label, weight in stats.items()}


def _trust(leaf: Any, total: float) -> float:
    """By how much an adaptive tree multiplies what a leaf says; 1 in other trees."""
    if not isinstance(leaf, AdaLeafClassifier):
        return 1.0
    error = leaf._mean_error.get()
    divisor = total * error * error
    return 1.0 / divisor if divisor != 0 else 1.0


def first_classes(stacked: str, graph: Graph, count: int, of: int) -> str:
    """The first classes of a tensor ``[..., of]``."""
    if count == of:
        return stacked
    ends = [graph.constant([value], np.int64) for value in (0, count, -1)]
    return graph.node("Slice", [stacked, *ends])


def normalized(stacked: str, graph: Graph) -> str:
    """Rows ``[N, C]`` divided by their sums; a row whose sum is 0 stays as it is."""
    axes = graph.constant([1], np.int64)
    total = graph.node("ReduceSum", [stacked, axes])
    nothing = graph.node("Equal", [total, graph.constant(0.0)])
    divisor = graph.node("Where", [nothing, graph.constant(1.0), total])
    return graph.node("Div", [stacked, divisor])


def _append_tree(model: Any, graph: Graph, columns: Columns, wanted: Wanted) -> Probabilities:
    if model._root is None:
        return ByClass({})
    classes = labels_of(model, wanted.classes)
    said, _ = append_distributions([model], graph, columns, classes)
    stacked = graph.node("Squeeze", [said, graph.constant([1], np.int64)])
    return Stacked(first_classes(stacked, graph, len(wanted.classes), len(classes)))


def _append_adaptive_tree(
    model: Any, graph: Graph, columns: Columns, wanted: Wanted
) -> Probabilities:
    if model._root is None:
        return ByClass({})
    classes = labels_of(model, wanted.classes)
    said, _ = append_distributions([model], graph, columns, classes)
    summed = graph.node("ReduceSum", [said, graph.constant([1], np.int64)], keepdims=0)
    stacked = normalized(summed, graph)
    return Stacked(first_classes(stacked, graph, len(wanted.classes), len(classes)))
