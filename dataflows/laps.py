"""A base that is never written in one go: pieces of it come with each epoch's changes.

A shard's *position* counts the pieces that it has written again, ``PIECES`` to a lap around all its
entities. A file says all that it has to say until every entity of its time was written again, which
is a lap later: then it is needless, and the files since are a base and its changes at once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

# One to an epoch at least would be a handle of so many files: so there are four.
PIECES = 256
_PIECES_MIN = 4
# Written in one go below: it takes some ten milliseconds.
_PIECES_BYTES_MIN = 4 * 1024 * 1024
# How much larger than the base the changes of a lap may be: a resume reads both.
_CHANGES_SHARE_MAX = 2


class Laps:
    """Which pieces come next, and which files are needless then."""

    def __init__(self, base_bytes: int) -> None:
        """After a whole base of that size."""
        self._position = 0
        self._base_bytes = base_bytes
        self._changes_bytes = 0
        # Where the files of the handle ended.
        self._ends = [0]

    @classmethod
    def resumed(cls, parts: Sequence[Mapping[str, Any]], base_bytes: int) -> Laps:
        """As it was when the last of these files of a handle was written.

        Args:
            parts: what the files say.
            base_bytes: how large the first one is.
        """
        laps = cls(base_bytes)
        # A base says nothing of it, and nor do files from before there were pieces.
        saved = [part.get("lap", {}) for part in parts]
        laps._ends = [lap.get("position", 0) for lap in saved]
        laps._position = laps._ends[-1]
        laps._base_bytes = saved[-1].get("base_bytes", base_bytes)
        return laps

    @property
    def is_large(self) -> bool:
        """Whether the base is written piece by piece."""
        return self._base_bytes >= _PIECES_BYTES_MIN

    @property
    def pieces(self) -> range:
        """Those to be written now: the more has changed, the more; none of a small base."""
        first = self._position % PIECES
        if not self.is_large:
            return range(first, first)
        share = self._changes_bytes / (_CHANGES_SHARE_MAX * max(self._base_bytes, 1))
        return range(first, min(first + max(_PIECES_MIN, round(share * PIECES)), PIECES))

    def go_on(self, pieces: range, pieces_bytes: int) -> int:
        """These are about to be written; how many of the handle's first files are needless then."""
        self._position += len(pieces)
        if pieces:
            self._base_bytes = pieces_bytes * PIECES // len(pieces)
        needless = bisect_right(self._ends, self._position - PIECES)
        self._ends = [*self._ends[needless:], self._position]
        return needless

    def weigh(self, changes_bytes: int) -> None:
        """Beside the pieces there was so much."""
        self._changes_bytes = changes_bytes

    @property
    def saved(self) -> dict[str, int]:
        """What to write beside the changes, as their ``lap``."""
        return {"position": self._position, "base_bytes": self._base_bytes}


def pieces_bytes(data: Mapping[str, Any]) -> int:
    """How large the pieces are in what ``Shard.changes`` gave: keys and rows, nearly all of it."""
    pieces = [view["again"] for view in data["views"].values() if "again" in view]
    arrays = [array for piece in pieces for array in (*piece["keys"], *piece["rows"])]
    return sum(getattr(array, "nbytes", 0) for array in arrays)
