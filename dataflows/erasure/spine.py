"""Finds the spine rows of some entities in the log: examples know only the keys of spine rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np

from contracts.log import LogError
from contracts.plan import ModelPlan, Plan, Topic
from contracts.settings import DataflowSettings
from dataflows.erasure.wanted import Wanted
from dataflows.sources.decoding import make_decoder
from dataflows.sources.plan_log import LogPartition, PlanLog
from dataflows.sources.schema_registry import SchemaRegistry

_PAUSE_SECONDS = 0.01

# Topic and partition, offset that was read to, end.
Tell = Callable[[str, int, int], None]


@dataclass
class SpineSearch:
    """Reads spine topics once, in as many steps as it takes. Not safe for threads.

    Attributes:
        keys: model -> keys of the spine rows that were found.
    """

    plan: Plan
    wanted: Sequence[Wanted]
    settings: DataflowSettings
    keys: dict[str, set[str]] = field(default_factory=dict)
    _offsets: dict[str, int] = field(default_factory=dict)

    def read(self, log: PlanLog, ends: dict[int, int], tell: Tell) -> None:
        """Go on to these ends (by number of partition).

        Raises:
            LogError: the log cannot be read, or brokers give nothing for too long.
        """
        models = self._models()
        for partition in log.partitions:
            found = models.get(partition.topic)
            if found:
                self._read(log, partition, ends[partition.number], found, tell)

    def _models(self) -> dict[str, list[tuple[ModelPlan, list[Wanted]]]]:
        """Spine topic -> its models that know such entities, and which."""
        found: dict[str, list[tuple[ModelPlan, list[Wanted]]]] = {}
        for model in self.plan.models:
            wanted = [one for one in self.wanted if model in one.models(self.plan)]
            if wanted:
                found.setdefault(model.spine_topic, []).append((model, wanted))
        return found

    def _read(
        self,
        log: PlanLog,
        partition: LogPartition,
        end: int,
        models: list[tuple[ModelPlan, list[Wanted]]],
        tell: Tell,
    ) -> None:
        begin = max(log.begins()[partition.number], self._offsets.get(partition.name, 0))
        if begin >= end:
            return
        topic = self.plan.topic(partition.topic)
        decoder = make_decoder(_narrowed(topic, models), self._registry())
        give_up_at = time.monotonic() + self.settings.outage_seconds
        with closing(log.open(partition, begin)) as reader:
            while reader.offset < end:
                chunk = reader.read(self.settings.batch_bytes, end)
                if chunk is None:
                    # Only who has read knows where the end is.
                    if reader.is_at_end(end):
                        break
                    if time.monotonic() > give_up_at:
                        raise LogError(
                            f"{partition.name} gave nothing for {self.settings.outage_seconds:g} "
                            "s; see to the brokers and start again: nothing has changed"
                        )
                    time.sleep(_PAUSE_SECONDS)
                    continue
                give_up_at = time.monotonic() + self.settings.outage_seconds
                columns = decoder.decode(chunk).columns
                for model, wanted in models:
                    self._take(model, wanted, columns)
                tell(partition.name, chunk.next_offset, end)
        self._offsets[partition.name] = end

    def _take(
        self, model: ModelPlan, wanted: list[Wanted], columns: dict[str, Sequence[str | None]]
    ) -> None:
        spine_keys = columns[model.spine_key]
        keys = self.keys.setdefault(model.name, set())
        for one in wanted:
            rows = np.flatnonzero(one.rows(columns)).tolist()
            found = (spine_keys[row] for row in rows)
            keys.update(key for key in found if key is not None)

    def _registry(self) -> SchemaRegistry | None:
        url = self.settings.schema_registry_url
        if not url:
            return None
        seconds = self.settings.outage_seconds
        return SchemaRegistry(url, patience_seconds=seconds, wait=_wait, tell=lambda _: None)


def _narrowed(topic: Topic, models: list[tuple[ModelPlan, list[Wanted]]]) -> Topic:
    """The topic with the columns that are looked at; what is bad for other reasons is good here."""
    names = {model.spine_key for model, _ in models}
    names |= {name for _, wanted in models for one in wanted for name in one.names}
    columns = tuple(
        column
        for column in topic.columns
        if topic.column_name(column.name) in names or column.name == topic.timestamp_field
    )
    return replace(topic, columns=columns)


def _wait(seconds: float) -> bool:
    time.sleep(seconds)
    return False
