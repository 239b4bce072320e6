"""ONNX graphs written out by hand, in double, as tests want them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper


def node(operator: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
    """A node; ``inputs`` are names with spaces between them."""
    return helper.make_node(operator, inputs.split(), [output], **attributes)


def graph(
    width: int,
    nodes: Sequence[NodeProto],
    constants: Mapping[str, Any] | None = None,
    shape: Sequence[str | int] = ("n", 1),
) -> bytes:
    """A model from ``features`` (n by ``width``) to ``score``, of that shape."""
    made = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("features", TensorProto.DOUBLE, ["n", width])],
        [helper.make_tensor_value_info("score", TensorProto.DOUBLE, list(shape))],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def product_of_pairs(width: int, bias: float = 0.0) -> bytes:
    """``sigmoid(sum of x[i] * x[i + 1] + bias)``: fields that lean on each other."""
    return graph(
        width,
        [
            node("Gather", "features left", "lefts", axis=1),
            node("Gather", "features right", "rights", axis=1),
            node("Mul", "lefts rights", "products"),
            node("ReduceSum", "products axis", "total", keepdims=1),
            node("Add", "total bias", "logit"),
            node("Sigmoid", "logit", "score"),
        ],
        {
            "left": np.arange(width - 1),
            "right": np.arange(1, width),
            "axis": np.array([1]),
            "bias": np.array([bias]),
        },
    )


def slow_model(width: int, waves: int = 20) -> bytes:
    """A score that takes milliseconds a row: waves of waves of many sums."""
    names = [f"wave{number}" for number in range(waves + 1)]
    return graph(
        width,
        [
            node("MatMul", "features w", names[0]),
            *(node("Sin", before, after) for before, after in pairwise(names)),
            node("ReduceMean", f"{names[-1]} axis", "mean", keepdims=1),
            node("Sigmoid", "mean", "score"),
        ],
        {"w": np.random.default_rng(0).normal(size=(width, 20_000)), "axis": np.array([1])},
    )
