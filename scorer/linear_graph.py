"""Whether an ONNX graph is linear in its input but for a logistic function at its end. Pure.

Follows the graph with, in the place of the batch of rows, ``width + 1`` rows of which row ``i``
holds what the tensor gains for each unit of field ``i``, and the last what it is where all fields
are 0.
A linear step does to these rows what it does to any batch; a constant is added to the last alone.
A step that is not known here makes its result unknown, so that "linear" is never a guess.

Imports ``onnx`` (0.1 s, 12 MB): the scorer imports this module when it is first needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from scorer.explain import LinearForm, Link

Array = npt.NDArray[Any]
# Of one tensor and of all together: 64 MiB of doubles.
_CELLS_MAX = 8_000_000
# Where a logistic function cut off is still, to 1e-10, the logistic function.
_CUT_MIN = 25.0


class _Form(Enum):
    """What the rows of a value stand for."""

    LINEAR = "the value itself"
    CUT_OFF = "0 near 0; else far beyond, to the same side"
    LOGIT = "the value itself near 0; further out beyond"
    LOGISTIC = "the value is their logistic function"


@dataclass(frozen=True)
class _Value:
    """A tensor of shape ``[N, *tail]`` for a batch of N: rows of shape ``[width + 1, *tail]``."""

    rows: Array
    form: _Form = _Form.LINEAR


class _UnknownError(Exception):
    """This step is not linear, or not one that we know."""


def linear_form(model_bytes: bytes, input_name: str, output_name: str) -> LinearForm | None:
    """The weights, bias and link of a model with one output per row; None if it is not linear.

    The model must be one that ONNX Runtime accepts.
    """
    model = onnx.load_model_from_string(model_bytes)
    graph = model.graph
    width = _width(model, input_name)
    tensors = [*graph.initializer]
    external = any(one.data_location == TensorProto.EXTERNAL for one in tensors)
    # A model's own function may have the name of a step that we think we know.
    if width is None or external or model.functions:
        return None
    constants = {one.name: numpy_helper.to_array(one) for one in tensors}
    known = _Known(constants, {input_name: _Value(np.eye(width + 1)[:, :width])})
    cells = 0
    for node in graph.node:
        value = known.result(node)
        if value is not None:
            cells += value.rows.size
            if cells > _CELLS_MAX:
                return None
            known.values[node.output[0]] = value
    end = known.values.get(output_name)
    if end is None or end.form not in (_Form.LINEAR, _Form.LOGISTIC):
        return None
    if end.rows.size != width + 1 or not np.isfinite(end.rows).all():
        return None
    rows = end.rows.reshape(width + 1)
    link = Link.LOG_ODDS if end.form is _Form.LOGISTIC else Link.IDENTITY
    return LinearForm(rows[:width], float(rows[width]), link)


def _width(model: ModelProto, input_name: str) -> int | None:
    """Columns of the input; None if it is not ``[N, W]`` of doubles, or too wide to follow."""
    for one in model.graph.input:
        if one.name == input_name:
            tensor = one.type.tensor_type
            width = tensor.shape.dim[1].dim_value if len(tensor.shape.dim) == 2 else 0
            good = tensor.elem_type == TensorProto.DOUBLE and width > 0
            return width if good and width * (width + 1) <= _CELLS_MAX else None
    return None


class _Known:
    """Constants, and the values that could be followed so far."""

    def __init__(self, constants: dict[str, Array], values: dict[str, _Value]) -> None:
        self.constants = constants
        self.values = values

    def result(self, node: NodeProto) -> _Value | None:
        """What a node gives; None if that is not known. Takes note of constants."""
        if node.domain not in ("", "ai.onnx") or len(node.output) != 1:
            return None
        if node.op_type == "Constant":
            tensor = _attributes(node).get("value")
            if tensor is not None and tensor.data_location != TensorProto.EXTERNAL:
                self.constants[node.output[0]] = numpy_helper.to_array(tensor)
            return None
        step = _STEPS.get(node.op_type)
        try:
            return None if step is None else step(self, node)
        except (_UnknownError, ValueError, IndexError):
            # numpy says ValueError of shapes that do not fit; only ONNX Runtime need know better.
            return None

    def value(self, name: str) -> _Value:
        """A value that could be followed, whatever its form."""
        if name not in self.values:
            raise _UnknownError
        return self.values[name]

    def rows(self, name: str) -> Array:
        """The rows of a value that is linear."""
        value = self.value(name)
        if value.form is not _Form.LINEAR:
            raise _UnknownError
        return value.rows

    def constant(self, name: str) -> Array:
        """A constant."""
        if name not in self.constants:
            raise _UnknownError
        return self.constants[name]

    def fitting(self, name: str, like: Array) -> Array:
        """A constant that may be broadcast with rows: without the batch's axis, tails aligned."""
        constant = self.constant(name)
        if constant.ndim == like.ndim and constant.shape[0] == 1:
            constant = constant[0]
        if constant.ndim >= like.ndim:
            raise _UnknownError
        constant = constant.reshape((1,) * (like.ndim - 1 - constant.ndim) + constant.shape)
        tail = np.broadcast_shapes(constant.shape, like.shape[1:])
        if int(np.prod(tail)) * len(like) > _CELLS_MAX:
            raise _UnknownError
        return constant

    def pair(self, first: str, second: str) -> tuple[Array, Array]:
        """Rows of two operands of which one may be constant; both of equal rank."""
        if first in self.values and second in self.values:
            one, other = self.rows(first), self.rows(second)
            if one.ndim != other.ndim:
                raise _UnknownError
            return one, other
        if first in self.values:
            rows = self.rows(first)
            return rows, _constant_rows(self.fitting(second, rows), len(rows))
        rows = self.rows(second)
        return _constant_rows(self.fitting(first, rows), len(rows)), rows


