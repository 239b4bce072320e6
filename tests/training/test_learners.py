"""Each learner's ONNX model against the library that has trained it."""

from __future__ import annotations

import numpy as np
import pytest

from contracts.category import category_code
from contracts.model_spec import Task
from dataflows.training import learners
from dataflows.training.categories import CATEGORIES_MAX, Encoding
from dataflows.training.errors import TrainingError
from dataflows.training.examples import Floats
from dataflows.training.export import PROBABILITIES, SCORE, run_onnx, to_onnx
from dataflows.training.learners import NAMES, Fitted, Job, Rows, learner
from dataflows.training.lightgbm_learner import trees_of
from tests.training.worlds import examples_of

TASKS: tuple[Task, ...] = ("binary", "regression", "multiclass")
QUICK = {
    "lightgbm": {"rounds": 25},
    "sklearn-hist": {"max_iter": 15},
    "sklearn-linear": {},
}


def trained(name: str, task: Task, classes: int = 0, seed: int = 0) -> tuple[Fitted, Encoding]:
    """A model of some 1,500 rows with a column of huge and one of tiny numbers."""
    examples = examples_of(task, rows=1_500)
    features = examples.features * [1e9, 1e-9, 1.0]
    encoding = Encoding.learn(features, examples.labels, [2], classes)
    chosen = learner(name)
    rows = Rows(encoding.apply(features), examples.labels)
    parameters = {**chosen.defaults(task), **QUICK[name]}
    return chosen.fit(Job(task, classes, rows, parameters, seed, 1)), encoding


def rows_to_try() -> Floats:
    """Other rows, half of them with a text that was never seen."""
    features = examples_of(rows=4_000, seed=9).features * [1e9, 1e-9, 1.0]
    features[::2, 2] = category_code("Salzburg")
    features[1::4, 2] = 3.0
    return features


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", NAMES)
def test_onnx_says_the_same(name: str, task: Task) -> None:
    """On 4,000 rows, also with texts never seen, the two differ by less than 1e-12."""
    classes = ("low", "middle", "high") if task == "multiclass" else ()
    fitted, encoding = trained(name, task, len(classes))
    features = rows_to_try()
    expected = fitted.predict(encoding.apply(features))
    onnx = to_onnx(fitted, encoding, 3, task, classes)
    found = run_onnx(onnx, features, PROBABILITIES if classes else SCORE)
    assert found.shape == expected.shape == ((4_000, 3) if classes else (4_000,))
    assert np.abs(found - expected).max() <= 1e-12 * max(1.0, np.abs(expected).max())
    assert len(np.unique(expected)) > 10
    if classes:
        np.testing.assert_array_equal(run_onnx(onnx, features, SCORE), found.max(axis=1))


@pytest.mark.parametrize("name", ["lightgbm", "sklearn-hist"])
def test_thresholds_hit_exactly(name: str) -> None:
    """A value that equals a threshold goes the same way in both, as do its two neighbours."""
    fitted, encoding = trained(name, "binary")
    onnx = to_onnx(fitted, encoding, 3, "binary", ())
    features = rows_to_try()
    column = features[:, 0]
    thresholds = np.unique(_thresholds(fitted, 0))
    assert len(thresholds) > 20
    for step in (-np.inf, None, np.inf):
        hit = thresholds if step is None else np.nextafter(thresholds, step)
        column[:] = np.resize(hit, len(column))
        expected = fitted.predict(encoding.apply(features))
        assert np.abs(run_onnx(onnx, features, SCORE) - expected).max() <= 1e-12


def _thresholds(fitted: Fitted, place: int) -> Floats:
    """Those of one column, as the library itself keeps them."""
    found: list[float] = []
    if hasattr(fitted, "_booster"):
        for tree in trees_of(fitted._booster.model_to_string()):
            pairs = zip(tree.features, tree.thresholds, strict=True)
            found += [threshold for feature, threshold in pairs if feature == place]
    else:
        for (predictor,) in fitted._estimator._predictors:  # type: ignore[attr-defined]
            splits = predictor.nodes[predictor.nodes["is_leaf"] == 0]
            found += splits["num_threshold"][splits["feature_idx"] == place].tolist()
    return np.array(found)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_again(name: str) -> None:
    """The same rows, parameters and seed give the same bytes."""
    models = [trained(name, "binary", seed=5) for _ in range(2)]
    first, again = (to_onnx(fitted, encoding, 3, "binary", ()) for fitted, encoding in models)
    assert first == again


