"""A whole training: from examples to a version in the repository that the scorer loads."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

from contracts.model_channels import Channel
from contracts.model_repository import ModelRepository
from contracts.model_spec import Task
from dataflows.training.categories import Encoding
from dataflows.training.errors import TrainingError
from dataflows.training.examples import Floats, Period, read_examples
from dataflows.training.export import run_onnx
from dataflows.training.learners import Job, learner
from dataflows.training.lightgbm_learner import LightGbm, LightGbmFitted
from dataflows.training.losses import calibration, measure
from dataflows.training.publish import Publication, publish
from dataflows.training.search import Budget
from dataflows.training.split import split
from dataflows.training.train import Trained, Wishes, train
from scorer.model import LoadedModel
from tests.training.worlds import examples_of, plan_of, write_examples, write_outcomes

ONCE = Wishes(budget=Budget(1, 60))
BY_HAND = Publication("ann", "abc", "challenger", 1_000)


def trained_on(task: Task, name: str = "lightgbm", wishes: Wishes = ONCE) -> Trained:
    """A model of 3,000 examples."""
    return train(plan_of(task), examples_of(task), learner(name), wishes, lambda: 0.0)


@pytest.fixture(scope="module")
def trained() -> Trained:
    """A binary model by LightGBM."""
    return trained_on("binary")


def test_figures_are_those_of_the_test_rows(trained: Trained) -> None:
    """Metrics equal scikit-learn's on the rows of the test, scored by the model as exported."""
    examples = examples_of()
    test = examples.at(split(examples, ONCE.shares).test)
    scores = run_onnx(trained.onnx, test.features, "score")
    expected = {
        "outcomes": len(test),
        "auc": metrics.roc_auc_score(test.labels, scores),
        "log_loss": metrics.log_loss(test.labels, scores),
        "brier": metrics.brier_score_loss(test.labels, scores),
        "accuracy": metrics.accuracy_score(test.labels, scores > 0.5),
        "baseline_last_accuracy": metrics.accuracy_score(
            test.labels, test.said["baseline_last"] > 0.5
        ),
    }
    found = {name: trained.metrics[name] for name in expected}
    assert found == pytest.approx(expected, abs=1e-12)
    assert found["auc"] > 0.85
    assert sum(rows for *_, rows in trained.calibration) == len(test)
    graz = test.segments["city"] == "Graz"
    assert trained.segments["city"]["Graz"]["auc"] == pytest.approx(
        metrics.roc_auc_score(test.labels[graz], scores[graz])
    )
    assert next(iter(trained.importance)) in ("view:f0", "view:f2")


def test_rows_without_a_segment() -> None:
    """They are told as the evaluation tells them, not as an empty name."""
    examples = examples_of()
    cities = examples.segments["city"].copy()
    cities[cities == "Graz"] = None
    nowhere = replace(examples, segments={"city": cities})
    trained = train(plan_of(), nowhere, LightGbm(), ONCE, lambda: 0.0)
    assert "(missing)" in trained.segments["city"]
    assert "" not in trained.segments["city"]


@pytest.mark.parametrize("task", ["regression", "multiclass"])
def test_other_tasks(task: Task) -> None:
    """Numbers and classes are learned far better than by always saying the same."""
    found = trained_on(task).metrics
    if task == "regression":
        assert found["r2"] > 0.5
        assert found["mae"] < found["rmse"] < found["baseline_rate_rmse"]
    else:
        assert found["accuracy"] > 0.6
        assert found["log_loss"] < 0.9 < np.log(3)
        assert found["baseline_rate_log_loss"] == pytest.approx(np.log(2))
        assert 0.25 < found["baseline_last_accuracy"] < 0.45


def test_classes_stand_beside_the_dataflows_own() -> None:
    """What the dataflow said of the rows of the test is told for many classes too."""
    examples = examples_of("multiclass")
    spoken = {"truth_score": np.full(len(examples), 0.5), "right": np.ones(len(examples))}
    trained = train(
        plan_of("multiclass"), replace(examples, said=spoken), LightGbm(), ONCE, lambda: 0.0
    )
    assert trained.metrics["online_log_loss"] == pytest.approx(np.log(2))
    assert trained.metrics["online_accuracy"] == 1.0


