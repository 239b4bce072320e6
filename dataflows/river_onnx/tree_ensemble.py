"""Binary trees as arrays, and the ONNX node that runs them in double precision.

It knows nothing of River: whoever has trees with thresholds can use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from onnx import TensorProto, helper

from .graph import ML_DOMAIN, Graph
from .registry import UnsupportedEstimatorError

Test = Literal["<=", "<", "=="]

_MODES: dict[Test, int] = {"<=": 0, "<": 1, "==": 4}
DEPTH_MAX = 2_000  # ONNX Runtime loads trees by recursion: at 20,000 it overflows the stack
_SUM = 1
_NO_POST_TRANSFORM = 0


@dataclass(frozen=True)
class Tree:
    """One tree, an entry for each split; the first split is the root.

    A child is the place of a split if it is 0 or more, else ``~leaf``. A tree without any split is
    its first leaf.

    Attributes:
        features: the input's column that a split looks at.
        tests: whether a row goes left: column ``<=``, ``<`` or ``==`` the threshold.
        thresholds: what the column is compared with, in double precision.
        lefts: child of the rows for which the test holds.
        rights: child of the other rows.
        missing_left: whether a row whose column is NaN goes left.
        leaves: a value for each leaf.
    """

    features: Sequence[int]
    tests: Sequence[Test]
    thresholds: Sequence[float]
    lefts: Sequence[int]
    rights: Sequence[int]
    missing_left: Sequence[bool]
    leaves: Sequence[float]

    def __post_init__(self) -> None:
        """Check the shape.

        Raises:
            ValueError: the arrays differ in length, or there is no leaf.
        """
        columns = (self.tests, self.thresholds, self.lefts, self.rights, self.missing_left)
        if any(len(column) != len(self.features) for column in columns):
            raise ValueError("a tree's arrays need one entry for each split; check their lengths")
        if not self.leaves:
            raise ValueError("a tree needs at least one leaf; give it a value")


def append_trees(
    graph: Graph,
    columns: str,
    trees: Sequence[Tree],
    targets: Sequence[int] | None = None,
    target_count: int = 1,
) -> str:
    """Add one node that runs all trees on each row.

    Args:
        graph: to which it is added.
        columns: name of a float64 tensor ``[N, d]``.
        trees: at least one.
        targets: the output column to which each tree's value is added; None for 0.
        target_count: number of output columns.

    Returns:
        Name of a float64 tensor ``[N, target_count]``: sums of the leaves that the row reaches.

    Raises:
        UnsupportedEstimatorError: a tree has more than ``DEPTH_MAX`` splits one below the other.
    """
    targets = [0] * len(trees) if targets is None else targets
    nodes = _Nodes()
    for tree, target in zip(trees, targets, strict=True):
        if len(tree.features) > DEPTH_MAX and _depth(tree) > DEPTH_MAX:
            raise UnsupportedEstimatorError(
                f"a tree is more than {DEPTH_MAX} splits deep, too deep for ONNX Runtime; "
                "give the model a max_depth"
            )
        nodes.add(tree, target)
    return graph.node(
        "TreeEnsemble",
        [columns],
        domain=ML_DOMAIN,
        aggregate_function=_SUM,
        post_transform=_NO_POST_TRANSFORM,
        n_targets=target_count,
        **nodes.attributes(),
    )


def _depth(tree: Tree) -> int:
    """Number of splits one below the other."""
    depth, level = 0, [0]
    while level:
        depth += 1
        below = [child for split in level for child in (tree.lefts[split], tree.rights[split])]
        level = [child for child in below if child >= 0]
    return depth


class _Nodes:
    """The splits and leaves of all trees, one after the other, as the operator has them."""

    def __init__(self) -> None:
        self.roots: list[int] = []
        self.features: list[int] = []
        self.modes: list[int] = []
        self.thresholds: list[float] = []
        self.children: tuple[list[int], list[int]] = ([], [])  # where the test holds; elsewhere
        self.are_leaves: tuple[list[int], list[int]] = ([], [])
        self.missing_left: list[int] = []
        self.leaf_targets: list[int] = []
        self.leaf_values: list[float] = []

    def add(self, tree: Tree, target: int) -> None:
        """Append one tree."""
        first_split, first_leaf = len(self.features), len(self.leaf_values)
        self.roots.append(first_split)
        if not tree.features:
            # The operator has no tree without a split, so one that changes nothing.
            value = tree.leaves[0]
            tree = Tree([0], ["<="], [0.0], [~0], [~1], [False], [value, value])
        self.features.extend(tree.features)
        self.modes.extend(_MODES[test] for test in tree.tests)
        self.thresholds.extend(tree.thresholds)
        self.missing_left.extend(int(left) for left in tree.missing_left)
        for side, children in enumerate((tree.lefts, tree.rights)):
            for child in children:
                is_leaf = child < 0
                self.are_leaves[side].append(int(is_leaf))
                self.children[side].append(first_leaf + ~child if is_leaf else first_split + child)
        self.leaf_targets.extend([target] * len(tree.leaves))
        self.leaf_values.extend(tree.leaves)

    def attributes(self) -> dict[str, Any]:
        """The operator's attributes."""
        (holds, holds_not), (holds_leaf, holds_not_leaf) = self.children, self.are_leaves
        return {
            "tree_roots": self.roots,
            "nodes_featureids": self.features,
            "nodes_modes": helper.make_tensor(
                "nodes_modes", TensorProto.UINT8, [len(self.modes)], self.modes
            ),
            "nodes_splits": _doubles("nodes_splits", self.thresholds),
            "nodes_truenodeids": holds,
            "nodes_falsenodeids": holds_not,
            "nodes_trueleafs": holds_leaf,
            "nodes_falseleafs": holds_not_leaf,
            "nodes_missing_value_tracks_true": self.missing_left,
            "leaf_targetids": self.leaf_targets,
            "leaf_weights": _doubles("leaf_weights", self.leaf_values),
        }


def _doubles(name: str, values: Sequence[float]) -> Any:
    raw = np.asarray(values, dtype="<f8").tobytes()
    return helper.make_tensor(name, TensorProto.DOUBLE, [len(values)], raw, raw=True)
