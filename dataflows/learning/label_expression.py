"""What counts as the truth: an expression over a label's columns, such as ``arr_delay > 15``.

Python's own grammar and meaning, restricted to numbers, column names, parentheses, ``+ - * /``,
comparisons (also chained) and ``and``, ``or``, ``not``.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LENGTH_MAX = 500

_Doubles = NDArray[np.float64]
_Mask = NDArray[np.bool_]
# A value per row, and where it is undefined because something was divided by zero.
_Value = tuple[_Doubles, _Mask]

_COMPARISONS: dict[type[ast.cmpop], Callable[[_Doubles, _Doubles], _Mask]] = {
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[_Doubles, _Doubles], _Doubles]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_ALLOWED = (
    "column names, numbers, parentheses, + - * /, comparisons (< <= > >= == !=), and, or, not"
)


class LabelExpressionError(ValueError):
    """The expression cannot be used; the message names the part that is to blame."""


@dataclass(frozen=True)
class LabelExpression:
    """A compiled expression; make one with ``compile_label``.

    Attributes:
        source: the text it was compiled from.
        columns: names of the columns it reads, in order of first use.
    """

    source: str
    columns: tuple[str, ...]
    _root: ast.expr

    def evaluate(self, columns: Mapping[str, _Doubles]) -> _Doubles:
        """The value of every row.

        A comparison gives 1.0 or 0.0; ``and`` and ``or`` give one of their operands and skip the
        second one as Python does. A row is NaN where any column that the expression names is
        NaN, and where it divides by zero.

        Args:
            columns: at least ``self.columns``, each float64 of shape ``[n]``.

        Raises:
            KeyError: a column is absent.
        """
        used = {name: np.asarray(columns[name], dtype=np.float64) for name in self.columns}
        missing = np.logical_or.reduce([np.isnan(values) for values in used.values()])
        with np.errstate(all="ignore"):
            values, undefined = _evaluate(self._root, used, missing.shape)
        return np.where(missing | undefined, np.nan, values)


def compile_label(source: str, known_columns: Collection[str] | None = None) -> LabelExpression:
    """Compile an expression, or a bare column name.

    Args:
        source: at most 500 characters.
        known_columns: names that may be used; None for any.

    Raises:
        LabelExpressionError: it is not an expression of the allowed kind, reads no column, or
            reads one that is not known.
    """
    text = source.strip()
    if known_columns is not None and text in known_columns:
        # A column's name need not be a Python name, as long as it stands alone.
        return LabelExpression(source, (text,), ast.Name(id=text, ctx=ast.Load()))
    if len(text) > _LENGTH_MAX:
        raise LabelExpressionError(
            f"label expression is {len(text)} characters long; at most {_LENGTH_MAX} are allowed"
        )
    try:
        root = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else type(error).__name__
        raise LabelExpressionError(
            f"label expression {text!r} cannot be read: {reason}; allowed are {_ALLOWED}"
        ) from error
    columns: dict[str, None] = {}
    _check(root, text, columns)
    if not columns:
        raise LabelExpressionError(f"label expression {text!r} reads no column; name at least one")
    unknown = [name for name in columns if known_columns is not None and name not in known_columns]
    if unknown:
        known = ", ".join(sorted(known_columns or ())) or "none"
        raise LabelExpressionError(
            f"label expression {text!r} reads {unknown[0]!r}, which is not a column of the "
            f"label's source; its columns are: {known}"
        )
    return LabelExpression(source, tuple(columns), root)


def _check(node: ast.expr, source: str, columns: dict[str, None]) -> None:
    """Refuse what is not on the list; collect column names in order of first use."""
    if isinstance(node, ast.Name):
        columns[node.id] = None
    for part in _parts(node, source):
        _check(part, source, columns)


def _parts(node: ast.expr, source: str) -> list[ast.expr]:
    """What an allowed node is made of; LabelExpressionError for any other node."""
    match node:
        case ast.Name():
            return []
        # Python counts True and False among the numbers; here they are not.
        case ast.Constant(value=int() | float() as number) if not isinstance(
            number, bool
        ) and _is_finite(number):
            return []
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.UAdd(), operand=operand):
            return [operand]
        case ast.BoolOp(values=operands):
            return operands
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            return [left, right]
        case ast.Compare(left=left, ops=ops, comparators=others) if all(
            type(op) in _COMPARISONS for op in ops
        ):
            return [left, *others]
    part = ast.get_source_segment(source, node) or source
    raise LabelExpressionError(
        f"label expression {source!r}: {part!r} is not allowed; allowed are {_ALLOWED}"
    )


def _is_finite(number: int | float) -> bool:
    try:
        return math.isfinite(float(number))
    except OverflowError:
        return False


def _evaluate(node: ast.expr, columns: Mapping[str, _Doubles], shape: tuple[int, ...]) -> _Value:
    """Only nodes that ``_check`` let through arrive here."""
    match node:
        case ast.Name(id=name):
            return columns[name], np.zeros(shape, dtype=np.bool_)
        case ast.Constant(value=int() | float() as number):
            return np.full(shape, float(number)), np.zeros(shape, dtype=np.bool_)
        case ast.UnaryOp(op=op, operand=operand):
            values, undefined = _evaluate(operand, columns, shape)
            if isinstance(op, ast.Not):
                return (values == 0.0).astype(np.float64), undefined
            return (-values if isinstance(op, ast.USub) else values), undefined
        case ast.BinOp(left=left, op=op, right=right):
            first, undefined = _evaluate(left, columns, shape)
            second, undefined_too = _evaluate(right, columns, shape)
            undefined = undefined | undefined_too
            if isinstance(op, ast.Div):
                undefined = undefined | (second == 0.0)
            return _ARITHMETIC[type(op)](first, second), undefined
        case ast.BoolOp(op=op, values=operands):
            return _short_circuit(op, operands, columns, shape)
        case ast.Compare(left=left, ops=ops, comparators=others):
            return _compare(left, ops, others, columns, shape)
    raise AssertionError(f"unchecked node {ast.dump(node)}")


def _short_circuit(
    op: ast.boolop,
    operands: list[ast.expr],
    columns: Mapping[str, _Doubles],
    shape: tuple[int, ...],
) -> _Value:
    result, undefined = _evaluate(operands[0], columns, shape)
    for operand in operands[1:]:
        values, undefined_too = _evaluate(operand, columns, shape)
        goes_on = (result != 0.0) if isinstance(op, ast.And) else (result == 0.0)
        undefined = undefined | (goes_on & undefined_too)
        result = np.where(goes_on, values, result)
    return result, undefined


def _compare(
    left: ast.expr,
    ops: list[ast.cmpop],
    others: list[ast.expr],
    columns: Mapping[str, _Doubles],
    shape: tuple[int, ...],
) -> _Value:
    first, undefined = _evaluate(left, columns, shape)
    holds = np.ones(shape, dtype=np.bool_)
    for op, other in zip(ops, others, strict=True):
        second, undefined_too = _evaluate(other, columns, shape)
        # `a < b < c` is `a < b and b < c`: c is not looked at where a < b fails.
        undefined = undefined | (holds & undefined_too)
        holds = holds & _COMPARISONS[type(op)](first, second)
        first = second
    return holds.astype(np.float64), undefined
