"""Entities and texts of a state by their places, and the entities that it has let go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from dataflows.windows.compiled import compiled
from dataflows.windows.inputs import KeyList, TextList
from dataflows.windows.kernel_types import Ints

Name = TypeVar("Name", bytes, str)

_DIGEST_BYTES = 16
_ROOM_MIN = 64
_FREE = -1


class Places(Generic[Name]):
    """Names and their places in a list. Not safe for threads.

    There are many of them, and a dictionary would take as much memory as the names themselves. So
    places are found in a table of four bytes each, by the names' hashes: a name's place stands at
    its hash or, if others stand there, at the first free row behind it.

    Attributes:
        names: all of them; it grows at its end. ``replace`` makes a new list: whoever has the old
            one may go on with the places that it gave.
    """

    def __init__(self) -> None:
        self.replace([])

    def replace(self, names: Iterable[Name]) -> None:
        """Have these names, which are distinct, at places from 0 on, and no others."""
        self.names: list[Name] = list(names)
        self._make_table()
        # Code -> place (or -1) for the lists that rows came with.
        self._known: WeakKeyDictionary[KeyList | TextList, Ints] = WeakKeyDictionary()

    def of(self, names: Sequence[Name]) -> Ints:
        """The places of these names; new ones get a place."""
        if 2 * (len(self.names) + len(names)) > len(self._table):
            self._make_table(len(names))
        known, table, last = self.names, self._table.data, len(self._table) - 1
        places = np.empty(len(names), np.int64)
        for i, name in enumerate(names):
            row = hash(name) & last
            while (place := table[row]) >= 0 and known[place] != name:
                row = (row + 1) & last
            if place < 0:
                place = table[row] = len(known)
                known.append(name)
            places[i] = place
        return places

    def of_codes(self, source: KeyList | TextList, names: Sequence[Name], codes: Ints) -> Ints:
        """``of`` the members of ``names`` (which grows with ``source``) that ``codes`` index.

        Each is looked up once only.
        """
        known = self._known.get(source)
        if known is None or len(known) < len(names):
            grown = np.full(max(_ROOM_MIN, 2 * len(names)), -1, np.int64)
            if known is not None:
                grown[: len(known)] = known
            known = self._known[source] = grown
        places = known[codes]
        if len(places) and places.min() < 0:
            new = np.unique(codes[places < 0])
            known[new] = self.of([names[code] for code in new.tolist()])
            places = known[codes]
        return places

    def _make_table(self, more: int = 0) -> None:
        """A table for all names and some more; at most half of its rows are taken."""
        count = len(self.names)
        self._table = np.full(1 << (2 * (count + more)).bit_length(), _FREE, np.int32)
        hashes = np.fromiter(map(hash, self.names), np.int64, count)
        _fill(self._table, hashes)


@compiled
def _fill(table: npt.NDArray[np.int32], hashes: Ints) -> None:
    """Put the places of distinct names, whose hashes these are, into an empty table."""
    last = table.shape[0] - 1
    for place in range(hashes.shape[0]):
        row = hashes[place] & last
        while table[row] >= 0:
            row = (row + 1) & last
        table[row] = place


def joined(keys: Sequence[bytes]) -> tuple[npt.NDArray[np.uint8], Ints]:
    """(all keys one behind the other, the end of each): far cheaper to store than as objects."""
    ends = np.cumsum(np.fromiter(map(len, keys), np.int64, len(keys)))
    return np.frombuffer(bytearray().join(keys), np.uint8), ends


def parted(keys: tuple[npt.NDArray[np.uint8], Ints]) -> list[bytes]:
    """The keys that were ``joined``."""
    data, ends = keys[0].tobytes(), keys[1].tolist()
    return [data[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


def told_keys(parts: Iterable[dict[str, Any]]) -> list[bytes]:
    """All keys of a state, of which its parts tell some each, see ``ViewState.load``."""
    return _placed(_told(parts, "first_key", "keys", parted))


def told_texts(parts: Iterable[dict[str, Any]]) -> list[str]:
    """As ``told_keys``."""
    return _placed(_told(parts, "first_text", "texts", list))


def _told(
    parts: Iterable[dict[str, Any]], first: str, names: str, make: Callable[[Any], list[Name]]
) -> Iterator[tuple[int, list[Name]]]:
    """Where names begin that a part tells, and the names."""
    count = 0
    for part in parts:
        new = make(part[names])
        # A base does not say where it begins, and nor do files from before there were pieces.
        begin = part.get(first, count)
        count = begin + len(new)
        yield begin, new
        if again := part.get("again"):
            yield again[first], make(again[names])


def _placed(parts: Iterable[tuple[int, Sequence[Name]]]) -> list[Name]:
    """The list of which these are parts, in any order: where one begins, and the names there."""
    names: list[Name | None] = []
    for first, some in parts:
        names.extend([None] * (first + len(some) - len(names)))
        names[first : first + len(some)] = some
    known = [name for name in names if name is not None]
    assert len(known) == len(names), "a name was never told"
    return known


class Faded:
    """Keys of entities that are known but not held: sixteen bytes of each."""

    def __init__(self, digests: npt.NDArray[np.bytes_] | None = None) -> None:
        self.digests = np.empty(0, f"S{_DIGEST_BYTES}") if digests is None else digests

    def places(self, keys: Sequence[bytes]) -> list[int]:
        """Which of these keys (their places among them) are known."""
        if not len(self.digests) or not keys:
            return []
        wanted = _digests(keys)
        found = np.searchsorted(self.digests, wanted)
        found[found == len(self.digests)] = 0
        return np.flatnonzero(self.digests[found] == wanted).tolist()

    def remove(self, are_meant: Callable[[Sequence[bytes]], npt.NDArray[np.bool_]]) -> None:
        """Know those no more of whose digests this says so."""
        if len(self.digests):
            # What numpy takes for padding are zeros at the end of a digest.
            whole = [digest.ljust(_DIGEST_BYTES, b"\0") for digest in self.digests.tolist()]
            self.digests = self.digests[~are_meant(whole)]

    def add(self, keys: Sequence[bytes]) -> None:
        """Know these keys too."""
        if keys:
            self.digests = np.union1d(self.digests, _digests(keys))


def _digests(keys: Sequence[bytes]) -> npt.NDArray[np.bytes_]:
    return np.array([blake2b(key, digest_size=_DIGEST_BYTES).digest() for key in keys], "S16")
