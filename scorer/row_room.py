"""Room for requests of many rows: those that would only time each other out are refused at once."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

from scorer.errors import OverloadedError

# Rows under way at one time, for each request that may be.
ROWS_PER_REQUEST = 16
# Smaller requests are bounded where they are read and run.
_MANY_ROWS = 512
_NOTHING: AbstractContextManager[None] = nullcontext()


class RowRoom:
    """Counts the rows of large requests from when they come to when they are answered.

    A large request goes through reading and running in pieces, of which the batcher sees one at a
    time; only here all its rows count.
    """

    def __init__(self, rows_max: int) -> None:
        """Once ``rows_max`` rows are under way no more are let in."""
        self._rows_max = rows_max
        self._rows = 0

    def keep(self, rows: int) -> AbstractContextManager[None]:
        """Room for the rows of a request as long as the context.

        Raises:
            OverloadedError: there is none.
        """
        if rows <= _MANY_ROWS:
            return _NOTHING
        if self._rows >= self._rows_max:
            raise OverloadedError(
                f"{self._rows} rows of large requests are under way already; try again later"
            )
        self._rows += rows
        return _Kept(self, rows)

    def leave(self, rows: int) -> None:
        """Called at the end of what ``keep`` gave."""
        self._rows -= rows


class _Kept(AbstractContextManager[None]):
    def __init__(self, room: RowRoom, rows: int) -> None:
        self._room = room
        self._rows = rows

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._room.leave(self._rows)
