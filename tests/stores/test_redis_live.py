"""The Redis writer that sends live rows before anybody waits for Redis."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from dataflows.stores.online_writer import OnlineStoreError, OnlineStoreGoneError
from dataflows.stores.redis_writer import RedisOnlineWriter
from dataflows.stores.store_mark import write_mark
from tests.services.redis import RedisServer
from tests.stores.redis_shop import client_of, config_for, contents, make_view, numbered_rows
from tests.stores.test_redis_writer import commit_when_back, write

pytestmark = pytest.mark.services
NewRedis = Callable[..., RedisServer]
VIEW = make_view("rides")
PROJECT = "shop"
TIMEOUT_SECONDS = 2.0


def test_rows_that_are_sent_are_there_before_the_commit(new_redis_server: NewRedis) -> None:
    """What ``send`` has sent Redis takes at once; ``commit`` only hears of it, and of no other."""
    config = config_for(new_redis_server().address)
    write_mark(config, PROJECT, "mine")
    writer = RedisOnlineWriter(config, PROJECT, TIMEOUT_SECONDS, "mine")
    writer.write(VIEW, *numbered_rows(VIEW, 1))
    writer.send()  # nobody has connected yet
    with client_of(config) as client:
        assert contents(client, PROJECT) == {}
        writer.commit()
        assert len(contents(client, PROJECT)) == 1
        for first in (1, 4):
            writer.write(VIEW, *numbered_rows(VIEW, 3, first))
            writer.send()
            deadline = time.monotonic() + 20
            while len(contents(client, PROJECT)) < first + 3:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            writer.commit()
        writer.write(VIEW, *numbered_rows(VIEW, 3000, 7))
        writer.send()  # more than one sending: left to the commit
        assert len(contents(client, PROJECT)) == 7
        writer.commit()
        assert len(contents(client, PROJECT)) == 3007
        write_mark(config, PROJECT, "theirs")
        writer.write(VIEW, *numbered_rows(VIEW, 3, 5000))
        writer.send()
        with pytest.raises(OnlineStoreError, match="was taken over"):
            writer.commit()
        assert len(contents(client, PROJECT)) == 3007
    writer.close()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_rows_that_were_sent_to_nobody_are_sent_again(new_redis_server: NewRedis, end: str) -> None:
    """Redis ends before ``send`` or behind it: ``commit`` says so, and then sends all once more."""
    server = new_redis_server()
    config = config_for(server.address)
    writer = RedisOnlineWriter(config, PROJECT, TIMEOUT_SECONDS)
    write(writer, 1)
    getattr(server, end)()
    writer.write(VIEW, *numbered_rows(VIEW, 5, 10))
    writer.send()
    with pytest.raises(OnlineStoreGoneError):
        writer.commit()
    server.start()
    commit_when_back(writer)
    writer.write(VIEW, *numbered_rows(VIEW, 5, 20))
    writer.send()
    getattr(server, end)()
    # Whether it had answered before it ended is chance.
    with suppress(OnlineStoreGoneError):
        writer.commit()
    server.start()
    commit_when_back(writer)
    writer.close()
    with client_of(config) as client:
        assert len(contents(client, PROJECT)) == 11
