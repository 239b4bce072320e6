"""Makes commands take effect on a Redis server only while it bears a mark.

They go in a transaction under WATCH of the mark. What the mark was when the watching began could be
asked before, but each question is a round trip; so a script that goes with them looks, and where it
finds another mark it touches a second key that is watched too, which cancels the transaction. One
packet, no waiting, and at no moment can the mark change unseen.
"""

from __future__ import annotations

from typing import Any

from contracts.online_store import RedisConfig
from contracts.redis_mark import mark_key
from dataflows.stores.online_writer import OnlineStoreGoneError
from dataflows.stores.redis_mark import mark_in
from dataflows.stores.store_mark import check_mark, where_is

_LOOK = b"""local found = redis.call('GET', KEYS[1])
if found ~= ARGV[1] then redis.call('SET', KEYS[2], 1) redis.call('DEL', KEYS[2]) end
return found"""


class Fence:
    """What goes around commands that only the bearer of a mark may have executed."""

    def __init__(self, config: RedisConfig, project: str, mark: str) -> None:
        """Prepare the constant bytes."""
        self._config = config
        self._mark = mark
        key = mark_key(project).encode()
        # Never there between two commands; its name begins as that of the mark.
        stop = key + b":fenced"
        self._before = b"".join(
            (
                _command(b"WATCH", key, stop),
                _command(b"EVAL", _LOOK, b"2", key, stop, mark.encode()),
                _command(b"MULTI"),
            )
        )
        self._after = _command(b"EXEC")

    def around(self, commands: bytes) -> bytes:
        """The same commands in Redis' protocol, behind the fence."""
        return b"".join((self._before, commands, self._after))

    def read(self, connection: Any, commands: int) -> None:
        """Read what Redis says to ``around`` that many commands.

        Whether they were executed is not known where the connection breaks: they can be repeated,
        since then too they take effect only if the mark is there.

        Args:
            connection: redis-py's, over which they were sent.
            commands: how many.

        Raises:
            OnlineStoreError: it bears another mark, or none; nothing was executed.
            OnlineStoreGoneError: the mark was written anew in between, the same as before; nothing
                was executed.
            redis.RedisError: as redis-py has it for a command that was refused.
        """
        connection.read_response()
        found = mark_in(connection.read_response())
        for _ in range(1 + commands):
            connection.read_response()
        answers = connection.read_response()
        where = where_is(self._config)
        check_mark(where, self._mark, found)
        if answers is None:
            raise OnlineStoreGoneError(
                f"{where} was marked anew while it was written to", "start again; nothing is lost"
            )
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer


def _command(*parts: bytes) -> bytes:
    """A command in Redis' protocol."""
    bulks = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
    return b"*%d\r\n%s" % (len(parts), bulks)
