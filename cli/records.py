"""Lines of a stream as records for the log: checked, and with the key that chooses a partition."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

# What a reader of the log accepts in one record; one newline is added.
RECORD_BYTES_MAX = 16 * 1024 * 1024 - 1
_BLOCK_BYTES = 1024 * 1024

Record = tuple[str, bytes]


class BadLineError(Exception):
    """A line is not one JSON object; the message says why.

    Attributes:
        line: its number, from 1.
    """

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line} is not a record: {reason}")
        self.line = line


class RecordReader:
    """Takes a stream of lines apart, block by block, so that it may be of any length.

    Attributes:
        bytes_read: how far it has come in the stream.
    """

    def __init__(self, read: Callable[[int], bytes], key_field: str | None) -> None:
        """Read a stream.

        Args:
            read: gives up to that many bytes, as soon as there are some; none at the end.
            key_field: the field whose value is the key; None takes the whole line.
        """
        self._read = read
        self._line = 0
        self._key = _key_of_line if key_field is None else _key_of_field(key_field)
        self.bytes_read = 0

    def blocks(self) -> Iterator[tuple[list[Record], BadLineError | None]]:
        """The records of each block; an error ends them: the line behind them is bad.

        Empty lines are passed over. The last line need not end with a newline.
        """
        rest = b""
        while data := self._read(_BLOCK_BYTES):
            self.bytes_read += len(data)
            head, newline, tail = data.rpartition(b"\n")
            if newline:
                records, error = self._records((rest + head).split(b"\n"))
                yield records, error
                if error is not None:
                    return
                rest = tail
            else:
                rest += data
            if len(rest) > RECORD_BYTES_MAX:
                yield [], self._too_long(self._line + 1)
                return
        if rest:
            yield self._records([rest])

    def _records(self, lines: list[bytes]) -> tuple[list[Record], BadLineError | None]:
        records: list[Record] = []
        for line in lines:
            self._line += 1
            record = line.strip()
            if not record:
                continue
            if len(record) > RECORD_BYTES_MAX:
                return records, self._too_long(self._line)
            try:
                records.append((self._key(record), record))
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                return records, BadLineError(self._line, str(error))
        return records, None

    def _too_long(self, line: int) -> BadLineError:
        return BadLineError(line, f"it is longer than {RECORD_BYTES_MAX} bytes")


def _key_of_line(record: bytes) -> str:
    _ANY_OBJECT.decode(record)
    return record.decode()


def _key_of_field(name: str) -> Callable[[bytes], str]:
    """A function that takes the key out of a record without building the rest of it."""
    kind = msgspec.defstruct("Keyed", [("key", Any, None)], rename={"key": name})
    decode = msgspec.json.Decoder(kind).decode

    def key(record: bytes) -> str:
        keyed: Any = decode(record)
        value = keyed.key
        return value if isinstance(value, str) else msgspec.json.encode(value).decode()

    return key


_ANY_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
