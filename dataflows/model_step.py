"""One model in the flow: joins what the views read into vectors, and hands them to the learner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from contracts.feature_schema import is_in_vector
from contracts.on_demand import Failure, OnDemandViews
from contracts.plan import ModelPlan, Plan, View
from dataflows.batches import (
    Floats,
    Ints,
    LabelRows,
    ModelInput,
    ShardOutput,
    SpineRows,
    partitions_of,
    split_ranks,
)
from dataflows.erasure.matching import spine_matcher
from dataflows.erasure.tombstones import NOTHING_APPLIED, Applied, Tombstones
from dataflows.learning.learner import Learner
from dataflows.learning.pending import key_codes
from dataflows.learning.pending_parts import Saved
from dataflows.learning.records import Labels, Learned, LearnerSpec, Predictions
from dataflows.read_buffer import ReadBuffer
from dataflows.watermark import NOT_YET, WatermarkTable


@dataclass(frozen=True)
class Unpredicted:
    """A spine row that an on-demand view failed at, so that it has no vector.

    ``place`` counts the rows of its step, with and without vectors, in their order.
    """

    place: int
    rank: int
    key: str
    failure: Failure


@dataclass(frozen=True)
class Step:
    """What came of one batch: what was learned, complete up to ``watermark_us`` (exclusive).

    ``offsets`` says up to which record of each partition (by number) labels were taken;
    ``unpredicted`` is what was left out.
    """

    watermark_us: int
    learned: Learned
    offsets: dict[int, int]
    unpredicted: tuple[Unpredicted, ...] = ()


class ModelStep:
    """Pure logic. Spine rows wait until all their reads are there and the watermark has passed."""

    def __init__(self, plan: Plan, model: ModelPlan, spec: LearnerSpec, partitions: int) -> None:
        self._model = model
        self._on_demand = OnDemandViews(model.schema)
        self._segments = len(model.segments)
        self._has_classes = model.task == "multiclass"
        self._columns = {name: _columns(plan.view(name), model) for name in model.views}
        self._request = [
            place
            for place, field in enumerate(model.schema.places)
            if field.kind == "request" and is_in_vector(place, field, model.schema)
        ]
        self._clocks = WatermarkTable(partitions)
        self._learner = Learner(spec)
        self._spine: list[SpineRows] = []
        self._labels: list[LabelRows] = []
        self._reads = {name: ReadBuffer() for name in model.views}
        # Partitions of other topics: views are also read for the spines of other models.
        self._foreign: set[int] = set()
        self._done_us = NOT_YET
        self._offsets: dict[int, int] = {}
        self._forgotten: Applied = NOTHING_APPLIED

    def forget(self, tombstones: Tombstones) -> bool:
        """Let go of rows of entities that were forgotten since; whether there were tombstones.

        Rows that wait for their reads, and predictions that wait for their label.
        """
        newer = tombstones.after(self._forgotten)
        if not newer.tombstones:
            return False
        matches = spine_matcher(newer, self._model.name)
        for place, part in enumerate(self._spine):
            gone = matches(key_codes(part.keys))
            if gone.any():
                self._spine[place] = part.blanked(gone)
        self._learner.forget(matches)
        self._forgotten = tombstones.newest
        return True

    def on_batch(self, items: Sequence[ModelInput | ShardOutput]) -> Step | None:
        """Take in news of partitions and shards; run what is complete; None if nothing moved."""
        for item in items:
            if isinstance(item, ShardOutput):
                self._take_reads(item)
                continue
            if not item.is_spine:
                self._foreign.add(item.clock.partition)
            if item.spine is not None:
                self._spine.append(item.spine)
            if item.labels is not None:
                self._labels.append(item.labels)
            self._clocks.update(item.clock)
        return self._run_until(self._clocks.watermark_us)

    @property
    def is_over(self) -> bool:
        """Whether every partition was read to its end and all reads are there."""
        if not self._clocks.is_idle:
            return False
        _, complete = self._vectors(self._joined_spine())
        return bool(complete.all())

    def finish(self) -> Sequence[Step]:
        """Run the last moment too and publish what was learned; for input that is over."""
        last = self._run_until(self._clocks.watermark_us + 1)
        learned = self._learner.finish(self._done_us)
        published = Step(self._done_us, learned, dict(self._offsets))
        return [published] if last is None else [last, published]

    def save(self) -> Saved:
        """Everything as a head and parts, of which only those not saved before are given."""
        saved = self._learner.save()
        return replace(saved, head={**self._plain(), "learner": saved.head})

    @property
    def part_names(self) -> tuple[int, ...]:
        """Names of the parts that were saved or loaded, in their order."""
        return self._learner.part_names

    def dump(self) -> dict[str, Any]:
        """Everything, as plain data; what ``save`` gives does not depend on it."""
        head, parts = self._learner.whole()
        return {**self._plain(), "learner": head, "parts": parts}

    def _plain(self) -> dict[str, Any]:
        return {
            "clocks": self._clocks,
            "spine": self._spine,
            "labels": self._labels,
            "reads": self._reads,
            "done_us": self._done_us,
            "offsets": self._offsets,
            "forgotten": self._forgotten,
        }

    @classmethod
    def load(
        cls,
        plan: Plan,
        model: ModelPlan,
        spec: LearnerSpec,
        partitions: int,
        data: dict[str, Any],
    ) -> ModelStep:
        """A step as it was when ``dump`` was called; or ``save``: its head, with all ``parts``."""
        step = cls(plan, model, spec, partitions)
        step._clocks = data["clocks"]
        step._clocks.reopen()
        step._learner = Learner.load(spec, data["learner"], data["parts"])
        step._spine, step._labels = list(data["spine"]), list(data["labels"])
        step._reads = data["reads"]
        step._done_us = data["done_us"]
        step._offsets = dict(data["offsets"])
        step._forgotten = data.get("forgotten", NOTHING_APPLIED)
        return step

    def _run_until(self, limit_us: int) -> Step | None:
        """Run what is before the limit and has all its reads; None if nothing moved."""
        if limit_us <= self._done_us:
            return None
        spine = self._joined_spine()
        matrix, complete = self._vectors(spine)
        if not complete.all():
            limit_us = min(limit_us, int(spine.effective_us[~complete].min()))
        if limit_us <= self._done_us:
            return None
        return self._run(spine, matrix, limit_us)

    def _take_reads(self, output: ShardOutput) -> None:
        for name, read in output.reads.items():
            # Views are also read for the spines of other models.
            ours = ~np.isin(partitions_of(read.ranks), list(self._foreign))
            if ours.all():
                self._reads[name].add(read.ranks, read.values)
            elif ours.any():
                self._reads[name].add(read.ranks[ours], read.values[ours])

    def _joined_spine(self) -> SpineRows:
        if self._spine:
            return _join_spine(self._spine)
        none = np.empty(0, np.int64)
        texts: tuple[list[str | None], ...] = tuple([] for _ in self._on_demand.text_inputs)
        segments: tuple[list[str | None], ...] = tuple([] for _ in range(self._segments))
        return SpineRows([], none, none, np.empty((0, len(self._request))), none, texts, segments)

    def _vectors(self, spine: SpineRows) -> tuple[Floats, Any]:
        """(float64[n, P] with NaN for what is missing, bool[n] whether all reads are there).

        There is a column for each of ``schema.places``; nothing is derived yet.
        """
        matrix = np.full((len(spine.ranks), len(self._model.schema.places)), np.nan)
        answers = np.zeros(len(spine.ranks), np.int64)
        matrix[:, self._request] = spine.request
        for name, reads in self._reads.items():
            found, values = reads.find(spine.ranks)
            if not found.any():
                continue
            answers += found
            places, columns = self._columns[name]
            matrix[np.ix_(np.flatnonzero(found), np.array(places))] = values[:, columns]
        return matrix, answers == np.where(spine.reads < 0, ~spine.reads, spine.reads)

    def _run(self, spine: SpineRows, matrix: Floats, limit_us: int) -> Step:
        due = spine.effective_us < limit_us
        rows = np.flatnonzero(due & (spine.reads >= 0))
        order = rows[np.lexsort((spine.ranks[rows], spine.effective_us[rows]))]
        order, vectors, unpredicted = self._derived(spine, matrix, order)
        predictions = Predictions(
            [spine.keys[i] for i in order],
            np.maximum(spine.effective_us[order], self._done_us),
            vectors,
            tuple([values[i] for i in order] for values in spine.segments),
        )
        labels = self._due_labels(limit_us)
        self._spine = [_take_spine(spine, np.flatnonzero(~due))]
        for reads in self._reads.values():
            reads.drop(spine.ranks[due])
        learned = self._learner.advance(predictions, labels, limit_us)
        self._done_us = limit_us
        return Step(limit_us, learned, dict(self._offsets), unpredicted)

    def _derived(
        self, spine: SpineRows, matrix: Floats, rows: Ints
    ) -> tuple[Ints, Floats, tuple[Unpredicted, ...]]:
        """(those of the rows that have vectors, float64[n, d] these, the other rows)."""
        values = matrix[rows]
        if not self._model.schema.on_demand:
            return rows, values, ()
        names = self._on_demand.text_inputs
        texts = {
            name: [column[i] for i in rows] for name, column in zip(names, spine.texts, strict=True)
        }
        failures = self._on_demand.fill(values, texts)
        is_good = np.ones(len(rows), np.bool_)
        is_good[list(failures)] = False
        unpredicted = tuple(
            Unpredicted(at, int(spine.ranks[rows[at]]), spine.keys[rows[at]], failure)
            for at, failure in sorted(failures.items())
        )
        vectors = values[is_good, : len(self._model.schema.fields)]
        return rows[is_good], np.ascontiguousarray(vectors), unpredicted

    def _due_labels(self, limit_us: int) -> Labels:
        if not self._labels:
            texts: list[str | None] | None = [] if self._has_classes else None
            return Labels([], np.empty(0, np.int64), np.empty(0), texts)
        keys = [key for part in self._labels for key in part.keys]
        effective_us = np.concatenate([part.effective_us for part in self._labels])
        effective_us = np.maximum(effective_us, self._done_us)
        ranks = np.concatenate([part.ranks for part in self._labels])
        values = np.concatenate([part.values for part in self._labels])
        texts = [text for part in self._labels for text in part.texts]
        due = effective_us < limit_us
        rest = np.flatnonzero(~due)
        self._labels = [
            LabelRows(
                [keys[i] for i in rest],
                effective_us[rest],
                ranks[rest],
                values[rest],
                [texts[i] for i in rest] if self._has_classes else [],
            )
        ]
        rows = np.flatnonzero(due)
        newest = np.sort(ranks[rows])
        newest = newest[np.flatnonzero(np.diff(partitions_of(newest), append=-1))]
        self._offsets.update(zip(*split_ranks(newest), strict=True))
        order = rows[np.lexsort((ranks[rows], effective_us[rows]))]
        classes = [texts[i] for i in order] if self._has_classes else None
        return Labels([keys[i] for i in order], effective_us[order], values[order], classes)


def _columns(view: View, model: ModelPlan) -> tuple[list[int], list[int]]:
    """(places in the model's vector, columns of the view's values) of what the model reads."""
    order = [aggregate.feature for aggregate in view.aggregates]
    fields = [
        (place, field.feature)
        for place, field in enumerate(model.schema.places)
        if field.kind == "feature" and field.view == view.name
    ]
    return [place for place, _ in fields], [order.index(feature) for _, feature in fields]


def _join_spine(parts: list[SpineRows]) -> SpineRows:
    if len(parts) == 1:
        return parts[0]
    return SpineRows(
        [key for part in parts for key in part.keys],
        np.concatenate([p.effective_us for p in parts]),
        np.concatenate([p.ranks for p in parts]),
        np.concatenate([p.request for p in parts]),
        np.concatenate([p.reads for p in parts]),
        tuple(
            [t for column in columns for t in column]
            for columns in zip(*(p.texts for p in parts), strict=True)
        ),
        tuple(
            [t for column in columns for t in column]
            for columns in zip(*(p.segments for p in parts), strict=True)
        ),
    )


def _take_spine(spine: SpineRows, rows: Ints) -> SpineRows:
    return SpineRows(
        [spine.keys[i] for i in rows],
        spine.effective_us[rows],
        spine.ranks[rows],
        spine.request[rows],
        spine.reads[rows],
        tuple([column[i] for i in rows] for column in spine.texts),
        tuple([column[i] for i in rows] for column in spine.segments),
    )
