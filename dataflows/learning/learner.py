"""Progressive validation with delayed labels: predict, wait, score, and only then learn.

The order is that of ``river.stream.simulate_qa``: rows run by event time, and a label at t is
learned before a prediction at t is made; only the label of that prediction itself, if it has the
same time, is learned right after it. How the rows are cut into calls changes nothing.

An anomaly detector learns from each vector right after it has scored it; a label only tells how
good the score was.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dataflows.learning import pending_kernel as kernel
from dataflows.learning.baselines import baselines_for
from dataflows.learning.examples_digest import Digested, ExamplesDigest
from dataflows.learning.gathering import NEWEST_MAX, Gathering, Judged
from dataflows.learning.label_codes import CLASSES_MAX, LabelCodes
from dataflows.learning.online import Floats, Slots
from dataflows.learning.order import check_rows
from dataflows.learning.pending import Bools, Pending
from dataflows.learning.pending_parts import Saved
from dataflows.learning.pending_types import Events, Hashes, Rules
from dataflows.learning.publication import Progress, make_version
from dataflows.learning.records import (
    Labels,
    Learned,
    LearnerCounts,
    LearnerSpec,
    NewVersion,
    Predictions,
)
from dataflows.learning.scoreboards import board_for
from dataflows.learning.tasks import online_for
from dataflows.river_onnx import check_exportable

PARITY_ROWS_MAX = NEWEST_MAX
# Predictions that wait no more, for telling a repeated label from one that fits nothing.
REMEMBERED_MAX = 1_000_000
_STATE_FORMAT = 5
_NEVER_US = np.iinfo(np.int64).max
_ALWAYS_US = np.iinfo(np.int64).min
_NOT_SAVED = frozenset({"spec", "_defaults", "_online", "_pending"})


class LearnerStateError(ValueError):
    """Saved state does not belong to this learner; the message says what to do."""


class Learner:
    """One model that learns as its labels come.

    Memory: a row per prediction younger than the label timeout, at the most there ever were, an
    entry for each of the last million that wait no more, and the scoreboard.

    Raises:
        UnsupportedEstimatorError: the spec's estimator cannot be exported.
    """

    def __init__(self, spec: LearnerSpec) -> None:
        self.spec = spec
        self._defaults = np.asarray(spec.schema.defaults, dtype=np.float64)
        self._estimator: Any = spec.make_learner()
        check_exportable(self._estimator)
        self._pending = _empty(spec)
        self._classes: list[str] = []
        self._examples = ExamplesDigest()
        self._attach()
        self._last_rows = np.empty((0, len(spec.schema.fields)), dtype=np.float64)
        self._scoreboard = board_for(spec.task)
        self._baselines = baselines_for(spec.task)
        self._watermark_us = _ALWAYS_US
        self._version = 0
        self._learned = 0
        self._trained_from_us = _NEVER_US
        self._trained_until_us = _ALWAYS_US

    @property
    def waiting(self) -> int:
        """Number of predictions that wait for their label."""
        return self._pending.waiting

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
        gathering, pending = Gathering(), self._pending
        codes = LabelCodes(self.spec, labels, self._classes)
        features = predictions.features
        call = pending.begin(
            predictions.keys,
            predictions.times_us,
            np.where(np.isfinite(features), features, self._defaults),
            labels.keys,
            labels.times_us,
            codes.codes,
            codes.is_known,
            watermark_us,
            predictions.segments,
            codes.given,
        )
        while not pending.is_over(call):
            for events in pending.walk(call):
                self._follow(events, labels.keys, codes, gathering)
            if not pending.is_over(call):
                self._publish(pending.boundary_us, gathering)
        self._watermark_us = watermark_us
        self._learned -= gathering.run(self._online, pending.rows, self._scoreboard)
        scores = pending.rows.scores[call.slots]
        if len(call.slots):
            vectors = pending.rows.rows[call.slots[-NEWEST_MAX:]]
            self._last_rows = np.concatenate([self._last_rows, vectors])[-NEWEST_MAX:]
        for slots in gathering.released:
            pending.rows.release(slots)
        _count_labels(call.fates, gathering.counts)
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
        if self._pending.boundary_us != _NEVER_US:
            gathering = Gathering(learned.versions, learned.refused)
            self._publish(watermark_us, gathering)
        return learned

    def forget(self, matches: Callable[[Hashes], Bools]) -> int:
        """As ``Pending.forget``. What was learned already stays learned."""
        return self._pending.forget(matches)

    def save(self) -> Saved:
        """The state as a head and parts, of which only those not saved before are given.

        The spec is not in it. ``load`` wants the head, and all parts that it speaks of.
        """
        return self._with_head(self._pending.save())

    def whole(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The whole state as head and parts; what ``save`` gives does not depend on it."""
        saved = self._with_head(self._pending.whole())
        return saved.head, [saved.new[name] for name in saved.parts]

    def dumps(self) -> bytes:
        """``whole`` as bytes, for ``loads``."""
        return pickle.dumps(self.whole(), protocol=5)

    @classmethod
    def loads(cls, spec: LearnerSpec, state: bytes) -> Learner:
        """A learner that goes on where ``dumps`` was called.

        The bytes are a pickle: give it nothing but what a learner of ours has written.

        Raises:
            LearnerStateError: as ``load``.
        """
        head, parts = pickle.loads(state)
        return cls.load(spec, head, parts)

    @classmethod
    def load(
        cls, spec: LearnerSpec, head: dict[str, Any] | bytes, parts: Sequence[dict[str, Any]]
    ) -> Learner:
        """A learner that goes on where ``save`` was called.

        Raises:
            LearnerStateError: the state is of another format, model or schema.
        """
        # Before there were parts the state was one pickle.
        unknown: dict[str, Any] = {"of": (0, spec.name, spec.schema.fingerprint)}
        read = head if isinstance(head, dict) else unknown
        expected = (_STATE_FORMAT, spec.name, spec.schema.fingerprint)
        if read["of"] != expected:
            state_format, name, fingerprint = read["of"]
            raise LearnerStateError(
                f"state of model {name!r} (format {state_format}, schema {fingerprint[:12]}) does "
                f"not fit model {spec.name!r} (format {_STATE_FORMAT}, schema {expected[2][:12]}): "
                "replay the log, or give the changed model a new name"
            )
        learner = cls(spec)
        vars(learner).update(pickle.loads(read["values"]))
        learner._pending = Pending.load(_empty(spec), read["pending"], parts)
        learner._attach()
        return learner

    @property
    def part_names(self) -> tuple[int, ...]:
        """Names of the parts that were saved or loaded, in their order."""
        return self._pending.part_names

    def _attach(self) -> None:
        online = online_for(self.spec, self._estimator, self._pending.rows, self._classes)
        self._online = Digested(online, self._examples)

    def _with_head(self, saved: Saved) -> Saved:
        self._online.settle()
        values = {name: value for name, value in vars(self).items() if name not in _NOT_SAVED}
        head = {
            "of": (_STATE_FORMAT, self.spec.name, self.spec.schema.fingerprint),
            "values": pickle.dumps(values, protocol=5),
            "pending": saved.head,
        }
        return replace(saved, head=head)

    def _follow(
        self, events: Events, label_keys: list[str], codes: LabelCodes, gathering: Gathering
    ) -> None:
        """Write down what the estimator has to do, and what is to be judged."""
        kinds, slots = events.kinds, events.slots
        is_prediction = kinds <= kernel.REPEATED
        is_truth = kinds == kernel.LABELLED
        is_expired = kinds == kernel.EXPIRED
        if codes.given >= 0:
            is_truth |= is_expired
        counts, expired = gathering.counts, int(is_expired.sum())
        counts.expired_predictions += expired
        counts.given_labels += expired if codes.given >= 0 else 0
        predicted = slots[is_prediction]
        counts.predictions += len(predicted)
        if self.spec.has_labels:
            counts.repeated_predictions += int((kinds == kernel.REPEATED).sum())
        gathering.newest.extend(predicted[-NEWEST_MAX:].tolist())
        gathering.released.append(slots[kinds != kernel.PREDICTED])
        self._pending.rows.versions[slots[kinds == kernel.PREDICTED]] = self._version
        truths = self._judge(events, np.flatnonzero(is_truth), label_keys, codes, gathering)
        if self.spec.task != "anomaly":
            steps = np.where(is_prediction, slots, ~slots)[is_prediction | is_truth]
            self._learn(steps, truths, events, is_truth, gathering)
        else:
            steps = np.stack([predicted, ~predicted], axis=1).reshape(-1)
            self._learn(steps, np.zeros(len(predicted)), events, is_prediction, gathering)

    def _judge(
        self, events: Events, places: Slots, label_keys: list[str], codes: LabelCodes,
        gathering: Gathering,
    ) -> Floats:  # fmt: skip
        """Hold predictions against their truths (events at these places), which it gives."""
        kinds, slots = events.kinds.tolist(), events.slots.tolist()
        baselines, waiting = self._baselines, self._pending.rows
        # Numbers come faster out of these than out of arrays.
        rates_at: Any = waiting.rates.data
        lasts_at: Any = waiting.lasts.data
        label_rows = events.rows[places]
        truths = codes.truths(label_rows)
        truth = iter(truths.tolist())
        is_truth = np.zeros(len(kinds), np.bool_)
        is_truth[places] = True
        rates, lasts = [], []
        for kind, slot, is_judged in zip(kinds, slots, is_truth.tolist(), strict=True):
            if kind == kernel.PREDICTED:
                rates_at[slot], lasts_at[slot] = baselines.at_prediction()
            elif is_judged:
                value = next(truth)
                rate, last = baselines.at_label(rates_at[slot], lasts_at[slot], value)
                rates.append(rate)
                lasts.append(last)
                baselines.learn(value)
        if len(places):
            keys = [
                label_keys[row] if row >= 0 else waiting.keys[slot]
                for row, slot in zip(
                    label_rows.tolist(), events.slots[places].tolist(), strict=True
                )
            ]
            since_us, times_us = events.since[places], events.times[places]
            gathering.judged.append(
                Judged(keys, since_us, times_us, events.slots[places], truths, rates, lasts)
            )
        return truths

    def _learn(
        self, steps: Slots, truths: Floats, events: Events, is_learned: Any, gathering: Gathering
    ) -> None:
        gathering.steps.append(steps)
        gathering.truths.append(truths)
        if len(truths):
            self._learned += len(truths)
            self._trained_until_us = int(events.times[is_learned][-1])
            since_us = int(events.since[is_learned].min())
            self._trained_from_us = min(self._trained_from_us, since_us)

    def _publish(self, boundary_us: int, gathering: Gathering) -> None:
        self._learned -= gathering.run(self._online, self._pending.rows, self._scoreboard)
        self._online.settle()
        self._pending.pass_boundary()
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
        slots = self._pending.newest(PARITY_ROWS_MAX)
        rows = self._pending.rows.rows
        if len(slots):
            return rows[slots]
        return np.concatenate([self._last_rows, rows[list(gathering.newest)]])[-NEWEST_MAX:]


def _empty(spec: LearnerSpec) -> Pending:
    learns_at = 2 if spec.given_label is not None else 1
    rules = Rules(
        timeout_us=spec.label_timeout_us,
        every_us=spec.publish_every_us,
        learns_at=0 if spec.task == "anomaly" else learns_at,
        classes_max=CLASSES_MAX,
        remembered_max=REMEMBERED_MAX,
        waits=int(spec.has_labels),
    )
    return Pending(len(spec.schema.fields), rules, len(spec.segments))


def _count_labels(fates: Any, counts: LearnerCounts) -> None:
    found = np.bincount(fates, minlength=5).tolist()
    counts.labels = len(fates)
    counts.unmatched_labels = found[kernel.UNMATCHED]
    counts.repeated_labels = found[kernel.REPEATED_LABEL]
    counts.late_labels = found[kernel.LATE]
    counts.ignored_labels = found[kernel.IGNORED]