def _constant_rows(constant: Array, count: int) -> Array:
    """Rows of a value that is the same whatever the fields are."""
    rows = np.zeros((count, *constant.shape))
    rows[-1] = constant
    return rows


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {one.name: helper.get_attribute_value(one) for one in node.attribute}


def _axes_given(known: _Known, node: NodeProto) -> list[int]:
    if len(node.input) > 1 and node.input[1]:
        return [int(axis) for axis in known.constant(node.input[1]).reshape(-1)]
    return list(_attributes(node).get("axes", ()))


def _axes(known: _Known, node: NodeProto, rank: int) -> list[int]:
    """The axes of a node, as attribute or second input; never the batch's."""
    axes = [axis + rank if axis < 0 else axis for axis in _axes_given(known, node)]
    if not axes or min(axes) <= 0:
        raise _UnknownError
    return axes


def _identity(known: _Known, node: NodeProto) -> _Value:
    return known.value(node.input[0])


def _cast(known: _Known, node: NodeProto) -> _Value:
    if _attributes(node).get("to") != TensorProto.DOUBLE:
        raise _UnknownError
    return known.value(node.input[0])


def _negate(known: _Known, node: NodeProto) -> _Value:
    return _Value(-known.rows(node.input[0]))


def _add(known: _Known, node: NodeProto) -> _Value:
    values = [known.values.get(name) for name in node.input]
    cut = next((one for one in values if one is not None and one.form is _Form.CUT_OFF), None)
    if cut is not None:
        # The exporter's way to be exactly 0 and 1 far out: a logit and what is cut of it, added.
        if any(one is None or one.rows is not cut.rows for one in values):
            raise _UnknownError
        if [one.form for one in values if one is not None and one is not cut] != [_Form.LINEAR]:
            raise _UnknownError
        return _Value(cut.rows, _Form.LOGIT)
    first, second = known.pair(*node.input)
    return _Value(first + second)


def _subtract(known: _Known, node: NodeProto) -> _Value:
    first, second = known.pair(*node.input)
    return _Value(first - second)


def _multiply(known: _Known, node: NodeProto) -> _Value:
    first, second = node.input
    if first in known.constants:
        first, second = second, first
    rows = known.rows(first)
    return _Value(rows * known.fitting(second, rows))


def _divide(known: _Known, node: NodeProto) -> _Value:
    rows = known.rows(node.input[0])
    divisors = known.fitting(node.input[1], rows)
    if not divisors.all():
        raise _UnknownError
    return _Value(rows / divisors)


def _where(known: _Known, node: NodeProto) -> _Value:
    condition, *names = node.input
    first, second = known.pair(*names)
    return _Value(np.where(known.fitting(condition, second), first, second))


