"""The search for parameters keeps its bounds and is the same again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from optuna.trial import BaseTrial

from contracts.model_spec import Task
from dataflows.training.examples import Floats
from dataflows.training.learners import Fitted, Job, Parameters, Rows
from dataflows.training.lightgbm_learner import LightGbm
from dataflows.training.search import Budget, Found, Problem, search

ROUNDS = 60


class Valley:
    """A learner whose loss after all rounds is how far ``place`` is from 3."""

    text = "valley"

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.rounds = 0

    def defaults(self, task: Task) -> Parameters:
        """Not the best."""
        return {"place": 0.0}

    def suggest(self, trial: BaseTrial, task: Task) -> Parameters:
        """Anywhere."""
        return {"place": trial.suggest_float("place", -10, 10)}

    def fit(self, job: Job) -> Fitted:
        """Tells of ever smaller losses."""
        self.jobs.append(job)
        assert job.watch is not None
        for number in range(1, ROUNDS + 1):
            self.rounds += 1
            job.watch.on_round(number, abs(job.parameters["place"] - 3) + 1 / number)
        return Bottom(job.parameters)


class Bottom:
    """What ``Valley`` makes."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters

    def predict(self, features: Floats) -> Floats:
        """Nothing."""
        return np.zeros(len(features))

    def append(self, graph: Any, columns: str) -> str:
        """Nothing."""
        return columns

    def importance(self) -> Floats:
        """Nothing."""
        return np.zeros(1)


ROWS = Rows(np.zeros((2, 1)), np.zeros(2))


def run(learner: Valley, budget: Budget, seed: int = 0, seconds: Any = lambda: 0.0) -> Found:
    """A search that tells nobody."""
    problem = Problem("regression", 0, ROWS, ROWS, seed, 1)
    return search(learner, problem, budget, seconds, lambda done, loss: None)


def ticking() -> Iterator[float]:
    """A clock that goes on by a second at each look."""
    now = 0.0
    while True:
        yield now
        now += 1.0


def test_better_than_the_defaults() -> None:
    """The first trial has the defaults; after thirty the best is near the optimum."""
    learner = Valley()
    found = run(learner, Budget(30, 60))
    assert learner.jobs[0].parameters == {"place": 0.0}
    assert found.parameters["place"] == pytest.approx(3, abs=0.7)
    assert found.loss < 1
    assert found.trials == len(learner.jobs) == 30


def test_bad_trials_are_given_up() -> None:
    """A trial that is worse than the others were at that round ends before its last round."""
    learner = Valley()
    found = run(learner, Budget(30, 60))
    assert found.pruned > 3
    assert learner.rounds < 30 * ROUNDS


def test_the_same_for_a_seed() -> None:
    """A seed gives the same trials; another seed gives others."""
    tried = []
    for seed in (1, 1, 2):
        learner = Valley()
        run(learner, Budget(8, 60), seed)
        tried.append([job.parameters["place"] for job in learner.jobs])
    assert tried[0] == tried[1] != tried[2]


def test_time_runs_out() -> None:
    """The first trial ends whatever it takes; the one under way at the deadline is given up."""
    clock = ticking()
    learner = Valley()
    found = run(learner, Budget(1_000, 1.5 * ROUNDS), seconds=lambda: next(clock))
    assert found.parameters == {"place": 0.0}
    assert (found.trials, found.pruned) == (2, 1)
    assert ROUNDS < learner.rounds < 2 * ROUNDS
    learner = Valley()
    found = run(learner, Budget(1_000, 0.0), seconds=lambda: next(clock))
    assert (found.trials, learner.rounds) == (1, ROUNDS)


def test_rounds_are_counted_by_watching() -> None:
    """LightGBM stops where the watched rows get no better, and the count makes the same again."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(800, 3))
    labels = (features[:, 0] + generator.normal(size=800) > 0).astype(np.float64)
    train, held = Rows(features[:500], labels[:500]), Rows(features[500:], labels[500:])
    told: list[tuple[int, float]] = []
    problem = Problem("binary", 0, train, held, 0, 1)
    found = search(
        LightGbm(), problem, Budget(1, 60), lambda: 0.0, lambda *trial: told.append(trial)
    )
    assert 1 <= found.parameters["rounds"] < 400
    again = LightGbm().fit(Job("binary", 0, train, found.parameters, 0, 1))
    predicted = again.predict(held.features)
    losses = -np.log(np.where(held.labels > 0.5, predicted, 1 - predicted))
    assert float(losses.mean()) == pytest.approx(found.loss, rel=1e-9)
    assert told == [(1, found.loss)]
