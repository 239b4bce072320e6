"""Just enough of gRPC's wire format to ask one method over and over at little cost.

A Python client of ``grpc.aio`` takes as much CPU time for a call as the server that it measures,
and on two cores it would be the limit. This one knows the requests beforehand: the headers are the
same bytes each time (after the first request, which fills the server's table of headers), and of an
answer only the message is looked at. It keeps to flow control, answers pings, and takes every
reset, early end or lost connection as the end of the measurement.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 0x1, 0x4, 0x1
_HEADER_TABLE_SIZE, _INITIAL_WINDOW, _FRAME_SIZE = 1, 4, 5
_WINDOW_MAX = 2**31 - 1
_WINDOW_DEFAULT = 65_535
# Told to the server long before the window that it was given at first is used up.
_RETURN_BYTES = 2**28
_FRAME_HEAD, _MESSAGE_HEAD = 9, 5
# Indices of HPACK's static table.
_METHOD_POST, _SCHEME_HTTP, _AUTHORITY, _PATH, _CONTENT_TYPE = 3, 6, 1, 4, 31
_DYNAMIC = 62

Answered = Callable[[int, bytes], None]


class WireError(Exception):
    """The server did not answer as it should; the message is what it said."""


class GrpcConnection(asyncio.Protocol):
    """One connection: ``send`` as often as you like, then ``flush``.

    ``answered(number, message)`` is called for each answer, ``failed(error)`` at most once. What
    ``answered`` sends goes out with one write when all that came with it has been looked at.
    """

    def __init__(
        self, path: str, authority: str, answered: Answered, failed: Callable[[Exception], None]
    ) -> None:
        self._answered = answered
        self._failed = failed
        headers: list[tuple[int | str, str]] = [
            (_PATH, path),
            (_AUTHORITY, authority),
            (_CONTENT_TYPE, "application/grpc"),
            ("te", "trailers"),
            ("grpc-timeout", "10S"),
        ]
        pseudo = bytes([0x80 | _METHOD_POST, 0x80 | _SCHEME_HTTP])
        self._next_block = pseudo + bytes(
            0x80 | (_DYNAMIC + len(headers) - 1 - place) for place in range(len(headers))
        )
        self._block = pseudo + b"".join(_indexed(name, value) for name, value in headers)
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._held: deque[tuple[int, bytes]] = deque()
        self._input = b""
        self._messages: dict[int, bytes] = {}
        self._numbers: dict[int, int] = {}
        self._stream = 1
        self._window = self._stream_window = _WINDOW_DEFAULT
        self._frame_size = 16_384
        self._taken = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello, with windows so large that the server never waits for us."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        settings = _INITIAL_WINDOW.to_bytes(2, "big") + _WINDOW_MAX.to_bytes(4, "big")
        grant = (_WINDOW_MAX - _WINDOW_DEFAULT).to_bytes(4, "big")
        self._out = [PREFACE, _frame(_SETTINGS, 0, 0, settings), _frame(_WINDOW, 0, 0, grant)]
        self.flush()

    def connection_lost(self, error: Exception | None) -> None:
        """Nobody closes a connection that is still wanted."""
        if self._numbers or error is not None:
            self._failed(WireError(f"the server closed the connection: {error}"))

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def send(self, number: int, message: bytes) -> None:
        """Ask; the answer comes with the same number."""
        if self._held or len(message) + _MESSAGE_HEAD > self._window:
            self._held.append((number, message))
            return
        size = len(message) + _MESSAGE_HEAD
        if size > self._stream_window:
            self._failed(WireError(f"a request of {size} bytes; the server takes {self._window}"))
            return
        stream, self._stream = self._stream, self._stream + 2
        self._numbers[stream] = number
        self._window -= size
        self._out.append(_frame(_HEADERS, _END_HEADERS, stream, self._block))
        self._block = self._next_block
        body = b"\0" + len(message).to_bytes(4, "big") + message
        for start in range(0, size, self._frame_size):
            piece = body[start : start + self._frame_size]
            last = _END_STREAM if start + self._frame_size >= size else 0
            self._out.append(_frame(_DATA, last, stream, piece))

    def flush(self) -> None:
        """Write what was sent."""
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
            self._out.clear()

    def data_received(self, data: bytes) -> None:
        """Look at all whole frames."""
        data = self._input + data if self._input else data
        start, end = 0, len(data)
        while end - start >= _FRAME_HEAD:
            stop = start + _FRAME_HEAD + int.from_bytes(data[start : start + 3], "big")
            if stop > end:
                break
            stream = int.from_bytes(data[start + 5 : start + 9], "big")
            self._frame(data[start + 3], data[start + 4], stream, data[start + 9 : stop])
            start = stop
        self._input = data[start:]
        self.flush()

    def _frame(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        if kind == _DATA:
            self._messages[stream] = self._messages.get(stream, b"") + body
            self._count(len(body))
        elif kind == _HEADERS:
            if flags & _END_STREAM:
                self._end(stream, body)
        elif kind == _WINDOW:
            if not stream:
                self._window += int.from_bytes(body, "big")
                self._release()
        elif kind == _SETTINGS:
            if not flags & _ACK:
                self._set(body)
        elif kind == _PING:
            if not flags & _ACK:
                self._out.append(_frame(_PING, _ACK, 0, body))
        elif kind in (_RESET, _GOAWAY):
            self._failed(WireError(f"the server gave up on stream {stream}: {body!r}"))

    def _end(self, stream: int, trailers: bytes) -> None:
        message = self._messages.pop(stream, None)
        number = self._numbers.pop(stream)
        if message is None or len(message) != _MESSAGE_HEAD + int.from_bytes(message[1:5], "big"):
            self._failed(WireError(f"a call failed: {trailers!r}"))
            return
        self._answered(number, message[_MESSAGE_HEAD:])

    def _count(self, size: int) -> None:
        self._taken += size
        if self._taken >= _RETURN_BYTES:
            self._out.append(_frame(_WINDOW, 0, 0, self._taken.to_bytes(4, "big")))
            self._taken = 0

    def _set(self, body: bytes) -> None:
        for start in range(0, len(body), 6):
            name = int.from_bytes(body[start : start + 2], "big")
            value = int.from_bytes(body[start + 2 : start + 6], "big")
            if name == _INITIAL_WINDOW:
                self._stream_window = value
            elif name == _FRAME_SIZE:
                self._frame_size = value
            elif name == _HEADER_TABLE_SIZE and value < 4_096:
                self._failed(WireError(f"a server with a table of headers of {value} bytes"))
        self._out.append(_frame(_SETTINGS, _ACK, 0, b""))

    def _release(self) -> None:
        held, self._held = self._held, deque()
        for number, message in held:
            self.send(number, message)


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    head = len(body).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
    return head + body


def _indexed(name: int | str, value: str) -> bytes:
    """A header that goes into the server's table (HPACK: literal with incremental indexing)."""
    head = bytes([0x40 | name]) if isinstance(name, int) else b"\x40" + _text(name)
    return head + _text(value)


def _text(text: str) -> bytes:
    assert len(text) < 127, text
    return bytes([len(text)]) + text.encode("ascii")
