"""Something to score: an online store, a model, requests, and the scores that numpy gives them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river import linear_model, optim, preprocessing

from contracts.feast_bytes import entity_key
from contracts.feature_schema import FeatureSchema, ValueType, VectorField
from contracts.manifest import Manifest, sha256_hex
from contracts.model_repository import ModelRepository
from contracts.online_store import RedisConfig, SqliteConfig
from contracts.plan import Aggregate, View
from dataflows.river_onnx import to_onnx
from dataflows.stores.redis_writer import RedisOnlineWriter
from dataflows.stores.sqlite_writer import SqliteOnlineWriter
from scorer.client import score_request
from scorer.v1 import scorer_pb2
from tests.services.redis import KEEP_NOTHING, RedisServer

Floats = NDArray[np.float64]

MODEL = "fraud"
PROJECT = "bench"
JOIN_KEYS: dict[str, ValueType] = {"card": "int64", "shop": "string", "city": "string"}
ENTITIES = 1_000
FEATURES_OF_VIEW = 20
REQUEST_FIELDS = 5
REQUESTS = 1_000
TRAINING_ROWS = 2_000
STAMP_US = 1_700_000_000_000_000
FILL_SECONDS_MAX = 30.0


@dataclass(frozen=True)
class World:
    """A Feast repository with everything that the scorer reads.

    Attributes:
        folder: the repository.
        store: its online store.
        schema: the vector.
        requests: serialized ``ScoreRequest`` messages of one row each.
        entities: int64[requests, join keys], the numbers of their entities.
        stored: float64[requests, features], what is stored for them.
        onnx: two models; the version that serves at first is the second one.
        expected: float64[models, requests], the scores of the requests by numpy.
    """

    folder: Path
    store: SqliteConfig | RedisConfig
    schema: FeatureSchema
    requests: list[bytes]
    entities: NDArray[np.int64]
    stored: Floats
    onnx: tuple[bytes, bytes]
    expected: Floats

    def shape(self) -> dict[str, int]:
        """Sizes, for the report."""
        return {
            "entity_keys": len(JOIN_KEYS),
            "entities_of_each_key": ENTITIES,
            "features": len(JOIN_KEYS) * FEATURES_OF_VIEW,
            "request_fields": REQUEST_FIELDS,
            "different_requests": len(self.requests),
        }

    def publish(self, version: int) -> None:
        """Make that version, which is model ``version % 2``, and let it serve."""
        onnx = self.onnx[version % len(self.onnx)]
        manifest = Manifest(
            model=MODEL,
            version=str(version),
            schema=self.schema,
            fingerprint=self.schema.fingerprint,
            learner="StandardScaler | LogisticRegression",
            trained_from_us=0,
            trained_until_us=STAMP_US,
            examples=TRAINING_ROWS,
            metrics={},
            parity={"rows": 0, "max_abs_diff": 0.0},
            git_commit="",
            parent=None,
            sha256=sha256_hex(onnx),
            created_by="benchmark",
        )
        repository = ModelRepository(self.folder / "data" / "models")
        repository.publish(manifest, onnx)
        repository.set_channel(MODEL, "champion", str(version), "benchmark", "benchmark", 0)


def make_world(folder: Path, store: SqliteConfig | RedisConfig) -> World:
    """Write ``feature_store.yaml`` and one model version into an empty folder; fill the store."""
    where = (
        f"{{type: sqlite, path: {store.path}}}"
        if isinstance(store, SqliteConfig)
        else f'{{type: redis, connection_string: "{store.label}"}}'
    )
    (folder / "feature_store.yaml").write_text(
        f"project: {PROJECT}\nprovider: local\nregistry: data/registry.db\n"
        f"online_store: {where}\nentity_key_serialization_version: 3\n",
        encoding="utf-8",
    )
    generator = np.random.default_rng(2013)
    views = [_view(join_key, kind) for join_key, kind in JOIN_KEYS.items()]
    values = [generator.normal(size=(ENTITIES, FEATURES_OF_VIEW)) * 100 for _ in views]
    _fill_store(store, views, values)
    schema = _schema(views)
    estimators = [_train(schema, generator) for _ in range(2)]
    entities = generator.integers(0, ENTITIES, (REQUESTS, len(views)))
    given = generator.normal(size=(REQUESTS, REQUEST_FIELDS)) * 100
    stored = np.concatenate(
        [table[entities[:, place]] for place, table in enumerate(values)], axis=1
    )
    vectors = np.concatenate([given, stored], axis=1)
    onnx = [to_onnx(estimator, schema.names) for estimator in estimators]
    world = World(
        folder=folder,
        store=store,
        schema=schema,
        requests=[
            _request(row, numbers)
            for row, numbers in zip(given.tolist(), entities.tolist(), strict=True)
        ],
        entities=entities,
        stored=stored,
        onnx=(onnx[0], onnx[1]),
        expected=np.stack([_score(estimator, schema, vectors) for estimator in estimators]),
    )
    world.publish(1)
    return world


def feature_names() -> list[str]:
    """Names of the features of each view."""
    return [f"f{place:02}" for place in range(FEATURES_OF_VIEW)]


def feature_refs() -> list[str]:
    """``view:feature`` of all stored features, in the order of ``World.stored``."""
    return [f"{key}_latest:{name}" for key in JOIN_KEYS for name in feature_names()]


def entity_value(kind: ValueType, number: int) -> str | int:
    """The join key of an entity."""
    return number if kind == "int64" else f"entity-{number}"


def many_rows(requests: Sequence[bytes], rows: int) -> list[bytes]:
    """The requests of one row each, put together to requests of so many."""
    assert not len(requests) % rows
    together = []
    for start in range(0, len(requests), rows):
        message = scorer_pb2.ScoreRequest(model=MODEL)
        for request in requests[start : start + rows]:
            message.rows.extend(scorer_pb2.ScoreRequest.FromString(request).rows)
        together.append(message.SerializeToString())
    return together


@contextmanager
def online_store(kind: str, folder: Path) -> Iterator[SqliteConfig | RedisConfig]:
    """An empty store: a file in the folder, or a Redis server as long as the context."""
    if kind == "sqlite":
        yield SqliteConfig(folder / "data" / "online.db")
        return
    server = RedisServer(folder / "redis", *KEEP_NOTHING)
    try:
        server.start()
        yield RedisConfig(((server.host, server.port),), is_cluster=False)
    finally:
        server.kill()


def _view(join_key: str, kind: ValueType) -> View:
    aggregates = tuple(
        Aggregate(name, "float64", "amount", "last", 0, 0) for name in feature_names()
    )
    return View(f"{join_key}_latest", "payments", (join_key,), (kind,), aggregates, 0, "")


def _schema(views: list[View]) -> FeatureSchema:
    requested = [
        VectorField(f"r{place}", "request", "float64", 0.0) for place in range(REQUEST_FIELDS)
    ]
    stored = [
        VectorField(
            name=f"{view.name}:{aggregate.feature}",
            kind="feature",
            dtype="float64",
            default=0.0,
            view=view.name,
            feature=aggregate.feature,
            join_keys=view.join_keys,
            join_key_types=view.join_key_types,
        )
        for view in views
        for aggregate in view.aggregates
    ]
    return FeatureSchema(PROJECT, (*requested, *stored))


def _fill_store(store: SqliteConfig | RedisConfig, views: list[View], values: list[Floats]) -> None:
    writer = (
        SqliteOnlineWriter(store.path, PROJECT)
        if isinstance(store, SqliteConfig)
        else RedisOnlineWriter(store, PROJECT, FILL_SECONDS_MAX)
    )
    try:
        for view in views:
            writer.ensure_table(view)
        for view, table in zip(views, values, strict=True):
            kind = view.join_key_types[0]
            keys = [
                entity_key(view.join_keys, (kind,), (entity_value(kind, number),))
                for number in range(ENTITIES)
            ]
            writer.write(view, keys, np.full(ENTITIES, STAMP_US), table)
        writer.commit()
    finally:
        writer.close()


def _train(schema: FeatureSchema, generator: np.random.Generator) -> Any:
    """The commonest pipeline, with weights worth computing."""
    estimator = preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.01))
    rows = generator.normal(size=(TRAINING_ROWS, len(schema.fields))) * 100
    truths = rows.sum(axis=1) > 0
    for row, truth in zip(rows.tolist(), truths.tolist(), strict=True):
        vector = dict(zip(schema.names, row, strict=True))
        estimator.predict_proba_one(vector)
        estimator.learn_one(vector, truth)
    return estimator


def _score(estimator: Any, schema: FeatureSchema, rows: Floats) -> Floats:
    """The pipeline written down in numpy, from its numbers alone."""
    scaler, regression = estimator.steps.values()
    means = np.array([scaler.means[name] for name in schema.names])
    variances = np.array([scaler.vars[name] for name in schema.names])
    weights = np.array([regression.weights[name] for name in schema.names])
    logits = (rows - means) / np.sqrt(variances) @ weights + regression.intercept
    return np.asarray(1 / (1 + np.exp(-logits)))


def _request(given: list[float], numbers: list[int]) -> bytes:
    inputs: dict[str, float | int | str | bool | None] = {
        f"r{place}": value for place, value in enumerate(given)
    }
    for (join_key, kind), number in zip(JOIN_KEYS.items(), numbers, strict=True):
        inputs[join_key] = entity_value(kind, number)
    return score_request(MODEL, [inputs]).SerializeToString()
