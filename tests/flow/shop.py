"""A small repository, a log made for it with bad and late records, and how to run and read it."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import duckdb

from contracts.evaluation_file import evaluation_file
from contracts.feast_bytes import decode_entity_key, decode_value
from contracts.online_store import SqliteConfig
from contracts.settings import DataflowSettings
from dataflows.definitions.repository import Repository
from dataflows.flow.run_context import Places
from dataflows.stores.digest import digest_models, digest_parquet, digest_sqlite

BEGIN_US = int(datetime(2013, 1, 1, 22, tzinfo=UTC).timestamp()) * 1_000_000
SECOND_US = 1_000_000
STORE = """
project: shop
provider: local
registry: data/registry.db
online_store: {type: sqlite, path: data/online.db}
offline_store: {type: file}
entity_key_serialization_version: 3
"""
DEFINITIONS = """
from datetime import timedelta
from feast import Entity, FeatureService, Field, FileSource, KafkaSource, StreamFeatureView
from feast import ValueType
from feast.aggregation import Aggregation
from feast.data_format import JsonFormat
from feast.types import Float64, Int64, String
from river import linear_model, optim, preprocessing
from contracts.model_spec import Label, Model

ORDERS = ("orders", "order_id string not null, user string, shop bigint not null, "
          "amount double, event_timestamp timestamp not null", 0)
VISITS = ("visits", "user string not null, seconds double, pages bigint, "
          "event_timestamp timestamp not null", 30)
OUTCOMES = ("outcomes", "order_id string not null, days double not null, "
            "event_timestamp timestamp not null", 0)


def source(topic, name):
    return KafkaSource(
        name=name, topic=topic[0], kafka_bootstrap_servers="localhost:1",
        timestamp_field="event_timestamp", message_format=JsonFormat(schema_json=topic[1]),
        watermark_delay_threshold=timedelta(seconds=topic[2]),
        batch_source=FileSource(name=f"{name}_files", path=f"data/offline/{name}",
                                timestamp_field="event_timestamp"))


def over(function, minutes, hop_minutes, name):
    return Aggregation(column="amount", function=function, name=name,
                       time_window=timedelta(minutes=minutes),
                       slide_interval=timedelta(minutes=hop_minutes))


def view(name, entities, topic, keys, aggregations, values, **more):
    fields = [Field(name=n, dtype=t) for n, t in {**keys, **values}.items()]
    return StreamFeatureView(name=name, entities=entities, source=source(topic, name),
                             mode="python", timestamp_field="event_timestamp",
                             aggregations=aggregations, schema=fields, **more)


user = Entity(name="user", join_keys=["user"], value_type=ValueType.STRING)
shop = Entity(name="shop", join_keys=["shop"], value_type=ValueType.INT64)
user_orders = view(
    "user_orders", [user], ORDERS, {"user": String},
    [over("count", 20, 5, "orders_20m"), over("sum", 20, 5, "spent_20m"),
     over("max", 10, 10, "max_10m"), Aggregation(column="amount", function="last", name="last"),
     Aggregation(column="amount", function="sum", name="spent")],
    {"orders_20m": Int64, "spent_20m": Float64, "max_10m": Float64, "last": Float64,
     "spent": Float64})
user_shop = view(
    "user_shop", [user, shop], ORDERS, {"user": String, "shop": Int64},
    [over("mean", 30, 10, "mean_30m"), over("min", 30, 10, "min_30m")],
    {"mean_30m": Float64, "min_30m": Float64})
shop_orders = view(
    "shop_orders", [shop], ORDERS, {"shop": Int64}, [over("count", 15, 15, "orders_15m")],
    {"orders_15m": Int64})
user_visits = view(
    "user_visits", [user], VISITS, {"user": String}, [], {"seconds": Float64, "pages": Int64},
    ttl=timedelta(minutes=4))
service = FeatureService(
    name="late_order", features=[user_orders, user_visits, user_shop, shop_orders])
late_order = Model(
    name="late_order", features="late_order", request=["amount"],
    spine=source(ORDERS, "spine"), spine_key="order_id",
    label=Label(source=source(OUTCOMES, "label"), key="order_id", value="days > 3",
                timeout=timedelta(hours=1)),
    publish_every=timedelta(minutes=30), segments=["user", "shop"],
    learner=lambda: preprocessing.StandardScaler()
    | linear_model.LogisticRegression(optimizer=optim.SGD(0.01)))
"""
BAD = [b"no json", b"", b'{"order_id": "x"}', b'{"order_id": 1} {"order_id": 2}', b"\xff\xfe"]


@dataclass(frozen=True)
class Record:
    """A line of the log: ``at_us`` is when it was written, ``fields`` None if it is bad."""

    topic: str
    partition: int
    at_us: int
    line: bytes
    fields: dict[str, Any] | None


def make_repository(folder: Path, definitions: str = DEFINITIONS) -> Path:
    """Write the files of the repository."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "feature_store.yaml").write_text(STORE)
    (folder / "definitions.py").write_text(definitions)
    return folder


