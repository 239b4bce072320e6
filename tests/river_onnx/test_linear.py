"""The exported model against River."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import compose, linear_model, neighbors, optim, preprocessing, tree

from dataflows.learning.parity import parity, score_onnx
from dataflows.river_onnx import UnsupportedEstimatorError, check_exportable, to_onnx

Standard = preprocessing.StandardScaler
MinMax = preprocessing.MinMaxScaler
Logistic = linear_model.LogisticRegression

NAMES = ("request", "view:constant", "view:big", "view:small")
ESTIMATORS: dict[str, Callable[[], Any]] = {
    "standard": lambda: Standard() | Logistic(optim.SGD(0.01)),
    "standard_adagrad": lambda: Standard() | Logistic(optim.AdaGrad(0.5), l2=0.1),
    "centred_only": lambda: Standard(with_std=False) | Standard() | Logistic(optim.Adam(0.1)),
    "min_max": lambda: MinMax() | Logistic(optim.SGD(5.0)),
    "three_scalers": lambda: Standard() | MinMax() | Standard() | Logistic(optim.SGD(0.1)),
    "random_weights": lambda: (
        Standard() | Logistic(initializer=optim.initializers.Normal(seed=3), intercept_init=0.7)
    ),
    "bare": lambda: Logistic(optim.SGD(0.01), l1=0.01),
}


def rows(seed: int, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Rows with a constant column, one around 1e9 and one around 1e-9."""
    generator = np.random.default_rng(seed)
    matrix = generator.normal(size=(count, 4)) * [1.0, 0.0, 1e9, 1e-9]
    matrix[:, 1] = 7.0
    return matrix


def trained(make: Callable[[], Any], seed: int, examples: int, classes: int) -> Any:
    """An estimator that has learned from ``examples`` rows."""
    estimator = make()
    generator = np.random.default_rng(seed)
    for row in rows(seed, examples).tolist():
        truth = bool(row[0] + generator.normal() > 0) if classes == 2 else True
        estimator.learn_one(dict(zip(NAMES, row, strict=True)), truth)
    return estimator


@pytest.mark.parametrize("name", ESTIMATORS)
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10_000), examples=st.integers(1, 80), classes=st.sampled_from([1, 2]))
def test_equals_river(name: str, seed: int, examples: int, classes: int) -> None:
    """P(True) is River's within 1e-15: constant, huge and tiny features, one class or two."""
    estimator = trained(ESTIMATORS[name], seed, examples, classes)
    result = parity(estimator, to_onnx(estimator, NAMES), NAMES, rows(seed + 1, 50))
    assert result.rows == 50
    assert result.max_abs_diff <= 1e-15
    assert result.holds


@pytest.mark.parametrize("name", sorted(ESTIMATORS.keys() - {"min_max"}))
def test_untrained_equals_river(name: str) -> None:
    """An estimator that has seen nothing is exported too, and says what River says."""
    estimator = ESTIMATORS[name]()
    if name == "three_scalers":
        estimator = Standard() | Logistic()
    onnx_bytes = to_onnx(estimator, NAMES)
    assert parity(estimator, onnx_bytes, NAMES, rows(1, 9)).max_abs_diff <= 1e-15


def test_river_gives_nan_for_min_max_without_rows() -> None:
    """Where River itself gives NaN so does the export, and parity does not hold."""
    estimator = MinMax() | Logistic()
    onnx_bytes = to_onnx(estimator, NAMES)
    assert np.isnan(score_onnx(onnx_bytes, rows(1, 3))).all()
    assert not parity(estimator, onnx_bytes, NAMES, rows(1, 3)).holds


@pytest.mark.parametrize("intercept", [-1e9, -40.0, -30.5, -30.0, -29.5, 29.5, 30.0, 30.5, 1e9])
def test_saturates_where_river_does(intercept: float) -> None:
    """River's sigmoid is exactly 0 and 1 beyond 30; the export has the same steps."""
    estimator = Standard() | Logistic(intercept_init=intercept)
    expected = estimator.predict_proba_one(dict.fromkeys(NAMES, 1.0))[True]
    (score,) = score_onnx(to_onnx(estimator, NAMES), np.ones((1, 4)))
    assert abs(score - expected) <= 1e-16
    assert (score in (0.0, 1.0)) == (abs(intercept) > 30)


