"""One connection to Redis that many reads share: requests in one after the other, replies back.

Redis answers in the order of the requests, so a reply belongs to the oldest request that still
waits. A caller that leaves stays in that order: its replies are taken from the wire and dropped.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import hiredis

from scorer.errors import StoreUnavailableError

REQUESTS_MAX = 4_096
_UNSENT_BYTES_MAX = 16 * 2**20
_SURE_SECONDS = 0.01
_LOGIN_ERRORS = {"NOAUTH", "WRONGPASS"}


class RedisWire(asyncio.Protocol):
    """A connection from when it is made until it is lost; what is lost stays so.

    ``lost`` is done, with the reason as its result, once the connection has ended.
    """

    def __init__(self, address: str, answer_seconds: float, on_end: Callable[[], None]) -> None:
        """Not connected yet.

        Args:
            address: of the server, for people.
            answer_seconds: a server that owes an answer and is silent for so long is given up.
            on_end: called when no more can be asked, before those that wait are told.
        """
        self._address = address
        self._on_end = on_end
        self._answer_seconds = answer_seconds
        self._loop = asyncio.get_running_loop()
        self._replies = hiredis.Reader()
        self._waiting: deque[tuple[int, float, asyncio.Future[list[Any]]]] = deque()
        self._gathered: list[Any] = []
        self._heard_at = self._loop.time()
        self._watch: asyncio.TimerHandle | None = None
        self._is_sure = False
        self._transport: asyncio.Transport | None = None
        self._reason = ""
        self.lost: asyncio.Future[str] = self._loop.create_future()

    def ask(self, request: bytes, replies: int) -> asyncio.Future[list[Any]]:
        """Send commands that have so many replies; the result is these, errors among them.

        The future may be cancelled. It fails with StoreUnavailableError when the connection ends.

        Raises:
            StoreUnavailableError: the connection has ended, or too much waits on it already.
        """
        if self._transport is None or self._reason:
            raise StoreUnavailableError(self._reason or f"Redis at {self._address} is not there")
        if (
            len(self._waiting) >= REQUESTS_MAX
            or self._transport.get_write_buffer_size() > _UNSENT_BYTES_MAX
        ):
            raise StoreUnavailableError(
                f"Redis at {self._address} has {len(self._waiting)} reads to answer already;"
                " try again"
            )
        answer: asyncio.Future[list[Any]] = self._loop.create_future()
        now = self._loop.time()
        self._waiting.append((replies, now, answer))
        if self._watch is None:
            self._watch = self._loop.call_at(now + self._answer_seconds, self._look)
        self._transport.write(request)
        return answer

    def end(self, reason: str) -> None:
        """End the connection at once; all that wait fail with the reason."""
        if not self._reason:
            self._reason = reason
            if self._transport is not None:
                self._transport.abort()
            # Nobody should wait for the loop to tell of the end.
            self._fail_all()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._heard_at = self._loop.time()
        replies, gathered = self._replies, self._gathered
        try:
            replies.feed(data)
            while (reply := replies.gets()) is not False:
                if not self._waiting:
                    # Redis says of its own accord only why it hangs up: too many clients, say.
                    self.end(
                        explain(self._address, reply)
                        if isinstance(reply, hiredis.ReplyError)
                        else f"Redis at {self._address} answered what nobody asked; try again"
                    )
                    return
                gathered.append(reply)
                count, _, answer = self._waiting[0]
                if len(gathered) == count:
                    self._waiting.popleft()
                    if not answer.done():
                        answer.set_result(gathered)
                    gathered = self._gathered = []
        except hiredis.ProtocolError:
            self.end(
                f"{self._address} does not speak Redis' protocol: check the address, and whether it"
                " needs ssl=true, in the connection_string of feature_store.yaml"
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        why = f"was lost: {exc}" if exc else "was closed by the server"
        self._reason = self._reason or f"connection to Redis at {self._address} {why}; try again"
        self._fail_all()
        if not self.lost.done():
            self.lost.set_result(self._reason)

    def _fail_all(self) -> None:
        self._on_end()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        while self._waiting:
            _, _, answer = self._waiting.popleft()
            if not answer.done():
                answer.set_exception(StoreUnavailableError(self._reason))

    def _look(self) -> None:
        """End the connection if the server owes an answer and has been silent for too long."""
        self._watch = None
        if not self._waiting:
            self._is_sure = False
            return
        # A server that is answering a lot is not silent, however long its last one waits.
        silent_since = max(self._waiting[0][1], self._heard_at)
        late_seconds = self._loop.time() - silent_since - self._answer_seconds
        if late_seconds >= 0 and not self._is_sure:
            # Whoever was held up itself finds the time over before it has read what came.
            self._is_sure = True
            self._watch = self._loop.call_later(_SURE_SECONDS, self._look)
            return
        if late_seconds >= 0:
            self.end(
                f"Redis at {self._address} did not answer within {self._answer_seconds:g} seconds;"
                " try again"
            )
            return
        self._is_sure = False
        self._watch = self._loop.call_at(silent_since + self._answer_seconds, self._look)


def explain(address: str, error: Exception) -> str:
    """What to do about an error that Redis sent. Never says what was sent to it."""
    text = str(error)
    code = text.partition(" ")[0]
    if code in _LOGIN_ERRORS or "AUTH" in text or "password" in text:
        return (
            f"Redis at {address} refused the login ({code}): check username and password in the"
            " connection_string of feature_store.yaml"
        )
    if code == "NOPERM":
        return (
            f"Redis at {address} does not let this user read (NOPERM): allow it HMGET, MULTI"
            " and EXEC on the project's keys, or change the user in the connection_string of"
            " feature_store.yaml"
        )
    if code == "LOADING":
        return f"Redis at {address} is still loading its data (LOADING); try again"
    if code == "MOVED":
        return f"Redis at {address} is part of a cluster: set redis_type: redis_cluster"
    if code == "WRONGTYPE":
        return (
            f"Redis at {address} holds something else than features under an entity's key"
            " (WRONGTYPE): give each project a database of its own"
        )
    return f"Redis at {address} answered {text!r}; try again"
