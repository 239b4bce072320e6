"""Holds what was served against a replay of the log, feature by feature."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from contracts.plan import Plan, Topic
from contracts.settings import DataflowSettings
from dataflows.sources.plan_log import PlanLog, open_log
from dataflows.sources.transform import Function
from dataflows.verify.errors import VerifyError
from dataflows.verify.history import History
from dataflows.verify.judge import AHEAD_US, Judge
from dataflows.verify.log_rows import LogRows, Progress, chunks
from dataflows.verify.report import ModelFound, Report
from dataflows.verify.served_rows import LogCounts, ServedRow, ServedRows, Wanted
from dataflows.verify.vector_reads import VectorReads
from dataflows.watermark import NOT_YET

# Rows whose on-demand views are run together.
_TOGETHER_MAX = 4_096

Told = Callable[[str, Progress], None]
OnRow = Callable[[ServedRow, str], None]


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
    rows, asked = _asked(rows, reads, counts)
    if not rows:
        return Report(found, counts, 0, None, 0, terms.different_max)
    with closing(_own_group(settings, plan)) as log:
        replayed = LogRows(
            log, plan, functions, settings, asked, lambda progress: told("log", progress)
        )
        with closing(replayed):
            history = History(plan, asked)
            judging = _Judging(rows, history, replayed, reads, found, plan, terms, on_row)
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


class _Judging:
    """Judges rows as soon as all is known that their verdict depends on."""

    def __init__(
        self,
        rows: Sequence[ServedRow],
        history: History,
        replayed: LogRows,
        reads: Mapping[str, VectorReads],
        found: Mapping[str, ModelFound],
        plan: Plan,
        terms: Terms,
        on_row: OnRow,
    ) -> None:
        self._rows = rows
        self._next = 0
        self._found = found
        self._on_row = on_row
        # The judges look at it when they judge; by then it is known of all partitions.
        self._gone_us: dict[str, int] = {}
        self._topics = {view.name: view.topic for view in plan.views}
        self._replayed = replayed
        self._judges = {
            name: Judge(own, history, self._gone_us, terms.lag_us_max)
            for name, own in reads.items()
        }

    @property
    def needed_us(self) -> int:
        """No row that is left is of an earlier moment."""
        return self._rows[min(self._next, len(self._rows) - 1)].at_us

    def is_done(self, known_us: int) -> bool:
        """Judge the rows up to a moment; whether none is left."""
        for view, topic in self._topics.items():
            if topic in self._replayed.gone_us:
                self._gone_us[view] = self._replayed.gone_us[topic]
        while self._next < len(self._rows) and self._rows[self._next].at_us <= known_us:
            begin = self._next
            end = min(begin + _TOGETHER_MAX, len(self._rows))
            while self._rows[end - 1].at_us > known_us:
                end -= 1
            self._next = end
            self._judge(self._rows[begin:end])
        return self._next == len(self._rows)

    def finish(self, known_us: int) -> None:
        """Judge what the log knows the moment of; the others are not yet known."""
        self.is_done(known_us)
        for row in self._rows[self._next :]:
            self._found[row.model].rows.not_yet_known += 1

    def _judge(self, rows: Sequence[ServedRow]) -> None:
        by_model: dict[str, list[ServedRow]] = {}
        for row in rows:
            by_model.setdefault(row.model, []).append(row)
        for name, own in by_model.items():
            for row, judged in zip(own, self._judges[name].judge(own), strict=True):
                self._on_row(row, self._found[name].add(row, judged))


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
    rows: Sequence[ServedRow], reads: Mapping[str, VectorReads], counts: LogCounts
) -> tuple[list[ServedRow], dict[str, set[bytes]]]:
    """The rows that are as their schema has them, and the entities by view that they ask for."""
    asked: dict[str, set[bytes]] = {
        read.view: set() for own in reads.values() for read in own.reads
    }
    good = []
    for row in rows:
        try:
            keys = reads[row.model].check(row)
        except (KeyError, TypeError, ValueError):
            counts.skipped[row.model].unlike += 1
            continue
        good.append(row)
        for view, key in keys:
            asked[view].add(key)
    return good, asked


def _own_group(settings: DataflowSettings, plan: Plan) -> PlanLog:
    """The log, read by a consumer group of its own; nothing is ever committed for it."""
    group = settings.kafka_group or f"headwater-{plan.project}"
    return open_log(settings.model_copy(update={"kafka_group": f"{group}-verify"}), plan)
