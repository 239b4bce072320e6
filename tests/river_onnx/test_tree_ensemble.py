"""Trees as arrays, run by ONNX Runtime, against walking them by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.river_onnx import UnsupportedEstimatorError
from dataflows.river_onnx.graph import Graph
from dataflows.river_onnx.tree_ensemble import DEPTH_MAX, Tree, append_trees
from dataflows.river_onnx.tree_ensemble import Test as SplitTest

WIDTH = 3
SINGLE = float(np.float32(0.1))  # differs from 0.1 by less than single precision can tell
VALUES = [0.1, SINGLE, 1 / 3, 1.0, 2.0, 40.0, 70.0, 2.0**51 + 1, 2.0**51 + 2, -1e300, 1e300]
NEAR = [float(np.nextafter(v, v + s)) for v in VALUES[:4] for s in (-1.0, 1.0)]
TESTS: list[list[SplitTest]] = [["<="], ["<"], ["=="], ["<=", "=="], ["<=", "<", "=="]]


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """A random tree of up to 12 splits, of one kind of test or several."""
    kinds = draw(st.sampled_from(TESTS))
    splits: list[list[Any]] = []
    leaves: list[float] = []

    def grow(count: int) -> int:
        if count == 0:
            leaves.append(draw(st.floats(-9, 9)))
            return ~(len(leaves) - 1)
        split = [draw(st.integers(0, WIDTH - 1)), draw(st.sampled_from(kinds))]
        split.append(draw(st.sampled_from(VALUES)))
        place = len(splits)
        splits.append(split)
        left = draw(st.integers(0, count - 1))
        split.extend([grow(left), grow(count - 1 - left), draw(st.booleans())])
        return place

    grow(draw(st.integers(0, 12)))
    features, kept, thresholds, lefts, rights, missing = (
        zip(*splits, strict=True) if splits else [()] * 6
    )
    return Tree(features, kept, thresholds, lefts, rights, missing, leaves)


def walked(tree: Tree, row: Sequence[float]) -> float:
    """The leaf's value, found split by split."""
    if not tree.features:
        return tree.leaves[0]
    place = 0
    while place >= 0:
        value, threshold = row[tree.features[place]], tree.thresholds[place]
        holds = {"<=": value <= threshold, "<": value < threshold, "==": value == threshold}
        missing = np.isnan(value)
        left = tree.missing_left[place] if missing else holds[tree.tests[place]]
        place = tree.lefts[place] if left else tree.rights[place]
    return tree.leaves[~place]


def run(forest: Sequence[Tree], targets: Sequence[int], count: int, rows: Any) -> Any:
    """Sums of leaves ``[N, count]`` as ONNX Runtime has them."""
    graph = Graph()
    graph.name(append_trees(graph, "features", forest, targets, count), "score")
    model = graph.model({"features": ["N", WIDTH]}, {"score": ["N", count]}, {})
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"features": rows})[0]


@settings(deadline=None, max_examples=80)
@given(
    forest=st.lists(trees(), min_size=1, max_size=5),
    rows=st.lists(
        st.lists(st.sampled_from([*VALUES, *NEAR, float("nan")]), min_size=WIDTH, max_size=WIDTH),
        min_size=1,
        max_size=80,
    ),
)
def test_rows_reach_the_leaves_of_a_walk(forest: list[Tree], rows: list[list[float]]) -> None:
    """Each row reaches its leaf: thresholds hit exactly or missed by one bit, NaN, all tests."""
    targets = [place % 2 for place in range(len(forest))]
    expected = np.zeros((len(rows), 2))
    for place, row in enumerate(rows):
        for tree, target in zip(forest, targets, strict=True):
            expected[place, target] += walked(tree, row)
    np.testing.assert_allclose(
        run(forest, targets, 2, np.array(rows)), expected, rtol=0, atol=1e-12
    )


def test_a_tree_without_a_split_is_its_leaf() -> None:
    """One leaf and no split gives that leaf's value for every row, NaN too."""
    tree = Tree([], [], [], [], [], [], [2.5])
    rows = np.array([[1.0, 2.0, 3.0], [np.nan] * 3])
    assert run([tree], [0], 1, rows).tolist() == [[2.5], [2.5]]


def chain(depth: int) -> Tree:
    """Splits one below the other."""
    below = [*range(1, depth), ~depth]
    lefts = [~place for place in range(depth)]
    thresholds = [float(place) for place in range(depth)]
    leaves = [float(place) for place in range(depth + 1)]
    return Tree([0] * depth, ["<="] * depth, thresholds, lefts, below, [False] * depth, leaves)


def test_deep_trees_are_refused_before_they_overflow_the_stack() -> None:
    """The deepest tree that is taken runs; one deeper is refused with what to do."""
    row = np.full((1, WIDTH), 1999.5)
    assert run([chain(DEPTH_MAX)], [0], 1, row).tolist() == [[2000.0]]
    with pytest.raises(UnsupportedEstimatorError, match="max_depth"):
        run([chain(DEPTH_MAX + 1)], [0], 1, row)


@pytest.mark.parametrize(
    ("tree", "named"),
    [
        (lambda: Tree([0], ["<="], [], [~0], [~1], [True], [1.0, 2.0]), "lengths"),
        (lambda: Tree([], [], [], [], [], [], []), "at least one leaf"),
    ],
)
def test_refuses_arrays_that_are_no_tree(tree: Any, named: str) -> None:
    """Arrays of different lengths, or no leaf at all, are an error that says so."""
    with pytest.raises(ValueError, match=named):
        tree()
