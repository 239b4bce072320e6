"""Boosted trees as nodes of a graph, whichever library has grown them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from contracts.model_spec import Task
from dataflows.river_onnx.graph import Graph
from dataflows.river_onnx.tree_ensemble import Tree, append_trees


@dataclass(frozen=True)
class BoostedTrees:
    """Trees whose sums say something.

    Attributes:
        trees: round by round, one for each output.
        start: what is added to the sums, one for each output.
    """

    trees: Sequence[Tree]
    start: Sequence[float]

    def append(self, graph: Graph, columns: str, task: Task) -> str:
        """From a float64 tensor ``[N, e]`` to the name of ``[N]``, or ``[N, C]`` for classes."""
        outputs = len(self.start)
        targets = [place % outputs for place in range(len(self.trees))]
        sums = append_trees(graph, columns, self.trees, targets, outputs)
        return append_link(graph, graph.node("Add", [sums, graph.constant(self.start)]), task)


def append_link(graph: Graph, sums: str, task: Task) -> str:
    """What the sums ``[N, outputs]`` of a model say: probabilities, or the numbers themselves."""
    if task == "multiclass":
        return graph.node("Softmax", [sums], axis=1)
    flat = graph.node("Squeeze", [sums, graph.constant([1], np.int64)])
    return graph.node("Sigmoid", [flat]) if task == "binary" else flat
