"""How each task asks a River estimator, beside the binary one of ``online``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dataflows.learning.compiled_online import online
from dataflows.learning.online import Floats, Online, Slots, Truths
from dataflows.learning.records import LearnerSpec
from dataflows.learning.waiting_rows import WaitingRows


class RegressionOnline:
    """Any River regressor; truths are numbers."""

    def __init__(self, estimator: Any, names: Sequence[str]) -> None:
        self._estimator = estimator
        self._names = names

    def run(self, rows: Floats, scores: Floats, steps: Slots, truths: Truths) -> None:
        """See ``Online``."""
        predict, learn = self._estimator.predict_one, self._estimator.learn_one
        truth = iter(truths.tolist())
        for step in steps.tolist():
            slot = step if step >= 0 else ~step
            x = dict(zip(self._names, rows[slot].tolist(), strict=True))
            try:
                if step >= 0:
                    scores[slot] = np.nan
                    scores[slot] = predict(x)
                else:
                    learn(x, next(truth))
            except ArithmeticError:
                continue  # see ``Online.run``

    def settle(self) -> None:
        """See ``Online``; it is always there."""


class AnomalyOnline:
    """Any River anomaly detector; truths are not looked at."""

    def __init__(self, estimator: Any, names: Sequence[str]) -> None:
        self._estimator = estimator
        self._names = names

    def run(self, rows: Floats, scores: Floats, steps: Slots, truths: Truths) -> None:
        """See ``Online``."""
        score, learn = self._estimator.score_one, self._estimator.learn_one
        for step in steps.tolist():
            slot = step if step >= 0 else ~step
            x = dict(zip(self._names, rows[slot].tolist(), strict=True))
            try:
                if step >= 0:
                    scores[slot] = np.nan
                    scores[slot] = score(x)
                else:
                    learn(x)
            except ArithmeticError:
                continue  # see ``Online.run``

    def settle(self) -> None:
        """See ``Online``; it is always there."""


class MulticlassOnline:
    """Any River classifier of many classes; truths are places in ``classes``, which grows."""

    def __init__(
        self, estimator: Any, names: Sequence[str], waiting: WaitingRows, classes: list[str]
    ) -> None:
        self._estimator = estimator
        self._names = names
        self._waiting = waiting
        self._classes = classes

    def run(self, rows: Floats, scores: Floats, steps: Slots, truths: Truths) -> None:
        """See ``Online``; writes the probabilities of all classes too."""
        predict, learn = self._estimator.predict_proba_one, self._estimator.learn_one
        self._waiting.widen(len(self._classes))
        probabilities = self._waiting.probabilities
        places = {label: place for place, label in enumerate(self._classes)}
        truth = iter(truths.tolist())
        for step in steps.tolist():
            slot = step if step >= 0 else ~step
            x = dict(zip(self._names, rows[slot].tolist(), strict=True))
            if step >= 0:
                probabilities[slot], scores[slot] = 0.0, np.nan
            try:
                if step < 0:
                    learn(x, self._classes[int(next(truth))])
                    continue
                found = predict(x)
            except ArithmeticError:
                continue  # see ``Online.run``
            for label, probability in found.items():
                probabilities[slot, places[label]] = probability
            scores[slot] = max(found.values(), default=0.0)

    def settle(self) -> None:
        """See ``Online``; it is always there."""


def online_for(
    spec: LearnerSpec, estimator: Any, waiting: WaitingRows, classes: list[str]
) -> Online:
    """The fastest way to run the estimator for the task of a model."""
    names = spec.schema.names
    if spec.task == "regression":
        return RegressionOnline(estimator, names)
    if spec.task == "anomaly":
        return AnomalyOnline(estimator, names)
    if spec.task == "multiclass":
        return MulticlassOnline(estimator, names, waiting, classes)
    return online(estimator, names)
