"""Steps of ONNX graphs that are linear: what each does to the rows that stand for a tensor. Pure.

A tensor of shape ``[N, *tail]``, for a batch of N vectors, stands here as rows of shape
``[width + 1, *tail]``: row ``i`` holds what it gains for each unit of field ``i``, and the last
what it is where all fields are 0. A linear step does to these rows what it does to any batch; a
constant is added to the last alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto, helper

Array = npt.NDArray[Any]
# Of one tensor: 64 MiB of doubles.
CELLS_MAX = 8_000_000
# Where a logistic function cut off is still, to 1e-10, the logistic function.
_CUT_MIN = 25.0


class Form(Enum):
    """What the rows of a value stand for."""

    LINEAR = "the value itself"
    CUT_OFF = "0 near 0; else far beyond, to the same side"
    LOGIT = "the value itself near 0; further out beyond"
    LOGISTIC = "the value is their logistic function"


@dataclass(frozen=True)
class Value:
    """The rows of a tensor, and what they stand for."""

    rows: Array
    form: Form = Form.LINEAR


class UnknownError(Exception):
    """This step is not linear, or not one that we know."""


class Known:
    """Constants, and the values that could be followed so far."""

    def __init__(self, constants: dict[str, Array], values: dict[str, Value]) -> None:
        self.constants = constants
        self.values = values

    def value(self, name: str) -> Value:
        """A value that could be followed, whatever its form."""
        if name not in self.values:
            raise UnknownError
        return self.values[name]

    def rows(self, name: str) -> Array:
        """The rows of a value that is linear."""
        value = self.value(name)
        if value.form is not Form.LINEAR:
            raise UnknownError
        return value.rows

    def constant(self, name: str) -> Array:
        """A constant."""
        if name not in self.constants:
            raise UnknownError
        return self.constants[name]

    def fitting(self, name: str, like: Array) -> Array:
        """A constant that may be broadcast with rows: without the batch's axis, tails aligned."""
        constant = self.constant(name)
        if constant.ndim == like.ndim and constant.shape[0] == 1:
            constant = constant[0]
        if constant.ndim >= like.ndim:
            raise UnknownError
        constant = constant.reshape((1,) * (like.ndim - 1 - constant.ndim) + constant.shape)
        tail = np.broadcast_shapes(constant.shape, like.shape[1:])
        if int(np.prod(tail)) * len(like) > CELLS_MAX:
            raise UnknownError
        return constant

    def pair(self, first: str, second: str) -> tuple[Array, Array]:
        """Rows of two operands of which one may be constant; both of equal rank."""
        if first in self.values and second in self.values:
            one, other = self.rows(first), self.rows(second)
            if one.ndim != other.ndim:
                raise UnknownError
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


def attributes(node: NodeProto) -> dict[str, Any]:
    """A node's attributes by name."""
    return {one.name: helper.get_attribute_value(one) for one in node.attribute}


def _axes_given(known: Known, node: NodeProto) -> list[int]:
    if len(node.input) > 1 and node.input[1]:
        return [int(axis) for axis in known.constant(node.input[1]).reshape(-1)]
    return list(attributes(node).get("axes", ()))


def _axes(known: Known, node: NodeProto, rank: int) -> list[int]:
    """The axes of a node, as attribute or second input; never the batch's."""
    axes = [axis + rank if axis < 0 else axis for axis in _axes_given(known, node)]
    if not axes or min(axes) <= 0:
        raise UnknownError
    return axes


def _identity(known: Known, node: NodeProto) -> Value:
    return known.value(node.input[0])


def _cast(known: Known, node: NodeProto) -> Value:
    if attributes(node).get("to") != TensorProto.DOUBLE:
        raise UnknownError
    return known.value(node.input[0])


def _negate(known: Known, node: NodeProto) -> Value:
    return Value(-known.rows(node.input[0]))


def _add(known: Known, node: NodeProto) -> Value:
    values = [known.values.get(name) for name in node.input]
    cut = next((one for one in values if one is not None and one.form is Form.CUT_OFF), None)
    if cut is not None:
        # The exporter's way to be exactly 0 and 1 far out: a logit and what is cut of it, added.
        if any(one is None or one.rows is not cut.rows for one in values):
            raise UnknownError
        if [one.form for one in values if one is not None and one is not cut] != [Form.LINEAR]:
            raise UnknownError
        return Value(cut.rows, Form.LOGIT)
    first, second = known.pair(*node.input)
    return Value(first + second)


