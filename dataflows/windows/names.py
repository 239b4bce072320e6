"""Entities and texts of a state by their places, and the entities that it has let go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from dataflows.windows.inputs import KeyList, TextList
from dataflows.windows.kernel_types import Ints

Name = TypeVar("Name", bytes, str)

_DIGEST_BYTES = 16
_ROOM_MIN = 64


class Places(Generic[Name]):
    """Names and their places in a list. Not safe for threads.

    Attributes:
        names: all of them; it grows at its end. ``replace`` makes a new list: whoever has the old
            one may go on with the places that it gave.
    """

    def __init__(self) -> None:
        self.replace([])

    def replace(self, names: Iterable[Name]) -> None:
        """Have these names, which are distinct, at places from 0 on, and no others."""
        self.names: list[Name] = list(names)
        self._place_of: dict[Name, int] = {name: place for place, name in enumerate(self.names)}
        # Code -> place (or -1) for the lists that rows came with.
        self._known: WeakKeyDictionary[KeyList | TextList, Ints] = WeakKeyDictionary()

    def extend(self, names: Iterable[Name]) -> None:
        """Add names that are new."""
        for name in names:
            self._place_of[name] = len(self.names)
            self.names.append(name)

    def of(self, names: Sequence[Name]) -> Ints:
        """The places of these names; new ones get a place."""
        place_of = self._place_of
        places = np.empty(len(names), np.int64)
        for i, name in enumerate(names):
            place = place_of.get(name)
            if place is None:
                place = place_of[name] = len(self.names)
                self.names.append(name)
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

    def add(self, keys: Sequence[bytes]) -> None:
        """Know these keys too."""
        if keys:
            self.digests = np.union1d(self.digests, _digests(keys))


def _digests(keys: Sequence[bytes]) -> npt.NDArray[np.bytes_]:
    return np.array([blake2b(key, digest_size=_DIGEST_BYTES).digest() for key in keys], "S16")
