"""Replies of many rows of doubles, taken apart without an object for each value."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import hiredis
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scorer.errors import StoreUnavailableError
from scorer.framed_rows import FramedDoubles, FramedReply, doubles_in
from scorer.redis_wire import RedisWire
from scorer.stored_number import doubles_of

_OK = b"+OK\r\n"
Cell = bytes | None
Row = tuple[Cell, ...]

_doubles = st.floats(width=64).map(lambda value: b"\x29" + struct.pack("<d", value))
# Bytes that look like what is around them.
_framing = st.sampled_from([b"\x29$9\r\n)$9\r", b"\x29\r\n\r\n\r\n*2", b"\x29*3\r\n$1\r\n"])
_stamps = st.sampled_from([b"\x08\x01", b"\x08\x80\x8a\x05", b"\x08\x01\x10\xff\xff\xff\xff\x0f"])
_odd = st.sampled_from(
    [None, b"", b"\x20\x05", b"\x20\x05\x01\x01\x01\x01\x01\x01\x01", b"x" * 100]
)


def _plain_rows(cells: int) -> st.SearchStrategy[Row]:
    there = st.tuples(_stamps, *[_doubles | _framing] * cells)
    return there | st.just((None,) * (cells + 1))


def _any_rows(cells: int) -> st.SearchStrategy[Row]:
    return st.tuples(_stamps | _odd, *[_doubles | _framing | _odd] * cells)


_sizes = st.integers(0, 4)
_plain = st.lists(_sizes.flatmap(_plain_rows), min_size=1, max_size=6)
_mixed = st.lists(_sizes.flatmap(_plain_rows) | _sizes.flatmap(_any_rows), min_size=1, max_size=6)


def _sent(value: Any) -> bytes:
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, tuple):
        return b"*%d\r\n" % len(value) + b"".join(map(_sent, value))
    return b"$%d\r\n%b\r\n" % (len(value), value)


class _Ways:
    """How one read of many rows is answered: what comes before and after its rows."""

    def __init__(self, rows: Sequence[Row], is_step: bool) -> None:
        count = len(rows)
        self.before = _OK + b"+QUEUED\r\n" * count + b"*%d\r\n" % count if is_step else _OK
        self.after = b"" if is_step else _OK + b"*0\r\n"
        # Of a step all rows are one reply.
        self.replies = count + 2 if is_step else count + 3
        self.counts = [len(row) for row in rows]
        self.reply = self.before + b"".join(map(_sent, rows)) + self.after

    def framed(self) -> FramedReply:
        return FramedReply(self.before, self.counts, self.after)


class _Transport:
    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        pass

    def abort(self) -> None:
        pass


def _taken(framed: FramedReply) -> list[Row]:
    """Its rows as they were stored."""
    return [
        (stamp, *cells) if cells is not None else (None,) * count
        for (stamp, cells), count in zip(framed.rows, framed._counts, strict=True)
    ]


def _cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    ends = sorted(place % (len(data) + 1) for place in places)
    bounds = [0, *ends, len(data)]
    pieces = [data[start:end] for start, end in pairwise(bounds)]
    return [piece for piece in pieces if piece]


_places = st.lists(st.integers(0, 2_000), max_size=8)


@given(_plain, _places, st.booleans(), st.binary(max_size=9))
def test_rows_of_doubles_are_taken_as_they_are(
    rows: list[Row], places: list[int], is_step: bool, more: bytes
) -> None:
    """Each row comes out as it went in, wherever the packets were cut; what follows is left."""
    ways = _Ways(rows, is_step)
    framed = ways.framed()
    left = b""
    for piece in _cut(ways.reply + more, places):
        left = left + piece if framed.is_done else framed.feed(piece)
        assert not framed.is_odd
    assert framed.is_done
    assert left == more
    assert _taken(framed) == rows


@given(_mixed, _places, st.booleans())
@example([(b"\x08\x01", b"\x29" + bytes(8), None)], [], True)
@example([(b"\x08\x01", None)], [], False)
@example([(b"\x08\x01", b"\x20\x05\x01\x01\x01\x01\x01\x01\x01")], [], False)
def test_all_of_a_reply_is_taken_or_all_of_it_is_left(
    rows: list[Row], places: list[int], is_step: bool
) -> None:
    """With anything but doubles in it a reply is odd once it is all there, and nothing is lost."""
    ways = _Ways(rows, is_step)
    framed = ways.framed()
    fed = b""
    for piece in _cut(ways.reply, places):
        fed += piece
        assert framed.feed(piece) == b""
        if framed.is_odd or framed.is_done:
            break
    assert framed.is_done or framed.is_odd
    if framed.is_done:
        assert _taken(framed) == rows
        cells = [cell for _, row in framed.rows if row is not None for cell in row]
        assert all(cell[:1] == b"\x29" for cell in cells)
    else:
        assert framed.came == fed


@given(
    st.lists(st.tuples(_mixed, st.sampled_from(["step", "watched", "common"])), max_size=4),
    _places,
)
@example([([(b"\x08\x01", None)], "step"), ([(b"\x08\x01", b"\x29" + bytes(8))], "step")], [-9])
@example([([(b"\x08\x01",)], "common"), ([(b"\x08\x01", b"\x29" + bytes(8))], "step")], [-9])
def test_a_wire_answers_as_without_it(
    asked: list[tuple[list[Row], str]], places: list[int]
) -> None:
    """Whatever is asked in turn, each request gets its own replies, as hiredis reads them."""
    ways = [_Ways(rows, kind == "step") for rows, kind in asked]
    kinds = [kind for _, kind in asked]

    async def answered() -> list[Any]:
        wire = RedisWire("here", 10.0, lambda: None)
        wire.connection_made(cast(asyncio.BaseTransport, _Transport()))
        waiting = []
        for one, kind in zip(ways, kinds, strict=True):
            framed = one.framed() if kind != "common" else None
            waiting.append((framed, wire.ask(b"", one.replies, framed)))
        for piece in _cut(b"".join(one.reply for one in ways), places):
            wire.data_received(piece)
        found = [
            _taken(framed) if framed is not None and framed.is_done else await answer
            for framed, answer in waiting
        ]
        wire.end("over")
        return found

    for one, (rows, _), found in zip(ways, asked, asyncio.run(answered()), strict=True):
        reader = hiredis.Reader()
        reader.feed(one.reply)
        assert found in ([reader.gets() for _ in range(one.replies)], rows)


def test_a_refusal_is_not_waited_for() -> None:
    """An error that is shorter than what was expected is told as an error at once."""

    async def answered() -> list[Any]:
        wire = RedisWire("here", 10.0, lambda: None)
        wire.connection_made(cast(asyncio.BaseTransport, _Transport()))
        asked = wire.ask(b"", 4, _Ways([(b"\x08\x01",)] * 2, is_step=True).framed())
        wire.data_received(b"-NOPERM no\r\n" * 3 + b"-EXECABORT\r\n")
        found = await asked
        wire.end("over")
        return found

    assert [type(one) for one in asyncio.run(answered())] == [hiredis.ReplyError] * 4


def test_what_was_taken_in_part_fails_with_the_connection() -> None:
    """A request whose reply has come in part is told that the connection was lost."""

    async def ask() -> None:
        wire = RedisWire("here", 10.0, lambda: None)
        wire.connection_made(cast(asyncio.BaseTransport, _Transport()))
        ways = _Ways([(b"\x08\x01", b"\x29" + bytes(8))] * 3, is_step=False)
        asked = wire.ask(b"", ways.replies, ways.framed())
        wire.data_received(ways.reply[:-5])
        assert not asked.done()
        wire.connection_lost(None)
        with pytest.raises(StoreUnavailableError, match="closed by the server"):
            await asked

    asyncio.run(ask())


@given(st.lists(st.lists(_doubles, min_size=2, max_size=2), min_size=1, max_size=5))
def test_framed_cells_are_cells(rows: list[list[bytes]]) -> None:
    """They have a length, places and slices like a list of cells, and the same values, NaN too."""
    framed = [FramedDoubles(b"".join(map(_sent, row))) for row in rows]
    for row, cells in zip(rows, framed, strict=True):
        assert (len(cells), list(cells), cells[0], cells[-1], cells[1:]) == (
            *(2, row, row[0], row[1]),
            row[1:],
        )
        with pytest.raises(IndexError):
            cells[2]
    expected = np.frombuffer(b"".join(cell[1:] for row in rows for cell in row))
    for some in (framed, [rows[0], *framed[1:]]):
        found = doubles_of(some, 2 * len(rows))
        assert found is not None
        assert found.tobytes() == expected.tobytes()
    assert doubles_in(framed).tobytes() == expected.tobytes()
