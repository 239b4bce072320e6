"""All that is known of one model's served rows: joined, added up, and compared. Pure logic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from contracts.model_channels import AuditEntry, Decision
from contracts.plan import ModelPlan
from dataflows.evaluation.board import RECENT_INTERVALS, EvaluationBoard
from dataflows.evaluation.judged import Judged
from dataflows.served.comparison import JudgedRow
from dataflows.served.join import ROWS_MAX, ServedJoin
from dataflows.served.joined import JoinCounts, Joined
from dataflows.served.losses import has_loss, losses
from dataflows.served.rollout import RolloutPolicy, Situation, abandoned
from dataflows.served.rows import Record, served_rows, text_code


@dataclass
class ModelCounts:
    """What became of a model's records.

    Attributes:
        other_schema: rows of versions with another vector than the model has now.
        without_key: rows that no label can find: without a key, in a request of several.
    """

    other_schema: int = 0
    without_key: int = 0


@dataclass(frozen=True)
class ServedLabels:
    """Labels in the order of their log; columns of ``[m]``.

    Attributes:
        values: a number or a class; None or NaN says nothing.
    """

    keys: Sequence[str | None]
    times_us: Sequence[int]
    values: Sequence[float | str | None]


class ServedModel:
    """One model: takes in records and labels, gives the evaluation and what is to be decided."""

    def __init__(self, plan: ModelPlan, rows_max: int = ROWS_MAX) -> None:
        self._plan = plan
        # Working it out takes longer than everything else that is done with a row.
        self._fingerprint = plan.schema.fingerprint
        has_classes = plan.task == "multiclass"
        on_timeout: float | str | None = plan.on_timeout
        if on_timeout is not None and not has_classes:
            on_timeout = float(on_timeout)
        self._join = ServedJoin(
            plan.label_timeout_us,
            len(plan.segments),
            has_classes=has_classes,
            on_timeout=on_timeout,
            rows_max=rows_max,
        )
        recent_us = RECENT_INTERVALS * plan.publish_every_us
        self._answered = EvaluationBoard(plan.task, plan.segments, recent_us)
        self._unanswered = EvaluationBoard(plan.task, plan.segments, recent_us)
        self._policy: RolloutPolicy | None = None
        if plan.rollout is not None and has_loss(plan.task):
            self._policy = RolloutPolicy(plan.name, plan.rollout, plan.task)
        self._clock_us = -(2**62)
        self.counts = ModelCounts()

    @property
    def plan(self) -> ModelPlan:
        """What it is."""
        return self._plan

    @property
    def policy(self) -> RolloutPolicy | None:
        """Its rollouts; None for a model without any."""
        return self._policy

    @property
    def joined(self) -> JoinCounts:
        """What became of rows and labels."""
        return self._join.counts

    @property
    def waiting(self) -> int:
        """Rows that wait for their label."""
        return self._join.waiting

    def add(self, records: Sequence[Record], labels: ServedLabels, clock_us: int) -> None:
        """Take in what came; how it is cut into calls matters only to when one can decide.

        Args:
            records: of the prediction log, of this model, in its order.
            labels: in the order of their log.
            clock_us: all labels before this event time are known.
        """
        rows = []
        for record in records:
            if record.fingerprint != self._fingerprint:
                self.counts.other_schema += len(record.rows)
                continue
            found = served_rows(record, self._plan.segments, self._plan.assign_by)
            self.counts.without_key += len(record.rows) - len(found)
            rows += found
        self._clock_us = max(self._clock_us, clock_us)
        # A label without a key can be of no row.
        keys = [text_code(key) if key is not None else 0 for key in labels.keys]
        values = [
            v if k is not None else None for k, v in zip(labels.keys, labels.values, strict=True)
        ]
        joined = self._join.add(rows, keys, labels.times_us, values, clock_us)
        if joined.pairs:
            self._judge(joined)

    def look(self, now: Situation, at_us: int) -> Decision | AuditEntry | None:
        """What is to be done with the channels; see ``RolloutPolicy.look`` and ``abandoned``."""
        if self._policy is None:
            return abandoned(now, at_us)
        return self._policy.look(now, self._clock_us, at_us)

    def give_way(self, now: Situation, at_us: int, refused: Decision) -> AuditEntry | None:
        """A decision was not made; see ``RolloutPolicy.give_way``."""
        return None if self._policy is None else self._policy.give_way(now, at_us, refused)

    def keep(self, versions: Sequence[str]) -> None:
        """Versions whose figures are kept however old they are."""
        self._answered.keep(versions)
        self._unanswered.keep(versions)

    def report(self) -> dict[str, Any]:
        """The evaluation, in the layout of ``contracts.evaluation_file``.

        ``unanswered`` is about scores that only the log saw: a shadow's, and each version's of rows
        that another one answered. ``counts`` says what became of all rows and labels.
        """
        classes = self._join.classes
        unanswered = self._unanswered.report(classes)
        counts = {**asdict(self._join.counts), **asdict(self.counts)}
        return {
            **self._answered.report(classes),
            "unanswered": unanswered,
            "counts": {**counts, "waiting": self._join.waiting},
        }

    def _judge(self, joined: Joined) -> None:
        rows = Judged(
            labels=joined.labels,
            scores=joined.scores,
            label_times_us=joined.label_times_us,
            predicted=joined.predicted,
            truth_probabilities=joined.truth_probabilities,
        )
        for board, mask in (
            (self._answered, joined.is_answer),
            (self._unanswered, ~joined.is_answer),
        ):
            places = np.flatnonzero(mask).tolist()
            if places:
                board.add(
                    rows.take(mask),
                    [joined.versions[place] for place in places],
                    [[column[place] for place in places] for column in joined.segments],
                )
        if self._policy is None or self._policy.comparison is None:
            return
        costs = losses(
            self._plan.task, joined.labels, joined.scores, joined.truth_probabilities
        ).tolist()
        self._policy.add(
            [
                JudgedRow(*row)
                for row in zip(
                    joined.versions,
                    joined.pairs,
                    joined.assigned,
                    joined.is_answer.tolist(),
                    costs,
                    joined.units,
                    strict=True,
                )
            ]
        )

    def dump(self) -> dict[str, Any]:
        """Everything, as plain data and arrays; ``load`` is its inverse."""
        return {
            "join": self._join.dump(),
            "answered": self._answered.dump(),
            "unanswered": self._unanswered.dump(),
            "policy": None if self._policy is None else self._policy.dump(),
            "clock_us": self._clock_us,
            "counts": asdict(self.counts),
        }

    def load(self, data: dict[str, Any]) -> None:
        """Take in what ``dump`` gave; the model must be new.

        Raises:
            ValueError: the model is another one now: its segments, task or publish_every.
        """
        self._join.load(data["join"])
        self._answered.load([data["answered"]])
        self._unanswered.load([data["unanswered"]])
        if self._policy is not None and data["policy"] is not None and self._plan.rollout:
            self._policy = RolloutPolicy.load(
                self._plan.name, self._plan.rollout, self._plan.task, data["policy"]
            )
        self._clock_us = data["clock_us"]
        known = {each.name for each in fields(ModelCounts)}
        self.counts = ModelCounts(**{n: v for n, v in data["counts"].items() if n in known})
