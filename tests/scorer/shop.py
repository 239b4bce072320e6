"""A small world to score in: a model, an online store in Feast's format, and a running scorer."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from contracts.feature_schema import FeatureSchema, VectorField
from contracts.manifest import Manifest, sha256_hex
from contracts.model_repository import ModelRepository
from contracts.scorer_settings import ScorerSettings
from scorer.client import ONE_TRY, AsyncScorerClient, ClientOptions
from scorer.server import running
from scorer.vector_plan import Scalar

MODEL = "fraud"
NOON_US = 1_700_000_000_000_000
TTL_SECONDS = 60.0
SCHEMA = FeatureSchema(
    project="shop",
    fields=(
        VectorField("amount", "request", "float64", 0.5),
        VectorField("items", "request", "int64", 1.0),
        VectorField("gift", "request", "bool", 0.0),
        VectorField(
            "card_1h:spent", "feature", "float64", -1.0, "card_1h", "spent", ("card",), ("int64",)
        ),
        VectorField(
            "card_1h:visits", "feature", "int64", -2.0, "card_1h", "visits", ("card",), ("int64",)
        ),
        VectorField(
            "route_1h:delay",
            "feature",
            "float64",
            -3.0,
            "route_1h",
            "delay",
            ("origin", "dest"),
            ("string", "string"),
            TTL_SECONDS,
        ),
    ),
)
WEIGHTS = (0.5, -0.25, 0.125, 0.01, 0.1, -0.02)
ROW: dict[str, Scalar] = {
    "amount": 2.5,
    "items": 3,
    "gift": True,
    "card": 42,
    "origin": "JFK",
    "dest": "LAX",
}
VECTOR = [2.5, 3.0, 1.0, 10.25, 4.0, 7.5]


def linear_onnx(weights: tuple[float, ...], bias: float) -> bytes:
    """``sigmoid(features @ weights + bias)`` in double, as the learner exports it."""
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["features", "w"], ["products"]),
            helper.make_node("ReduceSum", ["products", "axis"], ["total"], keepdims=1),
            helper.make_node("Add", ["total", "b"], ["logit"]),
            helper.make_node("Sigmoid", ["logit"], ["score"]),
        ],
        "linear",
        [helper.make_tensor_value_info("features", TensorProto.DOUBLE, ["n", len(weights)])],
        [helper.make_tensor_value_info("score", TensorProto.DOUBLE, ["n", 1])],
        [
            numpy_helper.from_array(np.array(weights, dtype=np.float64), "w"),
            numpy_helper.from_array(np.array([1], dtype=np.int64), "axis"),
            numpy_helper.from_array(np.array([bias], dtype=np.float64), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def linear_score(vector: list[float], bias: float) -> float:
    """What ``linear_onnx`` must give, computed on its own."""
    return float(1 / (1 + np.exp(-(np.dot(vector, WEIGHTS) + bias))))


def bias_of(version: str) -> float:
    """Each version has a bias of its own, so that a score tells which version made it."""
    return int(version) / 10


def manifest_for(version: str, model_bytes: bytes, schema: FeatureSchema = SCHEMA) -> Manifest:
    """A manifest that fits the bytes."""
    return Manifest(
        model=MODEL,
        version=version,
        schema=schema,
        fingerprint=schema.fingerprint,
        learner="linear",
        trained_from_us=0,
        trained_until_us=NOON_US,
        examples=7,
        metrics={"auc": 0.75},
        parity={"rows": 1, "max_abs_diff": 0.0},
        git_commit="",
        parent=None,
        sha256=sha256_hex(model_bytes),
        created_by="test",
    )


def feast_key(keys: dict[str, str | int]) -> bytes:
    """Feast's entity key (version 3), written down from its description."""
    names = sorted(keys)
    out = struct.pack("<I", len(names))
    for name in names:
        out += struct.pack("<II", 2, len(name)) + name.encode()
    for name in names:
        value = keys[name]
        kind, data = (
            (2, value.encode()) if isinstance(value, str) else (4, struct.pack("<q", value))
        )
        out += struct.pack("<II", kind, len(data)) + data
    return out


@dataclass(frozen=True)
class Shop:
    """A Feast repository folder with an online store, and a model repository."""

    folder: Path

    @property
    def repository(self) -> ModelRepository:
        """Where the scorer looks for models."""
        return ModelRepository(self.folder / "data" / "models")

    @property
    def online_path(self) -> Path:
        """The online store's file."""
        return self.folder / "data" / "online.db"

    def create(self) -> None:
        """Write ``feature_store.yaml``, the store with one card and one route, and version 1."""
        (self.folder / "data").mkdir()
        (self.folder / "feature_store.yaml").write_text(
            "project: shop\nprovider: local\nregistry: data/registry.db\n"
            "online_store:\n  type: sqlite\n  path: data/online.db\n"
        )
        card, route = feast_key({"card": 42}), feast_key({"origin": "JFK", "dest": "LAX"})
        self.write("card_1h", card, {"spent": 10.25, "visits": 4})
        self.write("route_1h", route, {"delay": 7.5})
        self.publish("1")

    def write(
        self, view: str, key: bytes, values: dict[str, float | int | None], at_us: int = NOON_US
    ) -> None:
        """Write a row as Feast does (times in whole seconds)."""
        stamp = datetime.fromtimestamp(at_us / 1e6, UTC).timestamp()
        with closing(sqlite3.connect(self.online_path)) as db, db:
            db.execute(
                f"CREATE TABLE IF NOT EXISTS shop_{view} (entity_key BLOB, feature_name TEXT,"
                " value BLOB, value_text TEXT, vector_value BLOB, event_ts timestamp,"
                " created_ts timestamp, PRIMARY KEY(entity_key, feature_name))"
            )
            for name, value in values.items():
                data = b""
                if isinstance(value, int):
                    data = bytes([0x20, value])
                elif value is not None:
                    data = b"\x29" + struct.pack("<d", value)
                db.execute(
                    f"INSERT OR REPLACE INTO shop_{view} (entity_key, feature_name, value,"
                    " event_ts) VALUES (?, ?, ?, ?)",
                    (key, name, data, int(stamp)),
                )

    def publish(self, version: str) -> None:
        """Publish a version with its own bias, and make it champion."""
        data = linear_onnx(WEIGHTS, bias_of(version))
        self.repository.publish(manifest_for(version, data), data)
        self.repository.set_channel(MODEL, "champion", version, "test", "test", 0)

    def settings(self, **given: object) -> ScorerSettings:
        """Settings on a free port, with a quick look for new versions, and patient."""
        chosen = {
            "scorer_address": "127.0.0.1:0",
            "model_poll_seconds": 0.01,
            "default_deadline_seconds": 30.0,
            **given,
        }
        return ScorerSettings.for_repo(self.folder, **chosen)

    @asynccontextmanager
    async def client(self, **given: object) -> AsyncIterator[AsyncScorerClient]:
        """A client, which tries once, of a scorer that runs as long as the context."""
        async with (
            running(self.settings(**given), self.folder) as address,
            AsyncScorerClient(address, options=ClientOptions(retries=ONE_TRY)) as client,
        ):
            yield client


def schema_with(position: int, **change: object) -> FeatureSchema:
    """The schema with one field changed."""
    fields = list(SCHEMA.fields)
    fields[position] = replace(fields[position], **change)  # type: ignore[arg-type]
    return FeatureSchema(SCHEMA.project, tuple(fields))
