"""Drift of one model: of its features, its scores and its errors.

Windows are counted in rows, not in time: how much chance there is in a value depends on the number
of rows, and a window of a fixed time would be blind at night. Alerts tell the event times. How
rows are cut into calls changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from contracts.drift_record import ALERTS_KEPT, DriftAlert, DriftFigure, DriftReport
from dataflows.drift.cells import Floats, Ints
from dataflows.drift.columns import Columns, Look
from dataflows.drift.error_watch import Change, ErrorWatch
from dataflows.drift.series import Series, Turn, p_value
from dataflows.drift.spec import DriftSpec

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class DriftMonitor:
    """Follows one model. Memory: a few hundred cells a feature, and the sample while it is taken.

    Attributes:
        spec: what is watched.
        news: how often something changed that ``report`` shows.
    """

    def __init__(self, spec: DriftSpec) -> None:
        self.spec = spec
        self.news = 0
        self._rows = 0
        self._columns = Columns(spec)
        self._series = Series(spec)
        rise = spec.plan.error
        self._errors = None if rise is None else ErrorWatch(spec.plan, rise)
        self._alerts: list[DriftAlert] = []

    def add_predictions(self, times_us: Ints, vectors: Floats, scores: Floats) -> list[DriftAlert]:
        """Follow predictions in their order.

        Args:
            times_us: int64 ``[n]``, event times, ascending.
            vectors: float64 ``[n, d]``; what is not finite is missing.
            scores: float64 ``[n]``; one that is not finite is left out.

        Returns:
            Alerts of features and scores, in order.
        """
        self._rows += len(times_us)
        if not self._series.is_any_watched:
            return []
        rows = np.column_stack((vectors, scores))
        alerts: list[DriftAlert] = []
        done = 0
        while done < len(rows):
            done += self._columns.add(times_us[done:], rows[done:])
            if self._columns.is_block_over:
                look = self._columns.close_block()
                if look is not None:
                    alerts += self._judge(look, int(times_us[done - 1]))
        return self._kept(alerts)

    def add_outcomes(self, times_us: Ints, losses: Floats) -> list[DriftAlert]:
        """Follow losses float64 ``[n]`` of labels that came at those event times; alerts of errors.

        NaN is left out.
        """
        if self._errors is None:
            return []
        if len(losses):
            self.news += 1
        return self._kept([self._of_change(one) for one in self._errors.add(times_us, losses)])

    def report(self) -> DriftReport:
        """Where everything stands."""
        series = self._series
        figures = [
            DriftFigure(
                kind=series.kind(kind, column),
                feature=series.feature(column),
                value=value,
                threshold=series.threshold(kind, column),
                p_value=chance,
                since_us=since_us,
            )
            for kind, column, value, chance, since_us in series.figures()
        ]
        errors = self._errors
        if errors is not None:
            figures.append(
                DriftFigure(
                    kind="error",
                    feature="",
                    value=errors.mean,
                    threshold=errors.threshold,
                    p_value=None,
                    since_us=errors.since_us,
                )
            )
        return DriftReport(
            model=self.spec.model,
            rows=self._rows,
            rows_until_watched=self._columns.rows_until_watched if series.is_any_watched else 0,
            labels=0 if errors is None else errors.seen,
            labels_until_watched=0 if errors is None else errors.until_watched,
            looks=series.looks,
            figures=tuple(figures),
            alerts=tuple(self._alerts),
        )

    def dump(self) -> dict[str, Any]:
        """Everything, as plain data and River's ADWIN; ``load`` is its inverse."""
        return {
            "spec": asdict(self.spec),
            "rows": self._rows,
            "columns": self._columns.dump(),
            "series": self._series.dump(),
            "errors": self._errors,
            "alerts": self._alerts,
        }

    @classmethod
    def load(cls, spec: DriftSpec, data: dict[str, Any]) -> DriftMonitor:
        """A monitor as it was when ``dump`` was called; a new one if the spec was another."""
        monitor = cls(spec)
        if data["spec"] == asdict(spec):
            monitor._rows = data["rows"]
            monitor._columns.load(data["columns"])
            monitor._series.load(data["series"])
            monitor._errors = data["errors"]
            monitor._alerts = list(data["alerts"])
        return monitor

    def _judge(self, look: Look, at_us: int) -> list[DriftAlert]:
        self.news += 1
        turns = self._series.take(look, at_us)
        alerts = [self._of_turn(turn, look, at_us) for turn in turns]
        for column in sorted({turn.column for turn in turns if turn.why == "renewed"}):
            self._columns.renew(column)
        return alerts

    def _kept(self, alerts: list[DriftAlert]) -> list[DriftAlert]:
        self._alerts = in_order([*self._alerts, *alerts])[-ALERTS_KEPT:]
        return alerts

    def _of_turn(self, turn: Turn, look: Look, at_us: int) -> DriftAlert:
        kind, column = turn.kind, turn.column
        window_us = self._columns.window_us()
        reference_us = self._columns.reference_us(column)
        return DriftAlert(
            event_timestamp=_shown(at_us),
            model=self.spec.model,
            kind=self._series.kind(kind, column),
            feature=self._series.feature(column),
            state="begin" if turn.is_begin else "end",
            why=turn.why,
            value=float(look.values[kind, column]),
            threshold=self._series.threshold(kind, column),
            p_value=p_value(float(look.logs[kind, column])),
            rows=int(look.rows[kind, column]),
            window_from_us=window_us[0],
            window_until_us=window_us[1],
            reference_rows=int(look.reference_rows[kind, column]),
            reference_from_us=reference_us[0],
            reference_until_us=reference_us[1],
        ).identified()

    def _of_change(self, change: Change) -> DriftAlert:
        assert self._errors is not None, "it found the change"
        return DriftAlert(
            event_timestamp=_shown(change.at_us),
            model=self.spec.model,
            kind="error",
            feature="",
            state="begin" if change.is_rise else "end",
            why=change.why,
            value=change.mean,
            threshold=change.threshold,
            p_value=self._errors.delta,
            rows=change.rows,
            window_from_us=change.from_us,
            window_until_us=change.at_us,
            reference_rows=change.reference_rows,
            reference_from_us=change.reference_us[0],
            reference_until_us=change.reference_us[1],
        ).identified()


def in_order(alerts: Iterable[DriftAlert]) -> list[DriftAlert]:
    """Alerts of a model by event time, whichever of its inputs they came from."""
    return sorted(alerts, key=lambda one: (one.window_until_us, one.kind, one.feature, one.state))


def _shown(time_us: int) -> str:
    """RFC 3339, UTC, with microseconds."""
    time = _EPOCH + timedelta(microseconds=time_us)
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")
