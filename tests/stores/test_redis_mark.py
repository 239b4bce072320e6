"""The mark of the state folder in Redis: who may leave it, and a writer that looks for it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from contracts.redis_mark import mark_key
from dataflows.stores.online_writer import OnlineStoreError, OnlineStoreGoneError
from dataflows.stores.redis_client import open_cluster
from dataflows.stores.redis_mark import claim_mark, read_mark, write_mark
from dataflows.stores.redis_writer import RedisOnlineWriter
from tests.services.redis import RedisServer
from tests.stores.redis_shop import (
    client_of,
    cluster_node,
    config_for,
    contents,
    join_cluster,
    make_view,
    numbered_rows,
)

pytestmark = pytest.mark.services
NewRedis = Callable[..., RedisServer]
VIEW = make_view("rides")
PROJECT = "shop"
TIMEOUT_SECONDS = 2.0


def write(writer: RedisOnlineWriter, count: int) -> None:
    """Stage some rows and send them."""
    writer.write(VIEW, *numbered_rows(VIEW, count))
    writer.commit()


def commit_when_back(writer: RedisOnlineWriter) -> None:
    """Ask again until Redis takes everything, or refuses for good."""
    deadline = time.monotonic() + 20
    while True:
        try:
            writer.commit()
        except OnlineStoreGoneError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


def test_only_the_first_claims_the_mark(new_redis_server: NewRedis) -> None:
    """Who comes second is told whose the store is; to write the mark over it is another thing."""
    config = config_for(new_redis_server().address)
    assert read_mark(config, PROJECT) is None
    assert [claim_mark(config, PROJECT, who) for who in ("a", "b", "a")] == ["a", "a", "a"]
    assert claim_mark(config, "another", "b") == "b"
    write_mark(config, PROJECT, "b")
    assert read_mark(config, PROJECT) == "b"


def test_a_redis_that_comes_back_empty_is_not_filled(new_redis_server: NewRedis) -> None:
    """With a mark to look for, a new connection to an empty Redis is a final error with advice."""
    server = new_redis_server("--appendonly", "no")
    config = config_for(server.address)
    write_mark(config, PROJECT, "mine")
    writer = RedisOnlineWriter(config, PROJECT, TIMEOUT_SECONDS, "mine")
    write(writer, 10)
    server.kill()
    server.start()
    writer.write(VIEW, *numbered_rows(VIEW, 5, 3))
    with pytest.raises(
        OnlineStoreError, match=r"has lost what it held.*headwater replay"
    ) as caught:
        commit_when_back(writer)
    assert not isinstance(caught.value, OnlineStoreGoneError)
    assert server.address in str(caught.value)
    write_mark(config, PROJECT, "other")
    with pytest.raises(OnlineStoreError, match="was taken over since this dataflow began"):
        writer.commit()
    with client_of(config) as client:
        assert client.dbsize() == 1
    write_mark(config, PROJECT, "mine")
    writer.commit()
    writer.close()
    with client_of(config) as client:
        assert len(contents(client, PROJECT)) == 5


def test_a_reconnection_of_the_client_looks_for_the_mark_too(new_redis_server: NewRedis) -> None:
    """Where the client itself finds a dead connection and connects again, the mark is read."""
    server = new_redis_server("--appendonly", "no")
    config = config_for(server.address, ",health_check_interval=1")
    write_mark(config, PROJECT, "mine")
    writer = RedisOnlineWriter(config, PROJECT, TIMEOUT_SECONDS, "mine")
    write(writer, 1)
    # As redis-py's own health check leaves it when it finds the connection dead.
    writer._connection.disconnect()
    with client_of(config) as client:
        client.delete(mark_key(PROJECT))
    with pytest.raises(OnlineStoreError, match="has lost what it held"):
        write(writer, 1)
    writer.close()


def test_a_cluster_without_the_mark_is_refused(new_redis_server: NewRedis) -> None:
    """A cluster whose node of the mark has lost it ends the writer, on an old connection too."""
    nodes = [cluster_node(new_redis_server) for _ in range(2)]
    join_cluster(nodes)
    config = config_for(nodes[0].address, redis_type="redis_cluster")
    write_mark(config, PROJECT, "mine")
    writer = RedisOnlineWriter(config, PROJECT, TIMEOUT_SECONDS, "mine")
    write(writer, 100)
    cluster = open_cluster(config, TIMEOUT_SECONDS)
    cluster.delete(mark_key(PROJECT))
    cluster.close()
    with pytest.raises(OnlineStoreError, match="has lost what it held"):
        write(writer, 100)
    writer.close()