def test_metrics_of_numbers_and_classes() -> None:
    """They are scikit-learn's; a class that the model does not have counts as a sure error."""
    generator = np.random.default_rng(0)
    truth, said = generator.normal(size=(2, 200))
    assert measure("regression", truth, said) == pytest.approx(
        {
            "mae": metrics.mean_absolute_error(truth, said),
            "rmse": metrics.root_mean_squared_error(truth, said),
            "bias": float(np.mean(said - truth)),
            "r2": metrics.r2_score(truth, said),
        }
    )
    probabilities = generator.dirichlet([1, 1, 1], 200)
    places = generator.integers(0, 3, 200).astype(np.float64)
    found = measure("multiclass", places, probabilities)
    assert found["log_loss"] == pytest.approx(metrics.log_loss(places, probabilities))
    assert measure("multiclass", places, probabilities[:, :2])["log_loss"] > 5
    table = calibration(np.array([0.0, 1.0, 1.0]), np.array([0.05, 0.95, 1.0]))
    assert table == [(0.05, 0.0, 1), (0.975, 1.0, 2)]


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
def test_the_scorer_says_what_was_trained(tmp_path: Path, task: Task) -> None:
    """A version loads in the scorer and gives the library's scores, defaults in the gaps."""
    plan, repository = plan_of(task), ModelRepository(tmp_path)
    made: list[LightGbmFitted] = []

    class Remembering(LightGbm):
        def fit(self, job: Job) -> LightGbmFitted:
            made.append(super().fit(job))
            return made[-1]

    trained = train(plan, examples_of(task), Remembering(), ONCE, lambda: 0.0)
    manifest = publish(repository, plan, trained, BY_HAND)
    loaded = LoadedModel(*repository.load("late", manifest.version))
    rows = examples_of(task, rows=500, seed=4).features
    rows[::3] = plan.schema.defaults
    found = loaded.outputs(rows)
    # The last one made is the one published; its columns are those of the encoding.
    encoded = _encoded(task, rows)
    expected = made[-1].predict(encoded)
    if task == "multiclass":
        assert manifest.classes == ("low", "middle", "high")
        assert found.probabilities is not None
        assert np.abs(found.probabilities - expected).max() <= 1e-9
        expected = expected.max(axis=1)
    assert np.abs(found.scores - expected).max() <= 1e-9
    assert len(np.unique(found.scores)) > 100


def _encoded(task: Task, rows: Floats) -> Floats:
    examples = examples_of(task)
    fit = examples.at(split(examples, ONCE.shares).fit)
    classes = 3 if task == "multiclass" else 0
    return Encoding.learn(fit.features, fit.labels, [2], classes).apply(rows)


def test_the_same_again(trained: Trained) -> None:
    """The same examples and wishes give the same bytes and figures, also out of a search."""
    assert _essence(trained_on("binary")) == _essence(trained)
    wishes = replace(ONCE, budget=Budget(3, 60), seed=7)
    first, again = (trained_on("binary", "sklearn-hist", wishes) for _ in range(2))
    assert _essence(first) == _essence(again)
    assert first.found.trials == 3


def test_the_seed_is_everywhere() -> None:
    """Each model of a search, and the one published, is made with the seed that was asked for."""
    seeds = []

    class Listening(LightGbm):
        def fit(self, job: Job) -> LightGbmFitted:
            seeds.append((job.seed, job.threads))
            return super().fit(job)

    wishes = Wishes(budget=Budget(2, 60), seed=11, threads=2)
    train(plan_of(), examples_of(rows=600), Listening(), wishes, lambda: 0.0)
    assert seeds == [(11, 2)] * 3


def _essence(trained: Trained) -> tuple[object, ...]:
    return trained.onnx, trained.metrics, trained.found, trained.importance, trained.digest


def test_what_cannot_be_trained() -> None:
    """A detector without labels, and labels that are all alike, are refused with the reason."""
    with pytest.raises(TrainingError, match="learns without labels in the dataflow"):
        train(plan_of("anomaly"), examples_of(), LightGbm(), ONCE, lambda: 0.0)
    alike = replace(examples_of(), labels=np.ones(3_000))
    with pytest.raises(TrainingError, match="are alike; widen --from"):
        train(plan_of(), alike, LightGbm(), ONCE, lambda: 0.0)


def test_an_export_that_differs_is_refused() -> None:
    """A model that ONNX would score otherwise is not published."""

    class Off(LightGbm):
        def fit(self, job: Job) -> LightGbmFitted:
            fitted = super().fit(job)
            right = fitted.predict
            fitted.predict = lambda features: right(features) + 2e-9  # type: ignore[method-assign]
            return fitted

    with pytest.raises(TrainingError, match=r"differs by 2e-09 on .* allowed is 1e-09"):
        train(plan_of(), examples_of(), Off(), ONCE, lambda: 0.0)


