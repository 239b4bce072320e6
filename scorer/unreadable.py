"""Requests that are no message of their method: the caller's fault, and told as such.

gRPC itself ends a call whose bytes cannot be read with UNKNOWN, a code for defects of a server.
Here such bytes become an ``Unreadable`` request, which ``scorer.calls`` answers like any other
wrong one. Large requests are left ``Unread``: to let them in is for ``scorer.calls``, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import grpc
from google.protobuf.message import DecodeError

from scorer.large_requests import LARGE_BYTES, Unread, outline_of

Read = Callable[[bytes], Any]


class Unreadable:
    """Stands for a request that could not be read.

    Attributes:
        request_id: nothing; where a request would have it.
        reason: what to tell the caller.
    """

    request_id = ""
    reason = "the bytes are no message of this method: make your stubs from the scorer's proto"


_UNREADABLE = Unreadable()


def reading(server: grpc.aio.Server) -> grpc.aio.Server:
    """What services are added to in the place of ``server``: it tells of such requests.

    Only for services that leave all their work to ``scorer.calls``.
    """
    return cast(grpc.aio.Server, _Reading(server))


class _Reading:
    """The part of a server that generated code uses."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Nothing: the same handlers come by name next."""

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """Add the methods of a service."""
        # It is a named tuple, which the type stubs do not know.
        reading = {
            name: cast(Any, handler)._replace(
                request_deserializer=_reader(cast(Read, handler.request_deserializer))
            )
            for name, handler in handlers.items()
        }
        generic = grpc.method_handlers_generic_handler(service, reading)
        self._server.add_generic_rpc_handlers((generic,))


def _reader(read: Read) -> Read:
    # Generated code gives a method of the message's class.
    outline = outline_of(cast(Any, read).__self__.DESCRIPTOR)

    def read_or_tell(data: bytes) -> Any:
        try:
            return read(data)
        except DecodeError:
            return _UNREADABLE

    def look(data: bytes) -> Any:
        if len(data) > LARGE_BYTES:
            return Unread(data, read_or_tell, outline)
        return read_or_tell(data)

    return look
