"""Protobuf messages as protoc would generate them, made here from their descriptors."""

from __future__ import annotations

from typing import Any

from google.protobuf import timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

# Field name -> (type, type name, whether it is `optional`).
_ORDER = {
    "user": (Field.TYPE_STRING, "", False),
    "at": (Field.TYPE_MESSAGE, ".google.protobuf.Timestamp", False),
    "amount": (Field.TYPE_DOUBLE, "", True),
    "items": (Field.TYPE_INT64, "", True),
    "is_gift": (Field.TYPE_BOOL, "", True),
    "kind": (Field.TYPE_ENUM, ".shop.Kind", True),
    "note": (Field.TYPE_STRING, "", True),
    "small": (Field.TYPE_SINT32, "", False),
    "large": (Field.TYPE_UINT64, "", False),
    "weight": (Field.TYPE_FLOAT, "", False),
    "wrapped": (Field.TYPE_MESSAGE, ".google.protobuf.DoubleValue", False),
    "seen": (Field.TYPE_MESSAGE, ".google.protobuf.Timestamp", False),
    "picture": (Field.TYPE_BYTES, "", False),
    "inner": (Field.TYPE_MESSAGE, ".shop.Order.Line", False),
}


def _shop() -> FileDescriptorProto:
    file = FileDescriptorProto(name="shop.proto", package="shop", syntax="proto3")
    file.dependency.extend([timestamp_pb2.DESCRIPTOR.name, wrappers_pb2.DESCRIPTOR.name])
    kind = file.enum_type.add(name="Kind")
    for number, name in enumerate(("UNKNOWN", "WEB", "SHOP")):
        kind.value.add(name=name, number=number)
    file.message_type.add(name="Other")
    order = file.message_type.add(name="Order")
    for number, (name, (type_, type_name, optional)) in enumerate(_ORDER.items(), start=1):
        field = order.field.add(
            name=name,
            number=number,
            type=type_,
            label=Field.LABEL_OPTIONAL,
            type_name=type_name or None,
        )
        if optional:
            field.proto3_optional = True
            field.oneof_index = len(order.oneof_decl)
            order.oneof_decl.add(name=f"_{name}")
    order.field.add(name="tags", number=50, type=Field.TYPE_STRING, label=Field.LABEL_REPEATED)
    order.nested_type.add(name="Box")
    line = order.nested_type.add(name="Line")
    line.field.add(name="user", number=1, type=Field.TYPE_STRING, label=Field.LABEL_OPTIONAL)
    line.field.add(name="at", number=2, type=Field.TYPE_STRING, label=Field.LABEL_OPTIONAL)
    return file


def _old() -> FileDescriptorProto:
    """A file of proto2: required fields, defaults, texts that nobody checks."""
    file = FileDescriptorProto(name="old.proto", package="old", syntax="proto2")
    order = file.message_type.add(name="Order")
    order.field.add(name="user", number=1, type=Field.TYPE_STRING, label=Field.LABEL_REQUIRED)
    order.field.add(name="at", number=2, type=Field.TYPE_STRING, label=Field.LABEL_REQUIRED)
    order.field.add(name="items", number=3, type=Field.TYPE_INT32, label=Field.LABEL_OPTIONAL)
    order.field.add(
        name="boxes", number=4, type=Field.TYPE_INT32, label=Field.LABEL_OPTIONAL, default_value="7"
    )
    return file


def _classes() -> dict[str, Any]:
    pool = DescriptorPool()
    for module in (timestamp_pb2, wrappers_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    pool.Add(_shop())
    pool.Add(_old())
    names = ("shop.Other", "shop.Order", "old.Order")
    return {name: GetMessageClass(pool.FindMessageTypeByName(name)) for name in names}


_CLASSES = _classes()
Other: Any = _CLASSES["shop.Other"]
Order: Any = _CLASSES["shop.Order"]
OldOrder: Any = _CLASSES["old.Order"]
