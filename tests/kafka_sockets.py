"""kafka-python 3.0 with sockets that are closed when their connection does not come about.

It leaves them to Python: one that was refused, or one that was being connected when the client was
closed, which happens on a busy machine. Python says so in a warning, in whatever test runs then.
"""

from __future__ import annotations

from typing import Any

from kafka.net.inet import KafkaNetSocket


def close_what_fails() -> None:
    """Have kafka-python close such sockets in this process, from now on. Once is enough."""
    connect = KafkaNetSocket.sock_connect
    if connect.__module__ == __name__:
        return

    async def connected(self: Any, net: Any, sock: Any, *given: Any, **named: Any) -> Any:
        try:
            return await connect(self, net, sock, *given, **named)
        except BaseException:  # also when the coroutine is closed
            sock.close()
            raise

    setattr(KafkaNetSocket, "sock_connect", connected)  # noqa: B010 - as mypy wants it
