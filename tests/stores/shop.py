"""A view as the engine sees it, and the Feast repository that has it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from feast import FeatureStore

from contracts.plan import Aggregate, View

HOUR_US = 3_600_000_000
PROJECT = "shop"
VIEW = View(
    name="route_delays",
    topic="arrivals",
    join_keys=("origin", "carrier_id"),
    join_key_types=("string", "int64"),
    aggregates=(
        Aggregate("delay_mean", "float64", "delay", "mean", HOUR_US, HOUR_US),
        Aggregate("flights", "int64", "delay", "count", HOUR_US, HOUR_US),
        Aggregate("last_diverted", "bool", "diverted", "last", 0, 0),
    ),
    ttl_us=0,
    offline_path="",
)
FEATURES = tuple(a.feature for a in VIEW.aggregates)


@dataclass(frozen=True)
class Shop:
    """A Feast repository with ``VIEW`` applied, and the file of its online store."""

    store: FeatureStore
    online_path: Path
