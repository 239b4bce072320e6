"""The demo from start to end: publish the history, run, serve, play the last days, report."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from cli.demo import report as reports
from cli.demo.batch import BatchReport, compare_batch_with_online
from cli.demo.comparison import compare, verify_served
from cli.demo.flight_log import Counts, FlightLog, Step
from cli.demo.flights import DEPARTED_TOPIC, SCHEDULED_TOPIC, FlightFiles, flight_records
from cli.demo.player import Pace, Player, Served
from cli.demo.processes import Process, free_address, wait_until
from contracts.model_repository import ModelRepository
from contracts.plan_file import plan_path, read_plan
from contracts.settings import DataflowSettings
from dataflows.changes.rate import note_rate
from dataflows.flow.progress import read_progress
from scorer.client import ScorerCallError, ScorerClient

MODEL = "late_arrival"
STATIC = "late_arrival_static"
US_PER_DAY = 86_400_000_000
# The last flights of December 31 in New York leave on January 1 in UTC: one day and 29 hours.
LAST_DAYS = Pace(days=3, waiting_days=1, time_lapse=6_000.0)
STARTUP_SECONDS_MAX = 120.0
CATCH_UP_SECONDS_MAX = 900.0
POLL_SECONDS = 0.05


class Advance(Protocol):
    """Tells a person how far a stage of the demo is."""

    def __call__(self, stage: str, done: float, total: float) -> None:
        """``done`` of ``total``, whatever the unit."""


@dataclass(frozen=True)
class History:
    """What was published before the play begins."""

    log: FlightLog
    play_from_us: int
    last_us: int
    flights: int
    left_early: frozenset[str]
    counts: Counts


class Stage:
    """The places and processes of one demo."""

    def __init__(self, output: Path, repo: Path, advance: Advance) -> None:
        """Make ``output`` anew, with a copy of ``repo``."""
        if output.exists():
            shutil.rmtree(output)
        self.output = output
        self.repo = output / "feature_repo"
        shutil.copytree(repo, self.repo, ignore=shutil.ignore_patterns("data", "__pycache__"))
        self.advance = advance
        self.address = free_address()
        self.environment = {
            **{name: "" for name in os.environ if name.startswith("HEADWATER_")},
            "HEADWATER_SCORER_ADDRESS": self.address,
            "HEADWATER_IDLE_TIMEOUT_SECONDS": "0.02",
            "HEADWATER_MODEL_POLL_SECONDS": "0.05",
        }
        data = self.repo / "data"
        self.log = data / "log"
        self.settings = DataflowSettings.for_repo(
            self.repo,
            log_url=self.log.as_uri(),
            state_dir=data / "state",
            examples_dir=data / "examples",
            model_repository=data / "models",
        )
        self.models = ModelRepository(self.settings.model_repository)

    def start(self, verb: str) -> Process:
        """Start ``headwater VERB`` on the copy of the repository."""
        return Process(verb, self.repo, self.output / f"{verb}.log", self.environment)

    def online_us(self) -> int:
        """Up to which event time the online store is complete; 0 while it is not known."""
        workers = read_progress(self.settings.state_dir)
        if sum(worker.shards for worker in workers) < self.settings.shards:
            return 0
        return min(worker.online_watermark_us for worker in workers)

    def is_serving(self) -> bool:
        """Whether the scorer answers and has the model."""
        try:
            with ScorerClient(self.address, deadline_seconds=1.0) as client:
                return bool(client.models().get(MODEL))
        except ScorerCallError:
            return False


def run_demo(
    output: Path, repo: Path, files: FlightFiles, console: Console, pace: Pace = LAST_DAYS
) -> reports.Report:
    """Everything, into a fresh ``output`` folder; raise DemoError."""
    begun = time.monotonic()
    with _progress(console) as advance:
        stage = Stage(output, repo, advance)
        apply = stage.start("apply")
        history = _publish(files, stage, pace)
        apply.finish(STARTUP_SECONDS_MAX)
        run, serve = stage.start("run"), stage.start("serve")
        try:
            speed = _catch_up(run, history, stage)
            wait_until(stage.is_serving, serve, STARTUP_SECONDS_MAX, POLL_SECONDS)
            served = _play(run, history, stage, pace)
            wait_until(
                lambda: stage.online_us() >= history.last_us, run, STARTUP_SECONDS_MAX, POLL_SECONDS
            )
            serve.stop()
            run.stop()
        finally:
            serve.kill()
            run.kill()
        batch = _train(history, stage)
        advance("Reporting", 0, 1)
        report = _report(history, served, speed, begun, stage, batch)
        advance("Reporting", 1, 1)
    return report


def _publish(files: FlightFiles, stage: Stage, pace: Pace) -> History:
    stage.advance("Publishing the history", 0, 1)
    records = flight_records(files)
    scheduled_us = records[SCHEDULED_TOPIC]["event_timestamp"]
    play_from_us = (scheduled_us[-1].as_py() // US_PER_DAY - pace.days + 1) * US_PER_DAY
    last_us = max(table["event_timestamp"][-1].as_py() for table in records.values())
    log = FlightLog(records)
    counts = log.write(stage.log, until_us=play_from_us)
    stage.advance("Publishing the history", 1, 1)
    early = _left_early(records)
    return History(log, play_from_us, last_us, len(scheduled_us), early, counts)


def _left_early(records: dict[str, pa.Table]) -> frozenset[str]:
    """Flights that had left when they were scheduled to: their delay was known by then."""
    left = records[DEPARTED_TOPIC].filter(pc.field("dep_delay") < 0)
    return frozenset(left["flight_id"].to_pylist())


def _catch_up(run: Process, history: History, stage: Stage) -> float:
    """Wait until the dataflow has taken the history in; its events per second."""
    total = history.counts.total

    def is_done() -> bool:
        workers = read_progress(stage.settings.state_dir)
        events = sum(worker.events for worker in workers)
        stage.advance("Dataflow, from January on", events, total)
        return events >= total and stage.online_us() > 0

    wait_until(is_done, run, CATCH_UP_SECONDS_MAX, POLL_SECONDS)
    state = stage.settings.state_dir
    (worker,) = read_progress(state)
    # The dataflow goes on from here, so it leaves none itself.
    note_rate(state, worker.events, worker.seconds, read_plan(plan_path(stage.repo)).plan)
    return worker.events / worker.seconds


def _play(run: Process, history: History, stage: Stage, pace: Pace) -> list[Served]:
    player = Player(stage.log, stage.address, MODEL, stage.online_us, run.check)
    paced_from_us = history.play_from_us + pace.waiting_days * US_PER_DAY

    def on_step(step: Step) -> None:
        done = step.at_us - history.play_from_us
        stage.advance("Playing the last days", done, pace.days * US_PER_DAY)

    steps = history.log.play_steps(history.play_from_us)
    return player.play(steps, paced_from_us, pace, on_step)


def _train(history: History, stage: Stage) -> BatchReport:
    """A champion out of the first half of the year, and what the other half says of it."""
    stage.advance("Training on January to June", 0, 1)
    plan = read_plan(plan_path(stage.repo)).plan.model(MODEL)
    report = compare_batch_with_online(
        plan,
        stage.settings.examples_dir,
        stage.models,
        reports.JULY_1_US,
        history.left_early,
        lambda: time.time_ns() // 1000,
    )
    stage.advance("Training on January to June", 1, 1)
    return report


def _report(
    history: History,
    served: list[Served],
    speed: float,
    begun: float,
    stage: Stage,
    batch: BatchReport,
) -> reports.Report:
    outcomes = {
        model: reports.Outcomes.read(stage.settings.examples_dir / model / "outcomes")
        for model in (MODEL, STATIC)
    }
    reports.draw(outcomes[MODEL], outcomes[STATIC], stage.output / "auc.png")
    newest = stage.models.versions(MODEL)[-1]
    schema = stage.models.load(MODEL, newest)[0].schema
    examples = stage.settings.examples_dir / MODEL / "examples"
    offline = {f.view: stage.repo / "data" / "offline" / f.view for f in schema.fields if f.view}
    everything = compare(served, schema, examples, offline)
    verified = verify_served(stage.repo, stage.settings)
    waited = compare([one for one in served if one.waited], schema, examples, offline)
    report = reports.Report(
        events=sum(worker.events for worker in read_progress(stage.settings.state_dir)),
        flights=history.flights,
        events_per_second=round(speed, 1),
        auc=reports.area(outcomes[MODEL], outcomes[STATIC]),
        auc_before_departure=reports.area(
            *(outcomes[model].without(history.left_early) for model in (MODEL, STATIC))
        ),
        online_examples=len(outcomes[MODEL].labels),
        versions_published=reports.learned_versions(stage.models),
        versions_served=len({one.version for one in served}),
        scores=len(served),
        score_p50_ms=reports.latency_ms(served, 50),
        score_p99_ms=reports.latency_ms(served, 99),
        onnx_parity_max_abs_diff=reports.parity_max(stage.models),
        served_vs_dataflow=reports.counts(everything),
        waited=reports.counts(waited),
        verified=verified,
        batch=batch,
        seconds=round(time.monotonic() - begun, 1),
    )
    reports.write_json(report, stage.output / "report.json")
    return report


@contextmanager
def _progress(console: Console) -> Iterator[Advance]:
    """Bars on a terminal, a line at the end of each stage elsewhere."""
    columns = (TextColumn("{task.description:28}"), BarColumn(), TimeElapsedColumn())
    stages: dict[str, TaskID] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        def advance(stage: str, done: float, total: float) -> None:
            if stage not in stages:
                stages[stage] = progress.add_task(stage, total=total)
                if not console.is_terminal:
                    console.print(f"{stage} ...")
            progress.update(stages[stage], completed=done, total=total)

        yield advance
