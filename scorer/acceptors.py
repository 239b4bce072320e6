"""Several calls of one method accepted at a time, which ``grpc.aio`` does one by one.

Its server asks gRPC's core for one call, and when that has come it takes three turns of the loop to
ask for the next: calls that came together are told apart by that, and hardly one meets another.
Here the core is asked for many at once; what becomes of a call is ``grpc.aio``'s as before. This
reaches into its inner parts. Where they are not as they are known, it does without.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

import grpc
import structlog

# The type stubs do not know it.
cygrpc: Any = import_module("grpc._cython.cygrpc")
# Of each method. A batch of so many requests gains little from more.
_AT_ONCE = 32
_INNER = ("_schedule_rpc_coro", "_handle_rpc", "_MethodResolver", "_RequestCallError")
_log = structlog.get_logger()


@dataclass(frozen=True)
class _Named(grpc.HandlerCallDetails):
    """Asks a handler about a method."""

    method: str = ""
    invocation_metadata: tuple[()] = ()


class Acceptors:
    """Accepts calls of some methods, from ``start`` on until the server stops.

    Stands in the place of the server where services are added.
    """

    def __init__(self, server: grpc.aio.Server, methods: Collection[str]) -> None:
        """``methods`` of a server that has not started, each as ``service/method``."""
        self._server = server
        self._methods = tuple(methods)
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def as_server(self) -> grpc.aio.Server:
        """For functions that add generic handlers and nothing else."""
        return cast(grpc.aio.Server, self)

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Add them to the server; which of their methods are ours is found out here."""
        handlers = tuple(handlers)
        for name in self._methods:
            details = _Named(f"/{name}")
            service, _, method = name.partition("/")
            for one in handlers:
                handler = one.service(details)
                if handler is not None:
                    self._server.add_registered_method_handlers(service, {method: handler})
                    self._handlers[details.method] = handler
        self._server.add_generic_rpc_handlers(handlers)

    def start(self) -> None:
        """Ask for calls; the server has started."""
        inner: Any = getattr(self._server, "_server", None)
        lacking = [name for name in _INNER if not hasattr(cygrpc, name)]
        if not hasattr(inner, "_request_registered_call"):
            lacking.append("_request_registered_call")
        if lacking:
            _log.warning("calls_accepted_one_by_one", grpc=grpc.__version__, lacking=lacking)
            return
        resolver = cygrpc._MethodResolver([], self._handlers)
        for name in self._handlers:
            for _ in range(_AT_ONCE):
                self._keep(self._accept(inner, name, resolver))

    async def _accept(self, inner: Any, name: str, resolver: object) -> None:
        """Accept one call after the other, until asking for one fails as the server stops."""
        loop, encoded = asyncio.get_running_loop(), name.encode()
        while inner.is_running():
            try:
                call = await inner._request_registered_call(encoded)
            except cygrpc._RequestCallError:
                return
            handling = cygrpc._handle_rpc(name, resolver, (), call, loop, False)
            self._keep(cygrpc._schedule_rpc_coro(handling, call, loop, name))

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        # The loop itself holds tasks only weakly.
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
