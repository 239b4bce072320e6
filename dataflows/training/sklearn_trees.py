"""scikit-learn's gradient boosting on histograms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import sklearn
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from contracts.model_spec import Task
from dataflows.river_onnx.graph import Graph
from dataflows.river_onnx.tree_ensemble import Tree
from dataflows.training.examples import Floats
from dataflows.training.learners import Job, Parameters
from dataflows.training.losses import loss
from dataflows.training.trees import BoostedTrees

if TYPE_CHECKING:
    from optuna.trial import BaseTrial


class HistGradientBoosting:
    """Makes boosted trees; tells of its rounds only when all are done."""

    @property
    def text(self) -> str:
        """Name and version."""
        return f"scikit-learn {sklearn.__version__} HistGradientBoosting"

    def defaults(self, task: Task) -> Parameters:
        """Parameters that do for most data."""
        return {
            "max_iter": 150,
            "learning_rate": 0.08,
            "max_leaf_nodes": 31,
            "min_samples_leaf": 50,
            "l2_regularization": 1.0,
        }

    def suggest(self, trial: BaseTrial, task: Task) -> Parameters:
        """Parameters to try next."""
        return {
            "max_iter": trial.suggest_int("max_iter", 50, 400, log=True),
            "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.3, log=True),
            "max_leaf_nodes": trial.suggest_int("max_leaf_nodes", 7, 127, log=True),
            "min_samples_leaf": trial.suggest_int("min_samples_leaf", 10, 500, log=True),
            "l2_regularization": trial.suggest_float("l2_regularization", 1e-3, 100, log=True),
        }

    def fit(self, job: Job) -> HistFitted:
        """Boost as many rounds as the parameters say."""
        kind = (
            HistGradientBoostingRegressor
            if job.task == "regression"
            else HistGradientBoostingClassifier
        )
        # Without this it takes a part of the rows away to know when to stop.
        estimator = kind(**job.parameters, early_stopping=False, random_state=job.seed)
        with threadpool_limits(job.threads):
            estimator.fit(job.rows.features, job.rows.labels)
        fitted = HistFitted(estimator, job)
        if job.watch is not None:
            rows = job.watch.rows
            found = loss(job.task, rows.labels, fitted.predict(rows.features))
            job.watch.on_round(int(job.parameters["max_iter"]), found)
        return fitted


class HistFitted:
    """A fitted estimator."""

    def __init__(self, estimator: Any, job: Job) -> None:
        self._estimator = estimator
        self._job = job

    @property
    def parameters(self) -> Parameters:
        """Those it was made with."""
        return self._job.parameters

    def predict(self, features: Floats) -> Floats:
        """See ``Fitted``."""
        with threadpool_limits(self._job.threads):
            if self._job.task == "regression":
                return np.asarray(self._estimator.predict(features), dtype=np.float64)
            return by_place(self._estimator, features, self._job)

    def append(self, graph: Graph, columns: str) -> str:
        """See ``Fitted``."""
        rounds = self._estimator._predictors
        start = np.ravel(self._estimator._baseline_prediction).tolist()
        trees = [_tree(predictor.nodes) for one in rounds for predictor in one]
        boosted = BoostedTrees(trees, start)
        if self._job.task != "multiclass":
            return boosted.append(graph, columns, self._job.task)
        if len(self._estimator.classes_) == 2:
            positive = boosted.append(graph, columns, "binary")
            ones = graph.constant([1], np.int64)
            column = graph.node("Unsqueeze", [positive, ones])
            other = graph.node("Sub", [graph.constant(1.0), column])
            found = graph.node("Concat", [other, column], axis=1)
        else:
            found = boosted.append(graph, columns, "multiclass")
        return append_by_place(graph, found, self._estimator, self._job)

    def importance(self) -> Floats:
        """The columns' shares of what all splits have gained."""
        width = self._job.rows.features.shape[1]
        gains = np.zeros(width)
        for one in self._estimator._predictors:
            for predictor in one:
                splits = predictor.nodes[predictor.nodes["is_leaf"] == 0]
                gains += np.bincount(splits["feature_idx"], splits["gain"], width)
        total = gains.sum()
        return np.asarray(gains / total if total else gains, dtype=np.float64)


def by_place(estimator: Any, features: Floats, job: Job) -> Floats:
    """P(True), or probabilities ``[n, C]`` in which classes that were never seen have 0."""
    found = np.asarray(estimator.predict_proba(features), dtype=np.float64)
    if not job.classes:
        return found[:, 1]
    probabilities = np.zeros((len(features), job.classes))
    probabilities[:, estimator.classes_.astype(np.int64)] = found
    return probabilities


def append_by_place(graph: Graph, found: str, estimator: Any, job: Job) -> str:
    """``by_place`` as a node: columns for all classes."""
    places = estimator.classes_.astype(np.int64)
    if len(places) == job.classes:
        return found
    spread = np.eye(job.classes)[places]
    return graph.node("MatMul", [found, graph.constant(spread)])


def _tree(nodes: Any) -> Tree:
    """A tree of scikit-learn's, which has splits and leaves in one array."""
    is_leaf = nodes["is_leaf"].astype(bool)
    numbers = np.where(is_leaf, ~(np.cumsum(is_leaf) - 1), np.cumsum(~is_leaf) - 1)
    splits = nodes[~is_leaf]
    return Tree(
        features=splits["feature_idx"].tolist(),
        tests=["<="] * len(splits),
        thresholds=splits["num_threshold"].tolist(),
        lefts=numbers[splits["left"]].tolist(),
        rights=numbers[splits["right"]].tolist(),
        missing_left=splits["missing_go_to_left"].astype(bool).tolist(),
        leaves=nodes["value"][is_leaf].tolist(),
    )
