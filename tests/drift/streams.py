"""Streams of predictions of all kinds, and monitors that follow them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.drift_record import DriftAlert
from contracts.model_spec import Drift
from contracts.plan import DriftPlan
from dataflows.definitions.drift import compile_drift
from dataflows.drift.monitor import DriftMonitor
from dataflows.drift.spec import DriftSpec

Floats = NDArray[np.float64]
DEFAULT = compile_drift(Drift(), "")
FEATURES = 20
# Columns of `make_rows` by what they are.
NORMAL, CAUCHY, PARETO, COUNT, CONSTANT, MOSTLY_MISSING, CODE, RARE, SOMETIMES, ZEROS = range(10)
FEW_CODES, NEVER = 10, 11
NOMINAL = (CODE, FEW_CODES)


def plan(**given: Any) -> DriftPlan:
    """The default settings but for those given."""
    assert DEFAULT is not None, "Drift() watches"
    return replace(DEFAULT, **given)


def small_plan(**given: Any) -> DriftPlan:
    """Settings with windows of 100 rows, and what is given."""
    return plan(**{"window_rows": 100, "reference_rows": 500, "warmup_rows": 0, **given})


def spec(settings: DriftPlan, features: int = FEATURES) -> DriftSpec:
    """A model with that many features, of which some are codes."""
    names = tuple(f"f{place}" for place in range(features))
    return DriftSpec("m", names, tuple(place in NOMINAL for place in range(features)), settings)


def make_rows(rng: np.random.Generator, n: int) -> Floats:
    """Rows float64 ``[n, 20]``: heavy tails, whole numbers, codes, constants, missing values."""
    rows = rng.normal(size=(n, FEATURES))
    rows[:, CAUCHY] = rng.standard_cauchy(n)
    rows[:, PARETO] = rng.pareto(0.5, n)
    rows[:, COUNT] = rng.poisson(3, n)
    rows[:, CONSTANT] = 7.0
    rows[rng.random(n) < 0.98, MOSTLY_MISSING] = np.nan
    rows[:, CODE] = rng.integers(0, 5_000, n)
    rows[:, RARE] = rng.random(n) < 0.01
    rows[rng.random(n) < 0.02, SOMETIMES] = np.nan
    rows[:, ZEROS] = np.where(rng.random(n) < 0.6, 0.0, rng.exponential(size=n))
    rows[:, FEW_CODES] = rng.integers(0, 8, n) * 12_345.0
    rows[:, NEVER] = np.nan
    return rows


def times_us(first: int, n: int) -> NDArray[np.int64]:
    """A row a second."""
    return (first + np.arange(n, dtype=np.int64)) * 1_000_000


def follow(
    monitor: DriftMonitor, first: int, rows: Floats, scores: Floats, sizes: Sequence[int] = ()
) -> list[DriftAlert]:
    """Give the rows to the monitor in calls of those sizes and one of the rest."""
    alerts = []
    times = times_us(first, len(rows))
    cuts = np.minimum(np.cumsum([0, *sizes, len(rows)]), len(rows)).tolist()
    for begin, end in pairwise(cuts):
        part = slice(begin, end)
        alerts += monitor.add_predictions(times[part], rows[part], scores[part])
    return alerts