def test_the_manifest_tells_all(trained: Trained, tmp_path: Path) -> None:
    """A version says what it learned from, how, by whom, and what came before it."""
    repository = ModelRepository(tmp_path)
    plan = plan_of()
    first = publish(repository, plan, trained, replace(BY_HAND, channel="champion"))
    second = publish(repository, plan, trained, BY_HAND)
    assert (first.version, second.version) == ("b1", "b2")
    assert (first.parent, second.parent) == (None, "b1")
    manifest, onnx = repository.load("late", "b2")
    assert manifest == second
    assert onnx == trained.onnx
    examples = examples_of()
    parts = split(examples, ONCE.shares)
    fit = examples.at(parts.fit)
    assert manifest.examples == len(fit)
    assert manifest.trained_from_us == examples.times_us[0]
    assert manifest.trained_until_us == fit.label_times_us.max() < parts.test_from_us
    assert (manifest.created_by, manifest.git_commit) == ("ann", "abc")
    assert (manifest.segments, manifest.assign_by) == (("city",), "key")
    lineage = manifest.lineage
    assert lineage["kind"] == "batch"
    assert lineage["learner"].startswith("lightgbm ")
    used = examples.at(np.union1d(parts.fit, parts.test))
    assert lineage["examples_digest"] == f"sha256:{used.digest}"
    assert json.loads(lineage["parameters"]) == trained.found.parameters
    assert json.loads(lineage["rows"])["fit"] == len(fit)
    assert json.loads(lineage["segments"])["city"]["Graz"]["auc"] > 0.8
    channels = repository.channels("late")
    assert (channels.champion, channels.challenger) == ("b1", "b2")
    assert [(e.channel, e.version, e.actor) for e in repository.audit("late")] == [
        ("champion", "b1", "ann"),
        ("challenger", "b2", "ann"),
    ]


@pytest.mark.parametrize("channel", ["shadow", None])
def test_other_channels(trained: Trained, tmp_path: Path, channel: Channel | None) -> None:
    """A version goes where it was asked to go, or nowhere."""
    repository = ModelRepository(tmp_path)
    publish(repository, plan_of(), trained, replace(BY_HAND, channel=channel))
    found = repository.channels("late")
    assert (found.champion, found.challenger) == (None, None)
    assert found.shadow == ("b1" if channel else None)


def test_publishers_at_once(trained: Trained, tmp_path: Path) -> None:
    """Versions that several publish at the same time all get a number of their own."""
    starting = threading.Barrier(8)

    def publish_one(number: int) -> str:
        # Other figures, or they would all be the very same version.
        other = replace(trained, metrics={**trained.metrics, "outcomes": float(number)})
        starting.wait(60)
        return publish(ModelRepository(tmp_path), plan_of(), other, BY_HAND).version

    with ThreadPoolExecutor(8) as pool:
        versions = sorted(pool.map(publish_one, range(8)))
    assert versions == [f"b{n}" for n in range(1, 9)]


def test_out_of_files(tmp_path: Path) -> None:
    """What the dataflow writes is all that training reads."""
    examples = examples_of(rows=1_000)
    keys = examples.keys.tolist()
    times = examples.times_us.tolist()
    write_examples(tmp_path, keys, times, examples.features)
    known = examples.label_times_us.tolist()
    write_outcomes(tmp_path, keys, times, known, (examples.labels > 0.5).tolist())
    read = read_examples(plan_of(), tmp_path, Period(), ("city",))
    assert read.digest == examples.digest
    from_files = train(plan_of(), read, learner("sklearn-linear"), ONCE, lambda: 0.0)
    from_memory = train(plan_of(), examples, learner("sklearn-linear"), ONCE, lambda: 0.0)
    assert from_files.onnx == from_memory.onnx


def test_figures_that_are_no_numbers_are_left_out(trained: Trained, tmp_path: Path) -> None:
    """Labels whose squares no double holds keep nobody from publishing."""
    wild = replace(
        trained,
        metrics={"rmse": float("inf"), "mae": 1e200, "r2": float("nan")},
        importance={"f0": float("nan")},
    )
    manifest = publish(ModelRepository(tmp_path), plan_of(), wild, BY_HAND)
    assert manifest.metrics == {"mae": 1e200}
    assert json.loads(manifest.lineage["importance"]) == {"f0": None}
