"""Redis refilled from a SQLite store, and digests that say whether the two hold the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import redis

from contracts.feast_redis import (
    encode_timestamp,
    redis_field,
    redis_key,
    redis_timestamp_field,
)
from contracts.online_store import RedisConfig
from contracts.plan import View
from dataflows.stores import gathered_rows, redis_refill, redis_scan
from dataflows.stores.digest import digest_redis, digest_sqlite
from dataflows.stores.gathering_writer import GatheringWriter
from dataflows.stores.online_writer import OnlineStoreGoneError, OnlineWriter
from dataflows.stores.redis_writer import RedisOnlineWriter
from dataflows.stores.refill import replace_values
from tests.services.outside import OutsideRedis
from tests.services.redis import RedisServer
from tests.stores.redis_shop import (
    client_of,
    cluster_node,
    config_for,
    contents,
    join_cluster,
    keys_of,
    make_view,
    numbered_rows,
)

pytestmark = pytest.mark.services
RIDES, TIPS = make_view("rides"), make_view("tips", ["int64", "float64"])
CARS = make_view("cars", ["float64"], ("car",), ("int64",))
TOWNS = make_view("towns", ["string", "bool", "string"])
TEXTS = ["", "a\0b", "\u6771\u4eac", *(f"town {number}" for number in range(50))]
VIEWS = (RIDES, TIPS, CARS, TOWNS)


@pytest.fixture
def config(redis_server: RedisServer | OutsideRedis) -> RedisConfig:
    """The configuration of the shared Redis."""
    return config_for(redis_server.address)


@pytest.fixture
def client(config: RedisConfig, redis_project: str) -> Iterator[redis.Redis]:
    """A client of it; the test's keys are deleted in the end."""
    with client_of(config) as made:
        yield made
        for project in (redis_project, f"my{redis_project}"):
            if found := contents(made, project):
                made.delete(*found)


def fill(writer: OnlineWriter, first: int = 0) -> None:
    """Rows of all views: some entities have both rides and tips, some values are null."""
    for view in VIEWS:
        writer.ensure_table(view)
    keys, stamps, values = numbered_rows(RIDES, 250, first)
    values[::7, 0] = math.nan
    values[::5, 1] = math.nan
    values[:, 1] *= -1
    writer.write(RIDES, keys, stamps, values)
    keys, stamps, values = numbered_rows(TIPS, 100, first + 200)
    writer.write(TIPS, keys, stamps, values)
    cars = keys_of(CARS, [(number - 5,) for number in range(30)])
    writer.write(CARS, cars, np.arange(30) * 10**6, np.arange(30)[:, None] / 7)
    keys, stamps, values = numbered_rows(TOWNS, 230, first)
    values = values % [len(TEXTS), 2, 2]
    values[::7, 0] = values[::5, 1] = values[::3, 2] = math.nan
    writer.write(TOWNS, keys, stamps, values, TEXTS)
    writer.commit()
    writer.close()


def gathered(folder: Path, project: str) -> Path:
    """A file in which the rows of ``fill`` are gathered."""
    path = folder / "built.db"
    fill(GatheringWriter(path, project))
    return path


def test_an_empty_redis_holds_what_the_writer_would_write(
    client: redis.Redis, config: RedisConfig, redis_project: str, tmp_path: Path
) -> None:
    """Copied rows are byte for byte those that our writer sends for the same values."""
    replace_values(gathered(tmp_path, redis_project), redis_project, VIEWS, config)
    fill(RedisOnlineWriter(config, f"my{redis_project}", 5))
    mine = contents(client, f"my{redis_project}")
    both = contents(client, redis_project)  # the pattern of one fits the keys of the other
    expected = {key.replace(b"my" + redis_project.encode(), redis_project.encode()) for key in mine}
    assert len(mine) == 330
    assert set(both) - set(mine) == expected
    for key, row in mine.items():
        assert both[key.replace(b"my" + redis_project.encode(), redis_project.encode())] == row


