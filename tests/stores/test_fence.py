"""Writers whose store was taken over: nothing more of theirs takes effect, at whatever moment."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from contracts.feast_redis import redis_key
from contracts.online_store import RedisConfig, SqliteConfig
from contracts.redis_mark import mark_key
from dataflows.stores.online_writer import (
    OnlineStoreError,
    OnlineStoreGoneError,
    open_online_writer,
)
from dataflows.stores.redis_client import open_cluster
from dataflows.stores.redis_writer import RedisOnlineWriter
from dataflows.stores.sqlite_writer import SqliteOnlineWriter
from dataflows.stores.store_mark import (
    check_mark,
    claim_mark,
    filling_mark,
    is_filling,
    mark_to_be,
    read_mark,
    write_mark,
)
from tests.services.redis import KEEP_NOTHING, RedisServer
from tests.stores.redis_shop import (
    ask,
    client_of,
    cluster_node,
    config_for,
    contents,
    join_cluster,
    make_view,
    numbered_rows,
)
from tests.stores.shop import PROJECT as SHOP
from tests.stores.shop import VIEW as ROUTES
from tests.stores.shop import Shop

pytestmark = pytest.mark.filterwarnings("ignore:Stream feature views are experimental")
NewRedis = Callable[..., RedisServer]
VIEW = make_view("rides")
PROJECT = "shop"
TIMEOUT_SECONDS = 5.0
ROWS = 60_000


def marked(config: RedisConfig, mark: str = "mine") -> RedisOnlineWriter:
    """A writer of a store that bears its mark."""
    write_mark(config, PROJECT, mark)
    return RedisOnlineWriter(config, PROJECT, TIMEOUT_SECONDS, mark)


@pytest.mark.services
def test_nothing_of_a_commit_under_way_arrives_after_the_takeover(
    new_redis_server: NewRedis,
) -> None:
    """From the very step that changes the mark on, Redis holds what it held then."""
    config = config_for(new_redis_server(*KEEP_NOTHING).address)
    writer = marked(config)
    writer.write(VIEW, *numbered_rows(VIEW, ROWS))
    errors: list[Exception] = []

    def commit() -> None:
        try:
            writer.commit()
        except OnlineStoreError as error:
            errors.append(error)

    thread = threading.Thread(target=commit)
    with client_of(config) as client:
        thread.start()
        while client.dbsize() < 100:
            assert thread.is_alive()
        with client.pipeline(transaction=True) as pipe:
            pipe.set(mark_key(PROJECT), "other")
            pipe.dbsize()
            _, held = pipe.execute()
        thread.join(20)
        assert 100 <= held < ROWS, "the commit was over before the mark changed"
        assert client.dbsize() == held
        assert errors
        # The chunk at which it happened may be told as cancelled; when asked again it is final.
        with pytest.raises(OnlineStoreError, match=r"was taken over since .*replay") as caught:
            writer.commit()
        assert not isinstance(caught.value, OnlineStoreGoneError)
        assert client.dbsize() == held
    writer.close()


@pytest.mark.services
def test_the_same_mark_written_again_costs_a_repetition_only(new_redis_server: NewRedis) -> None:
    """Where the mark is touched but not changed, the same commit is asked for again and works."""
    config = config_for(new_redis_server(*KEEP_NOTHING).address)
    writer = marked(config)
    done = threading.Event()

    def touch() -> None:
        with client_of(config) as client:
            while not done.wait(0.001):
                client.set(mark_key(PROJECT), "mine")

    def commit_until_cancelled() -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            writer.write(VIEW, *numbered_rows(VIEW, 2_000))
            writer.commit()

    thread = threading.Thread(target=touch)
    thread.start()
    try:
        with pytest.raises(OnlineStoreGoneError, match="was marked anew"):
            commit_until_cancelled()
    finally:
        done.set()
        thread.join(10)
    writer.commit()
    writer.close()
    with client_of(config) as client:
        assert len(contents(client, PROJECT)) == 2_000


@pytest.mark.services
def test_what_redis_refuses_behind_the_fence_is_told(new_redis_server: NewRedis) -> None:
    """A fenced row that is refused, in its turn or at once, is an error as one without a fence."""
    server = new_redis_server("--maxmemory", "20mb")
    config = config_for(server.address)
    writer = marked(config)
    keys, _, _ = numbered_rows(VIEW, 1)
    with client_of(config) as client:
        client.set(redis_key(PROJECT, keys[0]), "x")
        writer.write(VIEW, *numbered_rows(VIEW, 3))
        with pytest.raises(OnlineStoreError, match=r"WRONGTYPE.*a db of its own"):
            writer.commit()
        client.delete(redis_key(PROJECT, keys[0]))
        writer.commit()
        assert len(contents(client, PROJECT)) == 3
        client.config_set("maxmemory", "1mb")
        writer.write(VIEW, *numbered_rows(VIEW, 3))
        with pytest.raises(OnlineStoreError, match=r"give it more memory \(maxmemory\)"):
            writer.commit()
    writer.close()


@pytest.mark.services
@pytest.mark.parametrize("ttl", [None, 60])
def test_what_a_user_must_be_allowed(new_redis_server: NewRedis, ttl: int | None) -> None:
    """These commands are enough for a writer with a mark."""
    server = new_redis_server()
    with client_of(config_for(server.address)) as client:
        allowed = "+hset +expire +watch +get +eval +set +del +multi +exec"
        ask(client, f"ACL SETUSER flow on >secret ~* {allowed}")
    options = ",username=flow,password=secret"
    writer = marked(config_for(server.address, options, key_ttl_seconds=ttl))
    writer.write(VIEW, *numbered_rows(VIEW, 10))
    writer.commit()
    writer.close()


@pytest.mark.services
def test_a_fenced_writer_of_a_cluster_writes_no_further_chunk(new_redis_server: NewRedis) -> None:
    """A writer that comes after the takeover writes nothing, on an old connection neither."""
    nodes = [cluster_node(new_redis_server) for _ in range(2)]
    join_cluster(nodes)
    config = config_for(nodes[0].address, redis_type="redis_cluster")
    writer = marked(config)
    writer.write(VIEW, *numbered_rows(VIEW, 10))
    writer.commit()
    write_mark(config, PROJECT, "other")
    writer.write(VIEW, *numbered_rows(VIEW, 10, 10))
    with pytest.raises(OnlineStoreError, match="was taken over"):
        writer.commit()
    writer.close()
    with closing(open_cluster(config, TIMEOUT_SECONDS)) as cluster:
        assert sum(1 for _ in cluster.scan_iter(f"*{PROJECT}", count=1000)) == 10


def test_a_file_has_marks_as_a_server_has(tmp_path: Path) -> None:
    """The first claims the mark, who comes second is told; projects in one file have their own."""
    online = SqliteConfig(tmp_path / "data" / "online.db")
    assert read_mark(online, PROJECT) is None
    assert [claim_mark(online, PROJECT, who) for who in ("a", "b", "a")] == ["a", "a", "a"]
    assert claim_mark(online, "another", "b") == "b"
    write_mark(online, PROJECT, "b")
    assert [read_mark(online, project) for project in (PROJECT, "another")] == ["b", "b"]
    online.path.write_bytes(b"garbage" * 1000)
    with pytest.raises(OnlineStoreError, match="delete it and rebuild it"):
        read_mark(online, PROJECT)


def test_a_writer_of_a_file_is_fenced_from_the_next_transaction_on(tmp_path: Path) -> None:
    """A mark is not changed while a transaction writes; the next one sees it and writes nothing."""
    online = SqliteConfig(tmp_path / "online.db")
    write_mark(online, PROJECT, "mine")
    with closing(open_online_writer(online, PROJECT, "mine")) as writer:
        writer.write(VIEW, *numbered_rows(VIEW, 3))
        with (
            pytest.raises(sqlite3.OperationalError, match="locked"),
            closing(sqlite3.connect(online.path, timeout=0, isolation_level=None)) as other,
        ):
            other.execute("BEGIN IMMEDIATE")
        writer.commit()
        write_mark(online, PROJECT, "other")
        for _ in range(2):
            with pytest.raises(OnlineStoreError, match=r"was taken over.*headwater replay"):
                writer.write(VIEW, *numbered_rows(VIEW, 3, 3))
            writer.commit()
    with closing(sqlite3.connect(online.path)) as store:
        query = f"SELECT COUNT(DISTINCT entity_key) FROM {PROJECT}_rides"
        assert store.execute(query).fetchone() == (3,)


def test_feast_never_sees_the_mark_of_a_file(shop: Shop) -> None:
    """Feast reads beside it, applies and tears down, and leaves it as it is."""
    online = SqliteConfig(shop.online_path)
    write_mark(online, SHOP, "mine")
    with closing(SqliteOnlineWriter(shop.online_path, SHOP, mark="mine")) as writer:
        writer.write(ROUTES, *numbered_rows(ROUTES, 3))
        writer.commit()
    rows = [{"origin": f"K{number}", "carrier_id": number} for number in range(4)]
    found = shop.store.get_online_features([f"{ROUTES.name}:flights"], rows).to_dict()
    assert found["flights"] == [0, 1, 2, None]
    shop.store.refresh_registry()
    views: list[Any] = shop.store.list_stream_feature_views()
    shop.store.apply(views)
    assert read_mark(online, SHOP) == "mine"


def test_a_store_that_is_filled_says_so() -> None:
    """The mark of a refill names the generation to come, is no two times the same, and is told."""
    one, other = filling_mark("mine"), filling_mark("mine")
    assert one != other
    assert [mark_to_be(mark) for mark in (one, "mine", None, filling_mark(""))] == [
        "mine", "mine", "", "",
    ]  # fmt: skip
    assert is_filling(one)
    assert not is_filling("mine")
    with pytest.raises(OnlineStoreError, match="a replay is filling it"):
        check_mark("Redis", "mine", one)
