"""A view is added to the flights, filled and cut over, while the scorer answers every request."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cli.demo.flight_log import FlightLog, append_lines
from cli.demo.flights import SCHEDULED_TOPIC, files_in, flight_records
from cli.demo.processes import free_address
from dataflows.flow.metrics import current_progress
from scorer.client import ClientOptions, FeaturesOf, Retries, ScorerCallError, ScorerClient
from tests.cli.readme import python_code
from tests.integration.commands import Command, Commands, wait_for
from tests.replay.world import World, running

ROOT = Path(__file__).parents[2]
SLICE = ROOT / "tests" / "data" / "flights2013"
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
BEGIN_US = int(datetime(2013, 2, 9, 5, tzinfo=UTC).timestamp()) * 1_000_000
ONCE = ClientOptions(Retries(tries_max=1))
ROW: dict[str, float | int | str] = {
    "tailnum": "N14228", "origin": "EWR", "carrier": "UA", "dest": "IAH", "month": 1,
    "distance": 1400, "sched_elapsed_minutes": 227, "day_of_week": 1,
    "hour_sin": 0.97, "hour_cos": 0.26,
}  # fmt: skip
VIEW = "carrier_arrivals"


@dataclass
class Asked:
    """What came of the requests so far."""

    answered: int = 0
    failures: list[str] = field(default_factory=list)


def test_a_new_view_is_cut_over_while_the_scorer_serves(tmp_path: Path, commands: Commands) -> None:
    """It is planned, back-filled and there, with every record; no request has failed."""
    flights = FlightLog(flight_records(files_in(SLICE)))
    played_from_us = BEGIN_US + 2 * DAY_US
    world = _flights_world(tmp_path / "repository")
    flights.write(world.log, until_us=played_from_us)
    new_view = python_code("carrier_arrivals = StreamFeatureView(")
    definitions = (world.folder / "definitions.py").read_text() + new_view
    address = free_address()
    scorer = {"HEADWATER_SCORER_ADDRESS": address, "HEADWATER_MODEL_POLL_SECONDS": "0.1"}
    _done(world.start(commands, "apply"))
    with running(world, commands) as dataflow, _serving(world, commands, scorer):
        _wait_for_a_model(address)
        with _asking(address) as asked, _playing(world, flights, played_from_us):
            world.define_flights(definitions)
            plan = _done(world.start(commands, "plan"))
            assert f"headwater replay --views {VIEW}" in plan, plan
            _done(world.start(commands, "apply"))
            _wait_for_answers(asked)
            replaying = world.start(commands, "replay", "--views", VIEW, "--live")
            assert "a replay takes over" in dataflow.refuse()
            wait_for("the cut", lambda: "took over from" in replaying.output, replaying)
            _wait_for_answers(asked)
        assert asked.failures == []
        with ScorerClient(address, options=ONCE) as client:
            features = client.features(FeaturesOf(service="carriers"), {"carrier": "UA"})
        assert None not in features.values[0], features
        world.wait_until_read(replaying)
        assert replaying.stop() == 0, replaying.output
    world.run()
    # The same with that view from the first record on.
    other = _flights_world(tmp_path / "other")
    other.define_flights(definitions)
    flights.write(other.log)
    other.run()
    assert world.digest() == other.digest()


def test_changed_views_are_served_old_or_new(tmp_path: Path, commands: Commands) -> None:
    """All views of a model change: no vector has values of both, and no request has failed."""
    flights = FlightLog(flight_records(files_in(SLICE)))
    world = _flights_world(tmp_path / "repository")
    # In the afternoon, when no window is empty.
    flights.write(world.log, until_us=BEGIN_US + DAY_US + 15 * HOUR_US)
    definitions = (world.folder / "definitions.py").read_text()
    address = free_address()
    scorer = {"HEADWATER_SCORER_ADDRESS": address, "HEADWATER_MODEL_POLL_SECONDS": "0.1"}
    _done(world.start(commands, "apply"))
    with running(world, commands) as dataflow, _serving(world, commands, scorer):
        wait_for("silence", lambda: _is_silent(world), dataflow)
        _wait_for_a_model(address)
        with _asking(address) as asked:
            _wait_for_answers(asked)
            world.define_flights(definitions.replace('function="mean"', 'function="max"'))
            plan = _done(world.start(commands, "plan"))
            assert "headwater replay --model late_arrival, then" in plan, plan
            _done(world.start(commands, "apply"))
            replaying = world.start(commands, "replay", "--model", "late_arrival", "--live")
            assert "a replay takes over" in dataflow.refuse()
            wait_for("the cut", lambda: "took over from" in replaying.output, replaying)
            _wait_for_answers(asked)
        assert asked.failures == []
        assert replaying.stop() == 0, replaying.output
    served = (world.log / "predictions" / "0.ndjson").read_bytes().splitlines()
    vectors = [json.loads(line)["rows"][0]["vector"] for line in served]
    old, new = vectors[0], vectors[-1]
    changed = [place for place, value in enumerate(old) if value != new[place]]
    assert len(changed) >= 3
    for vector in vectors:
        # What the end of the log's silence adds to the new ones is not old either.
        assert len({vector[place] == old[place] for place in changed}) == 1, vector


class FlightsWorld(World):
    """The repository of the flights."""

    def define_flights(self, definitions: str) -> None:
        """Change the definitions."""
        (self.folder / "definitions.py").write_text(definitions)


def _flights_world(folder: Path) -> FlightsWorld:
    shutil.copytree(ROOT / "feature_repo", folder, ignore=shutil.ignore_patterns("data"))
    return FlightsWorld(folder, {"shards": 4})


def _is_silent(world: World) -> bool:
    """Whether the last moment of the log has taken effect too."""
    said = current_progress(world.settings.state_dir)
    partitions = [one for worker in said for one in worker.partitions.values()]
    return bool(partitions) and all(one.is_idle for one in partitions)


def _done(command: Command) -> str:
    assert command.wait() == 0, command.output
    return command.output


@contextmanager
def _serving(world: World, commands: Commands, settings: dict[str, str]) -> Iterator[Command]:
    command = world.start(commands, "serve", **settings)
    try:
        yield command
    finally:
        command.stop()


def _wait_for_a_model(address: str) -> None:
    patient = ClientOptions(Retries(tries_max=1_000))
    with ScorerClient(address, 60.0, options=patient) as client:

        def has_one() -> bool:
            try:
                return client.score("late_arrival", ROW).score >= 0
            except ScorerCallError:
                return False

        wait_for("a model that serves", has_one)


def _wait_for_answers(asked: Asked) -> None:
    before = asked.answered
    wait_for("answers", lambda: asked.answered > before + 20 or bool(asked.failures))


@contextmanager
def _asking(address: str) -> Iterator[Asked]:
    """Ask one request after the other, each once."""
    asked, stop = Asked(), threading.Event()

    def ask() -> None:
        with ScorerClient(address, 10.0, options=ONCE) as client:
            while not stop.wait(0.002):
                try:
                    client.score("late_arrival", ROW)
                    asked.answered += 1
                except ScorerCallError as error:
                    asked.failures.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield asked
    finally:
        stop.set()
        thread.join()


@contextmanager
def _playing(world: World, flights: FlightLog, from_us: int) -> Iterator[None]:
    """Append the records from a moment on, minute for minute, and the rest at the end."""
    steps, stop = flights.play_steps(from_us), threading.Event()

    def play() -> None:
        for step in steps:
            append_lines(world.log, {**step.updates, SCHEDULED_TOPIC: step.scheduled})
            if stop.wait(0.01):
                return

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        stop.clear()
        for step in steps:
            append_lines(world.log, {**step.updates, SCHEDULED_TOPIC: step.scheduled})
