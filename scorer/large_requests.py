"""Large requests: they are looked at before they are read, and read only if there is room for them.

To read a message of ten thousand rows takes milliseconds of the event loop. Fifty of them at once
would use up everybody's time before the first is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError

from scorer.errors import OverloadedError
from scorer.row_room import Room, RowRoom

# To read smaller ones takes no longer than to look at them.
LARGE_BYTES = 32 * 1024
_ROWS = "rows"
_FILE = "headwater/outlines.proto"


class Unread:
    """Stands for a large request that has not been read.

    Attributes:
        request_id: of the request, once it has been read.
        size: of the message, bytes.
    """

    request_id = ""

    def __init__(
        self, data: bytes, read: Callable[[bytes], Any], outline: type[Any] | None
    ) -> None:
        """``read`` makes a message of ``data``, ``outline`` one whose rows are only bytes."""
        self.size = len(data)
        self._data = data
        self._read = read
        self._outline = outline

    def rows(self) -> int:
        """How many rows it has; 0 where that cannot be seen."""
        if self._outline is None:
            return 0
        try:
            return len(self._outline.FromString(self._data).rows)
        except DecodeError:
            # Whoever reads it will say so.
            return 0

    def message(self) -> Any:
        """What it says."""
        message = self._read(self._data)
        self._data = b""
        self.request_id = getattr(message, "request_id", "")
        return message


class MessageRoom:
    """Counts the bytes and rows of large requests from when they come to when they are answered."""

    def __init__(self, bytes_max: int, rows_max: int) -> None:
        """More than that is not let in, but for one that comes alone."""
        self._bytes = Room(bytes_max, LARGE_BYTES, "bytes")
        self._rows = RowRoom(rows_max)

    def keep(self, request: Unread) -> AbstractContextManager[object]:
        """Room for a request as long as the context. OverloadedError if there is none."""
        kept = ExitStack()
        kept.enter_context(self._bytes.keep(request.size))
        try:
            kept.enter_context(self._rows.keep(request.rows()))
        except OverloadedError:
            kept.close()
            raise
        return kept


@cache
def outline_of(message: Descriptor) -> type[Any] | None:
    """A message with nothing but the rows of that one, as bytes; None if that has none."""
    field = message.fields_by_name.get(_ROWS)
    if field is None or field.message_type is None:
        return None
    file = descriptor_pb2.FileDescriptorProto(name=_FILE, syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    file.message_type.add(name=message.name).field.add(
        name=_ROWS, number=field.number, type=kinds.TYPE_BYTES, label=kinds.LABEL_REPEATED
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(message.name))
