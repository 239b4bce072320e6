"""LightGBM: gradient boosted trees, the learner to begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightgbm as lgb
import numpy as np

from contracts.model_spec import Task
from dataflows.river_onnx.graph import Graph
from dataflows.river_onnx.tree_ensemble import Tree
from dataflows.training.errors import TrainingError
from dataflows.training.examples import Floats
from dataflows.training.learners import Job, Parameters
from dataflows.training.trees import BoostedTrees

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

ROUNDS_MAX = 2_000
_PATIENCE_ROUNDS = 30
_OBJECTIVES = {"binary": "binary", "regression": "regression", "multiclass": "multiclass"}
_CATEGORICAL = 1


class LightGbm:
    """Makes boosters that give the same for the same rows and seed."""

    @property
    def text(self) -> str:
        """Name and version."""
        return f"lightgbm {lgb.__version__}"

    def defaults(self, task: Task) -> Parameters:
        """Parameters that do for most data; rounds are counted by watching."""
        return {
            "rounds": 400,
            "learning_rate": 0.05,
            "num_leaves": 31,
            "min_child_samples": 100,
            "feature_fraction": 0.8,
            "bagging_fraction": 0.8,
            "lambda_l2": 1.0,
        }

    def suggest(self, trial: BaseTrial, task: Task) -> Parameters:
        """Parameters to try next; ``rounds`` is only the most that a trial may take."""
        return {
            "rounds": 400,
            "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.2, log=True),
            "num_leaves": trial.suggest_int("num_leaves", 7, 127, log=True),
            "min_child_samples": trial.suggest_int("min_child_samples", 10, 1000, log=True),
            "feature_fraction": trial.suggest_float("feature_fraction", 0.4, 1.0),
            "bagging_fraction": trial.suggest_float("bagging_fraction", 0.5, 1.0),
            "lambda_l2": trial.suggest_float("lambda_l2", 1e-3, 100.0, log=True),
        }

    def fit(self, job: Job) -> LightGbmFitted:
        """Boost; with something to watch, until it gets no better for 30 rounds."""
        given = dict(job.parameters)
        rounds = min(int(given.pop("rounds")), ROUNDS_MAX)
        # The scorer never sends a missing value, so no split needs a side for them.
        options = given | {
            "objective": _OBJECTIVES[job.task],
            "bagging_freq": 1,
            "use_missing": False,
            "seed": job.seed,
            "num_threads": job.threads,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }
        if job.classes:
            options["num_class"] = job.classes
        dataset = lgb.Dataset(job.rows.features, job.rows.labels)
        if job.watch is None:
            return LightGbmFitted(lgb.train(options, dataset, rounds), job, rounds)
        watched = job.watch
        held = lgb.Dataset(watched.rows.features, watched.rows.labels, reference=dataset)

        def tell(environment: Any) -> None:
            watched.on_round(environment.iteration + 1, environment.evaluation_result_list[0][2])

        booster = lgb.train(
            options,
            dataset,
            rounds,
            valid_sets=[held],
            callbacks=[lgb.early_stopping(_PATIENCE_ROUNDS, verbose=False), tell],
        )
        return LightGbmFitted(booster, job, booster.best_iteration or rounds)


class LightGbmFitted:
    """A booster."""

    def __init__(self, booster: lgb.Booster, job: Job, rounds: int) -> None:
        self._booster = booster
        self._job = job
        self._rounds = rounds

    @property
    def parameters(self) -> Parameters:
        """With the number of rounds that were best."""
        return {**self._job.parameters, "rounds": self._rounds}

    def predict(self, features: Floats) -> Floats:
        """See ``Fitted``."""
        predicted: Any = self._booster.predict(
            features, num_iteration=self._rounds, num_threads=self._job.threads
        )
        return np.asarray(predicted, dtype=np.float64)

    def append(self, graph: Graph, columns: str) -> str:
        """See ``Fitted``."""
        trees = trees_of(self._booster.model_to_string(num_iteration=self._rounds))
        boosted = BoostedTrees(trees, [0.0] * max(self._job.classes, 1))
        return boosted.append(graph, columns, self._job.task)

    def importance(self) -> Floats:
        """The columns' shares of what all splits have gained."""
        gains = self._booster.feature_importance("gain", iteration=self._rounds)
        total = gains.sum()
        return np.asarray(gains / total if total else gains, dtype=np.float64)


def trees_of(text: str) -> list[Tree]:
    """The trees in LightGBM's own text form of a model.

    Raises:
        TrainingError: a tree has something besides thresholds.
    """
    blocks = text.partition("\nend of trees")[0].split("\nTree=")[1:]
    return [_tree(dict(_pairs(block))) for block in blocks]


def _pairs(block: str) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (s.partition("=") for s in block.splitlines())]


def _tree(fields: dict[str, str]) -> Tree:
    def numbers(name: str) -> list[float]:
        return [float(word) for word in fields.get(name, "").split()]

    def places(name: str) -> list[int]:
        return [int(word) for word in fields.get(name, "").split()]

    if fields.get("is_linear", "0") != "0" or any(
        k & _CATEGORICAL for k in places("decision_type")
    ):
        raise TrainingError(
            "a tree of LightGBM has linear leaves or categorical splits, which cannot be exported; "
            "leave such parameters out"
        )
    thresholds = numbers("threshold")
    return Tree(
        features=places("split_feature"),
        tests=["<="] * len(thresholds),
        thresholds=thresholds,
        # LightGBM, too, writes ~leaf where a child is no split.
        lefts=places("left_child"),
        rights=places("right_child"),
        missing_left=[threshold >= 0.0 for threshold in thresholds],
        leaves=numbers("leaf_value"),
    )
