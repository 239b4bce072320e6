"""A live store that is refilled: what it holds then, and what readers see meanwhile."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.feast_bytes import entity_key
from contracts.feast_redis import redis_key, redis_timestamp_field
from contracts.online_store import RedisConfig, SqliteConfig
from contracts.plan import View
from contracts.redis_mark import mark_key
from dataflows.stores import redis_refill
from dataflows.stores.digest import digest_redis, digest_sqlite
from dataflows.stores.online_writer import OnlineStoreError, OnlineStoreGoneError
from dataflows.stores.redis_client import open_cluster
from dataflows.stores.redis_slots import slot_tags
from dataflows.stores.redis_writer import RedisOnlineWriter
from dataflows.stores.refill import add_values, remove_views, replace_values
from dataflows.stores.store_mark import read_mark, write_mark
from tests.integration.commands import ROOT
from tests.services.outside import OutsideRedis
from tests.services.redis import KEEP_NOTHING, RedisServer
from tests.stores.redis_shop import client_of, cluster_node, contents, join_cluster
from tests.stores.refill_world import (
    PROJECT,
    VIEWS,
    Rows,
    gather,
    redis_at,
    to_file,
    to_redis,
    write,
)

RIDES, TIPS, NOTES, SHOPS = VIEWS
NewRedis = Callable[..., RedisServer]
# As in a file the tables of a project are those whose names begin with it.
OTHER = PROJECT[:-1]
ENTITIES = ("a", "{a}", "b}", "", "\u6771", "c", "d")
rows_of_views = st.dictionaries(
    st.sampled_from([view.name for view in VIEWS]),
    st.dictionaries(st.sampled_from(ENTITIES), st.integers(0, 12)),
)
some_views = st.lists(st.sampled_from(VIEWS), unique=True)


def expected(old: Rows, new: Rows, views: list[View], *, added: bool, gone: list[View]) -> Rows:
    """What a live store holds after a refill."""
    held = {view.name: dict(old.get(view.name, {})) for view in VIEWS}
    for view in views:
        fresh = dict(new.get(view.name, {}))
        held[view.name] = {**held[view.name], **fresh} if added else fresh
    for view in gone:
        if view not in views:
            held[view.name] = {}
    return held


def refill(
    file: Path, online: SqliteConfig | RedisConfig, views: list[View], manner: str,
    gone: list[View],
) -> None:  # fmt: skip
    """One of the three."""
    if manner == "replace":
        replace_values(file, PROJECT, views, online, "new", gone)
    else:
        add_values(file, PROJECT, views, online, "new")
        remove_views(PROJECT, [view for view in gone if view not in views], online)


def rows_in(path: Path) -> set[tuple[object, ...]]:
    """All that a file has of the project, in every column."""
    with closing(sqlite3.connect(path)) as connection:
        tables = [f"{PROJECT}_{view.name}" for view in VIEWS]
        query = "SELECT name FROM sqlite_master WHERE type = 'table'"
        there = {name for (name,) in connection.execute(query)}
        return {
            (table, *row)
            for table in tables
            if table in there
            for row in connection.execute(f"SELECT * FROM {table}")
        }


refills = given(
    old=rows_of_views,
    new=rows_of_views,
    views=some_views,
    gone=some_views,
    manner=st.sampled_from(["replace", "add"]),
)


@refills
@settings(max_examples=20)
def test_a_file_holds_what_was_gathered(
    old: Rows, new: Rows, views: list[View], gone: list[View], manner: str
) -> None:
    """Of refilled views what was gathered, of gone ones nothing, of all others what was there."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        online = SqliteConfig(to_file(folder / "live.db", old))
        to_file(folder / "live.db", old, OTHER)
        theirs = digest_sqlite(online.path, OTHER)
        fresh = gather(folder / "fresh.db", new)
        held = expected(old, new, views, added=manner == "add", gone=gone)
        wanted = to_file(folder / "wanted.db", held)
        for _ in range(2):
            refill(fresh, online, views, manner, gone)
            assert rows_in(online.path) == rows_in(wanted)
            assert digest_sqlite(online.path, PROJECT) == digest_sqlite(wanted, PROJECT)
        assert digest_sqlite(online.path, OTHER) == theirs
        assert read_mark(online, PROJECT) == "new"


