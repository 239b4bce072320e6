"""What the tensors of a request mean to a model: vectors as they are, or rows to read for."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.category import category_code
from contracts.feature_schema import ValueType
from scorer.errors import InvalidRequestError
from scorer.inference_tensors import BYTES, Encoded, Tensor, decoded
from scorer.model import INPUT
from scorer.scoring import PIECE_ROWS
from scorer.vector_plan import Scalar, VectorPlan

# A BOOL tensor NAME.null says in which rows the input NAME is unknown.
NULL_SUFFIX = ".null"
DATATYPES: dict[ValueType, str] = {
    "float64": "FP64",
    "int64": "INT64",
    "bool": "BOOL",
    "string": BYTES,
}
_FLOATS = frozenset(("FP32", "FP64"))
_INTEGERS = frozenset(("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"))
_ACCEPTED: dict[ValueType, frozenset[str]] = {
    "float64": _FLOATS | _INTEGERS,
    "int64": _INTEGERS,
    "bool": frozenset(("BOOL",)),
    "string": frozenset((BYTES,)),
}
_INT64_MAX = 2**63 - 1
_DECIMAL = re.compile(rb"-?[0-9]{1,19}")


def vectors_of(
    plan: VectorPlan, tensors: Mapping[str, Encoded], rows_max: int
) -> NDArray[np.float64] | None:
    """The vectors that a request brings, float64; None if it brings inputs instead.

    They come as one tensor ``features`` [N, W], or as one [N] or [N, 1] for each field by its name.
    Whether a shape is [N, W] is for ``Scoring.score_vectors`` to say.

    Raises:
        InvalidRequestError: the tensors are wrong in themselves, or not what the model takes.
    """
    names = plan.schema.names
    # A model that reads nothing has inputs and fields of the same names: then nulls may be told.
    if _inputs(plan, tensors) == plan.input_types.keys():
        return None
    if tensors.keys() == {INPUT}:
        return _matrix(decoded(tensors[INPUT], rows_max))
    if tensors.keys() != set(names):
        return None
    columns = [decoded(tensors[name], rows_max) for name in names]
    _check_rows(columns)
    for tensor in columns:
        _one_column(tensor)
    fields = zip(plan.schema.fields, columns, strict=True)
    return np.column_stack(
        [_field(tensor, is_text=field.dtype == "string") for field, tensor in fields]
    )


async def rows_of(
    plan: VectorPlan, tensors: Mapping[str, Encoded], rows_max: int
) -> list[dict[str, Scalar]]:
    """The rows of inputs that a request brings: a tensor [N] or [N, 1] for each input by its name.

    Others get their turn in between: thousands of rows take milliseconds.

    Raises:
        InvalidRequestError: the tensors are wrong in themselves, or not what the model takes.
    """
    given = _inputs(plan, tensors)
    if given != plan.input_types.keys():
        raise InvalidRequestError(_wrong_inputs(plan, given))
    all_tensors: dict[str, Tensor] = {}
    for name, one in tensors.items():
        all_tensors[name] = decoded(one, rows_max)
        if all_tensors[name].shape[0] > PIECE_ROWS:
            await asyncio.sleep(0)
    _check_rows(list(all_tensors.values()))
    columns = []
    for name in plan.input_types:
        tensor = all_tensors[name]
        columns.append(_column(plan, tensor, _nulls(tensor, all_tensors.get(name + NULL_SUFFIX))))
        if tensor.shape[0] > PIECE_ROWS:
            await asyncio.sleep(0)
    names = list(plan.input_types)
    rows: list[dict[str, Scalar]] = []
    for start in range(0, max(map(len, columns), default=0), PIECE_ROWS):
        if start:
            await asyncio.sleep(0)
        piece = [column[start : start + PIECE_ROWS] for column in columns]
        rows += [dict(zip(names, row, strict=True)) for row in zip(*piece, strict=True)]
    return rows


def _inputs(plan: VectorPlan, tensors: Mapping[str, Encoded]) -> set[str]:
    """Names of the tensors, but for those that say which values of another are null."""
    return {
        name
        for name in tensors
        if name in plan.input_types or name.removesuffix(NULL_SUFFIX) not in plan.input_types
    }


def _field(tensor: Tensor, *, is_text: bool) -> NDArray[np.float64]:
    """One column of vectors: numbers as they are, and codes of texts."""
    if not isinstance(tensor.values, list):
        return np.asarray(tensor.values, dtype=np.float64)
    if not is_text:
        raise InvalidRequestError(f"tensor {tensor.name!r} is BYTES; give numbers")
    texts = [_text(tensor.name, row, value) for row, value in enumerate(tensor.values)]
    return np.array([category_code(text) for text in texts])


def _matrix(tensor: Tensor) -> NDArray[np.float64]:
    if tensor.datatype not in _FLOATS:
        raise InvalidRequestError(f"tensor {INPUT!r} is {tensor.datatype}; give FP64 or FP32")
    return np.asarray(tensor.values, dtype=np.float64).reshape(tensor.shape)


def _check_rows(tensors: list[Tensor]) -> None:
    """Refuse tensors that do not all have as many rows."""
    for tensor in tensors:
        first = tensors[0]
        if tensor.shape[0] != first.shape[0]:
            raise InvalidRequestError(
                f"tensor {tensor.name!r:.120} has {tensor.shape[0]} rows and {first.name!r:.120} "
                f"has {first.shape[0]}; give as many of each"
            )


def _one_column(tensor: Tensor) -> None:
    if len(tensor.shape) == 2 and tensor.shape[1] != 1:
        raise InvalidRequestError(
            f"tensor {tensor.name!r:.120} has shape {list(tensor.shape)}; give [rows] or [rows, 1]"
        )


def _column(plan: VectorPlan, tensor: Tensor, nulls: NDArray[np.bool_]) -> list[Any]:
    """The values of an input; None where it is null, or NaN in a tensor of floats."""
    _one_column(tensor)
    kinds = plan.input_types[tensor.name]
    accepted = frozenset.intersection(*(_ACCEPTED[kind] for kind in kinds))
    decimal = tensor.name in plan.entity_inputs and all(kind == "int64" for kind in kinds)
    if tensor.datatype not in accepted and not (decimal and tensor.datatype == BYTES):
        wanted = DATATYPES[kinds[0]]
        raise InvalidRequestError(
            f"tensor {tensor.name!r} is {tensor.datatype}; this model takes it as {wanted}"
        )
    if isinstance(tensor.values, list):
        convert = _decimal if decimal else _text
        return [
            None if null else convert(tensor.name, row, value)
            for row, (null, value) in enumerate(zip(nulls.tolist(), tensor.values, strict=True))
        ]
    if tensor.datatype in _FLOATS:
        nulls = nulls | np.isnan(tensor.values)
    values: list[Any] = tensor.values.tolist()
    for row in nulls.nonzero()[0].tolist():
        values[row] = None
    for row, value in enumerate(values) if tensor.datatype == "UINT64" else ():
        if value is not None and value > _INT64_MAX:
            raise InvalidRequestError(f"rows[{row}]: input {tensor.name!r} is over {_INT64_MAX}")
    return values


def _nulls(tensor: Tensor, nulls: Tensor | None) -> NDArray[np.bool_]:
    """In which rows an input is null."""
    if nulls is None:
        return np.zeros(tensor.shape[0], dtype=np.bool_)
    _one_column(nulls)
    if nulls.datatype != "BOOL":
        raise InvalidRequestError(f"tensor {nulls.name!r} is {nulls.datatype}; give BOOL")
    return np.asarray(nulls.values, dtype=np.bool_)


def _text(name: str, row: int, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidRequestError(f"rows[{row}]: input {name!r} is not UTF-8") from None


def _decimal(name: str, row: int, value: bytes) -> int:
    number = int(value) if _DECIMAL.fullmatch(value) else None
    if number is None or not -_INT64_MAX - 1 <= number <= _INT64_MAX:
        raise InvalidRequestError(
            f"rows[{row}]: input {name!r} is an int64 key; give INT64, or BYTES with its digits"
        )
    return number


def _wrong_inputs(plan: VectorPlan, given: set[str]) -> str:
    inputs = ", ".join(
        f"{name} ({DATATYPES[kinds[0]]})" for name, kinds in sorted(plan.input_types.items())
    )
    ways = (
        f"give all of: {inputs:.500}; or only {INPUT!r}, vectors of width {plan.width}; "
        "or each field of the vector"
    )
    unknown = given - plan.input_types.keys()
    if unknown:
        return f"unknown tensor {min(unknown)!r:.120}; {ways}"
    return f"tensor {min(plan.input_types.keys() - given)!r} is missing; {ways}"
