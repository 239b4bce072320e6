"""The stateful steps: a shard and a model as Bytewax sees them, with their state in files."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import numpy as np
from bytewax.operators import StatefulBatchLogic

from contracts.plan import Plan
from dataflows.batches import ModelInput, ShardInput, ShardOutput
from dataflows.flow.room import check_epoch
from dataflows.flow.run_context import RunContext
from dataflows.laps import Laps, pieces_bytes
from dataflows.learning.records import LearnerSpec
from dataflows.model_step import ModelStep, Step
from dataflows.shard import Shard
from dataflows.sources.bad_share import BadShare, TooManyBadRecordsError
from dataflows.state_files import Handle, StateFiles, Turn

ShardHandle = tuple[int, Handle]

# A run costs the same whatever its rows are, and an entity that decays several times in one makes
# one row, if its view is served only. So some thousands of rows are run together.
# A partition may have a backlog and yet not be read: it is far ahead, or its broker is gone.
_LIVE = 4_096, timedelta(seconds=0.25)
# What has an end is read for what it has in the end.
_TO_AN_END = 16_384, timedelta(seconds=2)
# Of a shard's entities so many may be silent before a new base is written to let them go.
_SILENT_SHARE_MAX = 0.25


class ShardLogic(StatefulBatchLogic[ShardInput, ShardOutput, ShardHandle]):
    """One shard. Bytewax does not tell a logic its key: a new one learns it from its input."""

    def __init__(
        self, plan: Plan, partitions: int, context: RunContext, handle: ShardHandle | None
    ) -> None:
        self._plan = plan
        self._partitions = partitions
        self._context = context
        self._shard: Shard | None = None
        self._laps = Laps(0)
        self._is_dirty = False
        self._has_forgotten = False
        self._epochs = 0
        self._run_at: datetime | None = None
        self._rows_together, self._gathering_max = _TO_AN_END if context.target else _LIVE
        if handle is not None:
            number, files = handle
            self._open(number, files)
            parts = self._files.read()
            self._shard = Shard.load(plan, number, partitions, parts)
            self._laps = Laps.resumed(parts, self._files.base_bytes)
            self._handle = handle
            self._forget(self._shard)

    def on_batch(self, values: list[ShardInput]) -> tuple[Iterable[ShardOutput], bool]:
        """Run the shard; its state is kept for ever.

        While there is more to read, and nobody waits for each row, it first lets some gather.
        """
        if self._shard is None:
            number = values[0].shard
            self._open(number, None)
            self._shard = Shard(self._plan, number, self._partitions)
            self._forget(self._shard)
        self._is_dirty = True
        self._shard.take(values)
        if self._context.backlog and self._shard.taken < self._rows_together:
            self._run_at = self._run_at or datetime.now(UTC) + self._gathering_max
            return (), False
        return self._run(self._shard)

    def notify_at(self) -> datetime | None:
        """When to run what has gathered, whether more comes or not."""
        return self._run_at

    def on_notify(self) -> tuple[Iterable[ShardOutput], bool]:
        """Run what has gathered."""
        return ((), False) if self._shard is None else self._run(self._shard)

    def _run(self, shard: Shard) -> tuple[Iterable[ShardOutput], bool]:
        self._run_at = None
        output = shard.run()
        if output is None:
            return (), False
        self._is_dirty = True
        self._context.tally.add(late=sum(output.late.values()))
        return (output,), False

    def snapshot(self) -> ShardHandle:
        """A handle of the state as it is now: a new file if anything changed."""
        assert self._shard is not None, "Bytewax makes a logic for an item"
        self._epochs += 1
        if self._is_dirty:
            if self._is_base_due(self._shard):
                written = self._files.write_base(self._shard.dump())
                self._laps = Laps(self._files.base_bytes)
                self._has_forgotten = False
            else:
                written = self._write_changes(self._shard)
            self._handle = (self._number, written)
            self._is_dirty = False
            check_epoch(self._context.places.state, self._context.settings.shards)
        return self._handle

    def _write_changes(self, shard: Shard) -> Handle:
        """What changed, and the next pieces of a large base, which make older files needless."""
        laps, pieces = self._laps, self._laps.pieces
        data = shard.changes(pieces)
        again_bytes = pieces_bytes(data)
        needless = laps.go_on(pieces, again_bytes)
        written = self._files.write_changes({**data, "lap": laps.saved}, needless)
        laps.weigh(self._files.written_bytes - again_bytes)
        return written

    def _is_base_due(self, shard: Shard) -> bool:
        """Whether to write everything. Shards take turns: no epoch is to wait for all of them."""
        if self._has_forgotten or not self._files.has_base:
            return True
        turns = self._context.settings.shards
        if self._epochs % turns != self._number % turns:
            return False
        if not self._laps.is_large and self._files.wants_base:
            return True
        return shard.has_old_texts or shard.silent_share() > _SILENT_SHARE_MAX

    def _forget(self, shard: Shard) -> None:
        """Entities that were forgotten since the state was written."""
        tombstones = self._context.tombstones
        if tombstones is not None and shard.forget(tombstones):
            self._is_dirty = self._has_forgotten = True

    def _open(self, number: int, handle: Handle | None) -> None:
        self._number = number
        folder = self._context.places.state / "shards" / f"{number:04d}"
        turn = Turn(number, self._context.settings.shards)
        self._files = StateFiles(folder, handle, turn)


class ModelLogic(StatefulBatchLogic[ModelInput | ShardOutput, Step, Handle]):
    """One model. Once all partitions are over, it publishes what it learned last."""

    def __init__(
        self, plan: Plan, spec: LearnerSpec, partitions: int, context: RunContext,
        handle: Handle | None,
    ) -> None:  # fmt: skip
        model = plan.model(spec.name)
        self._context = context
        self._files = StateFiles(context.places.state / "models" / spec.name, handle)
        self._handle = handle
        self._is_dirty = handle is None
        self._parts: dict[int, int] = {}  # of what waits: file by name of the part
        if handle is None:
            self._step = ModelStep(plan, model, spec, partitions)
        else:
            head, *parts = self._files.read()
            self._step = ModelStep.load(plan, model, spec, partitions, {**head, "parts": parts})
            self._parts = dict(zip(self._step.part_names, handle[1:], strict=True))
        if context.tombstones is not None and self._step.forget(context.tombstones):
            self._is_dirty = True
        self._finishes = context.target is not None and context.target.is_end
        self._name = spec.name
        self._has_functions = bool(spec.schema.on_demand)
        settings = context.settings
        self._bad = BadShare(settings.bad_record_share_max, settings.bad_record_window)
        self._failure: TooManyBadRecordsError | None = None

    def on_batch(self, values: list[ModelInput | ShardOutput]) -> tuple[Iterable[Step], bool]:
        """Run the model; its state is kept for ever.

        Raises:
            TooManyBadRecordsError: of too many rows before these no vectors could be made. The
                dead letters of those rows have gone their way by now.
        """
        self._raise_failure()
        self._is_dirty = True
        step = self._step.on_batch(values)
        steps = [] if step is None else [step]
        if self._finishes and self._step.is_over:
            steps.extend(self._step.finish())
        if self._has_functions:
            for one in steps:
                self._look_at_share(one)
        return steps, False

    def on_eof(self) -> tuple[Iterable[Step], bool]:
        """Nothing will come any more; raises as ``on_batch`` does."""
        self._raise_failure()
        return (), False

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _look_at_share(self, step: Step) -> None:
        is_bad = np.zeros(len(step.learned.predictions.keys) + len(step.unpredicted), np.bool_)
        is_bad[[one.place for one in step.unpredicted]] = True
        too_many = self._bad.too_many(is_bad)
        if too_many:
            last = step.unpredicted[-1] if step.unpredicted else None
            why = "" if last is None else f" ({last.failure} {last.failure.detail})".rstrip()
            self._failure = TooManyBadRecordsError(
                f"{too_many} predictions of model {self._name!r} could not be made{why}; see the "
                "dead letters of its spine, mend the function in definitions.py, or raise "
                "HEADWATER_BAD_RECORD_SHARE_MAX"
            )

    def snapshot(self) -> Handle:
        """A handle of the state as it is now: new files if anything changed."""
        if self._is_dirty or self._handle is None:
            saved = self._step.save()
            written = {name: self._files.write_part(part) for name, part in saved.new.items()}
            known = self._parts | written
            self._parts = {name: known[name] for name in saved.parts}
            self._handle = self._files.write_head(saved.head, list(self._parts.values()))
            self._is_dirty = False
            check_epoch(self._context.places.state, self._context.settings.shards)
        return self._handle
