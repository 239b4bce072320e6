"""scikit-learn's linear models on scaled columns: logistic, softmax and ridge regression."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from contracts.model_spec import Task
from dataflows.river_onnx.graph import Graph
from dataflows.training.examples import Floats
from dataflows.training.learners import Job, Parameters
from dataflows.training.losses import loss
from dataflows.training.sklearn_trees import append_by_place, by_place
from dataflows.training.trees import append_link

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

_ITERATIONS_MAX = 500


class Linear:
    """Makes linear models: small, fast, and easy to explain."""

    @property
    def text(self) -> str:
        """Name and version."""
        return f"scikit-learn {sklearn.__version__} linear"

    def defaults(self, task: Task) -> Parameters:
        """Parameters that do for most data."""
        return {"penalty": 1.0}

    def suggest(self, trial: BaseTrial, task: Task) -> Parameters:
        """Parameters to try next: only how strongly weights are held small."""
        return {"penalty": trial.suggest_float("penalty", 1e-4, 1e4, log=True)}

    def fit(self, job: Job) -> LinearFitted:
        """Scale and fit."""
        scaler = StandardScaler()
        penalty = float(job.parameters["penalty"])
        estimator: Any
        if job.task == "regression":
            estimator = Ridge(alpha=penalty)
        else:
            estimator = LogisticRegression(C=1.0 / penalty, max_iter=_ITERATIONS_MAX)
        with threadpool_limits(job.threads), warnings.catch_warnings():
            # One that stops early is measured like any other.
            warnings.simplefilter("ignore", ConvergenceWarning)
            estimator.fit(scaler.fit_transform(job.rows.features), job.rows.labels)
        fitted = LinearFitted(scaler, estimator, job)
        if job.watch is not None:
            rows = job.watch.rows
            job.watch.on_round(1, loss(job.task, rows.labels, fitted.predict(rows.features)))
        return fitted


class LinearFitted:
    """A scaler and a fitted estimator."""

    def __init__(self, scaler: Any, estimator: Any, job: Job) -> None:
        self._scaler = scaler
        self._estimator = estimator
        self._job = job

    @property
    def parameters(self) -> Parameters:
        """Those it was made with."""
        return self._job.parameters

    def predict(self, features: Floats) -> Floats:
        """See ``Fitted``."""
        scaled = self._scaler.transform(features)
        with threadpool_limits(self._job.threads):
            if self._job.task == "regression":
                return np.asarray(self._estimator.predict(scaled), dtype=np.float64)
            return by_place(self._estimator, scaled, self._job)

    def append(self, graph: Graph, columns: str) -> str:
        """See ``Fitted``."""
        centred = graph.node("Sub", [columns, graph.constant(self._scaler.mean_)])
        scaled = graph.node("Div", [centred, graph.constant(self._scaler.scale_)])
        weights, intercepts = self._weights()
        products = graph.node("MatMul", [scaled, graph.constant(weights.T)])
        sums = graph.node("Add", [products, graph.constant(intercepts)])
        found = append_link(graph, sums, self._job.task)
        if self._job.task != "multiclass":
            return found
        return append_by_place(graph, found, self._estimator, self._job)

    def importance(self) -> Floats:
        """The columns' shares of all weights, of scaled columns and without signs."""
        weights = np.abs(self._weights()[0]).sum(axis=0)
        total = weights.sum()
        return np.asarray(weights / total if total else weights, dtype=np.float64)

    def _weights(self) -> tuple[Floats, Floats]:
        """Weights ``[outputs, e]`` and intercepts ``[outputs]``."""
        weights = np.atleast_2d(self._estimator.coef_)
        intercepts = np.atleast_1d(self._estimator.intercept_)
        if self._job.task == "multiclass" and len(weights) == 1:
            # Of two classes scikit-learn keeps the second one's; the first one's sum is 0.
            weights = np.concatenate([np.zeros_like(weights), weights])
            intercepts = np.concatenate([np.zeros(1), intercepts])
        return weights, intercepts