@pytest.fixture(scope="module")
def config(redis_server: RedisServer | OutsideRedis) -> RedisConfig:
    """The shared Redis."""
    return redis_at(redis_server.address)


@pytest.mark.services
@refills
@settings(max_examples=30)
def test_redis_holds_what_was_gathered(
    config: RedisConfig,
    old: Rows,
    new: Rows,
    views: list[View],
    gone: list[View],
    manner: str,
) -> None:
    """As in a file, byte for byte what our writer would have written, and nothing is left over."""
    with TemporaryDirectory() as name, client_of(config) as client:
        client.delete(*contents(client, PROJECT), *contents(client, OTHER), b"x")
        to_redis(config, old)
        to_redis(config, old, OTHER)
        theirs = contents(client, OTHER)
        fresh = gather(Path(name) / "fresh.db", new)
        for _ in range(2):
            refill(fresh, config, views, manner, gone)
            found = contents(client, PROJECT)
            assert contents(client, OTHER) == theirs
            assert list(client.scan_iter(f"headwater:refill:{PROJECT}:*")) == []
        assert read_mark(config, PROJECT) == "new"
        client.delete(*found, b"x")
        to_redis(config, expected(old, new, views, added=manner == "add", gone=gone))
        assert found == contents(client, PROJECT)
        client.delete(*contents(client, PROJECT), *theirs, mark_key(PROJECT))


def many(value: int, count: int = 3_000) -> Rows:
    """The same value for all entities of the first two views."""
    rows = {f"card {number}": value for number in range(count)}
    return {RIDES.name: rows, TIPS.name: rows}


