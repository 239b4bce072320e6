"""A model, its versions, and what a log says of it, without a dataflow or a scorer."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contracts.feature_schema import FeatureSchema, VectorField
from contracts.file_log import FileLogWriter
from contracts.manifest import Manifest, sha256_hex
from contracts.model_repository import ModelRepository
from contracts.plan import Column, ModelPlan, Plan, RolloutPlan, Topic
from contracts.settings import EvaluatorSettings

MODEL = "fraud"
BEGIN_US = 1_700_000_000_000_000
SECOND_US = 1_000_000
HOUR_US = 3_600 * SECOND_US
SCHEMA = FeatureSchema("shop", (VectorField("x", "request", "float64", 0.0),))
ROLLOUT = RolloutPlan((0.1, 0.5), 100, 0.0, 0.01, HOUR_US)
LABELS = Topic(
    "outcomes",
    (
        Column("order_id", "string", False),
        Column("days", "float64", True),
        Column("kind", "string", True),
        Column("event_timestamp", "timestamp", False),
    ),
    "event_timestamp",
    0,
    "order_id",
)
BINARY = ModelPlan(
    MODEL,
    "orders",
    "order_id",
    "outcomes",
    "order_id",
    "days > 3",
    HOUR_US,
    HOUR_US,
    (),
    SCHEMA,
    rollout=ROLLOUT,
)


def plan_of(*models: ModelPlan) -> Plan:
    """A plan of models on one topic of labels."""
    return Plan("shop", (LABELS,), (), models or (BINARY,))


def record(
    name: str,
    version: str,
    score: float | None,
    at_us: int = BEGIN_US,
    *,
    answered: bool = True,
    channel: str = "champion",
    **more: Any,
) -> bytes:
    """A record of the prediction log with one row; ``more`` goes into the row."""
    row = {
        "inputs": {"x": 1.0, "shop": "Ulm"},
        "vector": [1.0],
        "missing": [],
        "oldest_feature_us": None,
        "newest_feature_us": None,
        "score": score,
        "key": name,
        "channel": channel,
        **more,
    }
    fields = {
        "request_id": f"r-{name}",
        "event_timestamp": stamp(at_us),
        "model": MODEL,
        "version": version,
        "fingerprint": SCHEMA.fingerprint,
        "features": ["x"],
        "at_us": at_us,
        "latency_ms": 1.0,
        "rows": [row],
        "answered": answered,
    }
    if "probabilities" in more:
        fields["classes"] = ["blue", "red"]
    return json.dumps(fields).encode()


def label(name: str, days: float | None, at_us: int, kind: str | None = None) -> bytes:
    """A record of the labels' topic."""
    fields = {"order_id": name, "days": days, "kind": kind, "event_timestamp": stamp(at_us)}
    return json.dumps(fields).encode()


def stamp(at_us: int) -> str:
    """A time as records have it."""
    second = datetime.fromtimestamp(at_us // SECOND_US, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{second}.{at_us % SECOND_US:06d}Z"


@dataclass(frozen=True)
class World:
    """A folder with a log and a model repository."""

    folder: Path

    @property
    def repository(self) -> ModelRepository:
        """The model repository."""
        return ModelRepository(self.folder / "models")

    def settings(self, **given: Any) -> EvaluatorSettings:
        """Settings of an evaluator that looks often."""
        chosen = {
            "log_url": (self.folder / "log").absolute().as_uri(),
            "state_dir": self.folder / "state",
            "model_repository": self.folder / "models",
            "evaluate_seconds": 0.01,
            **given,
        }
        return EvaluatorSettings.for_repo(self.folder, **chosen)

    def write(self, topic: str, records: Iterable[bytes], key: str = "") -> None:
        """Append to a topic."""
        writer = FileLogWriter(self.folder / "log", topic)
        writer.append((key, data) for data in records)
        writer.close()

    def publish(self, *versions: str) -> None:
        """Publish versions; the first one ever becomes champion."""
        for version in versions:
            onnx = f"model {version}".encode()
            self.repository.publish(manifest(version, onnx), onnx)
        if self.repository.channels(MODEL).champion is None:
            self.repository.set_channel(MODEL, "champion", versions[0], "first", "dataflow", 1)


def manifest(version: str, onnx: bytes) -> Manifest:
    """A manifest that fits."""
    return Manifest(
        model=MODEL,
        version=version,
        schema=SCHEMA,
        fingerprint=SCHEMA.fingerprint,
        learner="test",
        trained_from_us=0,
        trained_until_us=BEGIN_US,
        examples=7,
        metrics={},
        parity={"rows": 1, "max_abs_diff": 0.0},
        git_commit="",
        parent=None,
        sha256=sha256_hex(onnx),
        created_by="test",
    )


def with_rollout(**change: Any) -> ModelPlan:
    """The model with another rollout."""
    return replace(BINARY, rollout=replace(ROLLOUT, **change))
