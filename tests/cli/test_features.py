"""`headwater features` on Redis."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import redis

from contracts.feast_bytes import encode_value, entity_key
from contracts.feast_redis import redis_field
from contracts.plan import Aggregate, Plan, View
from contracts.plan_file import plan_path, write_plan
from tests.cli.rides import Rides
from tests.scorer.redis_rows import Rows
from tests.services.outside import OutsideRedis
from tests.services.redis import RedisServer

pytestmark = pytest.mark.services
VIEW = View(
    name="driver_rides",
    topic="rides.done",
    join_keys=("driver",),
    join_key_types=("int64",),
    aggregates=(
        Aggregate("last_late", "float64", "late", "last", 0, 0),
        Aggregate("rides", "int64", "late", "count", 0, 0),
    ),
    ttl_us=60_000_000,
    offline_path="",
)
SERVICES = {"rides": (("driver_rides", "rides"), ("driver_rides", "last_late"))}


def repository(folder: Path, project: str, address: str) -> Rides:
    """A folder as `headwater apply` leaves it, as far as `features` looks."""
    (folder / "data").mkdir()
    (folder / "feature_store.yaml").write_text(
        f"project: {project}\nprovider: local\nregistry: data/registry.db\n"
        f"online_store:\n  type: redis\n  connection_string: {address}\n"
    )
    (folder / "definitions.py").touch()
    plan = Plan(project=project, topics=(), views=(VIEW,), models=())
    write_plan(plan_path(folder), plan, SERVICES)
    return Rides(folder)


def test_values_and_age_come_from_redis(
    tmp_path: Path, redis_server: RedisServer | OutsideRedis, redis_project: str
) -> None:
    """Values have their types, and each its event time, its age and whether it has expired."""
    made = repository(tmp_path, redis_project, redis_server.address)
    key = entity_key(("driver",), ("int64",), (3,))
    stamp_us = time.time_ns() // 1000 - 3_600_000_000
    with closing(redis.Redis(redis_server.host, redis_server.port)) as client:
        rows = Rows(client, redis_project)
        rows.write(VIEW.name, key, {"last_late": 2.5}, stamp_us)
        rows.put(key, redis_field(VIEW.name, "rides"), encode_value("int64", 300))
        result = made.headwater("features", "rides", "driver=3")
        client.delete(key + redis_project.encode())
    assert (result.returncode, result.stderr) == (0, "")
    shown = json.loads(result.stdout)
    assert shown["entity"] == {"driver": 3}
    count = shown["features"]["driver_rides:rides"]
    assert (count["value"], type(count["value"])) == (300, int)
    assert shown["features"]["driver_rides:last_late"]["value"] == 2.5
    assert 3_600 <= count["age_seconds"] < 3_800
    assert count["expired"]


def test_a_redis_that_is_away_is_one_line(
    tmp_path: Path, new_redis_server: Callable[..., RedisServer]
) -> None:
    """Without a server the command fails with one line that names its address."""
    server = new_redis_server()
    server.stop()
    result = repository(tmp_path, "rides", server.address).headwater(
        "features", "rides", "driver=3"
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert f"Redis at {server.address} cannot be reached: connection refused" in result.stderr
