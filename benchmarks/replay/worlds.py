"""Repositories for the benchmark of replays, and their logs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks._ingest_flow import BEGIN_US, SPAN_US, Ints, check_values
from benchmarks._payments import DEFINITIONS, TOPIC, VIEW, payment
from contracts.feast_bytes import decode_value

PROJECT = "bench"
STORE = """
project: bench
provider: local
registry: data/registry.db
online_store: {type: sqlite, path: data/online.db}
offline_store: {type: file}
entity_key_serialization_version: 3
"""
LATEST = """
from feast import Entity, Field, FileSource, KafkaSource, StreamFeatureView, ValueType
from feast.data_format import JsonFormat
from feast.types import Float64, String

card = Entity(name="card", join_keys=["card"], value_type=ValueType.STRING)
payments = KafkaSource(
    name="payments", topic="payments", kafka_bootstrap_servers="unused:9092",
    timestamp_field="event_timestamp",
    message_format=JsonFormat(
        schema_json="card string not null, amount double not null, "
        "event_timestamp timestamp not null"
    ),
    batch_source=FileSource(
        name="cards_files", path="data/offline/cards", timestamp_field="event_timestamp"
    ),
)
cards = StreamFeatureView(
    name="cards", entities=[card], source=payments, timestamp_field="event_timestamp",
    tags={"headwater.offline": "false"},
    schema=[Field(name="card", dtype=String), Field(name="amount", dtype=Float64)],
)
"""


@dataclass(frozen=True)
class Events:
    """Payments in the order of their time.

    Attributes:
        times_us: int64[n], microseconds since 1970 UTC, spread over an hour.
        of_card: int64[n], numbers of cards.
        amounts: int64[n].
    """

    times_us: Ints
    of_card: Ints
    amounts: Ints


def make_events(count: int, cards: int) -> Events:
    """Seeded payments."""
    generator = np.random.default_rng(2013)
    return Events(
        BEGIN_US + np.arange(count) * SPAN_US // count,
        generator.integers(0, cards, count),
        generator.integers(1, 1_000, count),
    )


def make_windows(folder: Path, events: Events) -> Path:
    """A repository with nine windowed features, SQLite and a log of files; its folder."""
    definitions = DEFINITIONS.replace("TOPIC", TOPIC).replace("SERVERS", "unused:9092")
    return _make(folder, definitions, events)


def make_latest(folder: Path, events: Events, store: str = STORE) -> Path:
    """A repository with a view that has the latest row, the events as its log, and in Parquet."""
    _make(folder, LATEST, events, store)
    offline = folder / "data" / "offline" / "cards"
    offline.mkdir(parents=True)
    table = pa.table(
        {
            "card": [f"card-{card}" for card in events.of_card.tolist()],
            "amount": events.amounts.astype(float),
            "event_timestamp": pa.array(events.times_us, pa.timestamp("us", tz="UTC")),
        }
    )
    pq.write_table(table, offline / "payments.parquet")
    return folder


def online_path(folder: Path) -> Path:
    """The repository's online store."""
    return folder / "data" / "online.db"


def check_sqlite(folder: Path, events: Events) -> int:
    """Nine values of 1,000 cards against a plain computation; how many values that were."""
    query = f"SELECT feature_name, value FROM {PROJECT}_{VIEW} WHERE entity_key = ?"
    with closing(sqlite3.connect(online_path(folder))) as connection:

        def read(entity: bytes, features: list[str]) -> list[Any]:
            row = dict(connection.execute(query, (entity,)).fetchall())
            return [decode_value(row[name]) if row.get(name) else None for name in features]

        return check_values(read, events.times_us, events.of_card, events.amounts)


def rows_in(folder: Path) -> dict[tuple[bytes, str], Any]:
    """All values of the view: entity key and feature -> value."""
    query = f"SELECT entity_key, feature_name, value FROM {PROJECT}_{VIEW}"
    with closing(sqlite3.connect(online_path(folder))) as connection:
        found = connection.execute(query)
        return {(key, name): decode_value(value) if value else None for key, name, value in found}


def _make(folder: Path, definitions: str, events: Events, store: str = STORE) -> Path:
    log = folder / "data" / "log" / TOPIC
    log.mkdir(parents=True)
    (folder / "definitions.py").write_text(definitions)
    (folder / "feature_store.yaml").write_text(store)
    rows = zip(
        events.times_us.tolist(), events.of_card.tolist(), events.amounts.tolist(), strict=True
    )
    with (log / "0.ndjson").open("wb") as file:
        for time_us, card, amount in rows:
            file.write(payment(f"card-{card}", float(amount), time_us) + b"\n")
    return folder
