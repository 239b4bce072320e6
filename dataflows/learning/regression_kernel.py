"""The arithmetic of ``StandardScaler | LogisticRegression(SGD)``, compiled by numba.

To the last bit what River 0.26 computes: the same operations in the same order, with the C
library's ``exp`` and ``pow`` as Python has them. Nothing here may be reordered or simplified.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from dataflows.learning.online import Floats, Slots

UNSCALED, CENTRED, STANDARD = 0, 1, 2


class State(NamedTuple):
    """What is learned.

    Attributes:
        means: float64 ``[d]``.
        variances: float64 ``[d]``.
        weights: float64 ``[d]``.
        scalars: float64 ``[2]``: the intercept, and how many rows the scaler has seen.
    """

    means: Floats
    variances: Floats
    weights: Floats
    scalars: Floats


class Settings(NamedTuple):
    """What stays as it is; the names are River's.

    Attributes:
        scaling: ``UNSCALED``, ``CENTRED`` or ``STANDARD``.
        half: 0.5. A constant would let the compiler turn the power into a square root, which is
            rounded otherwise in one of a thousand cases.
    """

    scaling: int
    learning_rate: float
    l2: float
    intercept_lr: float
    clip_gradient: float
    weight_pos: float
    weight_neg: float
    half: float


@numba.njit(cache=True, error_model="numpy")
def _learn_scale(x: Floats, state: State, settings: Settings) -> None:
    state.scalars[1] += 1.0
    count = state.scalars[1]
    for i in range(len(x)):
        off_before = x[i] - state.means[i]
        state.means[i] += off_before / count
        if settings.scaling == STANDARD:
            change = off_before * (x[i] - state.means[i]) - state.variances[i]
            state.variances[i] += change / count


@numba.njit(cache=True, error_model="numpy")
def _logit(x: Floats, scaled: Floats, state: State, settings: Settings) -> float:
    """Scale into ``scaled``, then weigh."""
    total = 0.0
    for i in range(len(x)):
        value = x[i]
        if settings.scaling != UNSCALED:
            value -= state.means[i]
        if settings.scaling == STANDARD:
            variance = state.variances[i]
            value = value / variance**settings.half if variance != 0.0 else 0.0
        scaled[i] = value
        total += state.weights[i] * value
    logit: float = total + state.scalars[0]
    return logit


@numba.njit(cache=True, error_model="numpy")
def _probability(logit: float) -> float:
    if logit < -30.0:
        return 0.0
    if logit > 30.0:
        return 1.0
    return 1.0 / (1.0 + math.exp(-logit))


@numba.njit(cache=True, error_model="numpy")
def _loss_gradient(logit: float, sign: float, settings: Settings) -> float:
    """River's Log loss; the sign is 1 for True and -1 for False."""
    weight = settings.weight_pos if sign > 0.0 else settings.weight_neg
    margin = logit * sign
    if margin > 18.0:
        gradient = weight * math.exp(-margin) * -sign
    elif margin < -18.0:
        gradient = weight * -sign
    else:
        gradient = weight * -sign / (math.exp(margin) + 1.0)
    if settings.clip_gradient < gradient:
        gradient = settings.clip_gradient
    if -settings.clip_gradient > gradient:
        gradient = -settings.clip_gradient
    return gradient


@numba.njit(cache=True, error_model="numpy")
def _learn(x: Floats, sign: float, scaled: Floats, state: State, settings: Settings) -> None:
    if settings.scaling != UNSCALED:
        _learn_scale(x, state, settings)
    gradient = _loss_gradient(_logit(x, scaled, state, settings), sign, settings)
    state.scalars[0] -= settings.intercept_lr * gradient
    for i in range(len(x)):
        slope = scaled[i] * gradient
        if settings.l2 != 0.0:
            slope += state.weights[i] * settings.l2
        state.weights[i] -= slope * settings.learning_rate


@numba.njit(cache=True, error_model="numpy")
def run_steps(
    rows: Floats,
    scores: Floats,
    steps: Slots,
    truths: NDArray[np.bool_],
    state: State,
    settings: Settings,
) -> None:
    """Run steps as ``Online.run`` describes them; changes ``scores`` and ``state``."""
    scaled = np.empty(rows.shape[1])
    learned = 0
    for step in steps:
        if step >= 0:
            scores[step] = _probability(_logit(rows[step], scaled, state, settings))
        else:
            sign = 1.0 if truths[learned] else -1.0
            _learn(rows[~step], sign, scaled, state, settings)
            learned += 1
