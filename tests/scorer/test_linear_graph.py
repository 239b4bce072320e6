"""Linear graphs are found, with weights that score as ONNX Runtime does; others never are."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import NodeProto, TensorProto
from river import compose, linear_model, preprocessing

from dataflows.river_onnx import to_onnx
from scorer.explain import Link
from scorer.linear_graph import linear_form
from scorer.model import INPUT, OUTPUT
from tests.scorer.graphs import graph, node, product_of_pairs
from tests.scorer.shop import WEIGHTS, linear_onnx

Floats = npt.NDArray[np.float64]
ROWS = np.random.default_rng(5).normal(size=(20, 3)) * 4


def onnx_scores(data: bytes, rows: Floats) -> Floats:
    """What ONNX Runtime makes of it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run([OUTPUT], {INPUT: rows})[0], dtype=np.float64).reshape(-1)


def check(data: bytes, rows: Floats, link: Link) -> None:
    """The form is found and gives the scores of the graph."""
    form = linear_form(data, INPUT, OUTPUT)
    assert form is not None
    assert form.link is link
    for row, score in zip(rows, onnx_scores(data, rows), strict=True):
        assert form.gives(row, float(score))


@given(seed=st.integers(0, 2**32), width=st.integers(1, 8), scalers=st.sampled_from(["s", "ms"]))
@settings(max_examples=25)
def test_what_the_learner_exports_is_linear(seed: int, width: int, scalers: str) -> None:
    """Scalers and a logistic regression, also with fields that never vary and cut-off scores."""
    random = np.random.default_rng(seed)
    names = [f"f{place}" for place in range(width)]
    made = {"s": preprocessing.StandardScaler, "m": preprocessing.MinMaxScaler}
    model = compose.Pipeline(
        *((kind, made[kind]()) for kind in scalers),
        ("end", linear_model.LogisticRegression(intercept_lr=0.5)),
    )
    centres, spreads = random.normal(size=width) * 100, random.integers(0, 3, size=width)
    for _ in range(20):
        row = random.normal(centres, spreads).tolist()
        model.learn_one(dict(zip(names, row, strict=True)), bool(random.integers(2)))
    far = 10.0 ** random.integers(0, 4, size=(10, 1))
    asked = random.normal(centres, 1.0 + spreads, size=(10, width)) * far
    check(to_onnx(model, names), asked, Link.LOG_ODDS)


def test_the_shops_model_is_linear() -> None:
    """Its weights and bias come out as they went in."""
    form = linear_form(linear_onnx(WEIGHTS, 0.3), INPUT, OUTPUT)
    assert form is not None
    assert form.weights.tolist() == list(WEIGHTS)
    assert form.bias == 0.3


W, AXIS = np.array([[0.5], [-2.0], [0.25]]), np.array([1])
LINEAR: dict[str, tuple[list[NodeProto], dict[str, Any], tuple[str | int, ...]]] = {
    "matmul": ([node("MatMul", "features w", "score")], {"w": W}, ("n", 1)),
    "matmul with a vector": (
        [node("MatMul", "features w", "score")],
        {"w": W.reshape(-1)},
        ("n",),
    ),
    "gemm": (
        [node("Gemm", "features w b", "score", alpha=2.0, beta=0.5, transB=1)],
        {"w": W.T, "b": np.array([3.0])},
        ("n", 1),
    ),
    "two layers": (
        [
            node("Gemm", "features a c", "h"),
            node("Sub", "h h2", "k"),
            node("Neg", "k", "l"),
            node("MatMul", "l w", "score"),
        ],
        {
            "a": np.arange(9.0).reshape(3, 3),
            "c": np.array([[1.0, -1.0, 2.0]]),
            "h2": np.array([0.5]),
            "w": W,
        },
        ("n", 1),
    ),
    "constant minus fields": (
        [node("Sub", "c features", "h"), node("MatMul", "h w", "score")],
        {"c": np.array(2.0), "w": W},
        ("n", 1),
    ),
    "shapes": (
        [
            node("Unsqueeze", "features two", "u"),
            node("Squeeze", "u last", "s"),
            node("Reshape", "s shape", "r"),
            node("Flatten", "r", "f"),
            node("MatMul", "f w", "m"),
            node("Sigmoid", "m", "p"),
            node("Squeeze", "p last", "score"),
        ],
        {"two": np.array([2]), "last": np.array([-1]), "shape": np.array([-1, 3, 1]), "w": W},
        ("n",),
    ),
    "added to itself": (
        [
            node("Mul", "features features2", "h"),
            node("Add", "h features", "sum"),
            node("MatMul", "sum w", "score"),
        ],
        {"features2": np.array([1.0, 2.0, 3.0]), "w": W},
        ("n", 1),
    ),
}


