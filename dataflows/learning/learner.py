"""Progressive validation with delayed labels: predict, wait, score, and only then learn.

The order is that of ``river.stream.simulate_qa``: rows run by event time, and a label at t is
learned before a prediction at t is made; only the label of that prediction itself, if it has the
same time, is learned right after it. How the rows are cut into calls changes nothing.

An anomaly detector learns from each vector right after it has scored it; a label only tells how
good the score was.
"""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from itertools import islice
from typing import Any

import numpy as np

from dataflows.learning.baselines import baselines_for
from dataflows.learning.examples_digest import Digested, ExamplesDigest
from dataflows.learning.gathering import NEWEST_MAX, Gathering
from dataflows.learning.online import Floats, Slots
from dataflows.learning.order import check_rows
from dataflows.learning.publication import Progress, make_version
from dataflows.learning.records import (
    Labels,
    Learned,
    LearnerSpec,
    NewVersion,
    Predictions,
)
from dataflows.learning.scoreboards import board_for
from dataflows.learning.tasks import online_for
from dataflows.learning.vectors import Vectors
from dataflows.river_onnx import check_exportable

PARITY_ROWS_MAX = NEWEST_MAX
CLASSES_MAX = 256
_STATE_FORMAT = 4
_NEVER_US = np.iinfo(np.int64).max
_ALWAYS_US = np.iinfo(np.int64).min
_NOT_SAVED = frozenset({"spec", "_defaults", "_online", "_vectors"})

# Of a prediction that waits: its time, its vector's slot, both baselines and the newest version at
# that moment, and its segments.
_Waiting = tuple[int, int, float, float, int, tuple[str | None, ...]]
_Label = float | str | None


class LearnerStateError(ValueError):
    """Saved state does not belong to this learner; the message says what to do."""


