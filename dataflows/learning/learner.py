"""Progressive validation with delayed labels: predict, wait, score, and only then learn.

The order is that of ``river.stream.simulate_qa``: rows run by event time, and a label at t is
learned before a prediction at t is made; only the label of that prediction itself, if it has the
same time, is learned right after it. How the rows are cut into calls changes nothing.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from itertools import islice
from typing import Any

import numpy as np

from dataflows.learning.compiled_online import online
from dataflows.learning.gathering import Gathering
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
from dataflows.learning.scoreboard import Scoreboard
from dataflows.learning.vectors import Vectors
from dataflows.river_onnx import check_exportable

PARITY_ROWS_MAX = 64
_STATE_FORMAT = 2
_NEVER_US = np.iinfo(np.int64).max
_ALWAYS_US = np.iinfo(np.int64).min
_NOT_SAVED = frozenset({"spec", "_defaults", "_online", "_vectors"})

# Of a prediction that waits: its time, its vector's slot, base rate and last label at that moment.
_Waiting = tuple[int, int, float, float]


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
        self._online = online(self._estimator, spec.schema.names)
        self._vectors = Vectors(len(spec.schema.fields))
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()
        self._last_row = np.empty((0, len(spec.schema.fields)), dtype=np.float64)  # or one row
        self._early: dict[str, float] = {}  # labels of the time below that found no prediction
        self._early_us = _ALWAYS_US
        self._scoreboard = Scoreboard()
        self._watermark_us = _ALWAYS_US
        self._deadline_us = _NEVER_US  # nothing that waits expires before
        self._boundary_us = _NEVER_US  # next publication; never while nothing new is learned
        self._version = 0
        self._labels_true = 0
        self._labels_learned = 0
        self._label_last = 0.5
        self._trained_from_us = _NEVER_US
        self._trained_until_us = _ALWAYS_US

    @property
    def waiting(self) -> int:
        """Number of predictions that wait for their label."""
        return len(self._waiting)

    @property
    def examples(self) -> int:
        """Number of labels learned from since the beginning."""
        return self._labels_learned

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
            self._last_row = self._vectors.rows[slots[-1:]]
        self._vectors.release(gathering.released)
        return gathering.learned(predictions, scores)

    def finish(self, watermark_us: int) -> Learned:
        """Publish what was learned since the last version: the input ends here.

        A version published so has ``watermark_us`` as its boundary.
        """
        nothing = np.empty(0, dtype=np.int64)
        learned = self.advance(
            Predictions([], nothing, np.empty((0, len(self.spec.schema.fields)))),
            Labels([], nothing, np.empty(0)),
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
        slots = [slot for _, slot, _, _ in self._waiting.values()]
        state["_waiting"] = (
            list(self._waiting),
            [(time_us, *rest) for time_us, _, *rest in self._waiting.values()],
            self._vectors.rows[slots],
            self._vectors.scores[slots],
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
        keys, heads, rows, scores = values.pop("_waiting")
        vars(learner).update(values)
        learner._online = online(learner._estimator, spec.schema.names)
        slots = learner._vectors.put(rows)
        learner._vectors.scores[slots] = scores
        for key, (time_us, *rest), slot in zip(keys, heads, slots.tolist(), strict=True):
            learner._waiting[key] = (time_us, slot, *rest)
        return learner

    def _run(self, predictions: Predictions, labels: Labels, gathering: Gathering) -> Slots:
        """Both inputs merged, a label before a prediction of the same time; gives the slots."""
        features = predictions.features
        slots = self._vectors.put(np.where(np.isfinite(features), features, self._defaults))
        label_rows = zip(labels.keys, labels.times_us.tolist(), labels.values.tolist(), strict=True)
        label = next(label_rows, None)
        for key, time_us, slot in zip(
            predictions.keys, predictions.times_us.tolist(), slots.tolist(), strict=True
        ):
            while label is not None and label[1] <= time_us:
                self._take_label(*label, gathering)
                label = next(label_rows, None)
            self._predict(key, time_us, slot, gathering)
        while label is not None:
            self._take_label(*label, gathering)
            label = next(label_rows, None)
        gathering.counts.predictions = len(slots)
        gathering.counts.labels = len(labels.keys)
        return slots

    def _predict(self, key: str, time_us: int, slot: int, gathering: Gathering) -> None:
        if time_us >= self._boundary_us or time_us > self._deadline_us:
            self._pass(time_us, gathering)
        gathering.newest = slot
        gathering.steps.append(slot)
        if key in self._waiting:
            gathering.counts.repeated_predictions += 1
            gathering.released.append(slot)
            return
        learned = self._labels_learned
        rate = self._labels_true / learned if learned else 0.5
        if not self._waiting:
            self._deadline_us = time_us + self.spec.label_timeout_us
        self._waiting[key] = (time_us, slot, rate, self._label_last)
        if time_us == self._early_us and key in self._early:
            gathering.counts.unmatched_labels -= 1
            self._take_label(key, time_us, self._early.pop(key), gathering)

    def _take_label(self, key: str, time_us: int, value: float, gathering: Gathering) -> None:
        if time_us >= self._boundary_us or time_us > self._deadline_us:
            self._pass(time_us, gathering)
        if value != value:
            gathering.counts.ignored_labels += 1
            return
        waiting = self._waiting.pop(key, None)
        if waiting is None:
            gathering.counts.unmatched_labels += 1
            if time_us != self._early_us:
                self._early, self._early_us = {}, time_us
            self._early.setdefault(key, value)
            return
        prediction_time_us, slot, rate, last = waiting
        truth = value != 0.0
        gathering.steps.append(~slot)
        gathering.answered.append((key, prediction_time_us, time_us, truth, slot, rate, last))
        self._labels_learned += 1
        self._labels_true += truth
        self._label_last = 1.0 if truth else 0.0
        self._trained_until_us = time_us
        if prediction_time_us < self._trained_from_us:
            self._trained_from_us = prediction_time_us
        if self._boundary_us == _NEVER_US:
            every_us = self.spec.publish_every_us
            self._boundary_us = (time_us // every_us + 1) * every_us

    def _pass(self, time_us: int, gathering: Gathering) -> None:
        """Publish and expire what is due once everything before ``time_us`` has been run."""
        if time_us >= self._boundary_us:
            # As of the boundary, whichever row or watermark it was that made us notice.
            boundary_us = self._boundary_us
            self._expire(boundary_us, gathering)
            self._publish(boundary_us, gathering)
        self._expire(time_us, gathering)

    def _expire(self, time_us: int, gathering: Gathering) -> None:
        """Give up predictions whose last moment for a label is before ``time_us``."""
        timeout_us = self.spec.label_timeout_us
        while self._waiting:
            key = next(iter(self._waiting))
            # Labels take entries out anywhere, so the deadline may be that of one long gone.
            self._deadline_us = self._waiting[key][0] + timeout_us
            if self._deadline_us >= time_us:
                return
            gathering.released.append(self._waiting.pop(key)[1])
            gathering.counts.expired_predictions += 1
        self._deadline_us = _NEVER_US

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
            examples=self._labels_learned,
            metrics=self._scoreboard.report(),
        )
        made = make_version(self.spec, self._estimator, held_out, progress)
        if isinstance(made, NewVersion):
            self._version = made.version
            gathering.versions.append(made)
        else:
            gathering.refused.append(made)

    def _held_out(self, gathering: Gathering) -> Floats:
        """The newest vectors not learned from; if there are none, the newest one."""
        newest = islice(reversed(self._waiting.values()), PARITY_ROWS_MAX)
        slots = [slot for _, slot, _, _ in newest]
        if not slots and gathering.newest >= 0:
            slots = [gathering.newest]
        return self._vectors.rows[slots] if slots else self._last_row