class Reader:
    """Reads vectors of twenty entities, of two views each, again and again."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.keys = [
            redis_key(PROJECT, entity_key(("card",), ("string",), [f"card {number}"]))
            for number in range(0, 3_000, 150)
        ]
        self.seen: list[frozenset[bytes | None]] = []
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._read)

    def _read(self) -> None:
        fields = [redis_timestamp_field(RIDES.name), redis_timestamp_field(TIPS.name)]
        while not self.stop.is_set():
            with self.client.pipeline(transaction=False) as pipe:
                for key in self.keys:
                    pipe.hmget(key, fields)
                found = frozenset(stamp for row in pipe.execute() for stamp in row)
            if not self.seen or self.seen[-1] != found:
                self.seen.append(found)


@pytest.mark.services
def test_no_vector_mixes_generations(new_redis_server: NewRedis, tmp_path: Path) -> None:
    """Who reads hashes of many entities in one go finds all of them old, and later all new."""
    config = redis_at(new_redis_server(*KEEP_NOTHING).address)
    write_mark(config, PROJECT, "old")
    to_redis(config, many(1))
    file = gather(tmp_path / "fresh.db", many(2))
    with client_of(config) as client:
        reader = Reader(client)
        reader.thread.start()
        try:
            replace_values(file, PROJECT, [RIDES, TIPS], config, "new")
            deadline = time.monotonic() + 10
            while len(reader.seen) < 2:
                assert time.monotonic() < deadline
                time.sleep(0.001)
        finally:
            reader.stop.set()
            reader.thread.join(10)
    assert [len(stamps) for stamps in reader.seen] == [1, 1]
    assert digest_redis(config, PROJECT, VIEWS) == digest_sqlite(file, PROJECT)


def test_a_reader_of_a_file_sees_all_old_or_all_new(tmp_path: Path) -> None:
    """A process that has the file open reads the new generation from it, of all views at once."""
    live, fresh = to_file(tmp_path / "live.db", many(1)), gather(tmp_path / "f.db", many(2))
    query = f"SELECT DISTINCT event_us FROM {PROJECT}_rides UNION SELECT event_us"
    query += f" FROM {PROJECT}_tips"
    seen: list[int] = []
    stop = threading.Event()

    def read() -> None:
        with closing(sqlite3.connect(live, timeout=10)) as reader:
            while not stop.is_set():
                seen.append(len(reader.execute(query).fetchall()))

    thread = threading.Thread(target=read)
    thread.start()
    replace_values(fresh, PROJECT, [RIDES, TIPS], SqliteConfig(live), "new")
    stop.set()
    thread.join(10)
    assert set(seen) == {1}
    assert digest_sqlite(live, PROJECT) == digest_sqlite(fresh, PROJECT)


def killed_while_it_lays(config: RedisConfig, file: Path, at_least: int) -> bool:
    """Kill a refill when it has laid so many hashes down; False if it was done before."""
    command = [
        sys.executable,
        "-m",
        "tests.stores.refilling",
        config.label,
        PROJECT,
        str(file),
        "new",
    ]
    with (
        client_of(config) as client,
        subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}) as child,
    ):
        while client.llen(f"headwater:refill:{PROJECT}:list") < at_least:
            if child.poll() is not None:
                return False
        child.kill()
        child.wait()
        return child.returncode == -signal.SIGKILL and read_mark(config, PROJECT) != "new"


@pytest.mark.services
def test_a_refill_that_was_killed_is_done_again(new_redis_server: NewRedis, tmp_path: Path) -> None:
    """What it was killed at has changed nothing and fenced the old writer; the next one does it."""
    config = redis_at(new_redis_server(*KEEP_NOTHING).address)
    write_mark(config, PROJECT, "old")
    to_redis(config, many(1, 5_000))
    file = gather(tmp_path / "fresh.db", many(2, 5_000))
    with client_of(config) as client:
        before = contents(client, PROJECT)
        assert any(killed_while_it_lays(config, file, 500) for _ in range(5))
        assert contents(client, PROJECT) == before
        with (
            closing(RedisOnlineWriter(config, PROJECT, 5, "old")) as writer,
            pytest.raises(OnlineStoreError, match=r"taken over .*a replay is filling it"),
        ):
            write(writer, many(3, 10))
        assert contents(client, PROJECT) == before
        # The mark that was to be is known from the first attempt.
        replace_values(file, PROJECT, [RIDES, TIPS], config)
        assert digest_redis(config, PROJECT, VIEWS) == digest_sqlite(file, PROJECT)
        assert list(client.scan_iter("headwater:*")) == [mark_key(PROJECT).encode()]
    assert read_mark(config, PROJECT) == "new"


@pytest.mark.services
def test_of_two_refills_the_later_one_counts(
    new_redis_server: NewRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refill that finds another one behind it stops, with nothing of its own in place."""
    config = redis_at(new_redis_server(*KEEP_NOTHING).address)
    first = gather(tmp_path / "first.db", many(1, 50))
    later = gather(tmp_path / "later.db", many(2, 50))
    swap = redis_refill._Laying.swap

    def swap_when_another_came(laying: redis_refill._Laying) -> None:
        monkeypatch.setattr(redis_refill._Laying, "swap", swap)
        replace_values(later, PROJECT, [RIDES, TIPS], config, "later")
        swap(laying)

    monkeypatch.setattr(redis_refill._Laying, "swap", swap_when_another_came)
    with pytest.raises(OnlineStoreError, match="taken over by another replay"):
        replace_values(first, PROJECT, [RIDES, TIPS], config, "first")
    assert digest_redis(config, PROJECT, VIEWS) == digest_sqlite(later, PROJECT)
    assert read_mark(config, PROJECT) == "later"


