"""The search for parameters: bounded in trials and in seconds, the same again for a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contracts.model_spec import Task
from dataflows.training.learners import Job, Learner, Parameters, Rows, Watch

if TYPE_CHECKING:
    from optuna import Trial

_TRIALS_BEFORE_PRUNING = 4
_ROUNDS_BEFORE_PRUNING = 25


@dataclass(frozen=True)
class Budget:
    """When to stop.

    Attributes:
        trials: at most so many; the first has the learner's defaults.
        seconds_max: no trial begins later, and one that runs is given up, unless it is the first.
    """

    trials: int
    seconds_max: float


@dataclass(frozen=True)
class Problem:
    """What is searched for: parameters that do best on ``validation`` after ``train``."""

    task: Task
    classes: int
    train: Rows
    validation: Rows
    seed: int
    threads: int


@dataclass(frozen=True)
class Found:
    """What the search found.

    Attributes:
        parameters: the best, rounds counted.
        loss: on the validation rows, see ``losses.loss``.
        trials: begun.
        pruned: of these, given up as others were better at that stage, or for want of time.
    """

    parameters: Parameters
    loss: float
    trials: int
    pruned: int


def search(
    learner: Learner,
    problem: Problem,
    budget: Budget,
    seconds: Callable[[], float],
    on_trial: Callable[[int, float], None],
) -> Found:
    """Try parameters one after the other.

    Args:
        learner: that is tried.
        problem: the rows.
        budget: when to stop. What is found is the same again for a seed and a number of trials.
        seconds: a clock.
        on_trial: told (trials done, best loss so far) after each trial.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=problem.seed),
        pruner=optuna.pruners.MedianPruner(_TRIALS_BEFORE_PRUNING, _ROUNDS_BEFORE_PRUNING),
    )
    deadline = seconds() + budget.seconds_max
    best: tuple[float, Parameters] | None = None
    done = pruned = 0
    while done < budget.trials and (best is None or seconds() < deadline):
        trial = study.ask()
        given = learner.suggest(trial, problem.task) if done else learner.defaults(problem.task)
        # The first trial runs to its end: without one there would be nothing to publish.
        watch = _Watching(trial, seconds, float("inf") if best is None else deadline)
        try:
            loss, parameters = watch.run(learner, problem, given)
        except optuna.TrialPruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            pruned += 1
        else:
            study.tell(trial, loss)
            if best is None or loss < best[0]:
                best = loss, parameters
        done += 1
        if best is not None:
            on_trial(done, best[0])
    assert best is not None
    return Found(best[1], best[0], done, pruned)


class _Watching:
    """One trial: hears of each round, and gives up."""

    def __init__(self, trial: Trial, seconds: Callable[[], float], deadline: float) -> None:
        self._trial = trial
        self._seconds = seconds
        self._deadline = deadline
        self._best = float("inf")

    def run(
        self, learner: Learner, problem: Problem, parameters: Parameters
    ) -> tuple[float, Parameters]:
        """The best loss and the parameters that lead to it; raise TrialPruned."""
        job = Job(
            problem.task,
            problem.classes,
            problem.train,
            parameters,
            problem.seed,
            problem.threads,
            Watch(problem.validation, self._on_round),
        )
        fitted = learner.fit(job)
        return self._best, fitted.parameters

    def _on_round(self, number: int, loss: float) -> None:
        from optuna import TrialPruned

        self._best = min(self._best, loss)
        self._trial.report(loss, number)
        if self._seconds() >= self._deadline or self._trial.should_prune():
            raise TrialPruned
