"""Whether a model's losses grew: ADWIN, with a rise that must be worth telling.

Losses are clipped at the 99th percentile of the first ones (calibration) and divided by it, as
ADWIN asks for numbers from 0 to 1 and one outlier must not hide everything else. The mean of the
first ``reference_rows`` is what they are compared with; ADWIN begins after a fifth of these.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from river.drift import ADWIN

from contracts.plan import DriftPlan
from dataflows.drift.cells import Floats, Ints
from dataflows.drift.spec import SAMPLE_SHARE

# How often ADWIN looks, and how many sums of so many losses say what the mean has become.
CLOCK = 32
_SUMS_KEPT = 64
_CLIPPED_AT = 99
# Of the probability of a false alarm, ADWIN's delta at each of its looks: 16 million losses have
# half a million looks, which use up half of it.
DELTA_SHARE = 1e-6

# (mean loss, of how many, time of the first of them)
_Latest = tuple[float, int, int]
# (of how many, mean loss, time of the first of them)
_Better = tuple[int, float, int]


@dataclass(frozen=True)
class Change:
    """The mean loss rose (or came back) as of the loss at ``at_us``; the means are of clipped ones.

    Attributes:
        is_rise: False when it came back.
        why: as in ``DriftAlert``.
        mean: what it has become.
        rows: how many losses say so.
        from_us: time of the first of these.
    """

    at_us: int
    is_rise: bool
    why: str
    mean: float
    threshold: float
    rows: int
    from_us: int
    reference_rows: int
    reference_us: tuple[int, int]


class ErrorWatch:
    """Follows the losses of one model; what it says does not depend on how they are cut."""

    def __init__(self, plan: DriftPlan, rise: float) -> None:
        self._rise = rise
        self.delta = plan.false_alarm * DELTA_SHARE
        self._calibration_rows = max(plan.reference_rows // SAMPLE_SHARE, 1)
        self._baseline_rows_max = plan.reference_rows
        self._renew_after = plan.renew_after_rows
        self._to_skip = plan.warmup_rows
        self.seen = 0
        self.since_us: int | None = None
        self._losses_in_drift = 0
        self._calibrate_anew()

    @property
    def until_watched(self) -> int:
        """Losses that must still come before ADWIN begins."""
        left = self._calibration_rows - len(self._calibration)
        return 0 if self._adwin is not None else self._to_skip + left

    @property
    def mean(self) -> float | None:
        """Mean of the latest losses, 2,048 at most; None before the calibration."""
        rows = sum(n for _, _, n in self._sums)
        return sum(total for _, total, _ in self._sums) / rows if rows else None

    @property
    def threshold(self) -> float:
        """The mean that is a rise; 0 before the calibration."""
        return self._baseline * (1.0 + self._rise)

    def add(self, times_us: Ints, losses: Floats) -> list[Change]:
        """Follow losses float64 ``[n]`` in their order; NaN is left out."""
        changes: list[Change] = []
        for time_us, loss in zip(times_us.tolist(), losses.tolist(), strict=True):
            if loss != loss:
                continue
            self.seen += 1
            if self._to_skip:
                self._to_skip -= 1
            elif self._adwin is None:
                self._calibrate(time_us, loss, changes)
            else:
                self._follow(time_us, loss, changes)
        return changes

    def _calibrate_anew(self) -> None:
        self._adwin: Any = None  # made after the calibration
        self._calibration: list[tuple[int, float]] = []
        self._scale, self._baseline, self._level = 1.0, 0.0, 0.0
        self._baseline_rows = 0
        self._is_refining = True
        # Since it got better: how many losses, their mean, and the time of the first; or None.
        self._better: _Better | None = None
        self._reference_us = (0, 0)
        # (time of the first, sum, how many) of clipped losses that ADWIN has not forgotten.
        self._sums: deque[tuple[int, float, int]] = deque(maxlen=_SUMS_KEPT)

    def _calibrate(self, time_us: int, loss: float, changes: list[Change]) -> None:
        self._calibration.append((time_us, loss))
        if len(self._calibration) < self._calibration_rows:
            return
        losses = np.array([loss for _, loss in self._calibration])
        self._scale = float(np.percentile(losses, _CLIPPED_AT) or losses.max() or 1.0)
        self._reference_us = (self._calibration[0][0], time_us)
        make: Any = ADWIN  # River tells no types
        self._adwin = make(delta=self.delta, clock=CLOCK)
        before, self._calibration = self._calibration, []
        for time_us, loss in before:
            self._follow(time_us, loss, changes)

    def _follow(self, time_us: int, loss: float, changes: list[Change]) -> None:
        clipped = min(loss, self._scale)
        if self._is_refining:
            self._refine(time_us, clipped)
        elif self._better is not None:
            self._prove(self._better, time_us, clipped)
        if self._sums and self._sums[-1][2] < CLOCK:
            first_us, total, rows = self._sums[-1]
            self._sums[-1] = (first_us, total + clipped, rows + 1)
        else:
            self._sums.append((time_us, clipped, 1))
        self._adwin.update(clipped / self._scale)
        if self._adwin.drift_detected:
            self._judge(time_us, changes)
        if self.since_us is not None and self._is_back():
            changes.append(self._end(time_us, "quiet", self._latest()))
        if self.since_us is not None:
            self._losses_in_drift += 1
            if self._renew_after is not None and self._losses_in_drift >= self._renew_after:
                changes.append(self._end(time_us, "renewed", self._latest()))
                self._calibrate_anew()

    def _refine(self, time_us: int, clipped: float) -> None:
        """The mean of the reference, as long as there was no change in it."""
        self._baseline_rows += 1
        self._baseline += (clipped - self._baseline) / self._baseline_rows
        self._level = self._baseline
        self._reference_us = (self._reference_us[0], max(self._reference_us[1], time_us))
        self._is_refining = self._baseline_rows < self._baseline_rows_max

    def _prove(self, better: _Better, time_us: int, clipped: float) -> None:
        """What got better, and stays so for as long as the reference is, is the new reference."""
        rows, mean, from_us = better
        mean += (clipped - mean) / (rows + 1)
        self._better = rows + 1, mean, from_us if rows else time_us
        if rows + 1 >= self._baseline_rows_max:
            if mean < self._baseline:
                self._baseline, self._baseline_rows = mean, rows + 1
                self._reference_us = (self._better[2], time_us)
            self._better = None

    def _judge(self, time_us: int, changes: list[Change]) -> None:
        """ADWIN has seen a change, and begins anew; what has the mean become?"""
        latest = self._latest()
        self._is_refining = False
        self._level = mean = latest[0]
        self._sums.clear()
        if self.since_us is None:
            if mean >= self.threshold:
                self.since_us, self._losses_in_drift = time_us, 0
                changes.append(self._change(time_us, "", latest))
            self._better = (0, 0.0, time_us) if mean < self._baseline else None
        elif mean <= self._baseline * (1.0 + self._rise / 2.0):
            changes.append(self._end(time_us, "quiet", latest))

    def _is_back(self) -> bool:
        """Whether as many losses as are kept, and no change among them, are below the threshold."""
        if len(self._sums) < _SUMS_KEPT or self._sums[-1][2] < CLOCK:
            return False
        mean = self.mean
        return mean is not None and mean < self.threshold

    def _end(self, time_us: int, why: str, latest: _Latest) -> Change:
        self.since_us = None
        return self._change(time_us, why, latest)

    def _change(self, at_us: int, why: str, latest: _Latest) -> Change:
        """A rise, or an end, which has a reason."""
        mean, rows, from_us = latest
        return Change(
            at_us, not why, why, mean, self.threshold, rows, from_us,
            self._baseline_rows, self._reference_us,
        )  # fmt: skip

    def _latest(self) -> _Latest:
        """Of the latest losses, so many as differ most clearly from what the mean was."""
        best, found = -1.0, (self._baseline, 0, self._reference_us[1])
        total, rows = 0.0, 0
        for first_us, part, n in reversed(self._sums):
            total, rows = total + part, rows + n
            contrast = abs(total / rows - self._level) * rows**0.5
            if contrast > best:
                best, found = contrast, (total / rows, rows, first_us)
        return found
