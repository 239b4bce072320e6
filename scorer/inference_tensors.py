"""Tensors of the Open Inference Protocol: from messages to arrays and back. Pure.

Everything is checked before memory is taken for it: a shape is only a claim, and what it claims
must be in the message.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorer.errors import InvalidRequestError
from scorer.foreign import open_inference_pb2 as wire

# Of an output: numbers, [N] or [N, C], or BYTES, [N].
Values = NDArray[np.float64] | list[bytes]
BYTES = "BYTES"
# No model has so many inputs; looking at more would keep everybody else waiting.
_TENSORS_MAX = 10_000
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class _Kind:
    """A type of numbers: how it lies in raw contents, and its field in typed ones."""

    raw: np.dtype[Any]
    field: str


_KINDS = {
    "BOOL": _Kind(np.dtype("u1"), "bool_contents"),
    "INT8": _Kind(np.dtype("i1"), "int_contents"),
    "INT16": _Kind(np.dtype("<i2"), "int_contents"),
    "INT32": _Kind(np.dtype("<i4"), "int_contents"),
    "INT64": _Kind(np.dtype("<i8"), "int64_contents"),
    "UINT8": _Kind(np.dtype("u1"), "uint_contents"),
    "UINT16": _Kind(np.dtype("<u2"), "uint_contents"),
    "UINT32": _Kind(np.dtype("<u4"), "uint_contents"),
    "UINT64": _Kind(np.dtype("<u8"), "uint64_contents"),
    "FP32": _Kind(np.dtype("<f4"), "fp32_contents"),
    "FP64": _Kind(np.dtype("<f8"), "fp64_contents"),
}
# Hints of KServe's, MLServer's and Triton's clients that say nothing about values.
_HINTS = frozenset(("binary_data", "binary_data_size", "content_type"))


@dataclass(frozen=True, slots=True)
class Encoded:
    """A tensor of a request, not looked into yet; ``raw`` is None if its contents are typed."""

    message: wire.ModelInferRequest.InferInputTensor
    raw: bytes | None


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a request.

    Attributes:
        name: of the tensor.
        datatype: of the protocol.
        shape: ``(N,)`` or ``(N, columns)``.
        values: row by row; bytes for BYTES, else an array of as many numbers.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: NDArray[Any] | list[bytes]


def encoded_tensors(request: wire.ModelInferRequest) -> dict[str, Encoded]:
    """The tensors of a request by name.

    Raises:
        InvalidRequestError: there are too many, two have one name, or raw contents are not one for
            each tensor.
    """
    if len(request.inputs) > _TENSORS_MAX:
        raise InvalidRequestError(f"{len(request.inputs)} tensors, at most {_TENSORS_MAX}")
    raws: Sequence[bytes | None] = request.raw_input_contents
    if not raws:
        raws = [None] * len(request.inputs)
    elif len(raws) != len(request.inputs):
        raise InvalidRequestError(
            f"{len(raws)} raw_input_contents for {len(request.inputs)} tensors; give one for each"
        )
    tensors: dict[str, Encoded] = {}
    for message, raw in zip(request.inputs, raws, strict=True):
        if message.name in tensors:
            raise InvalidRequestError(f"tensor {message.name!r:.120} is there twice; give it once")
        tensors[message.name] = Encoded(message, raw)
    return tensors


def decoded(encoded: Encoded, rows_max: int) -> Tensor:
    """The tensor with its values.

    Raises:
        InvalidRequestError: an unknown datatype or parameter; a shape other than ``[N]`` or
            ``[N, columns]``, with more rows than ``rows_max``, or that is not what the contents
            have; contents in the field of another type, or both raw and typed; a number that its
            type does not have.
    """
    message = encoded.message
    name, datatype = message.name, message.datatype
    if datatype not in _KINDS and datatype != BYTES:
        known = ", ".join((*_KINDS, BYTES))
        raise _wrong(name, f"unknown datatype {datatype!r:.40}; there are: {known}")
    check_hints(message.parameters, f"tensor {name!r:.120}")
    count = _count(message, rows_max)
    if encoded.raw is None:
        values = _typed_values(message, count)
    elif message.contents.ListFields():
        raise _wrong(name, "it has both contents and raw_input_contents; give one of them")
    elif datatype == BYTES:
        values = _raw_texts(name, encoded.raw, count)
    else:
        values = _raw_numbers(name, encoded.raw, datatype, count)
    return Tensor(name, datatype, tuple(message.shape), values)


def check_hints(parameters: Any, where: str) -> None:
    """Refuse parameters that would change what is meant, such as those of shared memory.

    Raises:
        InvalidRequestError: there is one that is not known to be a mere hint.
    """
    for key in parameters:
        if key not in _HINTS:
            raise InvalidRequestError(f"{where}: unknown parameter {key!r:.120}; leave it out")


def _count(message: wire.ModelInferRequest.InferInputTensor, rows_max: int) -> int:
    """How many values the shape claims."""
    # Before anything is computed of it: a request has room for many dimensions.
    if not 1 <= len(message.shape) <= 2:
        raise _wrong(
            message.name, f"its shape has {len(message.shape)} dimensions; give [rows] or [rows, n]"
        )
    rows = message.shape[0]
    columns = message.shape[1] if len(message.shape) == 2 else 1
    if rows < 0 or columns < 0:
        raise _wrong(message.name, f"shape {list(message.shape)} has a negative length")
    if rows > rows_max:
        raise InvalidRequestError(f"{rows} rows, at most {rows_max} in one request: split it")
    if message.datatype == BYTES and columns != 1:
        raise _wrong(
            message.name, f"shape {list(message.shape)}; BYTES come as [rows] or [rows, 1]"
        )
    return rows * columns


def _typed_values(
    message: wire.ModelInferRequest.InferInputTensor, count: int
) -> NDArray[Any] | list[bytes]:
    kind = _KINDS.get(message.datatype)
    field = kind.field if kind else "bytes_contents"
    for other, _ in message.contents.ListFields():
        if other.name != field:
            raise _wrong(message.name, f"{message.datatype} belongs in {field}, not {other.name}")
    given = getattr(message.contents, field)
    if len(given) != count:
        raise _wrong(message.name, f"shape {list(message.shape)} but {len(given)} values")
    if kind is None:
        return list(given)
    if message.datatype == "BOOL":
        return np.array(given, dtype=np.bool_)
    values = np.array(given, dtype=_widest(kind.raw))
    if kind.raw.kind in "iu" and count:
        limits = np.iinfo(kind.raw)
        if values.min() < limits.min or values.max() > limits.max:
            raise _wrong(message.name, f"a value is not a {message.datatype}")
    return values


def _widest(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What holds all that the typed field can: it may be wider than the tensor's type."""
    return np.dtype("u8" if dtype.kind == "u" else "i8" if dtype.kind == "i" else dtype)


