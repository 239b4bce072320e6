"""A small Feast repository of taxi rides, and the command run on it as a user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.integration.commands import Commands

ROOT = Path(__file__).resolve().parents[2]
SECONDS_MAX = 100
RIDES = 300
_START = datetime(2024, 5, 1, tzinfo=UTC)

DEFINITIONS = '''
"""Rides: how late a driver has been, and a model of it."""

from datetime import timedelta

from feast import Entity, FeatureService, Field, FileSource, KafkaSource, StreamFeatureView
from feast import ValueType
from feast.aggregation import Aggregation
from feast.data_format import JsonFormat
from feast.types import Float64, Int64, String
from river import linear_model, preprocessing

from contracts.model_spec import Label, Model

ASKED = (
    "ride string not null, event_timestamp timestamp not null, city string not null,"
    " driver bigint, km double not null"
)
DONE = ASKED.replace("km double", "late double")


def stream(name: str, topic: str, format_: str) -> KafkaSource:
    return KafkaSource(
        name=name,
        topic=topic,
        kafka_bootstrap_servers="localhost:9092",
        timestamp_field="event_timestamp",
        message_format=JsonFormat(schema_json=format_),
        watermark_delay_threshold=timedelta(0),
        tags={"headwater.key": "city"},
        batch_source=FileSource(
            name=f"{name}_files", path=f"data/offline/{name}", timestamp_field="event_timestamp"
        ),
    )


driver = Entity(name="driver", join_keys=["driver"], value_type=ValueType.INT64)
city = Entity(name="city", join_keys=["city"], value_type=ValueType.STRING)
driver_rides = StreamFeatureView(
    name="driver_rides",
    entities=[driver],
    source=stream("driver_rides", "rides.done", DONE),
    mode="python",
    timestamp_field="event_timestamp",
    aggregations=[
        Aggregation(column="late", function="last", name="last_late"),
        Aggregation(column="late", function="count", name="rides"),
    ],
    schema=[
        Field(name="driver", dtype=Int64),
        Field(name="last_late", dtype=Float64),
        Field(name="rides", dtype=Int64),
    ],
)
city_rides = StreamFeatureView(
    name="city_rides",
    entities=[city],
    source=stream("city_rides", "rides.done", DONE),
    ttl=timedelta(days=1),
    mode="python",
    timestamp_field="event_timestamp",
    aggregations=[Aggregation(column="late", function="max", name="worst")],
    schema=[Field(name="city", dtype=String), Field(name="worst", dtype=Float64)],
)
rides = FeatureService(name="rides", features=[city_rides, driver_rides])
late_ride = Model(
    name="late_ride",
    features="rides",
    request=["km"],
    spine=stream("asked", "rides.asked", ASKED),
    spine_key="ride",
    label=Label(
        source=stream("done", "rides.done", DONE),
        key="ride",
        value="late > 5",
        timeout=timedelta(days=1),
    ),
    learner=lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(),
    publish_every=timedelta(hours=6),
)
'''

STORE = """\
project: rides
provider: local
registry: data/registry.db
online_store:
  type: sqlite
  path: data/online.db
offline_store:
  type: file
entity_key_serialization_version: 3
"""


@dataclass(frozen=True)
class Rides:
    """A repository folder and the settings of the commands that work on it."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    def create(self, definitions: str = DEFINITIONS) -> None:
        """Write ``feature_store.yaml`` and ``definitions.py``; the log stays empty."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "feature_store.yaml").write_text(STORE)
        (self.folder / "definitions.py").write_text(definitions)

    def headwater(self, *words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run the command in the folder, with ``given`` as its standard input."""
        return subprocess.run(
            [sys.executable, "-m", "cli.main", *words],
            cwd=self.folder,
            env=self.environment(),
            input=given,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )

    def forked(
        self, commands: Commands, *words: str, given: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """As ``headwater``, without the time that imports take."""
        return commands.run(self.folder, *words, given=given, seconds=SECONDS_MAX, **self.settings)

    @contextmanager
    def started(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """The command running beside the test; killed at the end if it is still there."""
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", *words],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    def environment(self) -> dict[str, str]:
        """The environment without anybody's settings, and with those of this repository."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("HEADWATER_")}
        return {**clean, "PYTHONPATH": str(ROOT), **self.settings}

    def partition(self, topic: str, number: int = 0) -> Path:
        """A partition's file in the log."""
        return self.folder / "data" / "log" / topic / f"{number}.ndjson"


def asked(number: int) -> dict[str, object]:
    """A ride somebody asked for; one every ten minutes."""
    return {
        "ride": f"r{number}",
        "event_timestamp": _time(number * 10),
        "city": "Ulm" if number % 2 else "Bonn",
        "driver": number % 7,
        "km": float(number % 11),
    }


def done(number: int) -> dict[str, object]:
    """The same ride, done five minutes later."""
    return {
        **{name: value for name, value in asked(number).items() if name != "km"},
        "event_timestamp": _time(number * 10 + 5),
        "late": float(number % 13),
    }


def lines(records: list[dict[str, object]]) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(record) + "\n" for record in records)


def _time(minutes: int) -> str:
    return (_START + timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")
