"""Room for requests of many rows: those that would only time each other out are refused at once."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

from scorer.errors import OverloadedError

# Rows under way at one time, for each request that may be.
ROWS_PER_REQUEST = 16
# Smaller requests are bounded where they are read and run.
_MANY_ROWS = 512
NOTHING: AbstractContextManager[None] = nullcontext()


class Room:
    """Counts what large requests have, from when they come to when they are answered."""

    def __init__(self, most: int, many: int, what: str) -> None:
        """Once ``most`` of ``what`` would be under way no more is let in.

        What has no more than ``many`` does not count, and what comes alone is always let in.
        """
        self._most = most
        self._many = many
        self._what = what
        self._taken = 0

    def keep(self, count: int) -> AbstractContextManager[None]:
        """Room for what a request has as long as the context.

        Raises:
            OverloadedError: there is none.
        """
        if count <= self._many:
            return NOTHING
        if self._taken and self._taken + count > self._most:
            raise OverloadedError(
                f"{self._taken} {self._what} of large requests are under way already; try again"
                " later"
            )
        self._taken += count
        return _Kept(self, count)

    def leave(self, count: int) -> None:
        """Called at the end of what ``keep`` gave."""
        self._taken -= count


class RowRoom(Room):
    """Room for the rows of large requests.

    A large request goes through reading and running in pieces, of which the batcher sees one at a
    time; only here all its rows count.
    """

    def __init__(self, rows_max: int) -> None:
        """No more than ``rows_max`` rows are under way, but for those of one request."""
        super().__init__(rows_max, _MANY_ROWS, "rows")


class _Kept(AbstractContextManager[None]):
    def __init__(self, room: Room, count: int) -> None:
        self._room = room
        self._count = count

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._room.leave(self._count)
