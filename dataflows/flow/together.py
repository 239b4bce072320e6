"""Runs a flow as one of several processes, and ends when another of them is gone."""

from __future__ import annotations

import atexit
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from bytewax.dataflow import Dataflow

from contracts.settings import split_address
from dataflows.flow.errors import EngineError
from dataflows.flow.guards import guard
from dataflows.flow.session import Session

_LOOK_SECONDS = 0.1
# All are there and have nothing to do but to connect. Bytewax would try for ever.
_CONNECT_SECONDS_MAX = 30.0
# From another's end to the end of our own threads, which see their connection closed.
_FOLLOW_SECONDS_MAX = 3.0

Work = Callable[[], None]


@dataclass
class _Run:
    """What the thread that runs Bytewax has to say. ``errors`` are in order of their coming."""

    errors: list[BaseException] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)
    has_begun: threading.Event = field(default_factory=threading.Event)
    noted: threading.Event = field(default_factory=threading.Event)

    def note(self, error: BaseException) -> None:
        self.errors.append(error)
        self.noted.set()


def run_together(
    work: Work,
    flow: Dataflow,
    stop: threading.Event,
    session: Session,
    keep_place: Callable[[], None],
) -> None:
    """Run ``work``, which hands ``flow`` to Bytewax, in a thread, until it or another process ends.

    Whoever raises here must not go on with anything: threads of Bytewax may still be running. They
    end with the process, and so does its place (``keep_place``).

    Raises:
        EngineError: another process is gone, or cannot be reached.
        BaseException: what the flow's own code raised.
    """
    _check_address(session)
    run = _Run()
    guard(flow, run.note, run.has_begun.set)
    session.take_turn()
    thread = threading.Thread(target=_work, args=(work, run), name="bytewax", daemon=True)
    thread.start()
    try:
        _watch(run, stop, session)
    except BaseException:
        keep_place()
        # The interpreter cannot end in order while Rust has threads that wait for it.
        atexit.register(_leave)
        raise


def _work(work: Work, run: _Run) -> None:
    try:
        work()
    except BaseException as error:  # noqa: BLE001 - the main thread raises it
        run.note(error)
    finally:
        run.is_over.set()
        run.noted.set()


def _watch(run: _Run, stop: threading.Event, session: Session) -> None:
    begun_at = time.monotonic()
    gone, gone_at = None, 0.0
    has_asked = False
    while not run.noted.wait(_LOOK_SECONDS):
        now = time.monotonic()
        if stop.is_set():
            if not has_asked:
                session.ask_to_stop()
            has_asked = True
        elif session.is_to_stop():
            stop.set()
        gone = gone or session.gone()
        gone_at = gone_at or (now if gone else 0.0)
        if gone and now - gone_at > _FOLLOW_SECONDS_MAX:
            raise EngineError(gone)
        if not run.has_begun.is_set() and now - begun_at > _CONNECT_SECONDS_MAX:
            raise EngineError(
                f"the processes cannot connect to each other within {_CONNECT_SECONDS_MAX:.0f} s: "
                "check HEADWATER_ADDRESSES, and that each of them can be reached from all"
            )
    if not run.errors:
        return
    if run.is_over.is_set() and len(run.errors) == 1:
        # Nothing of ours was wrong: a connection has ended, or Bytewax could not go on.
        gone = gone or _gone_soon(session)
        if gone:
            raise EngineError(gone) from run.errors[0]
    raise run.errors[0]


def _gone_soon(session: Session) -> str | None:
    """Who is gone; a connection may be seen to end a moment before its process does."""
    give_up_at = time.monotonic() + _FOLLOW_SECONDS_MAX
    while (gone := session.gone()) is None and time.monotonic() < give_up_at:
        time.sleep(_LOOK_SECONDS)
    return gone


def _check_address(session: Session) -> None:
    """Raise EngineError if we cannot listen where the others look for us."""
    address = session.seat.addresses[session.seat.number]
    host, port = split_address(address)
    try:
        family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except OSError as error:
        raise EngineError(
            f"process {session.seat.number} cannot listen on {address}: {error.strerror}; correct "
            "HEADWATER_ADDRESSES or HEADWATER_PROCESS"
        ) from error


def _leave() -> None:
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(1)
