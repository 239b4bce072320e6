"""`headwater evaluate`: reads, evaluates what was served, and moves the channels."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, fields, replace

from contracts.evaluation_file import evaluation_file, write_evaluation
from contracts.model_repository import ModelRepository
from contracts.plan import ModelPlan, Plan
from contracts.settings import EvaluatorSettings
from dataflows.batches import SourceBatch
from dataflows.routing import ModelRouter
from dataflows.served.decisions import DecisionMaker
from dataflows.served.model import ServedLabels, ServedModel
from dataflows.served.reading import Ahead, EvaluatorLog
from dataflows.served.rows import Record, RecordCounts, RecordReader, Remembered
from dataflows.served.state import (
    EvaluatorError,
    EvaluatorState,
    evaluator_folder,
    read_state,
    sole_evaluator,
    write_state,
)

# A record that a failure put into the log twice stands among as many as a scorer writes at once.
_REMEMBERED = 65_536
# Saving takes no more of the time than this.
_SAVING_SHARE = 0.1
# Until brokers have told that all was read.
_POLL_SECONDS = 0.01


@dataclass(frozen=True)
class Clocks:
    """Clocks of a run.

    Attributes:
        wall_us: microseconds since 1970; only for the audit file.
        monotonic: seconds.
    """

    wall_us: Callable[[], int] = lambda: time.time_ns() // 1000
    monotonic: Callable[[], float] = time.monotonic


class Evaluator:
    """One run over all models that have labels. Not safe for threads.

    Attributes:
        models: name -> all that is known of it.
        decisions: what is to be done, and what was.
        figures: model, version, name and value of the figures that were shown last.
    """

    def __init__(
        self,
        plan: Plan,
        settings: EvaluatorSettings,
        stop: threading.Event,
        tell: Callable[[str], None],
        clocks: Clocks | None = None,
    ) -> None:
        """Nothing is opened before ``run``; ``tell`` gets lines for people."""
        self._settings, self._stop, self._tell = settings, stop, tell
        self._clocks = clocks or Clocks()
        models = tuple(model for model in plan.models if model.label_topic)
        if not models:
            raise EvaluatorError("no model in definitions.py has labels: nothing can be evaluated")
        self._plan = replace(plan, models=models)
        self._folder = evaluator_folder(settings.state_dir)
        self._repository = ModelRepository(settings.model_repository)
        self.models = {model.name: self._new(model) for model in models}
        self._routers = {model.name: ModelRouter(plan, model) for model in models}
        self._seen = Remembered(_REMEMBERED)
        self._reader = RecordReader(self.models.__contains__, self._seen)
        self.decisions = DecisionMaker(self._repository, self._clocks.wall_us, tell)
        self._saved_at, self._saving_seconds = float("-inf"), 0.0
        self._is_saved = True
        self.figures: list[tuple[str, str, str, float]] = []

    @property
    def records(self) -> RecordCounts:
        """What became of the prediction log's records."""
        return self._reader.counts

    def run(self, *, until_end: bool) -> None:
        """Run until the stop event, or until what the log holds now is done.

        Raises:
            EvaluatorError: another one runs, or its state cannot be used.
            LogError, OSError: what went wrong; nothing is lost.
        """
        with sole_evaluator(self._folder):
            state = read_state(self._folder) or EvaluatorState()
            log = EvaluatorLog(
                self._settings,
                self._plan,
                state.positions,
                _ahead(self._plan),
                self._stop.wait,
                until_end=until_end,
            )
            with closing(log):
                self._load(state, log)
                # What was saved last may not have been shown, or done, before the end came.
                self._show()
                self._carry_out()
                self._run(log, until_end=until_end)
                self._save(log)
                self._carry_out()

    def _run(self, log: EvaluatorLog, *, until_end: bool) -> None:
        while not self._stop.is_set():
            is_news = self._step(log)
            for served in self.models.values():
                self.decisions.look(served)
            if self.decisions.pending or self._is_due():
                self._save(log)
            self._carry_out()
            if log.is_behind or (is_news and until_end):
                continue
            if until_end and log.is_over:
                return
            # Not at each record that comes: a look takes its time, too.
            self._stop.wait(_POLL_SECONDS if until_end else self._settings.evaluate_seconds)

    def _step(self, log: EvaluatorLog) -> bool:
        """Take in a piece of each partition; whether there was anything."""
        chunks, batches = log.read(self._settings.batch_bytes)
        records: dict[str, list[Record]] = {name: [] for name in self.models}
        for chunk in chunks:
            for record in self._reader.read(chunk):
                records[record.model].append(record)
        log.told_prediction_times(r.at_us for found in records.values() for r in found)
        for name, served in self.models.items():
            labels = self._labels(name, batches)
            served.add(records[name], labels, log.clock_us(served.plan.label_topic))
        self._is_saved = self._is_saved and not (chunks or batches)
        return bool(chunks or batches)

    def _labels(self, model: str, batches: list[SourceBatch]) -> ServedLabels:
        keys: list[str | None] = []
        times_us: list[int] = []
        values: list[float | str | None] = []
        for batch in batches:
            if batch.topic != self.models[model].plan.label_topic:
                continue
            found = self._routers[model].route(batch)[1].labels
            if found is None:
                continue
            keys += found.keys
            times_us += found.effective_us.tolist()
            values += found.texts or found.values.tolist()
        return ServedLabels(keys, times_us, values)

    def _is_due(self) -> bool:
        if self._is_saved:
            return False
        pause = max(self._settings.evaluate_seconds, self._saving_seconds / _SAVING_SHARE)
        return self._clocks.monotonic() >= self._saved_at + pause

    def _save(self, log: EvaluatorLog) -> None:
        """Write the state, and only then show what it says."""
        begin = self._clocks.monotonic()
        state = EvaluatorState(
            log=log.identity,
            positions=log.positions,
            models={name: served.dump() for name, served in self.models.items()},
            pending=dict(self.decisions.pending),
            records=asdict(self._reader.counts),
            seen=self._seen.dump(),
        )
        write_state(self._folder, state)
        log.committed()
        self._show()
        self._is_saved = True
        self._saved_at = self._clocks.monotonic()
        self._saving_seconds = self._saved_at - begin

    def _show(self) -> None:
        figures: list[tuple[str, str, str, float]] = []
        for name, served in self.models.items():
            now = self.decisions.channels(name)
            if now is None:
                continue
            # One version may be in two channels.
            serving = {now.champion, now.challenger, now.shadow}
            versions = sorted(version for version in serving if version is not None)
            served.keep(versions)
            file = evaluation_file(self._repository.root, name, "served")
            report = served.report()
            write_evaluation(file, name, report)
            for version in versions:
                found = report["versions"].get(version, {"all": {}})["all"]
                figures += [
                    (name, version, metric, value)
                    for metric, value in found.items()
                    if isinstance(value, int | float)
                ]
        self.figures = figures

    def _carry_out(self) -> None:
        for served in self.models.values():
            self.decisions.carry_out(served)

    def _load(self, state: EvaluatorState, log: EvaluatorLog) -> None:
        if state.log and state.log != log.identity:
            raise EvaluatorError(
                f"{self._folder} goes on from another log than HEADWATER_LOG_URL names: set it "
                "back, or remove that folder, and the evaluation begins anew"
            )
        for name, data in state.models.items():
            model = self.models.get(name)
            if model is None:
                continue
            try:
                model.load(data)
            except (ValueError, KeyError) as error:
                self._tell(f"{name}: its served figures begin anew, for {error}")
                self.models[name] = self._new(model.plan)
        self.decisions.pending = {n: p for n, p in state.pending.items() if n in self.models}
        self._seen.load(state.seen)
        known = {each.name for each in fields(RecordCounts)}
        counts = {name: count for name, count in state.records.items() if name in known}
        self._reader.counts = RecordCounts(**counts)

    def _new(self, model: ModelPlan) -> ServedModel:
        return ServedModel(model, self._settings.evaluate_rows_max)


def _ahead(plan: Plan) -> Ahead:
    """Labels must not be given up before their predictions are read; these only take room."""
    timeouts_us = [model.label_timeout_us for model in plan.models]
    return Ahead(min(timeouts_us) // 2, max(timeouts_us))
