"""Regression, many classes, anomalies and silence in a run, against River on the same examples."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from contracts.category import category_code
from contracts.drift_record import read_report
from contracts.evaluation_file import evaluation_file, read_evaluation
from contracts.model_repository import ModelRepository
from contracts.scorer_settings import ScorerSettings
from dataflows.definitions.repository import Repository, load_repository
from dataflows.flow.engine import run_flow
from dataflows.learning.parity import score_onnx
from scorer.client import AsyncScorerClient, Scored, ScoreOptions
from scorer.server import running
from tests.flow import shop

MODELS = """
from river import anomaly, compose, naive_bayes

words = view("words", [shop], ORDERS, {"shop": Int64},
             [Aggregation(column="user", function="last", name="last_user")],
             {"last_user": String})
told = FeatureService(name="told", features=[words, user_orders[["spent"]]])


def labelled(value, **more):
    return Label(source=source(OUTCOMES, "label"), key="order_id", value=value, **more)


def model(name, label, learner, **more):
    return Model(name=name, spine=source(ORDERS, "spine"), spine_key="order_id", label=label,
                 learner=learner, publish_every=timedelta(minutes=30), **more)


days = model(
    "days", labelled("days", timeout=timedelta(hours=1)),
    lambda: (compose.Select("words:last_user", "user") | preprocessing.OneHotEncoder())
    + (compose.Select("amount", "user_orders:spent") | preprocessing.StandardScaler())
    | linear_model.LinearRegression(optim.SGD(0.001)),
    features="told", request=["amount", "user"], defaults={"user": "nobody"},
    segments=["user", "shop"])
who = model(
    "who", Label(source=source(ORDERS, "label"), key="order_id", value="user",
                 timeout=timedelta(hours=1)),
    naive_bayes.GaussianNB, request=["amount", "shop"])
odd = model("odd", None, lambda: anomaly.HalfSpaceTrees(n_trees=3, height=3, window_size=20),
            request=["amount"])
hasty = model(
    "hasty", labelled("days > 3", timeout=timedelta(minutes=2), on_timeout=True),
    lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(),
    request=["amount"])
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The shop with a model of each task."""
    folder = tmp_path_factory.mktemp("tasks")
    head, _ = shop.DEFINITIONS.split("late_order = Model(")
    return load_repository(shop.make_repository(folder, head + MODELS))


@pytest.fixture(scope="module")
def out(
    repository: Repository,
    records: list[shop.Record],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """What a run to the end of the log left; for looking at only."""
    folder = tmp_path_factory.mktemp("ran") / "out"
    log = shop.write_log(folder.with_name("log"), records)
    views = [view.name for view in repository.plan.views]
    settings = shop.settings(repository.directory, log, folder, batch_bytes=9_000)
    run_flow(repository, settings, shop.places(folder, views), until_end=True)
    return folder


def table(out: Path, model: str, name: str) -> list[dict[str, Any]]:
    """A table's rows in the order in which they took effect."""
    files = out / "examples" / model / name / "*.parquet"
    with closing(duckdb.connect()) as connection:
        cursor = connection.execute(f"SELECT * FROM read_parquet('{files}', file_row_number=true)")
        names = [column[0] for column in cursor.description or []]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def newest(out: Path, model: str) -> tuple[Any, bytes]:
    """Manifest and bytes of the newest version."""
    repository = ModelRepository(out / "models")
    return repository.load(model, repository.versions(model)[-1])


def test_each_task_learns_what_its_labels_say(
    repository: Repository, out: Path, records: list[shop.Record]
) -> None:
    """Labels are numbers, texts, or given by silence, and manifests say what a score is."""
    orders = {r.fields["order_id"]: r.fields for r in records if r.topic == "orders" and r.fields}
    came = {r.fields["order_id"]: r.fields for r in records if r.topic == "outcomes" and r.fields}
    tasks = {name: newest(out, name)[0].task for name in ("days", "who", "odd", "hasty")}
    assert tasks == {"days": "regression", "who": "multiclass", "odd": "anomaly", "hasty": "binary"}
    numbers = table(out, "days", "outcomes")
    assert len(numbers) > 100
    for row in numbers:
        order = orders[row["order_id"]]
        assert row["label"] == came[row["order_id"]]["days"]
        assert row["segment__user"] == order["user"]
        assert row["segment__shop"] == str(order["shop"])
    texts = table(out, "who", "outcomes")
    assert {row["order_id"] for row in texts} == {
        order for order, fields in orders.items() if fields["user"] is not None
    }
    assert all(row["label"] == orders[row["order_id"]]["user"] for row in texts)
    assert any(row["predicted"] == row["label"] for row in texts)
    assert set(newest(out, "who")[0].classes) == {row["label"] for row in texts}
    assert not list((out / "examples" / "odd" / "outcomes").glob("*.parquet"))
    assert newest(out, "odd")[0].examples == len(orders)
    silent = [row for row in table(out, "hasty", "outcomes") if row["order_id"] not in came]
    assert silent
    assert all(row["label"] is True for row in silent)