class Learner:
    """One model that learns as its labels come.

    Memory: one entry per prediction younger than the label timeout, at the most there ever were,
    and the scoreboard.

    Raises:
        UnsupportedEstimatorError: the spec's estimator cannot be exported.
    """

    def __init__(self, spec: LearnerSpec) -> None:
        self.spec = spec
        self._defaults = np.asarray(spec.schema.defaults, dtype=np.float64)
        self._estimator: Any = spec.make_learner()
        check_exportable(self._estimator)
        self._vectors = Vectors(len(spec.schema.fields))
        self._classes: list[str] = []
        self._examples = ExamplesDigest()
        self._online = Digested(
            online_for(spec, self._estimator, self._vectors, self._classes), self._examples
        )
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()
        self._last_rows = np.empty((0, len(spec.schema.fields)), dtype=np.float64)
        self._early: dict[str, _Label] = {}  # labels of the time below that found no prediction
        self._early_us = _ALWAYS_US
        self._scoreboard = board_for(spec.task)
        self._baselines = baselines_for(spec.task)
        self._watermark_us = _ALWAYS_US
        self._deadline_us = _NEVER_US  # nothing that waits expires before
        self._boundary_us = _NEVER_US  # next publication; never while nothing new is learned
        self._version = 0
        self._learned = 0
        self._trained_from_us = _NEVER_US
        self._trained_until_us = _ALWAYS_US

    @property
    def waiting(self) -> int:
        """Number of predictions that wait for their label."""
        return len(self._waiting)

    @property
    def examples(self) -> int:
        """Number of examples learned from since the beginning."""
        return self._learned

    def advance(self, predictions: Predictions, labels: Labels, watermark_us: int) -> Learned:
        """Run all rows of the two, in one order of event time.

        Args:
            predictions: rows in ``[previous watermark, watermark_us)``.
            labels: the same.
            watermark_us: no row before it will come any more.

        Raises:
            ValueError: the rows are not in order or not in that range, or a shape is wrong.
        """
        check_rows(self.spec, predictions, labels, self._watermark_us, watermark_us)
        gathering = Gathering()
        slots = self._run(predictions, labels, gathering)
        self._pass(watermark_us, gathering)
        self._watermark_us = watermark_us
        gathering.run(self._online, self._vectors, self._scoreboard)
        scores = self._vectors.scores[slots]
        if len(slots):
            newest = np.concatenate([self._last_rows, self._vectors.rows[slots[-NEWEST_MAX:]]])
            self._last_rows = newest[-NEWEST_MAX:]
        self._vectors.release(gathering.released)
        return gathering.learned(predictions, scores, self._classes)

    def finish(self, watermark_us: int) -> Learned:
        """Publish what was learned since the last version: the input ends here.

        A version published so has ``watermark_us`` as its boundary.
        """
        nothing = np.empty(0, dtype=np.int64)
        learned = self.advance(
            Predictions(
                [],
                nothing,
                np.empty((0, len(self.spec.schema.fields))),
                tuple([] for _ in self.spec.segments),
            ),
            Labels([], nothing, np.empty(0), []),
            watermark_us,
        )
        if self._boundary_us != _NEVER_US:
            gathering = Gathering(learned.versions, learned.refused)
            self._publish(watermark_us, gathering)
        return learned

    def dumps(self) -> bytes:
        """The state as bytes, for ``loads``; the spec is not in it."""
        self._online.settle()
        state = {name: value for name, value in vars(self).items() if name not in _NOT_SAVED}
        slots = [slot for _, slot, *_ in self._waiting.values()]
        state["_waiting"] = (
            list(self._waiting),
            [(time_us, *rest) for time_us, _, *rest in self._waiting.values()],
            self._vectors.rows[slots],
            self._vectors.scores[slots],
            self._vectors.probabilities[slots],
        )
        envelope = (_STATE_FORMAT, self.spec.name, self.spec.schema.fingerprint, state)
        return pickle.dumps(envelope, protocol=5)

    @classmethod
    def loads(cls, spec: LearnerSpec, state: bytes) -> Learner:
        """A learner that goes on where ``dumps`` was called.

        The bytes are a pickle: give it nothing but what a learner of ours has written.

        Raises:
            LearnerStateError: the state is of another format, model or schema.
        """
        state_format, name, fingerprint, values = pickle.loads(state)
        expected = (_STATE_FORMAT, spec.name, spec.schema.fingerprint)
        if (state_format, name, fingerprint) != expected:
            raise LearnerStateError(
                f"state of model {name!r} (format {state_format}, schema {fingerprint[:12]}) does "
                f"not fit model {spec.name!r} (format {_STATE_FORMAT}, schema {expected[2][:12]}): "
                "replay the log, or give the changed model a new name"
            )
        learner = cls(spec)
        keys, heads, rows, scores, probabilities = values.pop("_waiting")
        vars(learner).update(values)
        vectors = learner._vectors
        learner._online = Digested(
            online_for(spec, learner._estimator, vectors, learner._classes), learner._examples
        )
        vectors.widen(probabilities.shape[1])
        slots = vectors.put(rows)
        vectors.scores[slots] = scores
        vectors.probabilities[slots, : probabilities.shape[1]] = probabilities
        for key, (time_us, *rest), slot in zip(keys, heads, slots.tolist(), strict=True):
            learner._waiting[key] = (time_us, slot, *rest)
        return learner

    def _run(self, predictions: Predictions, labels: Labels, gathering: Gathering) -> Slots:
        """Both inputs merged, a label before a prediction of the same time; gives the slots."""
        features = predictions.features
        slots = self._vectors.put(np.where(np.isfinite(features), features, self._defaults))
        values: Any = labels.values.tolist() if labels.texts is None else labels.texts
        label_rows = zip(labels.keys, labels.times_us.tolist(), values, strict=True)
        label = next(label_rows, None)
        segments = list(zip(*predictions.segments, strict=True)) or [()] * len(slots)
        for key, time_us, slot, of_row in zip(
            predictions.keys, predictions.times_us.tolist(), slots.tolist(), segments, strict=True
        ):
            while label is not None and label[1] <= time_us:
                self._take_label(*label, gathering)
                label = next(label_rows, None)
            self._predict(key, time_us, slot, of_row, gathering)
        while label is not None:
            self._take_label(*label, gathering)
            label = next(label_rows, None)
        gathering.counts.predictions = len(slots)
        gathering.counts.labels = len(labels.keys)
        return slots

    def _predict(
        self,
        key: str,
        time_us: int,
        slot: int,
        segments: tuple[str | None, ...],
        gathering: Gathering,
    ) -> None:
        if time_us >= self._boundary_us or time_us > self._deadline_us:
            self._pass(time_us, gathering)
        gathering.newest.append(slot)
        gathering.steps.append(slot)
        version = self._version
        if not self._learns_from_labels:
            self._learn(slot, 0.0, time_us, time_us, gathering)
        if not self.spec.has_labels:
            gathering.released.append(slot)
            return
        if key in self._waiting:
            gathering.counts.repeated_predictions += 1
            gathering.released.append(slot)
            return
        if not self._waiting:
            self._deadline_us = time_us + self.spec.label_timeout_us
        rate, last = self._baselines.at_prediction()
        self._waiting[key] = (time_us, slot, rate, last, version, segments)
        if time_us == self._early_us and key in self._early:
            gathering.counts.unmatched_labels -= 1
            self._take_label(key, time_us, self._early.pop(key), gathering)

    def _take_label(self, key: str, time_us: int, value: _Label, gathering: Gathering) -> None:
        if time_us >= self._boundary_us or time_us > self._deadline_us:
            self._pass(time_us, gathering)
        if not self._is_truth(value):
            gathering.counts.ignored_labels += 1
            return
        waiting = self._waiting.pop(key, None)
        if waiting is None:
            gathering.counts.unmatched_labels += 1
            if time_us != self._early_us:
                self._early, self._early_us = {}, time_us
            self._early.setdefault(key, value)
            return
        self._judge(key, waiting, value, time_us, gathering)

    def _judge(
        self, key: str, waiting: _Waiting, value: _Label, time_us: int, gathering: Gathering
    ) -> None:
        """Hold a prediction against its truth, and learn that."""
        prediction_time_us, slot, rate, last, version, segments = waiting
        truth = self._truth(value)
        rate, last = self._baselines.at_label(rate, last, truth)
        gathering.answered.append(
            (key, prediction_time_us, time_us, truth, slot, rate, last, version, segments)
        )
        gathering.released.append(slot)
        self._baselines.learn(truth)
        if self._learns_from_labels:
            self._learn(slot, truth, prediction_time_us, time_us, gathering)

    def _learn(
        self, slot: int, truth: float, from_us: int, time_us: int, gathering: Gathering
    ) -> None:
        gathering.steps.append(~slot)
        gathering.truths.append(truth)
        self._learned += 1
        self._trained_until_us = time_us
        if from_us < self._trained_from_us:
            self._trained_from_us = from_us
        if self._boundary_us == _NEVER_US:
            every_us = self.spec.publish_every_us
            self._boundary_us = (time_us // every_us + 1) * every_us

    @property
    def _learns_from_labels(self) -> bool:
        return self.spec.task != "anomaly"

    def _is_truth(self, value: _Label) -> bool:
        if isinstance(value, str):
            return value in self._classes or len(self._classes) < CLASSES_MAX
        return value is not None and math.isfinite(value)

    def _truth(self, value: _Label) -> float:
        """A label as the estimator's ``Online`` has it."""
        if isinstance(value, str):
            if value not in self._classes:
                self._classes.append(value)
            return float(self._classes.index(value))
        assert value is not None, "such a label is ignored"
        return value if self.spec.task == "regression" else float(value != 0.0)

    def _pass(self, time_us: int, gathering: Gathering) -> None:
        """Publish and expire what is due once everything before ``time_us`` has been run.

        In the order of event time, whichever row or watermark it was that made us notice.
        """
        self._expire(time_us, gathering)
        if time_us >= self._boundary_us:
            self._publish(self._boundary_us, gathering)

    def _expire(self, time_us: int, gathering: Gathering) -> None:
        """Give up predictions whose last moment for a label is before ``time_us``."""
        timeout_us = self.spec.label_timeout_us
        while self._waiting:
            key = next(iter(self._waiting))
            # Labels take entries out anywhere, so the deadline may be that of one long gone.
            deadline_us = self._deadline_us = self._waiting[key][0] + timeout_us
            if deadline_us >= time_us:
                return
            if deadline_us >= self._boundary_us:
                self._publish(self._boundary_us, gathering)
            self._give_up(key, deadline_us, gathering)
        self._deadline_us = _NEVER_US

    def _give_up(self, key: str, deadline_us: int, gathering: Gathering) -> None:
        waiting = self._waiting.pop(key)
        gathering.counts.expired_predictions += 1
        if self.spec.given_label is None:
            gathering.released.append(waiting[1])
            return
        gathering.counts.given_labels += 1
        self._judge(key, waiting, self.spec.given_label, deadline_us, gathering)

    def _publish(self, boundary_us: int, gathering: Gathering) -> None:
        gathering.run(self._online, self._vectors, self._scoreboard)
        self._online.settle()
        self._boundary_us = _NEVER_US
        held_out = self._held_out(gathering)
        progress = Progress(
            version=self._version + 1,
            boundary_us=boundary_us,
            trained_from_us=self._trained_from_us,
            trained_until_us=self._trained_until_us,
            examples=self._learned,
            metrics=self._scoreboard.report(),
            classes=tuple(self._classes),
            examples_digest=self._examples.hex(),
        )
        made = make_version(self.spec, self._estimator, held_out, progress)
        if isinstance(made, NewVersion):
            self._version = made.version
            gathering.versions.append(made)
        else:
            gathering.refused.append(made)

    def _held_out(self, gathering: Gathering) -> Floats:
        """The newest vectors not learned from; if there are none, the newest ones."""
        newest = islice(reversed(self._waiting.values()), PARITY_ROWS_MAX)
        slots = [slot for _, slot, *_ in newest]
        rows = self._vectors.rows
        if slots:
            return rows[slots]
        return np.concatenate([self._last_rows, rows[list(gathering.newest)]])[-NEWEST_MAX:]
