"""The page of metrics: whoever holds connections open holds up nobody else, and not for long."""

from __future__ import annotations

import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from prometheus_client import CollectorRegistry, Counter

from scorer.metrics_server import show_metrics
from tests.scorer.test_server import free_port

CONNECTIONS_MAX = 3
PATIENT_SECONDS = 600.0
# More than the buffers of a connection hold.
LONG = "x" * 16_000_000


@contextmanager
def page(text: str, seconds_max: float) -> Iterator[int]:
    """A page with that text on it; gives its port."""
    registry = CollectorRegistry()
    Counter("asked", text, registry=registry)
    port = free_port()
    end = show_metrics(registry, "127.0.0.1", port, CONNECTIONS_MAX, seconds_max)
    try:
        yield port
    finally:
        end()


def connected(stack: ExitStack, port: int, sent: bytes) -> socket.socket:
    """A connection over which that was sent; it is closed with the stack."""
    one = stack.enter_context(socket.create_connection(("127.0.0.1", port), 30))
    one.sendall(sent)
    return one


def scraped(port: int) -> str:
    """The page, as Prometheus gets it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        return str(answer.read(), "utf-8")


def serving() -> int:
    """Threads that serve connections."""
    return sum("process_request" in one.name for one in threading.enumerate())


def until(is_so: Callable[[], bool], what: str) -> None:
    """Wait until it is so."""
    end = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def test_callers_who_ask_nothing_keep_nobody_out() -> None:
    """Past the bound the oldest connections end, so a scrape comes through; threads are bounded."""
    with page("a short text", PATIENT_SECONDS) as port, ExitStack() as stack:
        for _ in range(4 * CONNECTIONS_MAX):
            connected(stack, port, b"GET /met")
            assert serving() <= CONNECTIONS_MAX
        assert "asked_total 0.0" in scraped(port)
        assert serving() <= CONNECTIONS_MAX


def test_a_caller_who_never_reads_is_ended() -> None:
    """A page that nobody takes away does not hold its thread for longer than the bound."""
    with page(LONG, 4.0) as port, ExitStack() as stack:
        one = connected(stack, port, b"GET /metrics HTTP/1.0\r\n\r\n")
        # It has begun to write, so a thread of its own is there.
        assert one.recv(1)
        until(lambda: serving() == 0, "a thread waits for a caller who does not read")


def test_a_request_letter_by_letter_is_ended() -> None:
    """Each letter comes in time, and the whole all the same never: the bound is for the whole."""
    with page("a short text", 3.0) as port, ExitStack() as stack:
        one = connected(stack, port, b"GET /metrics HTTP/1.0\r\nX: ")
        one.settimeout(0.05)
        is_over = False

        def letter() -> bool:
            nonlocal is_over
            try:
                one.sendall(b"x")
                is_over = not one.recv(1)
            except TimeoutError:
                is_over = False
            except OSError:
                is_over = True
            return is_over

        until(letter, "the request goes on and on")
        assert "asked_total 0.0" in scraped(port)
