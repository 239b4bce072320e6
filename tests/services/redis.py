"""A real redis-server on a port of its own."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.services.provision import redis_program
from tests.services.server import Server, free_ports

# All data survives a stop and a kill, as in production.
KEEP_ALL = ("--appendonly", "yes", "--appendfsync", "no")
KEEP_NOTHING = ("--appendonly", "no")


class RedisServer(Server):
    """One Redis on 127.0.0.1.

    Attributes:
        host: where it listens.
        port: where it listens; the same after a restart.
    """

    start_seconds_max = 20.0

    def __init__(self, folder: Path, *arguments: str, port: int | None = None) -> None:
        """Keep data in ``folder``; ``arguments`` are redis-server's, and go before ours."""
        super().__init__(folder)
        self.host = "127.0.0.1"
        self.port = free_ports(1)[0] if port is None else port
        self._arguments = arguments

    def __repr__(self) -> str:
        return f"Redis at {self.address}"

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``, as a Feast connection string begins."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """``redis://127.0.0.1:PORT/0``."""
        return f"redis://{self.address}/0"

    def command(self) -> list[str]:
        """The program and its options; of two of a kind the later one counts."""
        ours = ["--port", str(self.port), "--bind", self.host, "--dir", str(self.folder)]
        return [redis_program(), *ours, "--save", "", *KEEP_ALL, *self._arguments]

    def answers(self) -> bool:
        """Whether it takes commands: not yet while it loads its data."""
        try:
            with socket.create_connection((self.host, self.port), timeout=1) as connection:
                connection.settimeout(1)
                connection.sendall(b"PING\r\n")
                # Where a password is wanted, that is an answer too.
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False