@pytest.mark.parametrize("rows_at_once", [10_000, 7])
def test_what_the_file_does_not_have_goes_and_all_else_stays(
    client: redis.Redis,
    config: RedisConfig,
    redis_project: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows_at_once: int,
) -> None:
    """Stale entities lose our views' fields; other views, projects and keys are untouched."""
    monkeypatch.setattr(gathered_rows, "_ROWS_AT_ONCE", rows_at_once)
    monkeypatch.setattr(redis_refill, "_ENTITIES_AT_ONCE", rows_at_once)
    monkeypatch.setattr(redis_scan, "_KEYS_AT_ONCE", rows_at_once)
    path = gathered(tmp_path, redis_project)
    replace_values(path, redis_project, VIEWS, config)
    expected = contents(client, redis_project)
    # Now Redis has other entities, other values, and what others have put there.
    fill(RedisOnlineWriter(config, redis_project, 5), first=100)
    neighbour = f"my{redis_project}"
    fill(RedisOnlineWriter(config, neighbour, 5), first=900)
    theirs = contents(client, neighbour)
    other = make_view("somebody_elses", ["float64"])
    writer = RedisOnlineWriter(config, redis_project, 5)
    keys, stamps, values = numbered_rows(other, 60, 300)
    writer.write(other, keys, stamps, values)
    writer.commit()
    writer.close()
    client.set(f"note:{redis_project}", "x")
    client.hset(f"hash:{redis_project}", "f", "x")
    for _ in range(2):
        replace_values(path, redis_project, VIEWS, config)
        assert contents(client, neighbour) == theirs
        assert client.get(f"note:{redis_project}") == b"x"
        assert client.hgetall(f"hash:{redis_project}") == {b"f": b"x"}
        for key, stamp in zip(keys, stamps.tolist(), strict=True):
            row = client.hgetall(redis_key(redis_project, key))
            assert row.pop(redis_timestamp_field(other.name)) == encode_timestamp(stamp)
            row.pop(redis_field(other.name, "f0"))
            assert row == expected.get(redis_key(redis_project, key), {})
        left = len(list(client.scan_iter(f"*{redis_project}", count=1000)))
        assert left == len(expected) + len(theirs) + 60 + 2
        assert digest_redis(config, redis_project, VIEWS) == digest_sqlite(path, redis_project)
    client.delete(f"note:{redis_project}", f"hash:{redis_project}")


def test_a_view_that_the_file_does_not_have_is_emptied(
    client: redis.Redis, config: RedisConfig, redis_project: str, tmp_path: Path
) -> None:
    """A view without rows in the replay has none in Redis, and a view not asked for stays."""
    fill(RedisOnlineWriter(config, redis_project, 5))
    path = tmp_path / "built.db"
    GatheringWriter(path, redis_project).close()
    replace_values(path, redis_project, [TIPS], config)
    for view, is_there in ((RIDES, True), (TIPS, False), (CARS, True)):
        field = redis_timestamp_field(view.name)
        assert any(field in row for row in contents(client, redis_project).values()) == is_there
    replace_values(path, redis_project, VIEWS, config)
    assert contents(client, redis_project) == {}
    with pytest.raises(FileNotFoundError, match="no online store"):
        replace_values(tmp_path / "none.db", redis_project, VIEWS, config)


def test_a_copy_that_was_cut_off_is_done_again(
    new_redis_server: Callable[..., RedisServer], tmp_path: Path
) -> None:
    """With Redis gone the copy says so; the same call later makes everything right."""
    server = new_redis_server()
    config = config_for(server.address, key_ttl_seconds=900)
    path = gathered(tmp_path, "shop")
    fill(RedisOnlineWriter(config, "shop", 5), first=100)
    server.stop()
    with pytest.raises(OnlineStoreGoneError, match=server.address):
        replace_values(path, "shop", VIEWS, config, timeout_seconds=1)
    with pytest.raises(OnlineStoreGoneError, match=server.address):
        digest_redis(config, "shop", VIEWS, timeout_seconds=1)
    server.start()
    replace_values(path, "shop", VIEWS, config, timeout_seconds=1)
    assert digest_redis(config, "shop", VIEWS) == digest_sqlite(path, "shop")
    with client_of(config) as client:
        assert all(0 < client.ttl(key) <= 900 for key in contents(client, "shop"))