def _matmul(known: _Known, node: NodeProto) -> _Value:
    rows, matrix = known.rows(node.input[0]), known.constant(node.input[1])
    if rows.ndim != 2 or matrix.ndim > 2:
        raise _UnknownError
    return _Value(rows @ matrix)


def _gemm(known: _Known, node: NodeProto) -> _Value:
    given = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0, **_attributes(node)}
    rows, matrix = known.rows(node.input[0]), known.constant(node.input[1])
    if given["transA"]:
        raise _UnknownError
    product = given["alpha"] * rows @ (matrix.T if given["transB"] else matrix)
    if len(node.input) > 2 and node.input[2]:
        bias = known.fitting(node.input[2], product)
        product = product + _constant_rows(given["beta"] * bias, len(rows))
    return _Value(product)


def _sum(known: _Known, node: NodeProto) -> _Value:
    rows = known.rows(node.input[0])
    axes = tuple(_axes(known, node, rows.ndim))
    keep = bool(_attributes(node).get("keepdims", 1))
    return _Value(rows.sum(axis=axes, keepdims=keep))


def _running_sum(known: _Known, node: NodeProto) -> _Value:
    rows = known.rows(node.input[0])
    given = _attributes(node)
    (axis,) = _axes(known, node, rows.ndim)
    if given.get("exclusive") or given.get("reverse"):
        raise _UnknownError
    return _Value(rows.cumsum(axis=axis))


def _gather(known: _Known, node: NodeProto) -> _Value:
    rows, places = known.rows(node.input[0]), known.constant(node.input[1])
    axis = _attributes(node).get("axis", 0)
    if axis % rows.ndim == 0 or len(rows) * places.size > _CELLS_MAX:
        raise _UnknownError
    return _Value(np.take(rows, places, axis=axis))


def _shape(change: Callable[[_Known, NodeProto, Array], Array]) -> _Step:
    """A step that moves numbers and changes none, so that the form stays."""

    def step(known: _Known, node: NodeProto) -> _Value:
        value = known.value(node.input[0])
        if value.form in (_Form.CUT_OFF, _Form.LOGIT):
            raise _UnknownError
        return _Value(change(known, node, value.rows), value.form)

    return step


def _squeeze(known: _Known, node: NodeProto, rows: Array) -> Array:
    return rows.squeeze(axis=tuple(_axes(known, node, rows.ndim)))


def _unsqueeze(known: _Known, node: NodeProto, rows: Array) -> Array:
    rank = rows.ndim + len(_axes_given(known, node))
    return np.expand_dims(rows, tuple(_axes(known, node, rank)))


def _reshape(known: _Known, node: NodeProto, rows: Array) -> Array:
    first, *tail = known.constant(node.input[1]).reshape(-1).tolist()
    if first not in (-1, 0) or any(size <= 0 for size in tail):
        raise _UnknownError
    return rows.reshape(len(rows), *tail)


def _flatten(known: _Known, node: NodeProto, rows: Array) -> Array:
    if _attributes(node).get("axis", 1) != 1:
        raise _UnknownError
    return rows.reshape(len(rows), -1)


def _cut(known: _Known, node: NodeProto) -> _Value:
    given = {"lambd": 0.5, "bias": 0.0, **_attributes(node)}
    if given["lambd"] < _CUT_MIN or given["bias"] > 0.0:
        raise _UnknownError
    return _Value(known.rows(node.input[0]), _Form.CUT_OFF)


def _logistic(known: _Known, node: NodeProto) -> _Value:
    value = known.value(node.input[0])
    if value.form not in (_Form.LINEAR, _Form.LOGIT):
        raise _UnknownError
    return _Value(value.rows, _Form.LOGISTIC)


_Step = Callable[[_Known, NodeProto], _Value]
_STEPS: dict[str, _Step] = {
    "Add": _add,
    "Cast": _cast,
    "CumSum": _running_sum,
    "Div": _divide,
    "Flatten": _shape(_flatten),
    "Gather": _gather,
    "Gemm": _gemm,
    "Identity": _identity,
    "MatMul": _matmul,
    "Mul": _multiply,
    "Neg": _negate,
    "ReduceSum": _sum,
    "Reshape": _shape(_reshape),
    "Shrink": _cut,
    "Sigmoid": _logistic,
    "Squeeze": _shape(_squeeze),
    "Sub": _subtract,
    "Unsqueeze": _shape(_unsqueeze),
    "Where": _where,
}
