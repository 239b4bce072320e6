"""What every call has in common: who calls, the deadline, the status, and what is told of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

import grpc
import structlog

from scorer.callers import ANYBODY, Caller, Callers, OpenDoor
from scorer.errors import DeadlineError, InvalidRequestError, ScorerError, StoppingError
from scorer.large_requests import MessageRoom, Unread
from scorer.metrics import ScorerMetrics
from scorer.row_room import NOTHING
from scorer.status import status_of
from scorer.unreadable import Unreadable

Context = grpc.aio.ServicerContext[object, object]
_log = structlog.get_logger()
_ASCII_CHARACTERS_MAX = 2_000
_CHARACTERS_MAX = 500
_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")


@dataclass(slots=True)
class Call:
    """One call, or one request of a stream; the work fills in what it learns.

    Attributes:
        method: service and method, such as ``scorer.v1.ScorerService/Score``.
        started: ``time.perf_counter()`` when it came, seconds.
        caller: who calls.
        request_id: the caller's; may be empty.
        model: that was asked for; empty if none was.
        version: that answered; empty if none did.
        rows: that were asked for.
        missing: values for which a default stood in.
        oldest_age_seconds: age of the oldest stored row used; None if none was.
        read_at: when its read of the store began and ended, as ``started``; None without one.
        run_at: when the model's run began and ended, as ``started``; None without one.
        code: how it ended.
        seconds: how long it took.
    """

    method: str
    started: float
    caller: Caller = ANYBODY
    request_id: str = ""
    model: str = ""
    version: str = ""
    rows: int = 0
    missing: int = 0
    oldest_age_seconds: float | None = None
    read_at: tuple[float, float] | None = None
    run_at: tuple[float, float] | None = None
    code: grpc.StatusCode = grpc.StatusCode.CANCELLED
    seconds: float = 0.0


class Witness(Protocol):
    """Is told of calls: for the log, for traces. Must not raise, and not take long."""

    def begun(self, call: Call, context: Context) -> None:
        """A call has come."""
        ...

    def ended(self, call: Call) -> None:
        """It is over, and all that is known of it stands in ``call``."""
        ...


class Calls:
    """Runs the work of calls of all services, and counts them."""

    def __init__(
        self,
        metrics: ScorerMetrics,
        callers: Callers,
        default_deadline_seconds: float,
        witnesses: tuple[Witness, ...] = (),
        room: MessageRoom | None = None,
    ) -> None:
        """``default_deadline_seconds`` is for calls that come without a deadline.

        ``room`` is for large requests; None if there are none.
        """
        self._metrics = metrics
        self._callers = callers
        self._is_open = isinstance(callers, OpenDoor)
        self._default_deadline_seconds = default_deadline_seconds
        self._witnesses = witnesses
        self._room = room
        self._refusing = False
        self._arrived = 0
        self._under_way = 0

    def refuse(self) -> None:
        """Answer every call from now on with UNAVAILABLE; those under way go on."""
        self._refusing = True

    async def quiet(self, quiet_seconds: float, timeout_seconds: float) -> None:
        """Wait until no call is under way and none has come for a while, or time is up."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_seconds
        while (left := end - loop.time()) > 0:
            arrived = self._arrived
            await asyncio.sleep(min(quiet_seconds, left))
            if not self._under_way and arrived == self._arrived:
                return

    async def answer(
        self,
        method: str,
        work: Callable[[_Request, Call], Awaitable[_Answer]],
        request: _Request,
        context: Context,
    ) -> _Answer:
        """The result of ``work``; errors and the deadline become the call's status here."""
        call = Call(method, time.perf_counter())
        self._arrived += 1
        self._under_way += 1
        for witness in self._witnesses:
            witness.begun(call, context)
        remaining = _seconds_left(context)
        try:
            call.caller = self._admitted(context)
            with self._kept(request):
                message = _read(request)
                if remaining is None:
                    async with asyncio.timeout(self._default_deadline_seconds):
                        answer = await work(message, call)
                else:
                    # gRPC cancels the work when the caller's own deadline has passed.
                    answer = await work(message, call)
            call.code = grpc.StatusCode.OK
            return answer
        except asyncio.CancelledError:
            call.code = _code_of_cancelled(call.started, remaining)
            raise
        except Exception as error:  # noqa: BLE001 - a call ends in a status whatever happens
            text = _failed(call, error)
        finally:
            self._end(call)
        await context.abort(call.code, text)
        raise AssertionError("abort always raises")

    @asynccontextmanager
    async def stream(self, method: str, context: Context) -> AsyncIterator[Stream]:
        """What answers the requests of a stream, as long as the stream lasts."""
        call = Call(method, time.perf_counter())
        remaining = _seconds_left(context)
        text = ""
        self._arrived += 1
        self._under_way += 1
        try:
            try:
                call.caller = self._admitted(context)
            except ScorerError as error:
                call.code, text = status_of(error), told(error)
            if text:
                for witness in self._witnesses:
                    witness.begun(call, context)
                    witness.ended(call)
                await context.abort(call.code, text)
            yield Stream(self, call, remaining, context)
            call.code = grpc.StatusCode.OK
        except (asyncio.CancelledError, GeneratorExit):
            call.code = _code_of_cancelled(call.started, remaining)
            raise
        finally:
            self._under_way -= 1
            self._metrics.handled(method, call.code.name, time.perf_counter() - call.started)

    def _admitted(self, context: Context) -> Caller:
        """Who calls. Raise StoppingError or UnauthenticatedError where nobody is let in."""
        if self._refusing:
            raise StoppingError("the scorer is stopping; try again")
        return self._caller(context)

    def _kept(self, request: object) -> AbstractContextManager[object]:
        """Room for a request that has not been read yet. OverloadedError if there is none."""
        if isinstance(request, Unread) and self._room is not None:
            return self._room.keep(request)
        return NOTHING

    def _caller(self, context: Context) -> Caller:
        if self._is_open:
            # To fetch metadata from gRPC costs more than all the rest here.
            return ANYBODY
        return self._callers.identify(
            tuple(context.invocation_metadata() or ()), context.auth_context
        )

    def _end(self, call: Call) -> None:
        self._under_way -= 1
        call.seconds = time.perf_counter() - call.started
        self._metrics.handled(call.method, call.code.name, call.seconds)
        for witness in self._witnesses:
            witness.ended(call)


