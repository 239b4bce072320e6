"""What the dataflow asks of an online store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from contracts.online_store import RedisConfig, SqliteConfig
from contracts.plan import View

# A server that takes longer than this to answer is as good as gone.
ANSWER_SECONDS_MAX = 5.0


@dataclass(frozen=True)
class GatheredFile(SqliteConfig):
    """A file in which a replay gathers values, to be put in the place of those of a store."""


class OnlineStoreError(Exception):
    """The online store cannot be written; the message says what to do."""


class OnlineStoreGoneError(OnlineStoreError):
    """The store does not answer now; writing the same again later may do.

    Attributes:
        problem: what is wrong, without what to do about it.
    """

    def __init__(self, problem: str, advice: str = "") -> None:
        super().__init__(f"{problem}; {advice}" if advice else problem)
        self.problem = problem


class OnlineWriter(Protocol):
    """Writes current feature values. Not safe for threads.

    All staged rows stay staged when ``commit`` raises OnlineStoreGoneError: calling it again writes
    them. Any other error is final.
    """

    def ensure_table(self, view: View) -> None:
        """Make ready whatever the store needs before rows of the view can be written."""
        ...

    def write(
        self,
        view: View,
        keys: Sequence[bytes],
        stamps_us: npt.NDArray[np.int64],
        values: npt.NDArray[np.float64],
        texts: Sequence[str] = (),
    ) -> int:
        """Stage one row per entity of a view and return how many.

        Args:
            view: whose values these are.
            keys: n serialized entity keys (Feast's version 3, without the project), distinct.
            stamps_us: int64[n], event time, microseconds since 1970 UTC.
            values: float64[n, F], column i is ``view.aggregates[i]``; NaN is null, a boolean is 0
                or 1, a string its place in ``texts``.
            texts: what the values of string features are places in; far more perhaps than occur.
        """
        ...

    def commit(self) -> None:
        """Make everything staged visible.

        Raises:
            OnlineStoreGoneError: the store does not answer; everything stays staged.
            OnlineStoreError: anything else.
        """
        ...

    def close(self) -> None:
        """Let go of connections and files."""
        ...


@runtime_checkable
class LiveWriter(OnlineWriter, Protocol):
    """One whose rows can be on their way before anybody waits for the store."""

    def send(self) -> None:
        """Send what is staged, if it is little and nothing has to be waited for.

        ``commit`` must follow before more is staged, whether anything was sent or not; it waits
        for the store and raises what went wrong.
        """
        ...


def open_online_writer(
    online: SqliteConfig | RedisConfig, project: str, mark: str | None = None
) -> OnlineWriter:
    """A writer of the store that is configured.

    Args:
        online: which.
        project: Feast project.
        mark: what the store must bear at every commit, so that nobody writes to a store which has
            lost what it held or which another one has taken over; None to take it as it is.

    Raises:
        OnlineStoreError: the store cannot be opened.
    """
    if isinstance(online, GatheredFile):
        from dataflows.stores.gathering_writer import GatheringWriter

        return GatheringWriter(online.path, project, mark=mark)
    if isinstance(online, SqliteConfig):
        from dataflows.stores.sqlite_writer import SqliteOnlineWriter

        return SqliteOnlineWriter(online.path, project, mark=mark)
    from dataflows.stores.redis_writer import RedisOnlineWriter

    return RedisOnlineWriter(online, project, ANSWER_SECONDS_MAX, mark)
