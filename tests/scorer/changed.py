"""Messages that are almost right: hypothesis changes good ones here and there."""

from __future__ import annotations

import math
import struct
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

# What a field may be mistaken for: names of the small shop, and of nothing.
WORDS = (
    "",
    "fraud",
    "nobody",
    "../fraud",
    "fraud\x00",
    "1",
    "-1",
    "01",
    "9" * 30,
    "champion",
    "shadow",
    "card",
    "amount",
    "items",
    "gift",
    "origin",
    "JFK",
    "trip",
    "elsewhere",
    "card_1h:spent",
    "card_1h:town",
    "batch_view:income",
    "no:such",
    ":",
    "features",
    "score",
    "FP64",
    "FP32",
    "FP16",
    "INT64",
    "BOOL",
    "BYTES",
    "é😀\u202e\x00\n",
    "x" * 5_000,
)
NUMBERS = (0.0, -0.0, 1.0, 2.5, -1e308, 1e308, 5e-324, math.nan, math.inf, -math.inf)
_INTEGERS = (0, 1, -1, 2, 3, 42, 2**31 - 1, -(2**31), 2**31, 2**53 + 1, 2**63 - 1, -(2**63))
_UNSIGNED = (0, 1, 2, 2**32 - 1, 2**64 - 1)
_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
}
_BYTES = (b"", b"JFK", b"\xff\xfe", struct.pack("<q", 42), struct.pack("<6d", *range(6)), bytes(99))


@st.composite
def changed(draw: st.DrawFn, good: Message, changes_max: int = 4) -> Message:
    """A copy of a message with some changes."""
    message = type(good)()
    message.CopyFrom(good)
    for _ in range(draw(st.integers(1, changes_max))):
        _change(draw, message)
    return message


@st.composite
def changed_bytes(draw: st.DrawFn, good: bytes) -> bytes:
    """A copy of bytes with some cut out, put in or overwritten; or any bytes at all."""
    data = bytearray(good if draw(st.booleans()) else draw(st.binary(max_size=200)))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(data)))
        end = draw(st.integers(place, min(len(data), place + 8)))
        data[place:end] = draw(st.binary(max_size=8))
    return bytes(data)


def _change(draw: st.DrawFn, message: Message) -> None:
    """One change in one field, somewhere in the message."""
    fields: list[Any] = list(message.DESCRIPTOR.fields)
    if not fields:
        return
    field = draw(st.sampled_from(fields))
    if draw(st.integers(0, 9)) == 0:
        message.ClearField(field.name)
    elif field.message_type is not None and field.message_type.GetOptions().map_entry:
        _change_map(draw, getattr(message, field.name), field.message_type)
    elif field.is_repeated:
        _change_list(draw, getattr(message, field.name), field)
    elif field.message_type is not None:
        part = getattr(message, field.name)
        part.SetInParent()
        _change(draw, part)
    else:
        setattr(message, field.name, _scalar(draw, field))


def _change_map(draw: st.DrawFn, entries: Any, entry: Any) -> None:
    known = sorted(entries)
    key_field, value_field = entry.fields_by_name["key"], entry.fields_by_name["value"]
    what = draw(st.sampled_from(("in", "out", "new")))
    if what == "out" and known:
        del entries[draw(st.sampled_from(known))]
        return
    key = draw(st.sampled_from(known)) if known and what == "in" else _scalar(draw, key_field)
    if value_field.message_type is None:
        entries[key] = _scalar(draw, value_field)
    else:
        _change(draw, entries[key])


def _change_list(draw: st.DrawFn, parts: Any, field: FieldDescriptor) -> None:
    what = draw(st.sampled_from(("in", "out", "new", "again")))
    place = draw(st.integers(0, len(parts) - 1)) if parts else 0
    if what == "out" and parts:
        del parts[place]
    elif what == "again" and parts:
        parts.extend([parts[place]] * draw(st.sampled_from((1, 2, 60))))
    elif field.message_type is None:
        if what == "in" and parts:
            parts[place] = _scalar(draw, field)
        else:
            parts.append(_scalar(draw, field))
    else:
        _change(draw, parts[place] if what == "in" and parts else parts.add())


def _scalar(draw: st.DrawFn, field: FieldDescriptor) -> Any:
    kind = field.cpp_type
    if field.type == FieldDescriptor.TYPE_BYTES:
        return draw(st.sampled_from(_BYTES) | st.binary(max_size=20))
    if kind == FieldDescriptor.CPPTYPE_STRING:
        text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
        return draw(st.sampled_from(WORDS) | text)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return draw(st.booleans())
    if kind in _RANGES:
        low, high = _RANGES[kind]
        usual = [one for one in (*_INTEGERS, *_UNSIGNED) if low <= one <= high]
        return draw(st.sampled_from(usual) | st.integers(low, high))
    return draw(st.sampled_from(NUMBERS) | st.floats())
