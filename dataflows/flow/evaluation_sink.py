"""Evaluation in the flow: outcomes go to a board per model, and the board into a file to read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import bytewax.operators as op
import numpy as np
from bytewax.dataflow import Stream
from bytewax.operators import KeyedStream
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from contracts.evaluation_file import evaluation_file, write_evaluation
from contracts.plan import ModelPlan
from dataflows.evaluation.board import RECENT_INTERVALS, BoardStateError, EvaluationBoard
from dataflows.evaluation.exact_sums import Ints
from dataflows.evaluation.judged import Judged, judged
from dataflows.flow.run_context import RunContext
from dataflows.model_step import Step
from dataflows.state_files import Handle, StateFiles

# A call costs as much as some hundred rows, so rows wait for each other.
_ROWS_TOGETHER = 4_096
# Hundreds of groups take some 70 ms to read: where versions come each second, not each is shown.
_REST = 50


@dataclass(frozen=True)
class EvaluationRows:
    """What one step of a model gave to be evaluated.

    Attributes:
        rows: k outcomes.
        versions: int64 ``[k]``: which version predicted.
        segments: a column of k values for each segment of the model.
        classes: of a multi-class model, those known so far.
        has_published: whether the step published a version.
    """

    rows: Judged
    versions: Ints
    segments: tuple[list[str | None], ...]
    classes: tuple[str, ...]
    has_published: bool


def evaluation_step(steps: Stream[Step], model: ModelPlan) -> KeyedStream[EvaluationRows]:
    """What the evaluation needs of a model's steps, for ``EvaluationSink``."""

    def convert(step: Step) -> Iterable[tuple[str, EvaluationRows]]:
        learned = step.learned
        outcomes, has_published = learned.outcomes, bool(learned.versions)
        if len(outcomes.keys) or has_published:
            yield (
                model.name,
                EvaluationRows(
                    judged(outcomes),
                    outcomes.versions,
                    outcomes.segments,
                    learned.classes,
                    has_published,
                ),
            )

    return op.flat_map(f"evaluation_{model.name}", steps, convert)


class EvaluationSink(FixedPartitionedSink[EvaluationRows, Handle]):
    """Each model's evaluation; a model is one partition, so one worker has all of its outcomes."""

    def __init__(self, models: Iterable[ModelPlan], context: RunContext) -> None:
        self._models = {model.name: model for model in models}
        self._names = sorted(self._models)
        self._context = context

    def list_parts(self) -> list[str]:
        """Names of the models."""
        return self._names

    def part_fn(self, item_key: str) -> int:
        """The model's place in the sorted list of names."""
        return self._names.index(item_key)

    def build_part(
        self, step_id: str, for_part: str, resume_state: Handle | None
    ) -> EvaluationPartition:
        """The evaluation of a model that goes on at ``resume_state``."""
        return EvaluationPartition(self._models[for_part], self._context, resume_state)


class EvaluationPartition(StatefulSinkPartition[EvaluationRows, Handle]):
    """The evaluation of one model.

    The file is written before the epoch that it belongs to is durable, and again when a run goes on
    from an epoch: it never stays behind the state, and at the end of a log it is that of the end.
    """

    def __init__(self, model: ModelPlan, context: RunContext, handle: Handle | None) -> None:
        self._model = model
        self._context = context
        self._files = StateFiles(context.places.state / "evaluations" / model.name, handle)
        self._file = evaluation_file(context.places.models, model.name, "pipeline")
        span_us = RECENT_INTERVALS * model.publish_every_us
        self._board = EvaluationBoard(model.task, model.segments, span_us)
        self._waiting: list[EvaluationRows] = []
        self._rows_waiting = 0
        self._has_published = False
        self._has_new_version = False
        self._classes: tuple[str, ...] = ()
        self._handle = handle
        self._is_saved = self._is_shown = True
        self._rested_at = 0.0
        self._show_at = context.monotonic() + context.settings.offline_publish_seconds
        if handle is not None:
            self._load()

    def write_batch(self, values: list[EvaluationRows]) -> None:
        """Take outcomes in."""
        self._waiting += values
        self._rows_waiting += sum(len(item.rows) for item in values)
        if self._rows_waiting >= _ROWS_TOGETHER:
            self._add()

    def snapshot(self) -> Handle:
        """A handle of the state as it is now: a new file if anything changed.

        Now and then, and when there is a new version, it is shown to readers too.
        """
        self._add()
        now = self._context.monotonic()
        if now >= self._show_at or (self._has_new_version and now >= self._rested_at):
            self._show()
            end = self._context.monotonic()
            self._rested_at = end + _REST * (end - now)
            self._show_at = now + self._context.settings.offline_publish_seconds
        if not self._is_saved or self._handle is None:
            head = {"has_published": self._has_published, "classes": self._classes}
            if self._handle is None or self._files.wants_base:
                self._handle = self._files.write_base({**head, "board": self._board.dump()})
            else:
                self._handle = self._files.write_changes({**head, "board": self._board.changes()})
            self._is_saved = True
        return self._handle

    def close(self) -> None:
        """Show what there is."""
        with self._context.noting_failure():
            self._add()
            self._show()

    def _add(self) -> None:
        if not self._waiting:
            return
        items, self._waiting, self._rows_waiting = self._waiting, [], 0
        self._is_saved = self._is_shown = False
        if any(item.has_published for item in items):
            self._has_published = self._has_new_version = True
        self._classes = items[-1].classes
        parts = [item for item in items if len(item.rows)]
        if parts:
            self._board.add(
                Judged.joined([part.rows for part in parts]),
                np.concatenate([part.versions for part in parts]),
                [
                    [value for column in columns for value in column]
                    for columns in zip(*(part.segments for part in parts), strict=True)
                ],
            )

    def _show(self) -> None:
        """Write the file, once there is a version: before, the model is not in the repository."""
        if self._has_published and not self._is_shown:
            report = self._board.report(self._classes)
            write_evaluation(self._file, self._model.name, report)
        self._is_shown, self._has_new_version = True, False

    def _load(self) -> None:
        parts = self._files.read()
        try:
            self._board.load([part["board"] for part in parts])
        except BoardStateError as error:
            raise BoardStateError(
                f"model {self._model.name}: {error}; rebuild it from the log: `headwater replay`"
            ) from error
        self._has_published, self._classes = parts[-1]["has_published"], parts[-1]["classes"]
        self._is_shown = False
        self._show()
