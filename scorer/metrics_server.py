"""The page of metrics over HTTP: a bounded number of connections, each for a bounded time."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

# Two Prometheus servers and some people: one scrape takes milliseconds.
CONNECTIONS_MAX = 16
CONNECTION_SECONDS_MAX = 10.0
# Whoever is ended to make room has a thread, which takes a moment to notice.
_ROOM_SECONDS = 0.5
_LOOK_SECONDS = 0.1


def show_metrics(
    registry: CollectorRegistry,
    host: str,
    port: int,
    connections_max: int = CONNECTIONS_MAX,
    connection_seconds_max: float = CONNECTION_SECONDS_MAX,
) -> Callable[[], None]:
    """Show metrics from a thread; calling the result ends it.

    Args:
        registry: what there is to show.
        host: name or address to listen on.
        port: to listen on.
        connections_max: connections at one time, each with a thread; one more ends the oldest.
        connection_seconds_max: a connection is ended after that, whatever its caller does.

    Raises:
        OSError: the address cannot be listened on.
    """
    server = _of_family(host)((host, port), _Handler)
    server.limit(connections_max, connection_seconds_max)
    server.set_app(make_wsgi_app(registry))
    thread = threading.Thread(
        target=server.serve_forever, args=(_LOOK_SECONDS,), name="metrics", daemon=True
    )
    thread.start()

    def close() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return close


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as it is named there
        """Nothing: scrapes come all the time."""


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each connection, of which there is a bounded number."""

    daemon_threads = True

    def limit(self, connections_max: int, connection_seconds_max: float) -> None:
        """Set the bounds; before anything is served."""
        self._seconds_max = connection_seconds_max
        self._slots = threading.BoundedSemaphore(connections_max)
        self._lock = threading.Lock()
        # In the order in which they came, and when each has to be over.
        self._ends: dict[socket.socket, float] = {}

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread; where there is no room, end the oldest for it."""
        if not self._slots.acquire(blocking=False):
            # Else a few callers who never read their page would keep everybody else out.
            self._end_until(float("inf"), at_most=1)
            if not self._slots.acquire(timeout=_ROOM_SECONDS):
                super().shutdown_request(request)
                return
        with self._lock:
            self._ends[request] = time.monotonic() + self._seconds_max
        request.settimeout(self._seconds_max)
        try:
            super().process_request(request, client_address)
        except RuntimeError:
            # The system gives no more threads.
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """Called at the end of each connection, however it ends."""
        with self._lock:
            was_served = self._ends.pop(request, None) is not None
        super().shutdown_request(request)
        if was_served:
            self._slots.release()

    def service_actions(self) -> None:
        """Called now and then: end what takes too long, such as a request letter by letter."""
        self._end_until(time.monotonic())

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: callers that leave, or are ended, are no trouble of ours."""

    def _end_until(self, now: float, at_most: int | None = None) -> None:
        with self._lock:
            ended = [one for one, end in self._ends.items() if end <= now][:at_most]
            for one in ended:
                # Its thread closes it; whoever reads or writes there is told at once.
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)


class _Server6(_Server):
    address_family = socket.AF_INET6


def _of_family(host: str) -> type[_Server]:
    return _Server6 if ":" in host else _Server
