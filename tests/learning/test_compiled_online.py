"""The compiled pipeline against River's own, to the last bit of everything it keeps."""

from __future__ import annotations

import math
import pickle
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import compose, linear_model, optim, preprocessing, utils

from dataflows.learning.compiled_online import CompiledOnline, fits, online
from dataflows.learning.online import Online, RiverOnline
from dataflows.learning.scoreboard import Scoreboard

NAMES = ("b", "a", "c")
Standard = preprocessing.StandardScaler
Logistic = linear_model.LogisticRegression
SGD = optim.SGD

COMPILED: dict[str, Callable[[], Any]] = {
    "plain": lambda: Standard() | Logistic(SGD(0.05)),
    "centred": lambda: Standard(with_std=False) | Logistic(SGD(1e-3)),
    "alone": lambda: Logistic(SGD(0.01)),
    "pipeline_of_one": lambda: compose.Pipeline(Logistic(SGD(0.01))),
    "l2": lambda: Standard() | Logistic(SGD(0.1), l2=0.3),
    "clip": lambda: Standard() | Logistic(SGD(1), clip_gradient=0.25),
    "no_gradient": lambda: Standard() | Logistic(SGD(1), clip_gradient=0),
    "intercept": lambda: Standard() | Logistic(SGD(2.0), intercept_lr=1, intercept_init=-3),
    "fixed_intercept": lambda: Standard() | Logistic(SGD(3.0), intercept_lr=0, l2=1e-9),
    "sure": lambda: Logistic(SGD(1.0), intercept_init=18.5),
    "weighted": lambda: Standard() | Logistic(SGD(0.5), optim.losses.Log(0.1, 7)),
}
NOT_COMPILED: dict[str, Callable[[], Any]] = {
    "adagrad": lambda: Standard() | Logistic(optim.AdaGrad(0.1)),
    "window": lambda: Standard(window_size=7) | Logistic(),
    "min_max": lambda: preprocessing.MinMaxScaler() | Logistic(),
    "two_scalers": lambda: Standard() | Standard() | Logistic(),
    "l1": lambda: Standard() | Logistic(SGD(0.1), l1=0.1),
    "normal": lambda: Standard() | Logistic(initializer=optim.initializers.Normal()),
    "schedule": lambda: Standard() | Logistic(SGD(optim.schedulers.InverseScaling(0.1))),
    "intercept_schedule": lambda: (
        Standard() | Logistic(intercept_lr=optim.schedulers.InverseScaling(0.1))
    ),
    "loss": lambda: Standard() | Logistic(loss=optim.losses.Hinge()),
    "number_of_numpy": lambda: Standard() | Logistic(l2=np.float64(0.1)),
    "scaler_alone": Standard,
}

# Constants, ties, numbers that overflow when squared, and numbers too small to have all digits.
NUMBERS = st.one_of(
    st.floats(-5, 5),
    st.sampled_from([0.0, -0.0, 1.0, 1e9, -1e9, 1e160, -1e200, 5e-324, 1e-170]),
    st.floats(allow_nan=False, allow_infinity=False),
)
# A vector, and whether it is only scored (None) or learned from as False or True.
STEPS = st.lists(
    st.tuples(st.tuples(*[NUMBERS] * len(NAMES)), st.sampled_from([None, False, True])), max_size=40
)
Steps = list[tuple[tuple[float, ...], bool | None]]


def run(chosen: Online, steps: Steps) -> list[bytes]:
    """All steps in one call; gives the bits of the scores."""
    rows = np.array([x for x, _ in steps], dtype=np.float64).reshape(len(steps), len(NAMES))
    scores = np.full(len(steps), math.nan)
    codes = [slot if truth is None else ~slot for slot, (_, truth) in enumerate(steps)]
    truths = np.array([truth for _, truth in steps if truth is not None], dtype=np.float64)
    chosen.run(rows, scores, np.array(codes, dtype=np.int64), truths)
    asked = [score for score, (_, truth) in zip(scores, steps, strict=True) if truth is None]
    return [bits(score) for score in asked]


def run_by_river(estimator: Any, steps: Steps) -> list[bytes]:
    """What River itself does; gives the bits of the scores."""
    scores = []
    for row, truth in steps:
        x = dict(zip(NAMES, row, strict=True))
        if truth is None:
            scores.append(bits(estimator.predict_proba_one(x)[True]))
        else:
            estimator.learn_one(x, truth)
    return scores


def bits(value: float) -> bytes:
    """The value itself, with the sign of zero; one NaN is as good as another."""
    return b"nan" if math.isnan(value) else struct.pack("d", value)


