"""`headwater features`: what it shows of each type, from both stores."""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import redis

from contracts.feast_bytes import encode_value, entity_key
from contracts.feast_redis import redis_field
from contracts.online_store import RedisConfig
from contracts.plan import Aggregate, Plan, View
from contracts.plan_file import plan_path, write_plan
from dataflows.stores.online_writer import OnlineWriter
from dataflows.stores.redis_writer import RedisOnlineWriter
from dataflows.stores.sqlite_writer import SqliteOnlineWriter
from tests.cli.rides import Rides
from tests.integration.commands import Commands
from tests.scorer.redis_rows import Rows
from tests.services.outside import OutsideRedis
from tests.services.redis import RedisServer

VIEW = View(
    name="driver_rides",
    topic="rides.done",
    join_keys=("driver",),
    join_key_types=("int64",),
    aggregates=(
        Aggregate("last_late", "float64", "late", "last", 0, 0),
        Aggregate("rides", "int64", "late", "count", 0, 0),
        Aggregate("last_town", "string", "town", "last", 0, 0),
        Aggregate("last_paid", "bool", "paid", "last", 0, 0),
    ),
    ttl_us=60_000_000,
    offline_path="",
)
SERVICES = {
    "rides": (("driver_rides", "rides"), ("driver_rides", "last_late")),
    "with_share": (("ride_share", "share"), ("driver_rides", "rides")),
    "shares": (("ride_share", "share"),),
    "all": tuple((VIEW.name, aggregate.feature) for aggregate in VIEW.aggregates),
}


def repository(folder: Path, project: str, address: str | None) -> Rides:
    """A folder as `headwater apply` leaves it, as far as `features` looks; SQLite by default."""
    (folder / "data").mkdir(exist_ok=True)
    store = "sqlite\n  path: data/online.db" if address is None else "redis\n"
    if address is not None:
        store += f"  connection_string: {address}"
    (folder / "feature_store.yaml").write_text(
        f"project: {project}\nprovider: local\nregistry: data/registry.db\n"
        f"online_store:\n  type: {store}\n"
    )
    (folder / "definitions.py").touch()
    plan = Plan(project=project, topics=(), views=(VIEW,), models=())
    write_plan(plan_path(folder), plan, SERVICES)
    return Rides(folder)


@pytest.mark.services
def test_values_and_age_come_from_redis(
    tmp_path: Path,
    redis_server: RedisServer | OutsideRedis,
    redis_project: str,
    commands: Commands,
) -> None:
    """Values have their types, event time, age and expiry; a list instead is told by name."""
    made = repository(tmp_path, redis_project, redis_server.address)
    key = entity_key(("driver",), ("int64",), (3,))
    stamp_us = time.time_ns() // 1000 - 3_600_000_000
    with closing(redis.Redis(redis_server.host, redis_server.port)) as client:
        rows = Rows(client, redis_project)
        rows.write(VIEW.name, key, {"last_late": 2.5}, stamp_us)
        rows.put(key, redis_field(VIEW.name, "rides"), encode_value("int64", 300))
        result = made.headwater("features", "rides", "driver=3")
        rows.put(key, redis_field(VIEW.name, "rides"), b"\x5a\x00")
        failed = made.forked(commands, "features", "rides", "driver=3")
        client.delete(key + redis_project.encode())
    assert (result.returncode, result.stderr) == (0, "")
    shown = json.loads(result.stdout)
    assert shown["entity"] == {"driver": 3}
    count = shown["features"]["driver_rides:rides"]
    assert (count["value"], type(count["value"])) == (300, int)
    assert shown["features"]["driver_rides:last_late"]["value"] == 2.5
    assert 3_600 <= count["age_seconds"] < 3_800
    assert count["expired"]
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "feature driver_rides:rides cannot be read" in failed.stderr


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.services)])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Rides, OnlineWriter]]:
    """A folder for each kind of online store, and a writer of that store."""
    project = f"test_{uuid.uuid4().hex}"
    if request.param == "sqlite":
        with closing(SqliteOnlineWriter(tmp_path / "data" / "online.db", project)) as writer:
            yield repository(tmp_path, project, None), writer
        return
    server = request.getfixturevalue("redis_server")
    config = RedisConfig(((server.host, server.port),), is_cluster=False, key_ttl_seconds=600)
    with closing(RedisOnlineWriter(config, project, 5)) as redis_writer:
        yield repository(tmp_path, project, server.address), redis_writer


def test_strings_and_booleans_are_shown(
    made: tuple[Rides, OnlineWriter], commands: Commands
) -> None:
    """Text of any script, true and false, nulls and whole numbers come out as JSON has them."""
    rides, writer = made
    keys = [entity_key(("driver",), ("int64",), (number,)) for number in range(3)]
    values = np.array(
        [[2.0, 2.0**53, 1.0, 1.0], [math.nan, -1, 0, 0], [math.inf, math.nan, math.nan, math.nan]]
    )
    stamps_us = np.full(3, time.time_ns() // 1000)
    writer.write(VIEW, keys, stamps_us, values, ["", '\u6771\u4eac \U0001f5fc\0\n"x"'])
    writer.commit()
    shown = []
    for driver in range(4):
        result = rides.forked(commands, "features", "all", f"driver={driver}")
        assert (result.returncode, result.stderr) == (0, "")
        cells = json.loads(result.stdout)["features"]
        shown.append([cells[f"{VIEW.name}:{a.feature}"]["value"] for a in VIEW.aggregates])
    assert shown == [
        [2.0, 2**53, '\u6771\u4eac \U0001f5fc\0\n"x"', True],
        [None, -1, "", False],
        [math.inf, None, None, None],
        [None] * 4,
    ]
    assert [type(value) for value in shown[0]] == [float, int, str, bool]


def test_what_is_not_stored_is_named(tmp_path: Path, commands: Commands) -> None:
    """Of a service with on-demand views the stored features are shown, the others only named."""
    rides = repository(tmp_path, "rides", None)
    with closing(SqliteOnlineWriter(tmp_path / "data" / "online.db", "rides")) as writer:
        key = entity_key(("driver",), ("int64",), (3,))
        stamps_us = np.full(1, time.time_ns() // 1000)
        writer.write(VIEW, [key], stamps_us, np.array([[2.5, 7.0, 0.0, 1.0]]), [""])
        writer.commit()
    result = rides.forked(commands, "features", "with_share", "driver=3")
    assert (result.returncode, result.stderr) == (0, "")
    shown = json.loads(result.stdout)
    assert {name: one["value"] for name, one in shown["features"].items()} == {
        "driver_rides:rides": 7
    }
    assert shown["not_stored"] == ["ride_share:share"]
    nothing = rides.forked(commands, "features", "shares", "driver=3")
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert "feature service 'shares' has no feature that a stream feature view" in nothing.stderr


@pytest.mark.services
def test_a_redis_that_is_away_is_one_line(
    tmp_path: Path, new_redis_server: Callable[..., RedisServer], commands: Commands
) -> None:
    """Without a server the command fails with one line that names its address."""
    server = new_redis_server()
    server.stop()
    result = repository(tmp_path, "rides", server.address).forked(
        commands, "features", "rides", "driver=3"
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert f"Redis at {server.address} cannot be reached: connection refused" in result.stderr
