"""Protobuf message classes: where they are, the columns they give, their place in their file."""

from __future__ import annotations

import importlib
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import Message

from contracts.plan import Column, ColumnType
from dataflows.sources.columns import BadColumnError

_COLUMN_TYPES: dict[int, ColumnType] = {
    FieldDescriptor.CPPTYPE_STRING: "string",
    FieldDescriptor.CPPTYPE_ENUM: "string",
    FieldDescriptor.CPPTYPE_INT32: "int64",
    FieldDescriptor.CPPTYPE_INT64: "int64",
    FieldDescriptor.CPPTYPE_UINT32: "int64",
    FieldDescriptor.CPPTYPE_UINT64: "int64",
    FieldDescriptor.CPPTYPE_FLOAT: "float64",
    FieldDescriptor.CPPTYPE_DOUBLE: "float64",
    FieldDescriptor.CPPTYPE_BOOL: "bool",
}
TIMESTAMP = "google.protobuf.Timestamp"
# What stood in for optional numbers before proto3 had them.
_WRAPPERS = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String")
)
# A varint longer than this is none; a path of messages longer than this is a mistake.
_VARINT_BYTES_MAX = 10
_PATH_MAX = 100


class ProtobufClassError(ValueError):
    """There is no such message class; the message says what is wrong."""


def message_class(path: str) -> type[Message]:
    """The class at ``package.module_pb2.Message``; a nested one is ``….Outer.Inner``.

    Raises:
        ProtobufClassError: the module cannot be imported or has no such class.
    """
    words = path.split(".")
    if len(words) < 2 or not all(word.isidentifier() for word in words):
        raise ProtobufClassError(f"{path!r} is not of the form package.module_pb2.Message")
    found: Any = None
    for end in range(len(words) - 1, 0, -1):
        module = ".".join(words[:end])
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            # The module itself is missing, or a package on the way to it: try a shorter one.
            if error.name and f"{module}.".startswith(f"{error.name}."):
                continue
            raise ProtobufClassError(f"{module} cannot be imported: {error}") from error
        except Exception as error:
            raise ProtobufClassError(f"{module} cannot be imported: {error}") from error
        for word in words[end:]:
            found = getattr(found, word, None)
        break
    if not isinstance(found, type) or not issubclass(found, Message):
        raise ProtobufClassError(
            f"{path!r} is no message class that can be imported; generate it with protoc, put it "
            "beside definitions.py and write package.module_pb2.Message"
        )
    return found


def message_columns(descriptor: Descriptor) -> tuple[Column, ...]:
    """The fields that can be columns; lists, maps, bytes and other messages are left out."""
    found = []
    for field in descriptor.fields:
        dtype = _column_type(field)
        if dtype is not None:
            found.append(Column(field.name, dtype, _is_nullable(field)))
    return tuple(found)


def _column_type(field: FieldDescriptor) -> ColumnType | None:
    if field.is_repeated or field.type == FieldDescriptor.TYPE_BYTES:
        return None
    inner = field.message_type
    if inner is None:
        return _COLUMN_TYPES[field.cpp_type]
    if inner.full_name == TIMESTAMP:
        return "timestamp"
    if inner.full_name in _WRAPPERS:
        return _column_type(inner.fields_by_name["value"])
    return None


def _is_nullable(field: FieldDescriptor) -> bool:
    """Whether the field may be absent: then it is null, unless it names a default itself."""
    return field.has_presence and not field.is_required and not field.has_default_value


def message_place(descriptor: Descriptor) -> tuple[int, ...]:
    """Where the message stands in its file: its number, or its parents' and then its own."""
    if descriptor.containing_type is not None:
        above = message_place(descriptor.containing_type)
        names = [one.name for one in descriptor.containing_type.nested_types]
    else:
        above = ()
        file = FileDescriptorProto()
        descriptor.file.CopyToProto(file)
        names = [one.name for one in file.message_type]
    return (*above, names.index(descriptor.name))


def place_head(place: tuple[int, ...]) -> bytes:
    """How a message's place is written before it as a rule."""
    if place == (0,):
        return b"\0"
    return b"".join(map(_zigzag, (len(place), *place)))


def _zigzag(number: int) -> bytes:
    number *= 2
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def read_place(record: bytes) -> tuple[tuple[int, ...], int]:
    """The place before a message, and its length; raise BadColumnError if there is none."""
    numbers: list[int] = []
    bits = shift = 0
    for length, byte in enumerate(record, start=1):
        bits |= (byte & 0x7F) << shift
        shift += 7
        if byte > 0x7F and shift < 7 * _VARINT_BYTES_MAX:
            continue
        numbers.append(bits >> 1)
        bits = shift = 0
        if len(numbers) > min(numbers[0], _PATH_MAX):
            return tuple(numbers[1:]) or (0,), length
    raise BadColumnError("ends within the place of its message")