@pytest.mark.services
def test_a_cluster_is_refilled_node_by_node(new_redis_server: NewRedis, tmp_path: Path) -> None:
    """Every node has its part in place, whatever braces are in the keys, and nothing else."""
    nodes = [cluster_node(new_redis_server) for _ in range(2)]
    join_cluster(nodes)
    config = redis_at(nodes[0].address, redis_type="redis_cluster")
    odd = {f"{left}{number}{right}": number for number in range(60) for left in ("", "{", "}")
           for right in ("", "}", "{a}")}  # fmt: skip
    old = {view.name: {key: value + 1 for key, value in odd.items()} for view in VIEWS[:3]}
    new = {RIDES.name: odd, TIPS.name: {key: odd[key] for key in list(odd)[::2]}}
    to_redis(config, old)
    file = gather(tmp_path / "fresh.db", new)
    replace_values(file, PROJECT, [RIDES, TIPS], config, "new", [NOTES])
    assert digest_redis(config, PROJECT, VIEWS) == digest_sqlite(file, PROJECT)
    assert read_mark(config, PROJECT) == "new"
    with closing(open_cluster(config, 5)) as cluster:
        assert len(list(cluster.scan_iter("headwater:*", count=1000))) == 1
        tags = slot_tags()
        assert all(
            cluster.keyslot(f"a:{tags[slot]}b}}{{c}}") == slot  # type: ignore[no-untyped-call]
            for slot in range(0, 16_384, 7)
        )


@pytest.mark.services
def test_keys_expire_as_the_writer_has_it(new_redis_server: NewRedis, tmp_path: Path) -> None:
    """A row that is put in place lives for the whole time; where a row went, the rest lives on."""
    address = new_redis_server(*KEEP_NOTHING).address
    config = redis_at(address, key_ttl_seconds=900)
    to_redis(config, {RIDES.name: {"a": 1, "b": 1, "c": 1, "d": 1}, TIPS.name: {"a": 1, "d": 1}})
    keys = [redis_key(PROJECT, entity_key(("card",), ("string",), [e])) for e in "abcd"]
    file = gather(tmp_path / "fresh.db", {RIDES.name: {"b": 1, "c": 2}})
    with client_of(config) as client:
        for key in keys[:3]:
            client.expire(key, 300)
        client.persist(keys[3])
        replace_values(file, PROJECT, [RIDES], config)
        times = [client.ttl(key) for key in keys]
        assert 0 < times[0] <= 300 < 800 < min(times[1:3])
        assert times[3] == -1
        replace_values(file, PROJECT, [RIDES], redis_at(address))
        assert [client.ttl(key) for key in keys[1:3]] == [-1, -1]


@pytest.mark.services
def test_a_redis_that_is_full_or_gone_keeps_what_it_held(
    new_redis_server: NewRedis, tmp_path: Path
) -> None:
    """Without room for both generations, or without Redis, the error says what to do."""
    server = new_redis_server(*KEEP_NOTHING)
    config = redis_at(server.address)
    to_redis(config, many(1, 2_000))
    file = gather(tmp_path / "fresh.db", many(2, 2_000))
    with client_of(config) as client:
        before = contents(client, PROJECT)
        used = client.info("memory")["used_memory"]
        client.config_set("maxmemory", used + 100_000)
        with pytest.raises(OnlineStoreError, match=r"give it more memory \(maxmemory\)"):
            replace_values(file, PROJECT, [RIDES, TIPS], config, "new")
        assert contents(client, PROJECT) == before
        client.config_set("maxmemory", 0)
    replace_values(file, PROJECT, [RIDES, TIPS], config, "new")
    assert digest_redis(config, PROJECT, VIEWS) == digest_sqlite(file, PROJECT)
    server.kill()
    with pytest.raises(OnlineStoreGoneError, match=server.address):
        replace_values(file, PROJECT, [RIDES, TIPS], config, "new")
    with pytest.raises(FileNotFoundError, match="no online store"):
        replace_values(tmp_path / "none.db", PROJECT, [RIDES], config, "new")