def test_infinite_value_of_a_constant_feature() -> None:
    """A feature without variance counts as 0 even if it is infinite, as in River."""
    estimator = trained(ESTIMATORS["standard"], 5, 60, 2)
    row = np.array([[1.0, np.inf, 1e9, 1e-9]])
    assert parity(estimator, to_onnx(estimator, NAMES), NAMES, row).max_abs_diff <= 1e-15


def test_features_never_seen_in_training() -> None:
    """A name that the estimator does not know has weight 0 in the export as in River."""
    estimator = trained(ESTIMATORS["standard"], 5, 60, 2)
    names = ("other", *NAMES[::-1])
    onnx_bytes = to_onnx(estimator, names)
    matrix = np.column_stack([np.ones(20), rows(9, 20)[:, ::-1]])
    assert parity(estimator, onnx_bytes, names, matrix).max_abs_diff <= 1e-15
    assert "other" not in estimator["StandardScaler"].means


def test_same_state_same_bytes() -> None:
    """Two estimators of one history export to equal bytes, and exporting changes nothing."""
    first, second = (trained(ESTIMATORS["standard"], 5, 60, 2) for _ in range(2))
    assert to_onnx(first, NAMES) == to_onnx(second, NAMES) == to_onnx(first, NAMES)
    second.learn_one(dict.fromkeys(NAMES, 0.5), True)
    assert to_onnx(first, NAMES) != to_onnx(second, NAMES)


def test_is_a_valid_model_of_the_agreed_shape() -> None:
    """ONNX's own checker accepts it; input, output, types and opset are those agreed."""
    model = onnx.load_from_string(to_onnx(trained(ESTIMATORS["standard"], 5, 9, 2), NAMES))
    onnx.checker.check_model(model, full_check=True)
    (taken,), (given_back,) = model.graph.input, model.graph.output
    double = onnx.TensorProto.DOUBLE
    assert (taken.name, taken.type.tensor_type.elem_type) == ("features", double)
    assert [dim.dim_value for dim in taken.type.tensor_type.shape.dim] == [0, 4]
    assert (given_back.name, given_back.type.tensor_type.elem_type) == ("score", double)
    assert [entry.version for entry in model.opset_import] == [18]


def test_rows_do_not_depend_on_their_neighbours() -> None:
    """A row alone scores what it scores among others: batching in the scorer changes nothing."""
    estimator = trained(ESTIMATORS["standard_adagrad"], 5, 60, 2)
    onnx_bytes, matrix = to_onnx(estimator, NAMES), rows(8, 33)
    alone = [score_onnx(onnx_bytes, row[None, :])[0] for row in matrix]
    np.testing.assert_allclose(score_onnx(onnx_bytes, matrix), alone, rtol=0, atol=2e-16)


class OurOwn(linear_model.LogisticRegression):
    """A subclass may compute something else."""


@pytest.mark.parametrize(
    ("estimator", "named"),
    [
        (Standard() | tree.ISOUPTreeRegressor(), "ISOUPTreeRegressor"),
        (neighbors.KNNClassifier(), "KNNClassifier"),
        (Standard() | OurOwn(), "OurOwn"),
        (Standard() | linear_model.AdPredictor(), "AdPredictor"),
        (Standard(window_size=5) | Logistic(), "window_size=5"),
        (MinMax(window_size=5) | Logistic(), "window_size=5"),
        (Standard(), "StandardScaler"),
        (Standard() | MinMax(), "MinMaxScaler"),
        (compose.Pipeline(Logistic(), Logistic()), "LogisticRegression"),
        (compose.Pipeline(), "empty"),
        (None, "NoneType"),
    ],
)
def test_refuses_by_name(estimator: Any, named: str) -> None:
    """What cannot be exported exactly is refused, naming the class or the parameter."""
    with pytest.raises(UnsupportedEstimatorError, match=named):
        check_exportable(estimator)
    with pytest.raises(UnsupportedEstimatorError, match=named):
        to_onnx(estimator, NAMES)
