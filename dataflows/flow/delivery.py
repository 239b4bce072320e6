"""Takes rows to the online store, so that the flow goes on while the store works.

A thread waits for the store. Where it has nothing to do, and the store can be sent to without
waiting, the thread of the flow sends live rows itself: on a busy machine the other thread would get
the interpreter only milliseconds later.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from contracts.plan import Plan
from dataflows.batches import ShardOutput
from dataflows.stores.online_writer import LiveWriter, OnlineWriter
from dataflows.stores.outbox import LastRows, Outbox

# About 100 bytes each. Rows that are replaced before they are written are never written.
ROWS_MAX = 500_000
# More is no crumb: to make its bytes would hold up the flow.
_LIVE_ROWS_MAX = 500
_CLOSE_SECONDS_MAX = 30.0


@dataclass(frozen=True)
class _Staged:
    """How many rows the writer has taken, and up to where they say all."""

    rows: int
    watermarks: dict[int, int]


class Delivery:
    """One outbox and the thread that empties it. All methods are for the thread of the flow.

    Rows wait until they are asked for; then they are written, all that there are by then at once.
    What goes wrong in the thread is raised by the next call of any method.
    """

    def __init__(
        self,
        plan: Plan,
        writer: OnlineWriter,
        commit: Callable[[], None],
        written: Callable[[Mapping[int, int], int], None],
    ) -> None:
        """Start the thread.

        Args:
            plan: whose views the rows belong to.
            writer: nobody else uses it from now on.
            commit: the writer's ``commit``, perhaps tried several times.
            written: called after each writing with the watermark of each shard that the store has
                now, and the number of rows.
        """
        self._views = {view.name: view for view in plan.views}
        self._writer = writer
        self._live = writer if isinstance(writer, LiveWriter) else None
        self._commit = commit
        self._note = written
        self._outbox = Outbox()
        self._watermarks: dict[int, int] = {}
        self._state = threading.Condition()
        # Whoever sets ``_is_busy`` has the writer, until it is taken back.
        self._is_wanted = self._is_busy = self._is_closing = False
        # Rows that the flow has staged, which the thread is to commit.
        self._staged: _Staged | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="online", daemon=True)
        self._thread.start()

    def add(self, output: ShardOutput) -> None:
        """Take the rows of a shard; waits only while there are too many already."""
        with self._state:
            self._raise_failure()
            for name, new in output.rows.items():
                self._outbox.add(output.shard, name, new)
            self._watermarks[output.shard] = output.watermark_us
            if self._outbox.rows <= ROWS_MAX:
                return
            self._outbox.compact()
            if self._outbox.rows > ROWS_MAX // 2:
                self._want()
                self._state.wait_for(lambda: self._outbox.rows <= ROWS_MAX or self._is_over())
                self._raise_failure()

    def send(self) -> None:
        """Have everything written soon; does not wait."""
        with self._state:
            self._raise_failure()
            is_free = not (self._is_wanted or self._is_busy or self._is_closing)
            if self._live is None or not is_free or self._outbox.rows > _LIVE_ROWS_MAX:
                self._want()
                return
            rows, watermarks = self._take()
        self._send_now(self._live, rows, watermarks)

    def finish(self) -> None:
        """Have everything written, and wait for it."""
        with self._state:
            self._want()
            self._state.wait_for(lambda: not (self._is_wanted or self._is_busy) or self._is_over())
            self._raise_failure()

    def close(self) -> None:
        """End the thread; what was not asked for is not written."""
        with self._state:
            self._is_closing = True
            self._state.notify_all()
        self._thread.join(_CLOSE_SECONDS_MAX)

    def _want(self) -> None:
        self._is_wanted = True
        self._state.notify_all()

    def _is_over(self) -> bool:
        return self._failure is not None or self._is_closing

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            self._deliver()
        except BaseException as error:  # noqa: BLE001 - the thread of the flow raises it
            with self._state:
                self._failure, self._is_busy = error, False
                self._state.notify_all()

    def _deliver(self) -> None:
        while True:
            with self._state:
                self._state.wait_for(lambda: self._has_work() or self._is_closing)
                if self._is_closing:
                    return
                staged, self._staged = self._staged, None
                rows: list[LastRows] = []
                if staged is None:
                    rows, watermarks = self._take()
                    self._state.notify_all()
            if staged is None:
                staged = _Staged(self._stage(rows), watermarks)
            if staged.rows:
                self._commit()
            self._done(staged)

    def _has_work(self) -> bool:
        return self._staged is not None or (self._is_wanted and not self._is_busy)

    def _take(self) -> tuple[list[LastRows], dict[int, int]]:
        """All that there is, for the caller to write."""
        self._is_wanted, self._is_busy = False, True
        return list(self._outbox.drain()), dict(self._watermarks)

    def _stage(self, rows: list[LastRows]) -> int:
        count = 0
        for last in rows:
            view = self._views[last.view]
            count += self._writer.write(view, last.keys, last.stamps_us, last.values, last.texts)
        return count

    def _send_now(
        self, writer: LiveWriter, rows: list[LastRows], watermarks: dict[int, int]
    ) -> None:
        """Send rows, in the thread of the flow, and leave the waiting to the other one."""
        try:
            staged = _Staged(self._stage(rows), watermarks)
            if staged.rows:
                writer.send()
        except BaseException as error:
            with self._state:
                self._failure, self._is_busy = error, False
            raise
        if not staged.rows:
            self._done(staged)
            return
        with self._state:
            self._staged = staged
            self._state.notify_all()

    def _done(self, staged: _Staged) -> None:
        self._note(staged.watermarks, staged.rows)
        with self._state:
            self._is_busy = False
            self._state.notify_all()