def make_records(seed: int, orders: int) -> list[Record]:
    """A log over midnight, in the order of writing; late ones carry an earlier time."""
    rng = random.Random(seed)
    records = []
    for number in range(orders):
        at_us = BEGIN_US + number * 14 * SECOND_US + rng.randrange(14 * SECOND_US)
        order, amount = f"o{number}", rng.choice([None, *map(float, range(1, 30))])
        user = rng.choice([None, *(f"u{i}" for i in range(9))])
        fields = {"order_id": order, "user": user, "shop": rng.randrange(3), "amount": amount}
        records.append(_record(rng, "orders", rng.randrange(2), at_us, fields))
        for _ in range(2):
            visit_us = at_us + rng.randrange(9 * SECOND_US)
            visit = {"user": f"u{rng.randrange(9)}", "seconds": float(rng.randrange(99))}
            visit["pages"] = rng.choice([None, 1, 2])
            records.append(_record(rng, "visits", 0, visit_us, visit))
        if rng.random() < 0.8:
            label_us = at_us + rng.randrange(200 * SECOND_US)
            label = {"order_id": order, "days": float((amount or 0) > 10) * rng.randrange(2, 9)}
            records.append(_record(rng, "outcomes", 0, label_us, label))
    return sorted(records, key=lambda record: record.at_us)


def _record(
    rng: random.Random, topic: str, partition: int, at_us: int, fields: dict[str, Any]
) -> Record:
    if rng.random() < 0.01:
        return Record(topic, partition, at_us, rng.choice(BAD), None)
    event_us = at_us
    if rng.random() < 0.05:
        event_us -= rng.choice([1, 20, 300, 3000]) * SECOND_US
    elif rng.random() < 0.1:
        event_us -= event_us % (300 * SECOND_US) + rng.choice([-1, 0, 1])
    stamp = datetime.fromtimestamp(event_us // SECOND_US, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fields = {**fields, "event_timestamp": f"{stamp}.{event_us % SECOND_US:06d}Z"}
    line = json.dumps(fields).encode()
    return Record(topic, partition, at_us, line, {**fields, "event_us": event_us})


def write_log(folder: Path, records: list[Record]) -> Path:
    """Append the records to the partitions, which all exist from the start."""
    for topic, partition in [("orders", 0), ("orders", 1), ("visits", 0), ("outcomes", 0)]:
        path = folder / topic / f"{partition}.ndjson"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [r.line for r in records if (r.topic, r.partition) == (topic, partition)]
        with path.open("ab") as file:
            file.write(b"".join(line + b"\n" for line in lines))
    return folder


VIEWS = ("user_orders", "user_shop", "shop_orders", "user_visits")


def places(out: Path, views: Iterable[str] = VIEWS) -> Places:
    """Where a run that writes below ``out`` puts its things."""
    online = SqliteConfig(out / "online.db")
    offline = {view: out / "offline" / view for view in views}
    return Places(out / "state", online, offline, out / "examples", out / "models")


def settings(repository: Path, log: Path, out: Path, **given: Any) -> DataflowSettings:
    """Settings of a run; three shards and whatever is given."""
    chosen = {"shards": 3, "offline_publish_seconds": 0.0, **given}
    url = log.absolute().as_uri()
    return DataflowSettings.for_repo(repository, log_url=url, state_dir=out / "state", **chosen)


def digests(out: Path, views: Iterable[str] = VIEWS) -> dict[str, str]:
    """What a run left behind, by store."""
    found = {"online": digest_sqlite(out / "online.db", "shop")}
    for view, folder in places(out, views).offline.items():
        found[view] = digest_parquet(folder)
    for table in ("examples", "outcomes"):
        found[table] = digest_parquet(out / "examples" / "late_order" / table)
    evaluation = evaluation_file(out / "models", "late_order", "pipeline")
    return {
        **found,
        "models": digest_models(out / "models"),
        "evaluation": sha256(evaluation.read_bytes()).hexdigest() if evaluation.exists() else "",
    }


def dead_letters(log: Path) -> Iterator[dict[str, Any]]:
    """All records of all dead-letter topics."""
    for path in sorted(log.glob("*.dlq/*.ndjson")):
        yield from map(json.loads, path.read_bytes().splitlines())


def offline_rows(repository: Repository, out: Path, name: str) -> list[tuple[Any, ...]]:
    """(entity key parts, stamp, values) of a view's offline rows, read by DuckDB."""
    view = repository.plan.view(name)
    columns = [*view.join_keys, "epoch_us(event_timestamp)"]
    columns += [aggregate.feature for aggregate in view.aggregates]
    path = out / "offline" / name / "*.parquet"
    count = len(view.join_keys)
    with closing(duckdb.connect()) as connection:
        query = f"SELECT {', '.join(columns)} FROM read_parquet('{path}')"
        rows = connection.execute(query).fetchall()
    return [(row[:count], row[count], list(row[count + 1 :])) for row in rows]


def online_rows(repository: Repository, out: Path, name: str) -> list[tuple[Any, ...]]:
    """The same of the online store, read with plain SQL."""
    view = repository.plan.view(name)
    found: dict[Any, dict[str, Any]] = {}
    stamps: dict[Any, set[int]] = {}
    with closing(sqlite3.connect(out / "online.db")) as connection:
        query = f"SELECT entity_key, feature_name, value, event_us FROM shop_{name}"
        for key, feature, value, stamp in connection.execute(query):
            parts = tuple(decode_entity_key(key)[name] for name in view.join_keys)
            found.setdefault(parts, {})[feature] = decode_value(value)
            stamps.setdefault(parts, set()).add(stamp)
    assert all(len(one) == 1 for one in stamps.values())
    return [
        (parts, *stamps[parts], [values[a.feature] for a in view.aggregates])
        for parts, values in found.items()
    ]


def example_rows(out: Path) -> dict[str, tuple[Any, ...]]:
    """Order -> (time, vector without the score)."""
    path = out / "examples" / "late_order" / "examples" / "*.parquet"
    with closing(duckdb.connect()) as connection:
        query = f"SELECT epoch_us(event_timestamp), * FROM read_parquet('{path}')"
        rows = connection.execute(query).fetchall()
    found = {row[1]: (row[0], list(row[3:-1])) for row in rows}
    assert len(found) == len(rows)
    return found
