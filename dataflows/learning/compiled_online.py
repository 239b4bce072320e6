"""The commonest pipeline without River's dictionaries: the same numbers, many times faster."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from river import compose, linear_model, optim, preprocessing

from dataflows.learning.online import Floats, Online, RiverOnline, Slots, Truths
from dataflows.learning.regression_kernel import (
    CENTRED,
    STANDARD,
    UNSCALED,
    Settings,
    State,
    run_steps,
)


class CompiledOnline:
    """A ``LogisticRegression`` with plain SGD, alone or after one ``StandardScaler``.

    Raises:
        ValueError: the estimator is not of that kind; ``fits`` says so before.
    """

    def __init__(self, estimator: Any, names: Sequence[str]) -> None:
        if not fits(estimator, names):
            raise ValueError(f"{estimator} cannot be compiled; give it to RiverOnline")
        self._names = names
        self._scaler, self._regression = _parts(estimator)
        self._settings = _settings(self._scaler, self._regression)
        self._state = State(
            means=_column(self._scaler.means if self._scaler else {}, names),
            variances=_column(self._scaler.vars if self._scaler else {}, names),
            weights=_column(self._regression.weights, names),
            scalars=np.array([self._regression.intercept, self._count()], dtype=np.float64),
        )
        self._scored = self._learned = 0  # steps that River's objects do not know of yet

    def run(self, rows: Floats, scores: Floats, steps: Slots, truths: Truths) -> None:
        """See ``Online``."""
        run_steps(rows, scores, steps, truths != 0.0, self._state, self._settings)
        self._learned += len(truths)
        self._scored += len(steps) - len(truths)

    def settle(self) -> None:
        """See ``Online``."""
        names, state = self._names, self._state
        if self._scaler is not None:
            # River's scaler makes entries where it is only asked: for variances, or else for means.
            asked = self._learned or self._scored
            if self._learned or (asked and not self._scaler.with_std):
                self._scaler.means.update(zip(names, state.means.tolist(), strict=True))
            if asked and self._scaler.with_std:
                self._scaler.vars.update(zip(names, state.variances.tolist(), strict=True))
            if self._learned:
                dict.update(self._scaler.counts, dict.fromkeys(names, int(state.scalars[1])))
        if self._learned:
            weights = dict(zip(names, state.weights.tolist(), strict=True))
            self._regression._weights.update(weights)
            self._regression.intercept = float(state.scalars[0])
            self._regression.optimizer.n_iterations += self._learned
        self._scored = self._learned = 0

    def _count(self) -> int:
        return int(self._scaler.counts.get(self._names[0], 0)) if self._scaler else 0


def online(estimator: Any, names: Sequence[str]) -> Online:
    """The fastest way to run the estimator over vectors with these names, in this order."""
    if fits(estimator, names):
        return CompiledOnline(estimator, names)
    return RiverOnline(estimator, names)


def fits(estimator: Any, names: Sequence[str]) -> bool:
    """Whether ``CompiledOnline`` computes exactly what this estimator would, as it is now."""
    scaler, regression = _parts(estimator)
    if type(regression) is not linear_model.LogisticRegression:
        return False
    optimizer, loss = regression.optimizer, regression.loss
    kinds = (
        type(optimizer) is optim.SGD
        and type(optimizer.lr) is optim.schedulers.Constant
        and type(regression.intercept_lr) is optim.schedulers.Constant
        and type(loss) is optim.losses.Log
        and type(regression.initializer) is optim.initializers.Zeros
        and regression.l1 == 0
    )
    if not kinds or not _all_doubles([*_numbers(regression).values(), regression.intercept]):
        return False
    return _knows(regression.weights, names) and _scaler_fits(scaler, names)


def _parts(estimator: Any) -> tuple[Any, Any]:
    """The scaler, or None, and the regression; two None if it is made of other things."""
    steps = list(estimator.steps.values()) if type(estimator) is compose.Pipeline else [estimator]
    if len(steps) == 1:
        return None, steps[0]
    if len(steps) == 2 and type(steps[0]) is preprocessing.StandardScaler:
        return steps[0], steps[1]
    return None, None


def _numbers(regression: Any) -> dict[str, Any]:
    """River's numbers by their names in ``Settings``."""
    return {
        "learning_rate": regression.optimizer.lr.learning_rate,
        "l2": regression.l2,
        "intercept_lr": regression.intercept_lr.learning_rate,
        "clip_gradient": regression.clip_gradient,
        "weight_pos": regression.loss.weight_pos,
        "weight_neg": regression.loss.weight_neg,
    }


def _settings(scaler: Any, regression: Any) -> Settings:
    scaling = UNSCALED if scaler is None else STANDARD if scaler.with_std else CENTRED
    numbers = {name: float(number) for name, number in _numbers(regression).items()}
    return Settings(scaling=scaling, half=0.5, **numbers)


def _scaler_fits(scaler: Any, names: Sequence[str]) -> bool:
    if scaler is None:
        return True
    if scaler.window_size is not None or len(set(scaler.counts.values())) > 1:
        return False
    return all(_knows(part, names) for part in (scaler.counts, scaler.means, scaler.vars))


def _knows(values: dict[str, Any], names: Sequence[str]) -> bool:
    """Nothing yet, or every name in the order of the vector, in numbers that a double holds."""
    return (not values or list(values) == list(names)) and _all_doubles(values.values())


def _all_doubles(values: Iterable[Any]) -> bool:
    # Numbers of NumPy would make all of River's state numbers of NumPy.
    return all(
        type(value) is float or (type(value) is int and abs(value) <= 2**53) for value in values
    )


def _column(values: dict[str, float], names: Sequence[str]) -> Floats:
    return np.array([values.get(name, 0.0) for name in names], dtype=np.float64)