def contents(value: Any) -> Any:
    """Everything that an estimator keeps, with its types, the order of its keys and all bits."""
    if isinstance(value, float):
        return bits(value)
    if isinstance(value, utils.VectorDict):
        return ("VectorDict", contents(value.to_dict()), contents(value.__reduce__()[1][1:]))
    if isinstance(value, dict):
        return (type(value), [(key, contents(entry)) for key, entry in value.items()])
    if isinstance(value, list | tuple):
        return [contents(entry) for entry in value]
    if isinstance(value, compose.Pipeline):
        return contents(value.steps)  # beside them it has a plan, made from them when it is used
    if type(value).__module__.startswith("river."):
        return (type(value), contents(vars(value)))
    return value


# Steps take longer to draw than to run, so all estimators have the same ones.
@settings(deadline=None, max_examples=150)
@given(parts=st.lists(STEPS, min_size=1, max_size=4))
def test_it_is_river_to_the_last_bit(parts: list[Steps]) -> None:
    """Scores, and after each settling all that the estimator holds, are what River makes itself."""
    for name, make in COMPILED.items():
        theirs, ours = make(), make()
        compiled = CompiledOnline(ours, NAMES)
        for steps in parts:
            assert run(compiled, steps) == run_by_river(theirs, steps), name
            compiled.settle()
            assert contents(ours) == contents(theirs), name


@settings(deadline=None, max_examples=40)
@given(first=STEPS, second=STEPS, third=STEPS)
def test_river_and_it_can_take_turns(first: Steps, second: Steps, third: Steps) -> None:
    """River goes on from a settled estimator, and the compiled one from River's or a saved one."""
    for name, make in COMPILED.items():
        theirs, ours = make(), make()
        compiled = CompiledOnline(ours, NAMES)
        run(compiled, first)
        compiled.settle()
        ours = pickle.loads(pickle.dumps(ours))
        run_by_river(theirs, first)
        assert run_by_river(ours, second) == run_by_river(theirs, second), name
        again = CompiledOnline(ours, NAMES)
        assert run(again, third) == run_by_river(theirs, third), name
        again.settle()
        assert contents(ours) == contents(theirs), name


@pytest.mark.parametrize("name", COMPILED)
def test_a_long_run_is_river_to_the_last_bit(name: str) -> None:
    """Thousands of ordinary rows: logits on both sides of every bound, roots of all kinds."""
    generator = np.random.default_rng(8)
    rows = generator.normal(size=(4000, 3)) * [1.0, 300.0, 1e-3] + [5.0, 0.0, 0.0]
    rows[::500] *= 1e3
    answers = [(None, False, True)[choice] for choice in generator.integers(0, 3, len(rows))]
    steps = list(zip(map(tuple, rows.tolist()), answers, strict=True))
    theirs, ours = COMPILED[name](), COMPILED[name]()
    chosen = online(ours, NAMES)
    assert isinstance(chosen, CompiledOnline)
    assert run(chosen, steps) == run_by_river(theirs, steps)
    chosen.settle()
    assert contents(ours) == contents(theirs)


@pytest.mark.parametrize("name", NOT_COMPILED)
def test_everything_else_is_left_to_river(name: str) -> None:
    """What the kernel does not know runs as ever, and cannot be compiled by mistake."""
    estimator = NOT_COMPILED[name]()
    assert isinstance(online(estimator, NAMES), RiverOnline)
    with pytest.raises(ValueError, match="RiverOnline"):
        CompiledOnline(estimator, NAMES)


@settings(deadline=None, max_examples=40)
@given(steps=STEPS)
def test_river_row_by_row(steps: Steps) -> None:
    """The slow way runs the same steps in the same order."""
    theirs, ours = NOT_COMPILED["adagrad"](), NOT_COMPILED["adagrad"]()
    assert run(RiverOnline(ours, NAMES), steps) == run_by_river(theirs, steps)
    assert contents(ours) == contents(theirs)


@pytest.mark.parametrize("row", [{"a": 1.0, "b": 2.0, "c": 3.0}, {"b": 1.0}])
def test_an_estimator_trained_on_other_vectors_is_not_compiled(row: dict[str, float]) -> None:
    """Sums run in the order of River's entries; another order or other names are River's affair."""
    estimator = COMPILED["plain"]()
    assert fits(estimator, NAMES)
    estimator.learn_one(row, True)
    assert not fits(estimator, NAMES)
    assert fits(estimator, tuple(row))


def test_loss_sums_are_those_of_plain_python() -> None:
    """The compiled scoreboard adds Python's own logarithms, row by row."""
    generator = np.random.default_rng(5)
    scores = np.concatenate([generator.random(200_000), [0.0, 1.0, 1e-15, 1.0, 0.0]])
    labels = generator.random(len(scores)) < scores
    labels[-5:] = [False, True, True, False, True]
    loss = 0.0
    for label, score in zip(labels.tolist(), scores.tolist(), strict=True):
        score = min(max(score, 1e-15), 1 - 1e-15)
        loss -= math.log(score if label else 1 - score)
    board = Scoreboard()
    board.add(labels, scores, scores, scores)
    assert board.report()["log_loss"] == loss / len(scores)