def _subtract(known: Known, node: NodeProto) -> Value:
    first, second = known.pair(*node.input)
    return Value(first - second)


def _multiply(known: Known, node: NodeProto) -> Value:
    first, second = node.input
    if first in known.constants:
        first, second = second, first
    rows = known.rows(first)
    return Value(rows * known.fitting(second, rows))


def _divide(known: Known, node: NodeProto) -> Value:
    rows = known.rows(node.input[0])
    divisors = known.fitting(node.input[1], rows)
    if not divisors.all():
        raise UnknownError
    return Value(rows / divisors)


def _where(known: Known, node: NodeProto) -> Value:
    condition, *names = node.input
    first, second = known.pair(*names)
    return Value(np.where(known.fitting(condition, second), first, second))


def _matmul(known: Known, node: NodeProto) -> Value:
    rows, matrix = known.rows(node.input[0]), known.constant(node.input[1])
    if rows.ndim != 2 or matrix.ndim > 2:
        raise UnknownError
    return Value(rows @ matrix)


def _gemm(known: Known, node: NodeProto) -> Value:
    given = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0, **attributes(node)}
    rows, matrix = known.rows(node.input[0]), known.constant(node.input[1])
    if given["transA"]:
        raise UnknownError
    product = given["alpha"] * rows @ (matrix.T if given["transB"] else matrix)
    if len(node.input) > 2 and node.input[2]:
        bias = known.fitting(node.input[2], product)
        product = product + _constant_rows(given["beta"] * bias, len(rows))
    return Value(product)


def _sum(known: Known, node: NodeProto) -> Value:
    rows = known.rows(node.input[0])
    axes = tuple(_axes(known, node, rows.ndim))
    keep = bool(attributes(node).get("keepdims", 1))
    return Value(rows.sum(axis=axes, keepdims=keep))


def _running_sum(known: Known, node: NodeProto) -> Value:
    rows = known.rows(node.input[0])
    given = attributes(node)
    (axis,) = _axes(known, node, rows.ndim)
    if given.get("exclusive") or given.get("reverse"):
        raise UnknownError
    return Value(rows.cumsum(axis=axis))


def _gather(known: Known, node: NodeProto) -> Value:
    rows, places = known.rows(node.input[0]), known.constant(node.input[1])
    axis = attributes(node).get("axis", 0)
    if axis % rows.ndim == 0 or len(rows) * places.size > CELLS_MAX:
        raise UnknownError
    return Value(np.take(rows, places, axis=axis))


def _shape(change: Callable[[Known, NodeProto, Array], Array]) -> Step:
    """A step that moves numbers and changes none, so that the form stays."""

    def step(known: Known, node: NodeProto) -> Value:
        value = known.value(node.input[0])
        if value.form in (Form.CUT_OFF, Form.LOGIT):
            raise UnknownError
        return Value(change(known, node, value.rows), value.form)

    return step


def _squeeze(known: Known, node: NodeProto, rows: Array) -> Array:
    return rows.squeeze(axis=tuple(_axes(known, node, rows.ndim)))


def _unsqueeze(known: Known, node: NodeProto, rows: Array) -> Array:
    rank = rows.ndim + len(_axes_given(known, node))
    return np.expand_dims(rows, tuple(_axes(known, node, rank)))


def _reshape(known: Known, node: NodeProto, rows: Array) -> Array:
    first, *tail = known.constant(node.input[1]).reshape(-1).tolist()
    if first not in (-1, 0) or any(size <= 0 for size in tail):
        raise UnknownError
    return rows.reshape(len(rows), *tail)


def _flatten(known: Known, node: NodeProto, rows: Array) -> Array:
    if attributes(node).get("axis", 1) != 1:
        raise UnknownError
    return rows.reshape(len(rows), -1)


def _cut(known: Known, node: NodeProto) -> Value:
    given = {"lambd": 0.5, "bias": 0.0, **attributes(node)}
    if given["lambd"] < _CUT_MIN or given["bias"] > 0.0:
        raise UnknownError
    return Value(known.rows(node.input[0]), Form.CUT_OFF)


def _logistic(known: Known, node: NodeProto) -> Value:
    value = known.value(node.input[0])
    if value.form not in (Form.LINEAR, Form.LOGIT):
        raise UnknownError
    return Value(value.rows, Form.LOGISTIC)


Step = Callable[[Known, NodeProto], Value]
STEPS: dict[str, Step] = {
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