class Stream:
    """A stream that has been let in: answers its requests one by one."""

    def __init__(
        self, calls: Calls, opened: Call, remaining: float | None, context: Context
    ) -> None:
        """Made by ``Calls.stream``; ``remaining`` seconds were left when it was opened."""
        self._calls = calls
        self._opened = opened
        self._remaining = remaining
        self._context = context

    async def answer(
        self, work: Callable[[_Request, Call], Awaitable[_Answer]], request: _Request
    ) -> tuple[_Answer | None, tuple[grpc.StatusCode, str] | None]:
        """The result of ``work`` and None, or None and what it failed with."""
        call = Call(self._opened.method, time.perf_counter(), self._opened.caller)
        calls = self._calls
        for witness in calls._witnesses:
            witness.begun(call, self._context)
        try:
            # A token may expire, and its key be taken away, while a stream lasts.
            call.caller = calls._caller(self._context)
            with calls._kept(request):
                message = _read(request)
                async with asyncio.timeout(calls._default_deadline_seconds):
                    answer = await work(message, call)
            call.code = grpc.StatusCode.OK
            return answer, None
        except asyncio.CancelledError:
            call.code = _code_of_cancelled(self._opened.started, self._remaining)
            raise
        except Exception as error:  # noqa: BLE001 - a request ends in a status whatever happens
            text = _failed(call, error)
            return None, (call.code, text)
        finally:
            call.seconds = time.perf_counter() - call.started
            calls._metrics.answered_in_stream(call.method, call.code.name, call.seconds)
            for witness in calls._witnesses:
                witness.ended(call)


def _read(request: _Request) -> _Request:
    """The message that a request stands for. InvalidRequestError if that cannot be read."""
    message = request.message() if isinstance(request, Unread) else request
    if isinstance(message, Unreadable):
        raise InvalidRequestError(message.reason)
    return cast(_Request, message)


def _failed(call: Call, error: Exception) -> str:
    """What to tell the caller of an error; the code stands in ``call``."""
    if isinstance(error, TimeoutError):
        error = DeadlineError("the answer was not ready within the deadline")
    if isinstance(error, ScorerError):
        call.code = status_of(error)
        return told(error)
    call.code = grpc.StatusCode.INTERNAL
    _log.error("request_failed", method=call.method, exc_info=error)
    return "internal error; the scorer's log has the cause"


def told(error: ScorerError) -> str:
    """Its text, cut so that it reaches the caller: gRPC sends it as metadata, of 8 KiB at most."""
    text = str(error)
    # What is not ASCII takes up to twelve bytes a character on the wire.
    most = _ASCII_CHARACTERS_MAX if text.isascii() else _CHARACTERS_MAX
    return text if len(text) <= most else f"{text[:most]}..."


def _code_of_cancelled(started: float, remaining: float | None) -> grpc.StatusCode:
    """Why gRPC cancelled a call that had so many seconds left when it started."""
    if remaining is not None and started + remaining <= time.perf_counter():
        return grpc.StatusCode.DEADLINE_EXCEEDED
    return grpc.StatusCode.CANCELLED


def _seconds_left(context: Context) -> float | None:
    """Until the caller's deadline; None without one, which the type stubs do not know."""
    return context.time_remaining()
