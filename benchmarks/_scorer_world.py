"""Something to score: an online store, a model, requests, and the scores that numpy gives them."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
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
from contracts.settings import PREFIX
from dataflows.learning.export import to_onnx
from dataflows.stores.redis_writer import RedisOnlineWriter
from dataflows.stores.sqlite_writer import SqliteOnlineWriter
from scorer.client import score_request

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
STARTUP_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 10.0
FILL_SECONDS_MAX = 30.0


@dataclass(frozen=True)
class World:
    """A Feast repository with everything that the scorer reads.

    Attributes:
        folder: the repository.
        requests: serialized ``ScoreRequest`` messages of one row each.
        expected: float64[requests], their scores by numpy.
    """

    folder: Path
    requests: list[bytes]
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
    estimator = _train(schema, generator)
    _publish(folder, schema, to_onnx(estimator, schema.names))
    entities = generator.integers(0, ENTITIES, (REQUESTS, len(views)))
    given = generator.normal(size=(REQUESTS, REQUEST_FIELDS)) * 100
    stored = [table[entities[:, place]] for place, table in enumerate(values)]
    expected = _score(estimator, schema, np.concatenate([given, *stored], axis=1))
    requests = [
        _request(row, numbers)
        for row, numbers in zip(given.tolist(), entities.tolist(), strict=True)
    ]
    return World(folder, requests, expected)


@contextmanager
def serving(world: World) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A scorer process with its own defaults on a free port: its address, and the process.

    Raises:
        RuntimeError: it did not start.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}
    environment[f"{PREFIX}SCORER_ADDRESS"] = "127.0.0.1:0"
    with (world.folder / "scorer.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "scorer", str(world.folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            text=True,
        )
    try:
        yield _address(process, world.folder), process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _address(process: subprocess.Popen[str], folder: Path) -> str:
    """What the scorer prints when it is ready."""
    assert process.stdout is not None
    deadline = time.monotonic() + STARTUP_SECONDS_MAX
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if selector.select(deadline - time.monotonic()):
            line = process.stdout.readline()
            if line.startswith("serving on "):
                return line.split()[-1]
    log = (folder / "scorer.log").read_text(encoding="utf-8", errors="replace")
    raise RuntimeError(f"the scorer did not start within {STARTUP_SECONDS_MAX:g} s:\n{log}")


def _view(join_key: str, kind: ValueType) -> View:
    aggregates = tuple(
        Aggregate(f"f{place:02}", "float64", "amount", "last", 0, 0)
        for place in range(FEATURES_OF_VIEW)
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


def _key_value(kind: ValueType, number: int) -> str | int:
    return number if kind == "int64" else f"entity-{number}"


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
                entity_key(view.join_keys, (kind,), (_key_value(kind, number),))
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


def _publish(folder: Path, schema: FeatureSchema, onnx: bytes) -> None:
    repository = ModelRepository(folder / "data" / "models")
    manifest = Manifest(
        model=MODEL,
        version="1",
        schema=schema,
        fingerprint=schema.fingerprint,
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
    repository.publish(manifest, onnx)
    repository.set_channel(MODEL, "champion", "1", "benchmark", "benchmark", 0)


def _request(given: list[float], numbers: list[int]) -> bytes:
    inputs: dict[str, float | int | str | bool | None] = {
        f"r{place}": value for place, value in enumerate(given)
    }
    for (join_key, kind), number in zip(JOIN_KEYS.items(), numbers, strict=True):
        inputs[join_key] = _key_value(kind, number)
    return score_request(MODEL, [inputs]).SerializeToString()
