"""The package stands alone; its models are valid, small, and tell what they are."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from river import base, preprocessing, stats

import dataflows.river_onnx
from dataflows.river_onnx import (
    Columns,
    Converter,
    Graph,
    UnsupportedEstimatorError,
    Wanted,
    check_exportable,
    register,
    to_onnx,
)
from dataflows.river_onnx.parity import parity, run_onnx
from tests.river_onnx.estimators import (
    CLASSES,
    NAMES,
    SUBJECTS,
    Logistic,
    OneVsRest,
    Standard,
    categories,
    mixed,
    new_rows,
    trained,
)

ELSEWHERE = """
import sys
import numpy as np
from river import linear_model, preprocessing
import lifted

model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
rows = np.random.default_rng(3).normal(size=(50, 2))
for a, b in rows.tolist():
    model.learn_one({"a": a, "b": b}, a > b)
data = lifted.to_onnx(model, ("a", "b"))
ours = {"dataflows", "contracts", "scorer", "cli"}
assert ours.isdisjoint(sys.modules), ours & sys.modules.keys()
assert "onnxruntime" not in sys.modules
from lifted.parity import parity
print(parity(model, data, ("a", "b"), rows))
"""


def test_can_be_lifted_out(tmp_path: Path) -> None:
    """A copy of the folder alone, under another name, imports nothing of ours, and exports."""
    source = Path(dataflows.river_onnx.__file__).parent
    shutil.copytree(source, tmp_path / "lifted", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) <= 1e-15


@pytest.mark.parametrize("name", SUBJECTS)
def test_is_a_valid_model(name: str) -> None:
    """ONNX's own checker accepts it; it has no node or constant that nobody needs."""
    subject = SUBJECTS[name]
    model = onnx.load_from_string(to_onnx(trained(subject, 3, 20), NAMES, subject.classes))
    onnx.checker.check_model(model, full_check=True)
    used = {name for node in model.graph.node for name in node.input}
    assert used >= {constant.name for constant in model.graph.initializer}
    outputs = {output.name for output in model.graph.output}
    assert used | outputs >= {name for node in model.graph.node for name in node.output}
    double = onnx.TensorProto.DOUBLE
    for tensor in (*model.graph.input, *model.graph.output):
        assert tensor.type.tensor_type.elem_type == double


def test_tells_role_and_classes() -> None:
    """The metadata of a model say what it is, and its classes in order."""
    subject = SUBJECTS["multiclass_softmax"]
    model = onnx.load_from_string(to_onnx(trained(subject, 3, 50), NAMES, CLASSES))
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert facts["role"] == "classifier"
    assert json.loads(facts["classes"]) == list(CLASSES)


# An ensemble shares its votes out among the classes asked for, so it is asked for all it has seen.
@pytest.mark.parametrize(
    "name", [n for n, s in SUBJECTS.items() if s.kind == "multiclass" and "bagged" not in n]
)
def test_classes_come_in_the_order_asked_for(name: str) -> None:
    """Any order, any part of the classes, and some that the estimator never saw, which get 0."""
    subject = SUBJECTS[name]
    estimator = trained(subject, 3, 100)
    matrix = new_rows(subject, 8, 30)
    whole = run_onnx(to_onnx(estimator, NAMES, ("a", "b", "c", "d")), matrix)[:, 1:]
    some = run_onnx(to_onnx(estimator, NAMES, ("d", "who", "a")), matrix)
    np.testing.assert_array_equal(some[:, 1:], whole[:, [3, 0, 0]] * [1.0, 0.0, 1.0])
    np.testing.assert_array_equal(some[:, 0], some[:, 1:].max(axis=1))


@pytest.mark.parametrize("name", [n for n, s in SUBJECTS.items() if s.kind == "multiclass"])
def test_rows_do_not_depend_on_their_neighbours(name: str) -> None:
    """A row alone scores what it scores among others: batching in the scorer changes nothing."""
    subject = SUBJECTS[name]
    onnx_bytes = to_onnx(trained(subject, 5, 60), NAMES, subject.classes)
    matrix = new_rows(subject, 8, 9)
    alone = np.vstack([run_onnx(onnx_bytes, row[None, :]) for row in matrix[:3]])
    together = run_onnx(onnx_bytes, matrix)[:3]
    np.testing.assert_allclose(together, alone, rtol=1e-14, atol=1e-14)


class Clock(base.Transformer):
    """Hours since some midnight become the hour of the day."""

    def transform_one(self, x: dict[base.typing.FeatureName, Any]) -> dict[Any, Any]:
        """The hours of the day."""
        return {name: math.fmod(hours, 24.0) for name, hours in x.items()}


