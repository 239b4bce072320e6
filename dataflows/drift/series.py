"""Which kinds of drift there are of which columns: begun with certainty, ended after quiet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from contracts.drift_record import DriftKind
from dataflows.drift.columns import Look
from dataflows.drift.kernel import KINDS, KS, MISSING, PSI
from dataflows.drift.spec import BLOCKS, DriftSpec

_NAMES: tuple[DriftKind, ...] = ("psi", "ks", "missing")
# A look that chance explains so easily, or that shows half the threshold, shows nothing.
_QUIET_LOG_P = math.log(0.01)
_QUIET_SHARE = 0.5
_NEVER = -1


@dataclass(frozen=True)
class Turn:
    """A kind of drift of a column began or ended at a look."""

    kind: int
    column: int
    is_begin: bool
    why: str


class Series:
    """One place for each kind and column; the last column is the score, of which only KS counts.

    Drift begins when the value reaches the threshold and the bound on its probability is at most
    ``false_alarm / 2 / (n (n + 1)) / s`` at the n-th look at s series. The sum of all these over
    all looks and series, for ever, is half of ``false_alarm``; the other half is the errors'. It
    ends when as many looks as there are blocks in a window, one after the other, show nothing.
    """

    def __init__(self, spec: DriftSpec) -> None:
        features = len(spec.features)
        self._thresholds = np.full((KINDS, features + 1), np.inf)
        for kind, threshold in ((PSI, spec.plan.psi), (MISSING, spec.plan.missing)):
            if threshold is not None:
                self._thresholds[kind, :features] = threshold
        if spec.plan.ks is not None:
            self._thresholds[KS, :features][~np.array(spec.is_nominal, np.bool_)] = spec.plan.ks
        if spec.plan.score is not None:
            self._thresholds[KS, features] = spec.plan.score
        self._watched = np.isfinite(self._thresholds)
        self._names = (*spec.features, "")
        share = spec.plan.false_alarm / 2.0 / max(1, int(self._watched.sum()))
        self._log_share = math.log(share)
        self._renew_blocks = spec.renew_blocks
        self.looks = 0
        shape = self._thresholds.shape
        self._quiet = np.zeros(shape, np.int64)
        self._begun_at = np.full(shape, _NEVER, np.int64)  # look
        self._since_us = np.zeros(shape, np.int64)
        self._values = np.full(shape, np.nan)
        self._logs = np.zeros(shape)

    @property
    def is_any_watched(self) -> bool:
        """Whether there is anything to compare at all."""
        return bool(self._watched.any())

    def take(self, look: Look, at_us: int) -> list[Turn]:
        """What begins or ends by this look, which shows rows up to event time ``at_us``."""
        self.looks += 1
        log_limit = self._log_share - math.log(self.looks * (self.looks + 1.0))
        seen = self._watched & look.ready
        self._values[seen], self._logs[seen] = look.values[seen], look.logs[seen]
        active = self._begun_at != _NEVER
        begins = seen & ~active & (look.values >= self._thresholds) & (look.logs <= log_limit)
        is_quiet = look.logs > _QUIET_LOG_P
        is_quiet |= look.values < _QUIET_SHARE * self._thresholds
        self._quiet[seen] = np.where(is_quiet[seen], self._quiet[seen] + 1, 0)
        ends = seen & active & (self._quiet >= BLOCKS)
        self._begun_at[begins], self._since_us[begins], self._quiet[begins] = self.looks, at_us, 0
        self._begun_at[ends] = _NEVER
        turns = [Turn(kind, column, True, "") for kind, column in np.argwhere(begins).tolist()]
        turns += [Turn(kind, column, False, "quiet") for kind, column in np.argwhere(ends).tolist()]
        return turns + self._renewals(look)

    def kind(self, kind: int, column: int) -> DriftKind:
        """Its name in alerts."""
        return "score" if column == len(self._names) - 1 else _NAMES[kind]

    def feature(self, column: int) -> str:
        """The column's name in alerts."""
        return self._names[column]

    def threshold(self, kind: int, column: int) -> float:
        """What a value must reach."""
        return float(self._thresholds[kind, column])

    def figures(self) -> list[tuple[int, int, float | None, float | None, int | None]]:
        """(kind, column, value, p-value, since when there is drift) of all that is watched."""
        found: list[tuple[int, int, float | None, float | None, int | None]] = []
        for kind, column in np.argwhere(self._watched).tolist():
            value = float(self._values[kind, column])
            is_active = self._begun_at[kind, column] != _NEVER
            since_us = int(self._since_us[kind, column]) if is_active else None
            known = value == value
            log = float(self._logs[kind, column])
            found.append(
                (kind, column, value if known else None, p_value(log) if known else None, since_us)
            )
        return found

    def dump(self) -> dict[str, Any]:
        """What changes, as plain data."""
        return {name: getattr(self, name) for name in _STATE}

    def load(self, data: dict[str, Any]) -> None:
        """Go on where ``dump`` was called."""
        vars(self).update(data)

    def _renewals(self, look: Look) -> list[Turn]:
        """Ends of all drift of those columns that have had some for so long."""
        if self._renew_blocks is None:
            return []
        active = self._begun_at != _NEVER
        lasting = active & (self.looks - self._begun_at >= self._renew_blocks) & look.ready
        columns = lasting.any(axis=0)
        ends = active & columns
        self._begun_at[ends] = _NEVER
        self._values[:, columns] = np.nan
        self._quiet[:, columns] = 0
        return [Turn(kind, column, False, "renewed") for kind, column in np.argwhere(ends).tolist()]


_STATE = ("looks", "_quiet", "_begun_at", "_since_us", "_values", "_logs")


def p_value(log: float) -> float:
    """The probability of that logarithm; one too small for a double is the smallest."""
    return math.exp(max(log, -700.0))
