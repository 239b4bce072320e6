"""Holds what was served against a replay of the log, feature by feature."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from contracts.plan import Plan, Topic
from contracts.settings import DataflowSettings
from dataflows.erasure.matching import EntityMatcher
from dataflows.erasure.tombstones import Tombstones, read_tombstones
from dataflows.sources.archive import survey
from dataflows.sources.archive_log import with_archive
from dataflows.sources.plan_log import PlanLog, open_log
from dataflows.sources.transform import Function
from dataflows.verify.errors import VerifyError
from dataflows.verify.history import History
from dataflows.verify.judge import AHEAD_US, Judge
from dataflows.verify.judging import Judging, OnRow
from dataflows.verify.log_rows import LogRows
from dataflows.verify.reading import Progress, chunks
from dataflows.verify.report import ModelFound, Report
from dataflows.verify.served_rows import LogCounts, ServedRow, ServedRows, Wanted
from dataflows.verify.vector_reads import VectorReads, ViewRead
from dataflows.watermark import NOT_YET

Told = Callable[[str, Progress], None]


@dataclass(frozen=True)
class Terms:
    """What is verified, and by which measure.

    Attributes:
        models: names; empty for all.
        from_us: rows served as of an earlier moment (event time, microseconds) are passed over.
        to_us: rows served as of that moment or a later one are.
        rows_max: of all rows so many are chosen, always the same ones of the same log.
        different_max: of no feature a larger share may differ.
        lag_us_max: what is stale by more is different; None for no limit.
        examples_max: so many examples of each verdict are kept, of each model.
    """

    models: tuple[str, ...] = ()
    from_us: int | None = None
    to_us: int | None = None
    rows_max: int = 100_000
    different_max: float = 0.0
    lag_us_max: int | None = None
    examples_max: int = 5


def verify(
    plan: Plan,
    functions: Mapping[str, Function],
    settings: DataflowSettings,
    terms: Terms,
    told: Told = lambda stage, progress: None,
    on_row: OnRow = lambda row, verdict: None,
) -> Report:
    """Verify what the prediction log says was served.

    Nothing is written but, in a log that lacks them, empty topics; the dataflow and the scorer may
    run meanwhile.

    Args:
        plan: of the definitions as they are now.
        functions: of its views by name, see ``Repository.transforms``.
        settings: of the dataflow.
        terms: what is verified.
        told: is told which log is being read and how far that is.
        on_row: is told of each row that the log knows the moment of, by time, with its worst
            verdict: ``equal``, ``stale``, ``different`` or ``incomparable``.

    Raises:
        VerifyError: there is no such model, or no prediction log.
        LogError: a log cannot be read.
        TombstoneError: it cannot be read who was forgotten.
        BrokenCodeError: the code of an on-demand view cannot be loaded.
    """
    models = {model.name: model for model in plan.models}
    for name in terms.models:
        if name not in models:
            raise VerifyError(
                f"definitions.py has no model {name!r}; it has {', '.join(models) or 'none'}"
            )
    reads = {
        name: VectorReads(plan, model)
        for name, model in models.items()
        if name in terms.models or not terms.models
    }
    rows, counts = _served(plan, settings, terms, reads, told)
    found = {name: ModelFound(own.schema, own, terms.examples_max) for name, own in reads.items()}
    rows, asked = _asked(rows, reads, read_tombstones(settings.state_dir), counts)
    if not rows:
        return Report(found, counts, 0, None, 0, terms.different_max)
    with closing(_with_archive(settings, plan)) as log:
        replayed = LogRows(
            log, plan, functions, settings, asked, lambda progress: told("log", progress)
        )
        with closing(replayed):
            history = History(plan, asked)
            judges = {
                name: Judge(own, history, replayed.gone_us, terms.lag_us_max)
                for name, own in reads.items()
            }
            judging = Judging(rows, judges, found, on_row)
            for new in replayed:
                history.add(new.rows, judging.needed_us)
                if judging.is_done(new.watermark_us - AHEAD_US):
                    break
            judging.finish(replayed.watermark_us)
            watermark_us = None if replayed.watermark_us == NOT_YET else replayed.watermark_us
            return Report(
                found,
                counts,
                replayed.events,
                watermark_us,
                history.look_back,
                terms.different_max,
            )


def _served(
    plan: Plan,
    settings: DataflowSettings,
    terms: Terms,
    reads: Mapping[str, VectorReads],
    told: Told,
) -> tuple[list[ServedRow], LogCounts]:
    """The rows to be verified, by their moments, and what became of the others."""
    topic = settings.prediction_topic
    if not topic:
        raise VerifyError(
            "there is no prediction log to verify: HEADWATER_PREDICTION_TOPIC is none"
        )
    if any(one.name == topic for one in plan.topics):
        raise VerifyError(
            f"HEADWATER_PREDICTION_TOPIC is {topic!r}, which is also a topic in definitions.py: "
            "give the prediction log a topic of its own"
        )
    predictions = Topic(topic, (), "event_timestamp", 0, "request_id")
    only = replace(plan, topics=(predictions,), views=(), models=())
    schemas = {name: own.schema for name, own in reads.items()}
    served = ServedRows(Wanted(schemas, terms.from_us, terms.to_us, terms.rows_max))
    with closing(_own_group(settings, only)) as log:
        for chunk in chunks(log, settings, lambda progress: told("prediction log", progress)):
            served.read(chunk)
    return served.chosen(), served.counts


def _asked(
    rows: Sequence[ServedRow],
    reads: Mapping[str, VectorReads],
    tombstones: Tombstones | None,
    counts: LogCounts,
) -> tuple[list[ServedRow], dict[str, set[bytes]]]:
    """The rows that are as their schema has them, and the entities by view that they ask for."""
    views = (read.view for own in reads.values() for read in own.reads)
    asked: dict[str, set[bytes]] = {view: set() for view in views}
    forgotten = _Forgotten(tombstones)
    good = []
    for row in rows:
        try:
            keys = reads[row.model].check(row)
        except (KeyError, TypeError, ValueError):
            counts.skipped[row.model].unlike += 1
            continue
        if forgotten.has_any(reads[row.model].reads, row):
            counts.skipped[row.model].forgotten += 1
            continue
        good.append(row)
        for view, key in keys:
            asked[view].add(key)
    return good, asked


class _Forgotten:
    """Who was forgotten; nobody if there are no tombstones."""

    def __init__(self, tombstones: Tombstones | None) -> None:
        self._tombstones = tombstones
        self._matchers: dict[tuple[str, ...], EntityMatcher] = {}

    def has_any(self, reads: Sequence[ViewRead], row: ServedRow) -> bool:
        """Whether one of the entities that were read for a row is among them."""
        if self._tombstones is None:
            return False
        for read in reads:
            if read.join_keys not in self._matchers:
                self._matchers[read.join_keys] = EntityMatcher(
                    self._tombstones, read.join_keys, read.join_key_types
                )
            values = read.entity(row.inputs)
            if None not in values and self._matchers[read.join_keys].places(values):
                return True
        return False


def _with_archive(settings: DataflowSettings, plan: Plan) -> PlanLog:
    """The log, begun in the archive if there is one."""
    # Before anything is opened: it may be far away.
    archive = survey(settings, plan) if settings.archive_url else None
    log = _own_group(settings, plan)
    try:
        return log if archive is None else with_archive(log, archive, settings)
    except BaseException:
        log.close()
        raise


def _own_group(settings: DataflowSettings, plan: Plan) -> PlanLog:
    """The log, read by a consumer group of its own; nothing is ever committed for it."""
    group = settings.kafka_group or f"headwater-{plan.project}"
    return open_log(settings.model_copy(update={"kafka_group": f"{group}-verify"}), plan)
