"""A small Feast repository on SQLite, applied in an empty folder."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from feast import Entity, FeatureStore, Field, FileSource, KafkaSource, StreamFeatureView
from feast.aggregation import Aggregation
from feast.data_format import JsonFormat
from feast.types import Bool, Float64, Int64, String
from feast.value_type import ValueType

from tests.stores.shop import PROJECT, VIEW, Shop


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """An applied repository in an empty folder."""
    online_path = tmp_path / "online.db"
    (tmp_path / "feature_store.yaml").write_text(
        f"project: {PROJECT}\nprovider: local\nregistry: {tmp_path}/registry.db\n"
        f"online_store:\n  type: sqlite\n  path: {online_path}\n"
        "offline_store:\n  type: file\nentity_key_serialization_version: 3\n"
    )
    store = FeatureStore(repo_path=str(tmp_path))
    origin = Entity(name="origin", join_keys=["origin"], value_type=ValueType.STRING)
    carrier = Entity(name="carrier", join_keys=["carrier_id"], value_type=ValueType.INT64)
    source = KafkaSource(
        name="arrivals",
        timestamp_field="event_timestamp",
        message_format=JsonFormat("origin string, carrier_id int, delay double"),
        kafka_bootstrap_servers="localhost:9092",
        topic="arrivals",
        batch_source=FileSource(path=str(tmp_path / "offline"), timestamp_field="event_timestamp"),
    )
    view = StreamFeatureView(
        name=VIEW.name,
        entities=[origin, carrier],
        ttl=timedelta(0),
        source=source,
        mode="python",
        timestamp_field="event_timestamp",
        schema=[
            Field(name="origin", dtype=String),
            Field(name="carrier_id", dtype=Int64),
            Field(name="delay_mean", dtype=Float64),
            Field(name="flights", dtype=Int64),
            Field(name="last_diverted", dtype=Bool),
        ],
        aggregations=[Aggregation(column="delay", function="mean", time_window=timedelta(hours=1))],
    )
    store.apply([origin, carrier, view])
    yield Shop(store, online_path)
    store.teardown()