def _raw_numbers(name: str, raw: bytes, datatype: str, count: int) -> NDArray[Any]:
    dtype = _KINDS[datatype].raw
    if len(raw) != count * dtype.itemsize:
        raise _wrong(
            name,
            f"{len(raw)} raw bytes; {count} values of {datatype} take {count * dtype.itemsize}",
        )
    values = np.frombuffer(raw, dtype=dtype)
    return values != 0 if datatype == "BOOL" else values


def _raw_texts(name: str, raw: bytes, count: int) -> list[bytes]:
    texts: list[bytes] = []
    place = 0
    while place < len(raw) and len(texts) < count:
        start = place + _LENGTH.size
        if start > len(raw):
            break
        place = start + _LENGTH.unpack_from(raw, start - _LENGTH.size)[0]
        texts.append(raw[start:place])
    if place != len(raw) or len(texts) != count:
        raise _wrong(
            name,
            f"its raw contents are not {count} BYTES values: each is its length in four bytes,"
            " little endian, and then itself",
        )
    return texts


def add_typed_output(response: wire.ModelInferResponse, name: str, values: Values) -> None:
    """Add an output to the answer, its values row by row in the field of their type."""
    shape = [len(values)] if isinstance(values, list) else values.shape
    output = response.outputs.add(name=name, datatype=_datatype(values), shape=shape)
    if isinstance(values, list):
        output.contents.bytes_contents.extend(values)
    else:
        output.contents.fp64_contents.extend(values.reshape(-1).tolist())


def add_raw_output(response: wire.ModelInferResponse, name: str, values: Values) -> None:
    """Add an output to the answer, its values row by row as raw contents."""
    shape = [len(values)] if isinstance(values, list) else values.shape
    response.outputs.add(name=name, datatype=_datatype(values), shape=shape)
    if isinstance(values, list):
        raw = b"".join(_LENGTH.pack(len(text)) + text for text in values)
    else:
        raw = values.astype("<f8", copy=False).tobytes()
    response.raw_output_contents.append(raw)


def _datatype(values: Values) -> str:
    return BYTES if isinstance(values, list) else "FP64"


def _wrong(name: str, what: str) -> InvalidRequestError:
    return InvalidRequestError(f"tensor {name!r:.120}: {what}")
