"""apply, run, features, serve, score and models, one after the other on a small repository."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from contracts.plan_file import plan_path, read_plan
from tests.cli.rides import DEFINITIONS, RIDES, SECONDS_MAX, Rides, asked, done, lines
from tests.integration.commands import Commands


def _features(ran: Rides, commands: Commands, *words: str) -> Any:
    result = ran.forked(commands, "features", "rides", *words)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_apply_makes_everything_that_readers_need(ran: Rides) -> None:
    """After apply there are a registry, tables, folders and the plan with its services."""
    applied = read_plan(plan_path(ran.folder))
    assert [view.name for view in applied.plan.views] == ["city_rides", "driver_rides"]
    assert applied.services == {
        "rides": (
            ("city_rides", "worst"),
            ("driver_rides", "last_late"),
            ("driver_rides", "rides"),
        )
    }
    data = ran.folder / "data"
    assert (data / "registry.db").is_file()
    assert (data / "offline" / "city_rides").is_dir()
    with closing(sqlite3.connect(data / "online.db")) as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
    assert {"rides_city_rides", "rides_driver_rides"} <= tables


def test_applying_again_changes_nothing(ran: Rides) -> None:
    """A second apply without a change exits with 0 and leaves registry and plan untouched."""
    files = [ran.folder / "data" / name for name in ("registry.db", "headwater.json")]
    before = [(file.read_bytes(), file.stat().st_mtime_ns) for file in files]
    result = ran.headwater("apply")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("nothing changed\n")
    assert [(file.read_bytes(), file.stat().st_mtime_ns) for file in files] == before


def test_apply_refuses_before_it_changes_anything(rides: Rides, commands: Commands) -> None:
    """What cannot be executed is refused by name, and nothing is made."""
    rides.create(DEFINITIONS.replace('function="max"', 'function="median"'))
    result = rides.forked(commands, "apply")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    for word in ("headwater: ", "city_rides", "worst", "median"):
        assert word in result.stderr
    assert not (rides.folder / "data").exists()


def test_run_tells_what_it_did(ran: Rides, commands: Commands) -> None:
    """A run until the end sums up events and versions; a further one finds nothing new."""
    result = ran.forked(commands, "run", "--until-end")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("0 events ")


def test_features_are_those_of_the_last_ride(ran: Rides, commands: Commands) -> None:
    """Values, event times and ages of an entity come as JSON, typed as the views say."""
    number = max(i for i in range(RIDES) if asked(i)["driver"] == 3)
    shown = _features(ran, commands, "driver=3", "city=Ulm")
    assert shown["service"] == "rides"
    assert shown["entity"] == {"city": "Ulm", "driver": 3}
    assert list(shown["features"]) == [
        "city_rides:worst",
        "driver_rides:last_late",
        "driver_rides:rides",
    ]
    last = shown["features"]["driver_rides:last_late"]
    assert last["value"] == done(number)["late"]
    # A value holds from one microsecond after its event on.
    assert last["event_timestamp"] == f"{str(done(number)['event_timestamp'])[:-1]}.000001Z"
    assert last["age_seconds"] > 0
    assert not last["expired"]
    count = shown["features"]["driver_rides:rides"]["value"]
    assert (count, type(count)) == (sum(asked(i)["driver"] == 3 for i in range(RIDES)), int)
    assert shown["features"]["city_rides:worst"]["expired"]


def test_an_entity_that_nobody_has_seen(ran: Rides, commands: Commands) -> None:
    """Every feature of an unknown entity is null and has no age."""
    shown = _features(ran, commands, "driver=999", "city=Rom")
    assert shown["features"]["driver_rides:rides"] == {
        "value": None,
        "event_timestamp": None,
        "age_seconds": None,
        "expired": False,
    }


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["nothing", "a=1"], 1, "no feature service 'nothing'; there are: rides"),
        (["rides", "driver=3"], 2, "'city' (string) is missing"),
        (["rides", "driver=3", "city=Ulm", "x=1"], 2, "'x'"),
        (["rides", "driver=Tom", "city=Ulm"], 2, "'driver' must be int64"),
    ],
)
def test_features_names_what_is_wrong(
    ran: Rides, words: list[str], code: int, named: str, commands: Commands
) -> None:
    """An unknown service fails, a wrong key is a usage error; both are named."""
    result = ran.forked(commands, "features", *words)
    assert result.returncode == code
    assert named in result.stderr
    assert result.stdout == ""


@contextmanager
def _served(ran: Rides) -> Iterator[Rides]:
    """The repository with a scorer running on it."""
    free = Rides(ran.folder, {"HEADWATER_SCORER_ADDRESS": "127.0.0.1:0"})
    with free.started("serve") as process:
        assert process.stdout is not None
        address = process.stdout.readline().removeprefix("serving on ").strip()
        yield Rides(ran.folder, {"HEADWATER_SCORER_ADDRESS": address})
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS_MAX) == 0


def test_score_gives_what_was_scored(ran: Rides, commands: Commands) -> None:
    """One row is scored with the features that `features` shows; errors carry their status."""
    with _served(ran) as served:
        result = served.headwater(
            "score", "late_ride", "driver=3", "city=Ulm", "km=4", "--event-time",
            "2024-05-03T02:00:00Z",
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        answer = json.loads(result.stdout)
        assert (answer["model"], answer["missing"]) == ("late_ride", [])
        assert 0 < answer["score"] < 1
        stored = _features(ran, commands, "driver=3", "city=Ulm")["features"]
        expected = {name: float(cell["value"]) for name, cell in stored.items()}
        assert answer["features"] == {"km": 4.0, **expected}

        nobody = served.forked(commands, "score", "late_ride", "driver=3", "city=null", "km=4")
        assert json.loads(nobody.stdout)["missing"] == ["city_rides:worst"]
        for words, status in (
            (["unknown", "a=1"], "NOT_FOUND"),
            (["late_ride", "driver=3", "km=4"], "INVALID_ARGUMENT"),
            (["late_ride", "driver=3", "city=Ulm", "km=far"], "INVALID_ARGUMENT"),
        ):
            refused = served.forked(commands, "score", *words)
            assert refused.returncode == 1
            assert refused.stderr.startswith(f"headwater: {status}: ")
            assert refused.stderr.count("\n") == 1


def test_no_scorer_is_said_so(tmp_path: Path) -> None:
    """Where no scorer listens, score fails with one line that says how to start one."""
    result = Rides(tmp_path, {"HEADWATER_SCORER_ADDRESS": "127.0.0.1:1"}).headwater("score", "m")
    assert result.returncode == 1
    assert "no scorer answers at 127.0.0.1:1" in result.stderr
    assert result.stderr.count("\n") == 1


def test_models_are_listed_promoted_and_rolled_back(ran: Rides, commands: Commands) -> None:
    """Promotion and rollback move the champion and are in the audit file with their reasons."""
    (listed,) = json.loads(ran.forked(commands, "models", "list", "--json").stdout)
    assert (listed["model"], listed["examples"]) == ("late_ride", RIDES)
    assert listed["versions"] > 2
    newest = listed["champion"]
    assert "late_ride" in ran.headwater("models", "list").stdout

    promoted = ran.forked(commands, "models", "promote", "late_ride", "1", "--reason", "why")
    assert promoted.returncode == 0
    shown = json.loads(ran.forked(commands, "models", "show", "late_ride", "--json").stdout)
    assert shown["version"] == "1"
    assert ran.forked(commands, "models", "rollback", "late_ride").returncode == 0
    (listed,) = json.loads(ran.forked(commands, "models", "list", "--json").stdout)
    assert listed["champion"] == newest
    audit = (ran.folder / "data" / "models" / "late_ride" / "audit.ndjson").read_text()
    assert [json.loads(line)["reason"] for line in audit.splitlines()[-2:]] == ["why", "by hand"]

    missing = ran.forked(commands, "models", "promote", "late_ride", "999")
    assert (missing.returncode, missing.stderr.count("\n")) == (1, 1)
    assert "'999'" in missing.stderr


def test_run_follows_the_log_until_sigterm(rides: Rides, commands: Commands) -> None:
    """Without --until-end new records are taken up at once; SIGTERM ends it with exit 0."""
    with closing(_free_port()) as port:
        metrics = f"127.0.0.1:{port.getsockname()[1]}"
    running = Rides(rides.folder, {"HEADWATER_METRICS_ADDRESS": metrics})
    with running.started("run") as process:
        for topic, make in (("rides.asked", asked), ("rides.done", done)):
            records = lines([make(i) for i in range(50)])
            assert rides.forked(commands, "produce", topic, given=records).returncode == 0
        assert _scraped(metrics, "headwater_events_total", 100)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 0, err
    assert out.startswith("100 events in ")


def _free_port() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    return listener


def _scraped(address: str, name: str, value: float) -> bool:
    """Wait until the endpoint shows that value."""
    end = time.monotonic() + SECONDS_MAX
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as page:
                if f"{name} {value:.1f}" in page.read().decode():
                    return True
        except OSError:
            pass
        time.sleep(0.05)
    return False
