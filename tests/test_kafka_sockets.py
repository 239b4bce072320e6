"""What tests have kafka-python do with sockets whose connection does not come about."""

from __future__ import annotations

import gc
import socket
import types
import warnings
from collections.abc import Generator
from contextlib import closing
from typing import Any

import pytest
from kafka import KafkaAdminClient
from kafka.errors import KafkaError
from kafka.net.inet import KafkaNetSocket

from tests.services.server import free_ports


def test_a_refused_connection_leaves_no_socket() -> None:
    """A client that finds nobody is gone without a trace; Python has nothing to warn of."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ResourceWarning)
        with pytest.raises(KafkaError):
            KafkaAdminClient(
                bootstrap_servers=f"127.0.0.1:{free_ports(1)[0]}", bootstrap_timeout_ms=200
            )
        gc.collect()
    assert [one for one in said if one.category is ResourceWarning] == []


class _Net:
    """Of a loop the one thing that connecting asks for; here it never comes."""

    @types.coroutine
    def wait_write(self, sock: socket.socket, timeout_at: float | None) -> Generator[None]:
        yield


def test_a_client_that_is_closed_while_it_connects_leaves_no_socket() -> None:
    """Nor does one whose broker has taken the connection already, unseen by the client."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server, socket.socket() as sock:
        sock.setblocking(False)
        connecting: Any = KafkaNetSocket().sock_connect(_Net(), sock, server.getsockname())
        connecting.send(None)
        assert sock.fileno() >= 0
        connecting.close()
        assert sock.fileno() == -1
