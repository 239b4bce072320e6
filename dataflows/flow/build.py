"""The one dataflow, made of the repository's plan."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

import bytewax.operators as op
import numpy as np
from bytewax.dataflow import Dataflow, Stream
from bytewax.operators import KeyedStream

from contracts.model_repository import ModelRepository
from contracts.plan import ModelPlan, Plan
from dataflows import tables
from dataflows.batches import (
    DeadLetter,
    ModelInput,
    ShardInput,
    ShardOutput,
    SourceBatch,
    split_ranks,
)
from dataflows.crumbs import together
from dataflows.definitions.repository import Repository
from dataflows.erasure.matching import ForgottenKeys
from dataflows.flow.dead_letter_sink import DeadLetterSink
from dataflows.flow.drift_step import drift_step
from dataflows.flow.evaluation_sink import EvaluationRows, EvaluationSink, evaluation_step
from dataflows.flow.identity import generation
from dataflows.flow.log_source import LogSource
from dataflows.flow.logics import ModelLogic, ShardLogic
from dataflows.flow.online_sink import OnlineSink
from dataflows.flow.run_context import RunContext
from dataflows.flow.sinks import NewVersions, TableRows, TableSink, VersionSink
from dataflows.learning.records import LearnerSpec
from dataflows.model_step import Step
from dataflows.routing import ModelRouter, ShardRouter
from dataflows.sources.plan_log import LogPartition, PlanLog
from dataflows.stores.day_table import TableSpec
from dataflows.stores.online_writer import OnlineWriter, open_online_writer
from dataflows.versions import VersionPublisher
from dataflows.watermark import PartitionClock

X = TypeVar("X")
Y = TypeVar("Y")
Convert = Callable[[X], Iterable[tuple[str, Y]]]
# A batch, and the clocks that are to be heard before its own; the latter may be left out.
Route = Callable[..., list[tuple[str, ShardInput]]]


def build_flow(repository: Repository, log: PlanLog, context: RunContext) -> Dataflow:
    """The flow of a repository: sources, shards, models, sinks.

    Step ids are recovery keys: they come from fixed words and the names of models, nothing else.
    """
    plan = repository.plan
    flow = Dataflow("headwater")
    partitions = log.partitions
    source = LogSource(repository.whole or plan, log, context, repository.transforms)
    batches = op.input("log", flow, source)
    forgotten = None
    if context.tombstones is not None:
        forgotten = ForgottenKeys(context.tombstones, log)
    outputs = _shards(batches, plan, len(partitions), context, forgotten)
    plain = op.map("shard_outputs", outputs, lambda item: item[1])
    workers = context.workers
    keyed = op.map("to_online_store", outputs, lambda item: (str(item[1].shard % workers), item[1]))
    op.output("online_store", keyed, OnlineSink(plan, _writer(repository, context), context))
    specs = {
        view.name: tables.view_table(view, context.places.offline[view.name])
        for view in plan.views
        if view.offline_path
    }
    streams = [op.flat_map("view_rows", plain, _view_rows(plan, specs))]
    versions: list[KeyedStream[NewVersions]] = []
    watched: list[tuple[ModelPlan, Stream[Step]]] = []
    letters = [op.flat_map("dead", batches, _dead_letters)]
    evaluations: list[KeyedStream[EvaluationRows]] = []
    for model in plan.models:
        steps = _model(batches, plain, repository, model, len(partitions), context, forgotten)
        watched.append((model, steps))
        streams.append(op.flat_map(f"model_rows_{model.name}", steps, _model_rows(model, context)))
        versions.append(
            op.flat_map(f"model_versions_{model.name}", steps, _versions(model, partitions))
        )
        evaluations.append(evaluation_step(steps, model))
        if model.schema.on_demand:
            made = _unpredicted(model, partitions, context)
            letters.append(op.flat_map(f"unpredicted_{model.name}", steps, made))
    if versions:
        names = [model.name for model in plan.models]
        merged = op.merge("all_versions", *versions)
        op.output(
            "model_repository", merged, VersionSink(_publisher(repository, context), names, context)
        )
        evaluated = op.merge("all_evaluations", *evaluations)
        op.output("evaluation", evaluated, EvaluationSink(plan.models, context))
    drift_step(watched, context)
    rows = op.merge("all_rows", *streams)
    op.output("tables", rows, _table_sink(plan, specs, context))
    dead = letters[0] if len(letters) == 1 else op.merge("all_letters", *letters)
    op.output("dead_letters", dead, DeadLetterSink(plan, context))
    return flow


def shard_routing(plan: Plan, shards: int, forgotten: ForgottenKeys | None = None) -> Route:
    """``ShardRouter.route`` for all workers: each thread that calls it has a router of its own.

    Bytewax hands the same function to all workers of a process, and a router remembers keys and
    texts in steps between which another thread must not come.
    """
    # What is compiled for a router is compiled now, and not when the first record has come.
    spare = [ShardRouter(plan, shards, forgotten)]
    own = threading.local()

    def route(
        batch: SourceBatch, before: tuple[PartitionClock, ...] = ()
    ) -> list[tuple[str, ShardInput]]:
        if not hasattr(own, "router"):
            try:
                own.router = spare.pop()
            except IndexError:
                own.router = ShardRouter(plan, shards, forgotten)
        router: ShardRouter = own.router
        return router.route(batch, before)

    return route


def learner_specs(repository: Repository) -> dict[str, LearnerSpec]:
    """Model name -> what its learner is."""
    return {
        model.name: LearnerSpec(
            name=model.name,
            schema=model.schema,
            make_learner=repository.models[model.name].learner,
            label_timeout_us=model.label_timeout_us,
            publish_every_us=model.publish_every_us,
            task=model.task,
            has_labels=bool(model.label_topic),
            on_timeout=model.on_timeout,
            segments=model.segments,
        )
        for model in repository.plan.models
    }


def _shards(
    batches: Stream[SourceBatch],
    plan: Plan,
    partitions: int,
    context: RunContext,
    forgotten: ForgottenKeys | None,
) -> KeyedStream[ShardOutput]:
    route = shard_routing(plan, context.settings.shards, forgotten)

    def route_all(batches: list[SourceBatch]) -> list[tuple[str, ShardInput]]:
        return [item for given in together(batches) for item in route(*given)]

    # What Bytewax hands over at a time is of one epoch.
    routed = op.flat_map_batch("to_shards", batches, route_all)
    return op.stateful_batch(
        "shards", routed, lambda handle: ShardLogic(plan, partitions, context, handle)
    )


def _model(
    batches: Stream[SourceBatch],
    outputs: Stream[ShardOutput],
    repository: Repository,
    model: ModelPlan,
    partitions: int,
    context: RunContext,
    forgotten: ForgottenKeys | None,
) -> Stream[Step]:
    name = model.name
    plan = repository.plan
    spec = learner_specs(repository)[name]
    router = ModelRouter(plan, model, forgotten)
    records: KeyedStream[ModelInput | ShardOutput] = op.map(
        f"to_model_{name}", batches, router.route
    )
    reads: KeyedStream[ModelInput | ShardOutput] = op.flat_map(
        f"reads_to_model_{name}", outputs, lambda output: _reads(model, output)
    )
    merged = op.merge(f"model_input_{name}", records, reads)
    steps = op.stateful_batch(
        f"model_{name}",
        merged,
        lambda handle: ModelLogic(plan, spec, partitions, context, handle),
    )
    return op.map(f"steps_{name}", steps, lambda item: item[1])


def _reads(model: ModelPlan, output: ShardOutput) -> Iterable[tuple[str, ShardOutput]]:
    wanted = {name: reads for name, reads in output.reads.items() if name in model.views}
    if wanted:
        yield model.name, replace(output, rows={}, reads=wanted)


def _view_rows(plan: Plan, specs: dict[str, TableSpec]) -> Convert[ShardOutput, TableRows]:
    views = {view.name: view for view in plan.views if view.name in specs}

    def convert(output: ShardOutput) -> Iterable[tuple[str, TableRows]]:
        for name, view in views.items():
            new = output.rows.get(name)
            batch = None if new is None else tables.view_batch(specs[name], view, new)
            yield specs[name].name, TableRows(output.shard, output.watermark_us, batch)

    return convert


def _model_rows(model: ModelPlan, context: RunContext) -> Convert[Step, TableRows]:
    examples = tables.examples_table(model, context.places.examples)
    outcomes = tables.outcomes_table(model, context.places.examples)

    def convert(step: Step) -> Iterable[tuple[str, TableRows]]:
        scored, known = step.learned.predictions, step.learned.outcomes
        context.tally.add(labels=len(known.keys), huge=step.learned.counts.huge)
        batch = tables.examples_batch(examples, scored) if len(scored.keys) else None
        yield examples.name, TableRows(0, step.watermark_us, batch)
        classes = step.learned.classes
        batch = tables.outcomes_batch(outcomes, known, classes) if len(known.keys) else None
        yield outcomes.name, TableRows(0, step.watermark_us, batch)

    return convert


def _versions(model: ModelPlan, partitions: list[LogPartition]) -> Convert[Step, NewVersions]:
    names = {partition.number: partition.name for partition in partitions}

    def convert(step: Step) -> Iterable[tuple[str, NewVersions]]:
        if step.learned.versions or step.learned.refused:
            offsets = {names[number]: offset for number, offset in step.offsets.items()}
            learned = step.learned
            yield model.name, NewVersions(model.name, learned.versions, learned.refused, offsets)

    return convert


def _unpredicted(
    model: ModelPlan, partitions: list[LogPartition], context: RunContext
) -> Convert[Step, DeadLetter]:
    by_number = {partition.number: partition for partition in partitions}

    def convert(step: Step) -> Iterable[tuple[str, DeadLetter]]:
        context.tally.add(bad=len(step.unpredicted))
        for one in step.unpredicted:
            (number,), (offset,) = split_ranks(np.array([one.rank]))
            place = by_number[number]
            # The record itself is long gone; the offset says where it stands.
            record = json.dumps({"model": model.name, model.spine_key: one.key}).encode()
            reason = f"model {model.name!r}: {one.failure} {one.failure.detail}".strip()
            yield place.topic, DeadLetter(place.topic, place.partition, offset, record, reason)

    return convert


def _table_sink(plan: Plan, specs: dict[str, TableSpec], context: RunContext) -> TableSink:
    by_name = {spec.name: spec for spec in specs.values()}
    producers = dict.fromkeys(by_name, context.settings.shards)
    for model in plan.models:
        for make in (tables.examples_table, tables.outcomes_table):
            spec = make(model, context.places.examples)
            by_name[spec.name] = spec
            producers[spec.name] = 1
    return TableSink(by_name, producers, context)


def _writer(repository: Repository, context: RunContext) -> Callable[[], OnlineWriter]:
    online, project = context.places.online, repository.store.project

    def open_writer() -> OnlineWriter:
        return open_online_writer(online, project, generation(context.places.state))

    return open_writer


def _publisher(repository: Repository, context: RunContext) -> VersionPublisher:
    models = {model.name: model for model in repository.plan.models}
    learners = {name: repr(repository.models[name].learner()) for name in models}
    store = ModelRepository.of(context.settings, context.places.models)
    # A replay makes them all: which of them somebody has chosen it finds out at the end.
    is_live = context.places.models == context.settings.model_repository
    kept = context.settings.model_versions_kept if is_live else 0
    return VersionPublisher(store, models, learners, context.git_commit, context.wall_us, kept)


def _dead_letters(batch: SourceBatch) -> Iterable[tuple[str, DeadLetter]]:
    return [(letter.topic, letter) for letter in batch.dead]
