"""Takes rows to the online store in a thread of its own, so that the flow goes on meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from contracts.plan import Plan
from dataflows.batches import ShardOutput
from dataflows.stores.online_writer import OnlineWriter
from dataflows.stores.outbox import Outbox

# About 100 bytes each. Rows that are replaced before they are written are never written.
ROWS_MAX = 500_000
_CLOSE_SECONDS_MAX = 30.0


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
            writer: only the thread uses it from now on.
            commit: the writer's ``commit``, perhaps tried several times.
            written: called after each writing with the watermark of each shard that the store has
                now, and the number of rows.
        """
        self._views = {view.name: view for view in plan.views}
        self._writer = writer
        self._commit = commit
        self._note = written
        self._outbox = Outbox()
        self._watermarks: dict[int, int] = {}
        self._state = threading.Condition()
        self._is_wanted = self._is_busy = self._is_closing = False
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
            self._want()

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
                self._state.wait_for(lambda: self._is_wanted or self._is_closing)
                if self._is_closing:
                    return
            self._write()

    def _write(self) -> None:
        with self._state:
            self._is_wanted, self._is_busy = False, True
            rows = list(self._outbox.drain())
            watermarks = dict(self._watermarks)
            self._state.notify_all()
        count = 0
        for last in rows:
            view = self._views[last.view]
            count += self._writer.write(view, last.keys, last.stamps_us, last.values, last.texts)
        if count:
            self._commit()
        self._note(watermarks, count)
        with self._state:
            self._is_busy = False
            self._state.notify_all()
