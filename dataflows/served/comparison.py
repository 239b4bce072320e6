"""Champion against challenger, on the rows that both scored and on those that each was given."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from contracts.model_spec import Task
from contracts.plan import RolloutPlan
from dataflows.served.losses import PAIRED_BOUND, loss_max
from dataflows.served.sequential import BettingTest

# Rows of one version that wait for the other's score of the same row.
HALVES_MAX = 20_000
# Of whom it is known that the challenger has answered them.
_UNITS_MAX = 50_000
# So many rows are more than come while scorers load the version.
SILENT_ROWS = 2_000
# Before so many errors of the champion are known there is no unit to count in.
_UNIT_ROWS = 20


@dataclass(frozen=True)
class JudgedRow:
    """A row whose label came.

    Attributes:
        version: that scored it.
        pair: the same for all scores of one row.
        assigned: channel that the row is assigned to; empty for none.
        is_answer: whether the caller got this score.
        loss: see ``losses.losses``.
        unit: a number for what decided about the assignment.
    """

    version: str
    pair: int
    assigned: str
    is_answer: bool
    loss: float
    unit: int = 0


class Comparison:
    """Two tests at a time, each at half the false alarm.

    Of rows that both scored, the differences of the losses. Of the others, the losses of rows
    that were assigned to the challenger and answered by it, each less the mean of those of the
    champion's since the last such row: the same in nature, with more noise. Who is assigned to the
    challenger stays so: a few who are harder to tell would pass for a bad version, so that each
    counts with its first row only.
    """

    def __init__(self, plan: RolloutPlan, task: Task, champion: str, challenger: str) -> None:
        self._false_alarm = plan.false_alarm / 2
        self._task = task
        self.champion, self.challenger = champion, challenger
        self._loss_max = loss_max(task)
        self._paired = BettingTest(PAIRED_BOUND, plan.margin)
        self._assigned = BettingTest(self._loss_max, plan.margin)
        self._halves: OrderedDict[int, tuple[bool, float]] = OrderedDict()
        self._unit = [0, 0.0]  # rows and sum of the champion's losses
        self._recent = [0, 0.0]  # the same since the last row of the challenger's own
        self._recent_mean: float | None = None
        # That the rows which the challenger answered were of.
        self._units: OrderedDict[int, None] = OrderedDict()
        self._sums = dict.fromkeys(_SUMS, 0.0)

    @property
    def labels(self) -> int:
        """Labelled scores of the challenger, of rows that were assigned to it or the champion."""
        return int(self._sums["labels"])

    @property
    def is_worse(self) -> bool:
        """Whether the challenger was found to be worse, at any time so far.

        The assigned rows count only while most rows were scored by one version alone.
        """
        if self._paired.has_found(self._false_alarm):
            return True
        is_unpaired = self._sums["pairs"] * 2 < self._sums["labels"]
        return is_unpaired and self._assigned.has_found(self._false_alarm)

    @property
    def is_silent(self) -> bool:
        """Whether the champion answers for a challenger of which there is not one score.

        So it is when no scorer can load the version.
        """
        return self.labels == 0 and self._sums["stood_in"] >= SILENT_ROWS

    def figures(self) -> dict[str, float]:
        """What is known now, for the audit file: finite numbers only."""
        sums = self._sums
        figures = {"labels": sums["labels"], "paired_labels": sums["pairs"]}
        if sums["pairs"]:
            figures["champion_loss"] = sums["paired_champion"] / sums["pairs"]
            figures["challenger_loss"] = sums["paired_challenger"] / sums["pairs"]
        elif sums["own_champion"] and sums["own_challenger"]:
            figures["champion_loss"] = sums["loss_champion"] / sums["own_champion"]
            figures["challenger_loss"] = sums["loss_challenger"] / sums["own_challenger"]
        is_unpaired = sums["pairs"] * 2 < sums["labels"]
        strongest = max(self._paired.highest, self._assigned.highest if is_unpaired else 0.0)
        figures["evidence_highest"] = math.exp(min(strongest, 700.0))
        figures["evidence_needed"] = 1.0 / self._false_alarm
        return figures

    def add(self, rows: list[JudgedRow]) -> None:
        """Rows in the order in which they became known; others' versions are passed over.

        So are rows for which a caller named the version: there is nothing to hold them against, and
        a step must not be over because of them.
        """
        paired: list[float] = []
        assigned: list[float] = []
        for row in rows:
            if row.version not in (self.champion, self.challenger) or not row.assigned:
                continue
            is_challenger = row.version == self.challenger
            self._sums["labels"] += is_challenger
            self._sums["stood_in"] += row.is_answer and not is_challenger and _is_others(row)
            loss = self._in_units(row.loss, is_challenger=is_challenger)
            if loss is None:
                continue
            self._pair(row.pair, loss, is_challenger=is_challenger, into=paired)
            if row.is_answer:
                self._take_own(row, loss, is_challenger=is_challenger, into=assigned)
        self._paired.add(np.array(paired))
        self._assigned.add(np.array(assigned))

    def _in_units(self, loss: float, *, is_challenger: bool) -> float | None:
        """The loss, cut; of a regression in units of the errors before it, None without any."""
        if self._task != "regression":
            return loss
        rows, total = self._unit
        unit = total / rows if rows >= _UNIT_ROWS else None
        if not is_challenger and math.isfinite(loss):
            self._unit = [rows + 1, total + loss]
        if unit is None:
            return None
        if unit <= 0.0:
            # A champion without any error: whoever has one is as bad as can be.
            return 0.0 if loss == 0.0 else self._loss_max
        return min(loss / unit, self._loss_max)

    def _pair(self, pair: int, loss: float, *, is_challenger: bool, into: list[float]) -> None:
        other = self._halves.get(pair)
        if other is None:
            if len(self._halves) >= HALVES_MAX:
                self._halves.popitem(last=False)
            self._halves[pair] = (is_challenger, loss)
            return
        if other[0] == is_challenger:
            return
        del self._halves[pair]
        challenger, champion = (loss, other[1]) if is_challenger else (other[1], loss)
        into.append(challenger - champion)
        self._sums["pairs"] += 1
        self._sums["paired_champion"] += champion
        self._sums["paired_challenger"] += challenger

    def _take_own(
        self, row: JudgedRow, loss: float, *, is_challenger: bool, into: list[float]
    ) -> None:
        if row.assigned != ("challenger" if is_challenger else "champion"):
            return
        name = "challenger" if is_challenger else "champion"
        self._sums[f"own_{name}"] += 1
        self._sums[f"loss_{name}"] += loss
        if not is_challenger:
            self._recent = [self._recent[0] + 1, self._recent[1] + loss]
            return
        if row.unit in self._units:
            return
        if len(self._units) >= _UNITS_MAX:
            self._units.popitem(last=False)
        self._units[row.unit] = None
        if self._recent[0]:
            self._recent_mean = self._recent[1] / self._recent[0]
            self._recent = [0, 0.0]
        if self._recent_mean is not None:
            into.append(loss - self._recent_mean)

    def dump(self) -> dict[str, Any]:
        """Everything, as plain data; ``load`` is its inverse."""
        return {
            "champion": self.champion,
            "challenger": self.challenger,
            "paired": self._paired.dump(),
            "assigned": self._assigned.dump(),
            "halves": dict(self._halves),
            "units": list(self._units),
            "unit": self._unit,
            "recent": self._recent,
            "recent_mean": self._recent_mean,
            "sums": dict(self._sums),
        }

    @classmethod
    def load(cls, plan: RolloutPlan, task: Task, data: dict[str, Any]) -> Comparison:
        """A comparison as it was when ``dump`` was called."""
        one = cls(plan, task, data["champion"], data["challenger"])
        one._paired = BettingTest.load(data["paired"])
        one._assigned = BettingTest.load(data["assigned"])
        one._halves = OrderedDict(data["halves"])
        one._units = OrderedDict.fromkeys(data["units"])
        one._unit, one._recent = data["unit"], data["recent"]
        one._recent_mean, one._sums = data["recent_mean"], dict.fromkeys(_SUMS, 0.0) | data["sums"]
        return one


def _is_others(row: JudgedRow) -> bool:
    return row.assigned == "challenger"


_SUMS = (
    "labels",
    "pairs",
    "paired_champion",
    "paired_challenger",
    "own_champion",
    "own_challenger",
    "loss_champion",
    "loss_challenger",
    "stood_in",
)
