"""Drift in the flow: follows what a model's step gives, writes its report, tells alerts."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import bytewax.operators as op
import msgspec
from bytewax.dataflow import Stream
from bytewax.operators import KeyedStream, StatefulBatchLogic
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from contracts.drift_record import DriftAlert, report_path
from contracts.plan import DriftPlan, ModelPlan
from dataflows.drift.losses import losses
from dataflows.drift.monitor import DriftMonitor, in_order
from dataflows.drift.spec import DriftSpec
from dataflows.flow.drift_log import AlertLog, open_alert_log
from dataflows.flow.run_context import RunContext
from dataflows.model_step import Step
from dataflows.state_files import Handle, StateError, StateFiles

_PART = "alerts"


class DriftLogic(StatefulBatchLogic[Step, DriftAlert, Handle]):
    """The drift monitor of one model, with its state in files of its own."""

    def __init__(
        self, model: ModelPlan, plan: DriftPlan, context: RunContext, handle: Handle | None
    ) -> None:
        spec = DriftSpec.of(model, plan)
        self._task = model.task
        self._files = StateFiles(context.places.state / "drift" / model.name, handle)
        self._handle = handle
        if handle is None:
            self._monitor = DriftMonitor(spec)
        else:
            (state,) = self._files.read()
            self._monitor = DriftMonitor.load(spec, state)
        self._report = report_path(context.places.models, model.name)
        self._is_dirty = handle is None

    def on_batch(self, values: list[Step]) -> tuple[Iterable[DriftAlert], bool]:
        """Follow the steps; alerts in order of event time, however the steps were cut."""
        alerts: list[DriftAlert] = []
        for step in values:
            scored, known = step.learned.predictions, step.learned.outcomes
            if not len(scored.keys) and not len(known.keys):
                continue
            self._is_dirty = True
            monitor = self._monitor
            found = monitor.add_predictions(scored.times_us, scored.features, scored.scores)
            found += monitor.add_outcomes(known.label_times_us, losses(self._task, known))
            alerts += in_order(found)
        return alerts, False

    def snapshot(self) -> Handle:
        """A handle of the state as it is now, and the report, if anything came since the last."""
        if self._is_dirty or self._handle is None:
            self._write_report()
            self._handle = self._files.write_base(self._monitor.dump())
            self._is_dirty = False
        return self._handle

    def _write_report(self) -> None:
        """Replace it in one step. It need not survive a power cut: the next epoch writes it."""
        data = msgspec.json.format(msgspec.json.encode(self._monitor.report()), indent=2)
        temporary = self._report.with_suffix(".tmp")
        try:
            self._report.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data + b"\n")
            temporary.replace(self._report)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise StateError(
                f"cannot write {self._report}: {error.strerror}; make room or mend the folder and "
                "start again (nothing is lost)"
            ) from error


class AlertSink(FixedPartitionedSink[DriftAlert, int]):
    """Alerts of all models, with one writer in the whole cluster."""

    def __init__(self, context: RunContext) -> None:
        self._context = context

    def list_parts(self) -> list[str]:
        """The one partition."""
        return [_PART]

    def part_fn(self, item_key: str) -> int:
        """All go there."""
        return 0

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> AlertPart:
        """The topic."""
        return AlertPart(open_alert_log(self._context), self._context, resume_state or 0)


class AlertPart(StatefulSinkPartition[DriftAlert, int]):
    """Appends to the topic; alerts of an epoch that was killed come again."""

    def __init__(self, log: AlertLog, context: RunContext, written: int) -> None:
        self._log = log
        self._context = context
        self._written = written

    def write_batch(self, values: list[DriftAlert]) -> None:
        """Append, and wait until they are there; raise LogError."""
        self._log.append(values)
        self._written += len(values)

    def snapshot(self) -> int:
        """How many went out; nothing depends on it."""
        return self._written

    def close(self) -> None:
        """Close the topic."""
        with self._context.noting_failure():
            self._log.close()


def drift_step(steps: Iterable[tuple[ModelPlan, Stream[Step]]], context: RunContext) -> None:
    """Watch the models that are to be watched; ``steps`` has the stream of each model's steps."""
    alerts = [
        _watch(stream, model, model.drift, context)
        for model, stream in steps
        if model.drift is not None
    ]
    if alerts:
        op.output("drift_alerts", op.merge("all_alerts", *alerts), AlertSink(context))


def _watch(
    steps: Stream[Step], model: ModelPlan, plan: DriftPlan, context: RunContext
) -> KeyedStream[DriftAlert]:
    keyed = op.map(f"to_drift_{model.name}", steps, lambda step: (model.name, step))
    return op.stateful_batch(
        f"drift_{model.name}", keyed, lambda handle: DriftLogic(model, plan, context, handle)
    )