def test_each_task_is_evaluated(out: Path) -> None:
    """The files have the task's figures, and these are those of the table of outcomes."""

    def figures(model: str) -> dict[str, Any]:
        report = read_evaluation(evaluation_file(out / "models", model, "pipeline"))
        assert report
        found: dict[str, Any] = report["all"]
        return found

    numbers = table(out, "days", "outcomes")
    errors = np.array([row["score"] - row["label"] for row in numbers])
    found = figures("days")
    assert found["all"]["mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-12)
    assert found["all"]["bias"] == pytest.approx(errors.mean(), rel=1e-12)
    assert set(found["segments"]["shop"]) == {"0", "1", "2"}
    texts = table(out, "who", "outcomes")
    hits = [row["predicted"] == row["label"] for row in texts]
    found = figures("who")
    assert found["all"]["accuracy"] == pytest.approx(np.mean(hits), rel=1e-12)
    assert {name for name, one in found["all"]["classes"].items() if one["outcomes"]} == {
        row["label"] for row in texts
    }
    assert figures("odd")["all"]["outcomes"] == 0


def test_without_labels_no_errors_are_watched(out: Path) -> None:
    """The drift report of a model that gets no labels does not wait for any."""
    kinds: dict[str, set[str]] = {}
    for name in ("odd", "days"):
        report = read_report(out / "models", name)
        assert report is not None
        kinds[name] = {one.kind for one in report.figures}
        assert (report.labels_until_watched > 0) == (name == "days")
    assert "error" in kinds["days"]
    assert kinds["odd"] == kinds["days"] - {"error"}


def test_scores_are_what_river_says_of_the_examples(repository: Repository, out: Path) -> None:
    """An anomaly detector, run over the rows of the table, gives the very scores in it."""
    detector = repository.models["odd"].learner()
    default = 0.0
    for row in sorted(table(out, "odd", "examples"), key=_moment):
        x = {"amount": default if row["amount"] is None else row["amount"]}
        assert row["score"] == detector.score_one(x)
        detector.learn_one(x)


def test_texts_are_codes(repository: Repository, out: Path, records: list[shop.Record]) -> None:
    """A text of the request or of a view stands in the vector as its code, or its default's."""
    orders = {r.fields["order_id"]: r.fields for r in records if r.topic == "orders" and r.fields}
    known = {category_code(f["user"]) for f in orders.values() if f["user"] is not None}
    rows = table(out, "days", "examples")
    for row in rows:
        user = orders[row["order_id"]]["user"]
        assert row["user"] == (None if user is None else category_code(user))
        assert row["words__last_user"] is None or row["words__last_user"] in known
    assert any(row["words__last_user"] is not None for row in rows)
    manifest, onnx = newest(out, "days")
    assert manifest.schema.defaults[manifest.schema.names.index("user")] == category_code("nobody")
    vector = np.array([manifest.schema.defaults] * 2)
    vector[1, manifest.schema.names.index("user")] = next(iter(known))
    nobody, somebody = score_onnx(onnx, vector)
    assert nobody != somebody


def test_every_task_is_served(
    repository: Repository, out: Path, records: list[shop.Record], tmp_path: Path
) -> None:
    """What a run left is scored over gRPC: a model of each task, with texts out of the store."""
    folder = tmp_path / "served"
    (folder / "data").mkdir(parents=True)
    shutil.copy(repository.directory / "feature_store.yaml", folder)
    shutil.copy(out / "online.db", folder / "data" / "online.db")
    settings = ScorerSettings.for_repo(
        folder,
        scorer_address="127.0.0.1:0",
        model_repository=out / "models",
        default_deadline_seconds=30.0,
    )
    rows: dict[str, dict[str, float | str]] = {
        "days": {"user": "u5", "shop": 2, "amount": 7.5},
        "who": {"shop": 2, "amount": 7.5},
        "odd": {"amount": 7.5},
        "hasty": {"amount": 7.5},
    }

    # The scorer has all champions before it takes calls, so that none may be missing here.
    champions = {name: ModelRepository(out / "models").channels(name).champion for name in rows}
    assert champions == {name: newest(out, name)[0].version for name in rows}

    async def ask() -> dict[str, Scored]:
        async with running(settings, folder) as address, AsyncScorerClient(address) as client:
            wanted = ScoreOptions(include_features=True)
            return {name: await client.score(name, [row], wanted) for name, row in rows.items()}

    answers = asyncio.run(ask())
    for name, answer in answers.items():
        manifest, onnx = newest(out, name)
        assert answer.version == manifest.version
        (vector,) = answer.features
        assert answer.scores == score_onnx(onnx, np.array([vector])).tolist()
        assert vector[manifest.schema.names.index("amount")] == 7.5
    orders = [r.fields for r in records if r.topic == "orders" and r.fields]
    users = [(f["event_us"], f["user"]) for f in orders if f["shop"] == 2 and f["user"]]
    names = newest(out, "days")[0].schema.names
    stored = answers["days"].features[0][names.index("words:last_user")]
    assert stored == category_code(max(users)[1])
    who = answers["who"]
    assert who.classes == list(newest(out, "who")[0].classes)
    assert sum(who.probabilities[0]) == pytest.approx(1.0)
    assert who.labels == [who.classes[int(np.argmax(who.probabilities[0]))]]


def _moment(row: dict[str, Any]) -> Any:
    return row["event_timestamp"], row["file_row_number"]