@pytest.mark.parametrize("case", LINEAR)
def test_linear_graphs_of_other_makers_are_found(case: str) -> None:
    """Layers, constants on either side, and changes of shape are followed."""
    nodes, constants, shape = LINEAR[case]
    link = Link.LOG_ODDS if case == "shapes" else Link.IDENTITY
    check(graph(3, nodes, constants, shape), ROWS, link)


CUT = [node("MatMul", "features w", "z")]
OTHER: dict[str, tuple[list[NodeProto], dict[str, Any]]] = {
    "square": (
        [node("Mul", "features features", "h"), node("MatMul", "h w", "score")],
        {"w": W},
    ),
    "hidden layer": (
        [node("MatMul", "features w", "h"), node("Relu", "h", "score")],
        {"w": W},
    ),
    "two logistic functions": (
        [
            node("MatMul", "features w", "h"),
            node("Sigmoid", "h", "p"),
            node("Sigmoid", "p", "score"),
        ],
        {"w": W},
    ),
    "scaled after the logistic function": (
        [
            node("MatMul", "features w", "h"),
            node("Sigmoid", "h", "p"),
            node("Mul", "p half", "score"),
        ],
        {"w": W, "half": np.array(0.5)},
    ),
    "step": (
        [
            node("MatMul", "features w", "h"),
            node("Greater", "h zero", "above"),
            node("Where", "above h zero", "score"),
        ],
        {"w": W, "zero": np.array([[0.0]])},
    ),
    "single precision between": (
        [
            node("MatMul", "features w", "h"),
            node("Cast", "h", "f", to=TensorProto.FLOAT),
            node("Cast", "f", "score", to=TensorProto.DOUBLE),
        ],
        {"w": W},
    ),
    "divided by a field": (
        [node("MatMul", "features w", "h"), node("Div", "one h", "score")],
        {"w": W, "one": np.array([1.0])},
    ),
    "cut off early": (
        [
            *CUT,
            node("Shrink", "z", "push", lambd=3.0, bias=-1000.0),
            node("Add", "z push", "y"),
            node("Sigmoid", "y", "score"),
        ],
        {"w": W},
    ),
    "cut off to the other side": (
        [
            *CUT,
            node("Shrink", "z", "push", lambd=30.0, bias=1000.0),
            node("Add", "z push", "y"),
            node("Sigmoid", "y", "score"),
        ],
        {"w": W},
    ),
    "cut off by another value": (
        [
            *CUT,
            node("Neg", "z", "minus"),
            node("Shrink", "minus", "push", lambd=30.0, bias=-1000.0),
            node("Add", "z push", "y"),
            node("Sigmoid", "y", "score"),
        ],
        {"w": W},
    ),
    "cut off and not logistic": (
        [
            *CUT,
            node("Shrink", "z", "push", lambd=30.0, bias=-1000.0),
            node("Add", "z push", "score"),
        ],
        {"w": W},
    ),
    "over the batch": (
        [
            node("CumSum", "features zero", "h"),
            node("MatMul", "h w", "score"),
        ],
        {"w": W, "zero": np.array(0)},
    ),
    "backwards": (
        [
            node("CumSum", "features one", "h", reverse=1, exclusive=1),
            node("MatMul", "h w", "score"),
        ],
        {"w": W, "one": np.array(1)},
    ),
}


@pytest.mark.parametrize("case", OTHER)
def test_no_other_graph_is_taken_for_linear(case: str) -> None:
    """A graph that ONNX Runtime runs, but that is not linear or not known to be, gives None."""
    nodes, constants = OTHER[case]
    data = graph(3, nodes, constants)
    assert len(onnx_scores(data, ROWS)) == len(ROWS)
    assert linear_form(data, INPUT, OUTPUT) is None


def test_products_and_other_names_are_not_linear() -> None:
    """Fields times fields, and an output or input that is not there."""
    assert linear_form(product_of_pairs(4), INPUT, OUTPUT) is None
    linear = linear_onnx(WEIGHTS, 0.3)
    assert linear_form(linear, INPUT, "other") is None
    assert linear_form(linear, "other", OUTPUT) is None


def test_a_scorer_that_explains_nothing_does_not_import_onnx() -> None:
    """The package takes 0.1 s and 12 MB that only the first explanation spends."""
    code = "import sys, scorer.server; print('onnx' in sys.modules, 'grpc' in sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