def test_copy_and_digest_go_over_all_nodes_of_a_cluster(
    new_redis_server: Callable[..., RedisServer], tmp_path: Path
) -> None:
    """In a cluster too what is stale goes, and the digest is that of the file."""
    nodes = [cluster_node(new_redis_server) for _ in range(2)]
    join_cluster(nodes)
    config = config_for(nodes[1].address, redis_type="redis_cluster")
    path = gathered(tmp_path, "shop")
    fill(RedisOnlineWriter(config, "shop", 5), first=100)
    assert digest_redis(config, "shop", VIEWS) != digest_sqlite(path, "shop")
    replace_values(path, "shop", VIEWS, config)
    assert digest_redis(config, "shop", VIEWS) == digest_sqlite(path, "shop")


def test_digest_knows_every_difference(
    client: redis.Redis, config: RedisConfig, redis_project: str
) -> None:
    """A value, a null, a microsecond, a field more or less count; expiry and others do not."""
    digests = [digest_redis(config, redis_project, VIEWS)]

    def note(view: View, stamp_us: int, cells: list[float], texts: Sequence[str] = ()) -> str:
        writer = RedisOnlineWriter(config, redis_project, 5)
        keys = keys_of(view, [("JFK", 7)])
        writer.write(view, keys, np.array([stamp_us]), np.array([cells]), texts)
        writer.commit()
        writer.close()
        return digest_redis(config, redis_project, VIEWS)

    for stamp_us, cells in (
        (10**15, [1.0, 2.0, 1.0]),
        (10**15 + 1, [1.0, 2.0, 1.0]),
        (10**15, [1.5, 2.0, 1.0]),
        (10**15, [1.0, 2.0, math.nan]),
        (10**15, [math.nan, 2.0, 1.0]),
    ):
        digests.append(note(RIDES, stamp_us, cells))
    assert note(RIDES, 10**15, [1.0, 2.0, 1.0]) == digests[1]
    digests.append(note(TIPS, 10**15, [1.0, 2.0]))
    key = redis_key(redis_project, keys_of(RIDES, [("JFK", 7)])[0])
    client.expire(key, 1000)
    client.hset(key, redis_field("other", "f0"), b"x")
    assert digest_redis(config, redis_project, VIEWS) == digests[-1]
    assert digest_redis(config, redis_project, VIEWS[:1]) == digests[1]
    for field in (redis_field("tips", "f0"), redis_timestamp_field("tips")):
        client.hdel(key, field)
        digests.append(digest_redis(config, redis_project, VIEWS))
    client.hdel(key, redis_field("tips", "f1"))
    assert digest_redis(config, redis_project, VIEWS) == digests[1]
    client.hset(key, redis_timestamp_field("tips"), b"\x08\x01")
    digests.append(digest_redis(config, redis_project, VIEWS))
    for cells, texts in (
        ([0.0, 0.0, math.nan], ["a"]),
        ([0.0, 1.0, math.nan], ["a"]),
        ([0.0, math.nan, math.nan], ["a"]),
        ([math.nan, 0.0, 0.0], ["a"]),
        ([0.0, 0.0, math.nan], [""]),
        ([math.nan, 0.0, math.nan], []),
    ):
        digests.append(note(TOWNS, 10**15, cells, texts))
    assert note(TOWNS, 10**15, [2.0, 1.0, math.nan], ["", "b", "a"]) == digests[-5]
    assert note(TOWNS, 10**15, [math.nan, 0.0, math.nan], ["a"]) == digests[-1]
    assert len(set(digests)) == len(digests)
    fill(RedisOnlineWriter(config, f"my{redis_project}", 5))
    assert digest_redis(config, redis_project, VIEWS) == digests[-1]