@pytest.mark.parametrize("labels", [(0.0, 2.0), (1.0, 2.0), (0.0, 1.0, 3.0)])
@pytest.mark.parametrize("name", NAMES)
def test_classes_that_do_not_occur(name: str, labels: tuple[float, ...]) -> None:
    """A class without an example has no noteworthy probability, and keeps its column."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(600, 2))
    places = np.digitize(features[:, 0], np.linspace(-1, 1, len(labels) - 1))
    rows = Rows(features, np.array(labels)[places])
    chosen = learner(name)
    parameters = {**chosen.defaults("multiclass"), **QUICK[name]}
    fitted = chosen.fit(Job("multiclass", 4, rows, parameters, 0, 1))
    encoding = Encoding((0, 1), ())
    expected = fitted.predict(features)
    found = run_onnx(
        to_onnx(fitted, encoding, 2, "multiclass", list("abcd")), features, PROBABILITIES
    )
    assert np.abs(found - expected).max() <= 1e-12
    absent = [place for place in range(4) if place not in labels]
    assert expected[:, absent].max() < 1e-6
    assert (np.argmax(expected, axis=1) == rows.labels).mean() > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_importance_is_shared_out(name: str) -> None:
    """Columns share what counts; one that says nothing gets next to nothing."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(2_000, 3))
    rows = Rows(features, (features[:, 1] > 0).astype(np.float64))
    chosen = learner(name)
    fitted = chosen.fit(Job("binary", 0, rows, {**chosen.defaults("binary"), **QUICK[name]}, 0, 1))
    shares = fitted.importance()
    assert shares.sum() == pytest.approx(1.0)
    assert shares[1] > 0.9


def test_rare_categories_say_what_all_say() -> None:
    """Only the 500 most frequent categories are told apart; ONNX agrees on every one."""
    codes = np.concatenate([np.repeat(np.arange(600.0), 2), np.arange(500.0)])
    labels = (codes % 2).astype(np.float64)
    encoding = Encoding.learn(codes[:, None], labels, [0], 0)
    (column,) = encoding.columns
    assert len(column.codes) == CATEGORIES_MAX
    assert column.codes.max() == 499
    tried = np.array([[0.0], [499.0], [500.0], [599.0], [-1.0], [0.5]])
    encoded = encoding.apply(tried)[:, 0]
    assert encoded[0] < labels.mean() < encoded[1]
    assert (encoded[2:] == labels.mean()).all()


def test_a_split_by_categories_is_refused() -> None:
    """What LightGBM can do and the export cannot is refused, not exported wrongly."""
    text = (
        "tree\nTree=0\nnum_leaves=2\nsplit_feature=0\nthreshold=0\ndecision_type=1\n"
        "left_child=-1\nright_child=-2\nleaf_value=1 2\nis_linear=0\n\nend of trees\n"
    )
    with pytest.raises(TrainingError, match="categorical splits"):
        trees_of(text)
    (tree,) = trees_of(text.replace("decision_type=1", "decision_type=2"))
    assert (tree.lefts, tree.rights, tree.leaves) == ([-1], [-2], [1.0, 2.0])


def test_a_learner_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown name lists the known ones; a library that is missing says how to install it."""
    with pytest.raises(TrainingError, match=r"choose one of lightgbm, sklearn-hist"):
        learner("xgboost")
    place = learners._Place("lightgbm_is_not_installed", "LightGbm")
    monkeypatch.setitem(learners._LEARNERS, "lightgbm", place)
    with pytest.raises(TrainingError, match=r"pip install 'headwater\[train\]'"):
        learner("lightgbm")
