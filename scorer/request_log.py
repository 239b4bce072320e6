"""One line in the log for a request: sampled when it was answered, always when it was not."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

import grpc
import structlog

from scorer.calls import Call, Context
from scorer.logs import stderr_takes_more

# A store that is gone fails every call, and the log must not become the next trouble.
FAILURES_PER_SECOND_MAX = 20
# Lines that wait for the thread; a reader of stderr that hangs costs no more memory than this.
LINES_WAITING_MAX = 10_000
_PAUSE_SECONDS = 0.25
# Names come from callers, who may send megabytes.
_TEXT_MAX = 128
_FAULTS = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})
_log = structlog.get_logger()


class RequestLog:
    """A ``Witness`` that writes lines from a thread of its own: no call ever waits for stderr.

    A line has no inputs, no features and no tokens. Lines that are left out are counted, and the
    next line says how many were (``left_out``).
    """

    def __init__(
        self,
        share: float,
        left_out: Callable[[str], None],
        *,
        failures_per_second_max: int = FAILURES_PER_SECOND_MAX,
        waiting_max: int = LINES_WAITING_MAX,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """``start`` begins to write.

        Args:
            share: of the answered requests that get a line, 0 to 1.
            left_out: called for each line left out, with the reason: ``rate`` or ``full``.
            failures_per_second_max: lines about failures in a second.
            waiting_max: lines that wait to be written.
            clock: seconds since 1970.
            chance: gives numbers from 0 to below 1.
        """
        self._share = share
        self._tell_left_out = left_out
        self._failures_per_second_max = failures_per_second_max
        self._waiting_max = waiting_max
        self._clock = clock
        self._chance = chance
        self._second = 0
        self._failures = 0
        self._left_out = 0
        self._lines: deque[dict[str, object]] = deque()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="request-log", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def begun(self, call: Call, context: Context) -> None:
        """Nothing: a line says how a call ended."""

    def ended(self, call: Call) -> None:
        """Leave a line to be written, if this call is to have one."""
        if call.code is grpc.StatusCode.OK:
            if self._chance() >= self._share:
                return
        elif not self._may_tell_failure():
            self._leave_out("rate")
            return
        if len(self._lines) >= self._waiting_max:
            self._leave_out("full")
            return
        line = _line(call, self._clock())
        if self._left_out:
            line["left_out"], self._left_out = self._left_out, 0
        self._lines.append(line)

    async def stop(self, timeout_seconds: float) -> None:
        """Write what is left, no longer than that."""
        if self._left_out:
            self._lines.append({"event": "requests_left_out", "left_out": self._left_out})
            self._left_out = 0
        self._stopping.set()
        await asyncio.to_thread(self._thread.join, timeout_seconds)

    def _may_tell_failure(self) -> bool:
        second = int(self._clock())
        if second != self._second:
            self._second, self._failures = second, 0
        self._failures += 1
        return self._failures <= self._failures_per_second_max

    def _leave_out(self, reason: str) -> None:
        self._left_out += 1
        self._tell_left_out(reason)

    def _run(self) -> None:
        # Writing what has gathered now and then costs calls less than a thread woken for each.
        while not self._stopping.wait(_PAUSE_SECONDS):
            self._write()
        self._write()
        for _ in self._lines:
            self._tell_left_out("unwritable")

    def _write(self) -> None:
        # The last of a pipe's room is for others, who write from the loop and would hold it.
        while self._lines and stderr_takes_more(_PAUSE_SECONDS):
            line = self._lines.popleft()
            try:
                _log.log(_level(line), **line)
            except (OSError, ValueError):
                # Nobody reads our lines any more, and there is nobody to tell.
                self._tell_left_out("unwritable")


def _line(call: Call, at: float) -> dict[str, object]:
    moment = datetime.fromtimestamp(at - call.seconds, UTC)
    line: dict[str, object] = {
        "event": "request",
        "timestamp": moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "method": call.method,
        "code": call.code.name,
        "took_ms": round(call.seconds * 1000, 3),
        "model": call.model[:_TEXT_MAX],
        "version": call.version[:_TEXT_MAX],
        "rows": call.rows,
        "missing": call.missing,
        "request_id": call.request_id[:_TEXT_MAX],
        "caller": call.caller.name[:_TEXT_MAX],
    }
    if call.oldest_age_seconds is not None:
        line["oldest_age_seconds"] = round(call.oldest_age_seconds, 3)
    return line


def _level(line: dict[str, object]) -> int:
    """Of the standard library: 20 info, 30 warning, 40 error."""
    if line.get("code", "OK") == "OK":
        return 20
    return 40 if line["code"] in {code.name for code in _FAULTS} else 30
