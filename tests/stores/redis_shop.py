"""Views and rows for tests against Redis, and what Feast's own SDK writes for them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import redis
from feast import FeatureView, Field
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Float64

from contracts.feast_bytes import entity_key
from contracts.feature_schema import ValueType
from contracts.online_store import RedisConfig, parse_online_store
from contracts.plan import Aggregate, View
from tests.services.redis import RedisServer
from tests.services.server import free_ports

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR_US = 3_600_000_000
KeyValues = tuple[str | int, ...]
Cell = float | str | None
_SLOTS = {
    "float64": "double_val",
    "int64": "int64_val",
    "bool": "bool_val",
    "string": "string_val",
}


def make_view(
    name: str,
    dtypes: Sequence[ValueType] = ("float64", "int64", "bool"),
    join_keys: tuple[str, ...] = ("origin", "carrier_id"),
    join_key_types: tuple[ValueType, ...] = ("string", "int64"),
) -> View:
    """A view with one feature of each given type, ``f0``, ``f1`` and so on."""
    aggregates = tuple(
        Aggregate(f"f{place}", dtype, "x", "last", 0, 0) for place, dtype in enumerate(dtypes)
    )
    return View(name, "topic", join_keys, join_key_types, aggregates, 0, "")


def keys_of(view: View, values: Sequence[KeyValues]) -> list[bytes]:
    """Entity keys of a view."""
    return [entity_key(view.join_keys, view.join_key_types, value) for value in values]


def numbered_rows(
    view: View, count: int, first: int = 0
) -> tuple[list[bytes], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Keys, stamps and values of entities ``first``, ``first + 1`` ..."""
    numbers = range(first, first + count)
    keys = keys_of(view, [(f"K{number}", number) for number in numbers])
    stamps = 10**15 + 17 * np.arange(first, first + count)
    values = np.arange(first, first + count)[:, None] % np.array(
        [1000, 200, 2][: len(view.aggregates)]
    )
    return keys, stamps, values.astype(np.float64)


def shown_rows(
    view: View, rows: Sequence[Sequence[float]], texts: Sequence[str]
) -> list[list[Cell]]:
    """The rows with strings in the place of their codes."""
    return [
        [
            texts[int(cell)] if a.dtype == "string" and not math.isnan(cell) else cell
            for a, cell in zip(view.aggregates, row, strict=True)
        ]
        for row in rows
    ]


def config_for(address: str, options: str = "", **settings: object) -> RedisConfig:
    """What feature_store.yaml with that address and those options says."""
    store = {"type": "redis", "connection_string": address + options, **settings}
    config = parse_online_store(store, Path())
    assert isinstance(config, RedisConfig)
    return config


def client_of(config: RedisConfig) -> redis.Redis:
    """A plain client of the server."""
    return redis.Redis(**config.client_options(5))


def contents(client: redis.Redis, project: str) -> dict[bytes, dict[Any, Any]]:
    """All hashes whose key ends with the project's name."""
    keys: list[Any] = sorted(client.scan_iter(b"*" + project.encode(), count=1000))
    return {key: client.hgetall(key) for key in keys}


def feast_writes(
    address: str,
    project: str,
    view: View,
    key_values: Sequence[KeyValues],
    stamps_us: Sequence[int],
    values: Sequence[Sequence[Cell]],
    **settings: Any,
) -> None:
    """Let Feast's SDK write those rows to Redis."""
    store = RedisOnlineStore()
    config = SimpleNamespace(
        project=project,
        online_store=RedisOnlineStoreConfig(connection_string=address, **settings),
        entity_key_serialization_version=3,
        registry=SimpleNamespace(enable_online_feature_view_versioning=False),
    )
    schema = [Field(name=aggregate.feature, dtype=Float64) for aggregate in view.aggregates]
    table = FeatureView(name=view.name, entities=[], schema=schema)
    data = [
        (
            _entity(view, key),
            {
                aggregate.feature: _value(aggregate.dtype, cell)
                for aggregate, cell in zip(view.aggregates, cells, strict=True)
            },
            EPOCH + timedelta(microseconds=stamp_us),
            None,
        )
        for key, stamp_us, cells in zip(key_values, stamps_us, values, strict=True)
    ]
    store.online_write_batch(config, table, data, None)  # type: ignore[arg-type]
    assert store._client is not None
    store._client.close()


def cluster_node(new_redis_server: Callable[..., RedisServer]) -> RedisServer:
    """A node without slots, with a free second port: any client may have that 10,000 above."""
    (port,) = free_ports(1)
    return new_redis_server("--cluster-enabled", "yes", "--cluster-port", str(port))


def join_cluster(nodes: Sequence[RedisServer]) -> None:
    """Make a cluster of empty nodes, each with an equal share of the slots."""
    clients = [redis.Redis(host=node.host, port=node.port) for node in nodes]
    bounds = [16_384 * place // len(nodes) for place in range(len(nodes) + 1)]
    for place, client in enumerate(clients):
        ask(client, "CLUSTER ADDSLOTSRANGE", bounds[place], bounds[place + 1] - 1)
        ask(client, "CLUSTER SET-CONFIG-EPOCH", place + 1)
        bus = ask(clients[0], "CONFIG GET", "cluster-port")["cluster-port"]
        ask(client, "CLUSTER MEET", nodes[0].host, nodes[0].port, bus)
    deadline = time.monotonic() + 30
    for client in clients:
        while not (
            len(ask(client, "CLUSTER SLOTS")) == len(nodes)
            and ask(client, "CLUSTER INFO")["cluster_state"] == "ok"
        ):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        client.close()


def ask(client: redis.Redis, *command: str | int) -> Any:
    """Send one command as it is."""
    return client.execute_command(*command)  # type: ignore[no-untyped-call]


def _entity(view: View, values: KeyValues) -> EntityKey:
    protos = [Value(string_val=v) if isinstance(v, str) else Value(int64_val=v) for v in values]
    return EntityKey(join_keys=view.join_keys, entity_values=protos)


def _value(dtype: ValueType, cell: Cell) -> Value:
    message = Value()
    if isinstance(cell, str) or (cell is not None and not math.isnan(cell)):
        kind = {"float64": float, "int64": int, "bool": bool, "string": str}[dtype]
        setattr(message, _SLOTS[dtype], kind(cell))
    return message
