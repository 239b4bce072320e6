"""River estimators as ONNX graphs in double precision.

``to_onnx`` knows a pipeline of ``StandardScaler`` and ``MinMaxScaler`` (any number, any order)
before a ``LogisticRegression``, and that alone. To teach it another estimator, ``register`` a
``Converter`` for its class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from river import compose, linear_model, optim, preprocessing

_OPSET = 18
_IR_VERSION = 8  # the one of opset 18; every later ONNX Runtime reads it
_INPUT = "features"
_OUTPUT = "score"


class UnsupportedEstimatorError(ValueError):
    """The estimator cannot be exported; the message names the class and what is supported."""


@dataclass
class Graph:
    """An ONNX graph being built, step by step.

    Names are numbered in the order of the calls, so equal calls give equal bytes.

    Attributes:
        features: names of the columns of the value that runs through, in order.
    """

    features: tuple[str, ...]
    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)

    def constant(self, values: ArrayLike, dtype: type[np.generic] = np.float64) -> str:
        """Add a constant; returns its name."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name

    def node(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node with one output; returns the output's name."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name


@dataclass(frozen=True)
class Converter:
    """How one class of estimators becomes nodes.

    Attributes:
        role: ``transformer`` gives ``[N, d]``, ``classifier`` gives P(True) as ``[N]``.
        refusal: why this instance cannot be exported exactly, or None if it can.
        append: adds the nodes for (estimator, graph, name of the input), returns the output's
            name; must not change the estimator (River's dictionaries grow when read).
    """

    role: Literal["transformer", "classifier"]
    refusal: Callable[[Any], str | None]
    append: Callable[[Any, Graph, str], str]


_CONVERTERS: dict[type, Converter] = {}


def register(estimator_class: type, converter: Converter) -> None:
    """Teach the exporter a class; exactly that class, as a subclass may compute otherwise."""
    _CONVERTERS[estimator_class] = converter


def check_exportable(estimator: Any) -> None:
    """Do nothing if ``to_onnx`` can export the estimator.

    Raises:
        UnsupportedEstimatorError: naming the class, or the parameter that could not be kept.
    """
    steps = _steps(estimator)
    if not steps:
        raise UnsupportedEstimatorError("Pipeline is empty; end it with a classifier")
    *transformers, last = steps
    _check_steps(transformers, "transformer", "before the end of a pipeline")
    _check_steps([last], "classifier", "at the end")


def to_onnx(estimator: Any, feature_names: Sequence[str]) -> bytes:
    """Export the estimator as it is now.

    The model has one input ``features``, float64 ``[N, d]``, column i of which is
    ``feature_names[i]``, and one output ``score``, float64 ``[N]``: P(True). The same state and
    names always give the same bytes.

    Raises:
        UnsupportedEstimatorError: see ``check_exportable``.
    """
    check_exportable(estimator)
    graph = Graph(features=tuple(feature_names))
    value = _INPUT
    for step in _steps(estimator):
        value = _CONVERTERS[type(step)].append(step, graph, value)
    graph.nodes.append(helper.make_node("Identity", [value], [_OUTPUT], name=_OUTPUT))
    width = len(graph.features)
    model: ModelProto = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "headwater",
            [helper.make_tensor_value_info(_INPUT, TensorProto.DOUBLE, ["N", width])],
            [helper.make_tensor_value_info(_OUTPUT, TensorProto.DOUBLE, ["N"])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="headwater",
    )
    return model.SerializeToString(deterministic=True)


def _steps(estimator: Any) -> list[Any]:
    return list(estimator.steps.values()) if type(estimator) is compose.Pipeline else [estimator]


def _check_steps(steps: Sequence[Any], role: str, place: str) -> None:
    for step in steps:
        name = type(step).__name__
        converter = _CONVERTERS.get(type(step))
        if converter is None or converter.role != role:
            known = sorted(c.__name__ for c, found in _CONVERTERS.items() if found.role == role)
            raise UnsupportedEstimatorError(
                f"{name} cannot be exported to ONNX {place}; supported there: {', '.join(known)}"
            )
        refusal = converter.refusal(step)
        if refusal is not None:
            raise UnsupportedEstimatorError(f"{name} cannot be exported to ONNX: {refusal}")


def _refuse_window(scaler: Any) -> str | None:
    if scaler.window_size is None:
        return None
    return f"window_size={scaler.window_size} is not supported; leave it out"


def _refuse_loss(regression: linear_model.LogisticRegression) -> str | None:
    if type(regression.loss) is optim.losses.Log:
        return None
    return f"loss={type(regression.loss).__name__} is not supported; use optim.losses.Log"


def _scale(graph: Graph, value: str, offsets: list[float], divisors: list[float]) -> str:
    """(value - offset) / divisor; 0 wherever the divisor is 0, as River has it."""
    scaled = graph.node("Sub", [value, graph.constant(offsets)])
    if any(divisor != 1.0 for divisor in divisors):
        usable = [divisor or 1.0 for divisor in divisors]
        scaled = graph.node("Div", [scaled, graph.constant(usable)])
    if not all(divisors):
        # Not a multiplication by 0: that would let an infinite value through as NaN.
        constant = graph.constant([divisor == 0.0 for divisor in divisors], np.bool_)
        scaled = graph.node("Where", [constant, graph.constant(0.0), scaled])
    return scaled


def _append_standard_scaler(scaler: preprocessing.StandardScaler, graph: Graph, value: str) -> str:
    means = [float(scaler.means.get(name, 0.0)) for name in graph.features]
    if not scaler.with_std:
        return _scale(graph, value, means, [1.0] * len(means))
    variances = [float(scaler.vars.get(name, 0.0)) for name in graph.features]
    # The root is taken as River takes it, so that not even the last bit differs.
    return _scale(graph, value, means, [variance**0.5 for variance in variances])


def _append_min_max_scaler(scaler: preprocessing.MinMaxScaler, graph: Graph, value: str) -> str:
    lows, ranges = [], []
    for name in graph.features:
        # A feature never seen has the range (inf, -inf) in River, which gives NaN: so here.
        low = float(scaler.min[name].get()) if name in scaler.min else math.inf
        high = float(scaler.max[name].get()) if name in scaler.max else -math.inf
        lows.append(low)
        ranges.append(high - low)
    return _scale(graph, value, lows, ranges)


def _append_logistic_regression(
    regression: linear_model.LogisticRegression, graph: Graph, value: str
) -> str:
    learned = regression.weights
    weights = [float(learned.get(name, 0.0)) for name in graph.features]
    # A running sum adds in River's order whatever the number of rows; MatMul does not.
    terms = graph.node("Mul", [value, graph.constant(weights)])
    sums = graph.node("CumSum", [terms, graph.constant(1, np.int64)])
    total = graph.node("Gather", [sums, graph.constant(len(weights) - 1, np.int64)], axis=1)
    logit = graph.node("Add", [total, graph.constant(float(regression.intercept))])
    # River's sigmoid is exactly 0 below -30 and exactly 1 above 30. Shrink is 0 in between and
    # moves the rest so far out that Sigmoid saturates.
    push = graph.node("Shrink", [logit], lambd=30.0, bias=-1000.0)
    return graph.node("Sigmoid", [graph.node("Add", [logit, push])])


register(
    preprocessing.StandardScaler,
    Converter("transformer", _refuse_window, _append_standard_scaler),
)
register(
    preprocessing.MinMaxScaler,
    Converter("transformer", _refuse_window, _append_min_max_scaler),
)
register(
    linear_model.LogisticRegression,
    Converter("classifier", _refuse_loss, _append_logistic_regression),
)