def test_learns_another_class() -> None:
    """A converter for a class of one's own makes it exportable, as the docs show."""

    def append_clock(clock: Any, graph: Graph, columns: Columns, wanted: Wanted) -> Columns:
        hours = graph.node("Mod", [columns.value, graph.constant(24.0)], fmod=1)
        return Columns(hours, columns.names, columns.present)

    estimator = Clock() | Standard() | Logistic()
    with pytest.raises(UnsupportedEstimatorError, match="Clock"):
        check_exportable(estimator)
    register(Clock, Converter("transformer", lambda clock: None, append_clock))
    matrix = np.random.default_rng(3).normal(size=(200, 2)) * 100
    for first, second in matrix.tolist():
        estimator.learn_one({"a": first, "b": second}, first > 0)
    assert parity(estimator, to_onnx(estimator, ("a", "b")), ("a", "b"), matrix) <= 1e-15


def test_names_in_another_order() -> None:
    """Features go by their names: shuffled columns score the same, in River as here."""
    subject = SUBJECTS["one_hot"]
    estimator = trained(subject, 5, 60)
    matrix = new_rows(subject, 8, 40)
    order = [3, 5, 1, 0, 4, 2]
    names = tuple(NAMES[place] for place in order)
    assert parity(estimator, to_onnx(estimator, names), names, matrix[:, order]) <= 1e-15


def test_what_is_not_needed_is_left_out() -> None:
    """The columns of categories never seen cost nothing where nobody minds them."""
    estimator = trained(SUBJECTS["one_hot"], 5, 60)
    operators = {
        node.op_type for node in onnx.load_from_string(to_onnx(estimator, NAMES)).graph.node
    }
    assert "Equal" in operators
    assert "ReduceMax" not in operators


def test_parity_sees_a_difference() -> None:
    """Parity is 0 for no rows, the largest difference for some, and NaN where there is NaN."""
    subject = SUBJECTS["binary_logistic"]
    estimator = trained(subject, 5, 60)
    onnx_bytes = to_onnx(estimator, NAMES)
    matrix = new_rows(subject, 8, 40)
    assert parity(estimator, onnx_bytes, NAMES, matrix[:0]) == 0.0
    assert parity(estimator, onnx_bytes, NAMES, matrix) <= 1e-15
    estimator.learn_one(dict.fromkeys(NAMES, 1e3), True)
    assert parity(estimator, onnx_bytes, NAMES, matrix) > 1e-4
    untrained = categories() | Standard() | Logistic(intercept_init=float("nan"))
    matrix = new_rows(subject, 8, 5)
    assert np.isnan(parity(untrained, to_onnx(untrained, NAMES), NAMES, matrix))


def test_parity_compares_all_probabilities() -> None:
    """A difference in a class that is not the likeliest counts too."""
    subject = SUBJECTS["multiclass_gaussian"]
    estimator = trained(subject, 5, 200)
    matrix = new_rows(subject, 8, 40)
    onnx_bytes = to_onnx(estimator, NAMES, CLASSES)
    assert parity(estimator, onnx_bytes, NAMES, matrix, CLASSES) <= 1e-13
    swapped = tuple(reversed(CLASSES))
    assert parity(estimator, onnx_bytes, NAMES, matrix, swapped) > 0.1


@pytest.mark.parametrize(
    "front",
    [
        preprocessing.StatImputer(("a", stats.Quantile())),
        preprocessing.PreviousImputer(),
    ],
)
def test_none_that_nothing_fills(front: Any) -> None:
    """Where River raises an error for None, as nothing was seen yet, the model says NaN."""
    estimator = front | Logistic()
    with pytest.raises(TypeError):
        estimator.predict_proba_one({"a": None})
    assert np.isnan(run_onnx(to_onnx(estimator, ("a",)), np.array([[np.nan]]))).all()


def test_no_votes_at_all() -> None:
    """Of classes none of which gets any vote each is as likely as the others, as in River."""
    estimator = OneVsRest(Logistic(intercept_init=-100.0))
    for label in "abc":
        estimator.learn_one({"a": 1.0}, label)
    data = to_onnx(estimator, ("a",), ("a", "b", "c"))
    assert run_onnx(data, np.ones((1, 1))).tolist() == [[1 / 3] * 4]
    assert parity(estimator, data, ("a",), np.ones((1, 1)), ("a", "b", "c")) == 0.0


def test_an_encoder_of_nothing_known() -> None:
    """Every category is unseen at first, and the model says what River says."""
    estimator = mixed() | Logistic(intercept_init=0.3)
    matrix = new_rows(SUBJECTS["one_hot"], 8, 20)
    assert parity(estimator, to_onnx(estimator, NAMES), NAMES, matrix) <= 1e-15
