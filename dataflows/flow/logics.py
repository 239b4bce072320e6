"""The stateful steps: a shard and a model as Bytewax sees them, with their state in files."""

from __future__ import annotations

from collections.abc import Iterable

from bytewax.operators import StatefulBatchLogic

from contracts.plan import Plan
from dataflows.batches import ModelInput, ShardInput, ShardOutput
from dataflows.flow.run_context import RunContext
from dataflows.learning.records import LearnerSpec
from dataflows.model_step import ModelStep, Step
from dataflows.shard import Shard
from dataflows.state_files import Handle, StateFiles

ShardHandle = tuple[int, Handle]


class ShardLogic(StatefulBatchLogic[ShardInput, ShardOutput, ShardHandle]):
    """One shard. Bytewax does not tell a logic its key: a new one learns it from its input."""

    def __init__(
        self, plan: Plan, partitions: int, context: RunContext, handle: ShardHandle | None
    ) -> None:
        self._plan = plan
        self._partitions = partitions
        self._context = context
        self._shard: Shard | None = None
        self._is_dirty = False
        if handle is not None:
            number, generation = handle
            self._open(number, generation)
            self._shard = Shard.load(plan, number, partitions, self._files.read())
            self._handle = handle

    def on_batch(self, values: list[ShardInput]) -> tuple[Iterable[ShardOutput], bool]:
        """Run the shard; its state is kept for ever."""
        if self._shard is None:
            number = values[0].shard
            self._open(number, None)
            self._shard = Shard(self._plan, number, self._partitions)
        self._is_dirty = True
        output = self._shard.on_batch(values)
        if output is None:
            return (), False
        self._context.tally.add(late=sum(output.late.values()))
        return (output,), False

    def snapshot(self) -> ShardHandle:
        """A handle of the state as it is now: a new file if anything changed."""
        assert self._shard is not None, "Bytewax makes a logic for an item"
        if self._is_dirty:
            self._handle = (self._number, self._files.write(self._shard.dump()))
            self._is_dirty = False
        return self._handle

    def _open(self, number: int, generation: Handle | None) -> None:
        self._number = number
        folder = self._context.places.state / "shards" / f"{number:04d}"
        self._files = StateFiles(folder, generation)


class ModelLogic(StatefulBatchLogic[ModelInput | ShardOutput, Step, Handle]):
    """One model. Once all partitions are over, it publishes what it learned last."""

    def __init__(
        self, plan: Plan, spec: LearnerSpec, partitions: int, context: RunContext,
        handle: Handle | None,
    ) -> None:  # fmt: skip
        model = plan.model(spec.name)
        self._files = StateFiles(context.places.state / "models" / spec.name, handle)
        self._handle = handle
        self._is_dirty = handle is None
        if handle is None:
            self._step = ModelStep(plan, model, spec, partitions)
        else:
            self._step = ModelStep.load(plan, model, spec, partitions, self._files.read())
        self._finishes = context.until_end is not None

    def on_batch(self, values: list[ModelInput | ShardOutput]) -> tuple[Iterable[Step], bool]:
        """Run the model; its state is kept for ever."""
        self._is_dirty = True
        step = self._step.on_batch(values)
        steps = [] if step is None else [step]
        if self._finishes and self._step.is_over:
            steps.extend(self._step.finish())
        return steps, False

    def snapshot(self) -> Handle:
        """A handle of the state as it is now: a new file if anything changed."""
        if self._is_dirty or self._handle is None:
            self._handle = self._files.write(self._step.dump())
            self._is_dirty = False
        return self._handle
