"""A view is added to the flights, filled and cut over, while the scorer answers every request."""

from __future__ import annotations

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
from scorer.client import ClientOptions, FeaturesOf, Retries, ScorerCallError, ScorerClient
from tests.cli.readme import python_code
from tests.integration.commands import Command, Commands, wait_for
from tests.replay.world import World, running

ROOT = Path(__file__).parents[2]
SLICE = ROOT / "tests" / "data" / "flights2013"
DAY_US = 86_400_000_000
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


class FlightsWorld(World):
    """The repository of the flights."""

    def define_flights(self, definitions: str) -> None:
        """Change the definitions."""
        (self.folder / "definitions.py").write_text(definitions)


def _flights_world(folder: Path) -> FlightsWorld:
    shutil.copytree(ROOT / "feature_repo", folder, ignore=shutil.ignore_patterns("data"))
    return FlightsWorld(folder, {"shards": 4})


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
