"""What `headwater plan` tells of definitions in a real Git repository, beside a state of a run."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from contracts.plan import Plan
from dataflows.changes.rate import note_rate
from tests.cli.rides import DEFINITIONS, RIDES, Rides
from tests.integration.commands import Commands

NEW_VIEW = """
driver_days = StreamFeatureView(
    name="driver_days",
    entities=[driver],
    source=stream("driver_days", "rides.done", DONE),
    mode="python",
    timestamp_field="event_timestamp",
    aggregations=[
        Aggregation(column="late", function="max", time_window=timedelta(days=1), name="worst_day")
    ],
    schema=[Field(name="driver", dtype=Int64), Field(name="worst_day", dtype=Float64)],
)
"""
# The last ride was done at 01:55 of the third of May.
A_DAY_BEFORE_THE_END = "2024-05-02T01:55:00Z"


@pytest.fixture
def there(ran: Rides, tmp_path: Path) -> Rides:
    """A copy of a repository with the state of a run, in a folder of a Git repository."""
    copy = Rides(tmp_path / "git" / "feature_repo")
    shutil.copytree(ran.folder, copy.folder)
    plan_file = copy.folder / "data" / "headwater.json"
    plan_file.write_text(plan_file.read_text().replace(str(ran.folder), str(copy.folder)))
    (copy.folder.parent / ".gitignore").write_text("data/\n")
    _git(copy, "init", "--quiet", "--initial-branch=main")
    _commit(copy)
    return copy


def _git(rides: Rides, *words: str) -> str:
    who = ("-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(rides.folder.parent), *who, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _commit(rides: Rides) -> None:
    _git(rides, "add", "--all")
    _git(rides, "commit", "--quiet", "--message", "definitions")


def _write(rides: Rides, definitions: str) -> None:
    (rides.folder / "definitions.py").write_text(definitions)


def _planned(rides: Rides, commands: Commands, *words: str) -> dict[str, Any]:
    result = rides.forked(commands, "plan", "--json", *words)
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def _kinds(found: dict[str, Any], sort: str) -> dict[str, str]:
    return {one["name"]: one["kind"] for one in found["changes"][sort]}


def test_a_new_view_and_the_commit_before(there: Rides, commands: Commands) -> None:
    """A view that no model reads is replayed alone; the commit of the state changes nothing."""
    _write(there, DEFINITIONS + NEW_VIEW)
    _commit(there)
    log = there.folder / "data" / "log"
    before = {path: path.stat().st_mtime_ns for path in log.rglob("*")}
    found = _planned(there, commands)
    assert _kinds(found, "views") == {
        "city_rides": "unchanged", "driver_days": "new", "driver_rides": "unchanged"
    }  # fmt: skip
    assert found["compared_with"]["kind"] == "state"
    assert found["replay"] == {
        "scope": "parts",
        "because": [],
        "views": ["driver_days"],
        "models": [],
        "gone_views": [],
        "gone_models": [],
        "command": "headwater replay --views driver_days",
        "values_need_log_from": found["replay"]["values_need_log_from"],
    }
    assert found["replay"]["values_need_log_from"] == A_DAY_BEFORE_THE_END
    assert found["online_features"] == {"driver_days:worst_day": "new"}
    assert found["log"]["records"] == 2 * RIDES
    assert found["next"] == [
        "headwater apply", "headwater replay --views driver_days", "headwater run"
    ]  # fmt: skip
    note_rate(there.folder / "data" / "state", 100_000, 10.0, Plan("", (), (), ()))
    shown = there.forked(commands, "plan").stdout.splitlines()
    assert "+ view driver_days: new" in shown
    assert any(line.startswith("how long: about 1 s: 600 records at 10,000") for line in shown)
    assert shown[-1] == f"next: {', then '.join(found['next'])}"
    assert {path: path.stat().st_mtime_ns for path in log.rglob("*")} == before
    # The whole command as people start it: it compiles the commit in a process of its own.
    result = there.headwater("plan", "HEAD~1")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[0].startswith(
        f"commit {_git(there, 'rev-parse', 'HEAD~1')[:12]} compared with what the state was made of"
    )
    assert (
        result.stdout.splitlines()[-1] == "nothing to do: the state is what these definitions make"
    )


def test_what_a_model_reads_is_replayed_with_it(there: Rides, commands: Commands) -> None:
    """A changed view takes its model and the other views of that along, but no view beside them."""
    _write(there, DEFINITIONS + NEW_VIEW)
    shutil.rmtree(there.folder / "data" / "state")
    (there.folder / "data" / "online.db").unlink()
    assert there.forked(commands, "apply").returncode == 0
    assert there.forked(commands, "run", "--until-end").returncode == 0
    _write(there, DEFINITIONS.replace('function="last"', 'function="mean"') + NEW_VIEW)
    found = _planned(there, commands)
    assert found["replay"]["command"] == "headwater replay --model late_ride"
    assert found["replay"]["views"] == ["city_rides", "driver_rides"]
    assert found["replay"]["models"] == ["late_ride"]
    assert found["replay"]["values_need_log_from"] is None
    (change,) = (one for one in found["changes"]["views"] if one["kind"] == "changed")
    (detail,) = change["details"]
    assert detail == {
        "text": "feature last_late: last of late float64 as float64 -> mean of late float64 as "
        "float64",
        "rebuilds": True,
    }
    refused = there.forked(commands, "run", "--until-end")
    assert refused.returncode == 1
    assert "`headwater plan` shows what of it" in refused.stderr


def test_the_use_of_a_model_is_in_no_state(there: Rides, commands: Commands) -> None:
    """After another intended use `plan` wants no replay, and `run` goes on with the state."""
    _write(there, DEFINITIONS.replace("publish_every=", 'intended_use="to learn", publish_every='))
    found = _planned(there, commands)
    assert _kinds(found, "models") == {"late_ride": "changed"}
    assert found["replay"]["scope"] == "nothing"
    assert found["next"] == ["headwater apply", "start headwater run again"]
    assert there.forked(commands, "run", "--until-end").returncode == 0
    assert there.forked(commands, "apply").returncode == 0
    assert _planned(there, commands)["next"] == []


def test_what_it_says_is_enough(there: Rides, commands: Commands) -> None:
    """After the steps that it names there is nothing left to do, and `run` takes the state."""
    dropped = DEFINITIONS.replace("[city_rides, driver_rides]", "[driver_rides]") + NEW_VIEW
    for definitions, replay in (
        (DEFINITIONS + NEW_VIEW, "headwater replay --views driver_days"),
        # Reads under way are in the state of a view that the model no longer reads, too.
        (dropped, "headwater replay --views city_rides --model late_ride"),
        (dropped.replace(NEW_VIEW, ""), "headwater replay --views driver_days"),
    ):
        _write(there, definitions)
        found = _planned(there, commands)
        assert found["replay"]["command"] == replay
        assert found["next"] == ["headwater apply", replay, "headwater run"]
        for step in found["next"][:-1]:
            done = there.forked(commands, *step.split()[1:])
            assert done.returncode == 0, (step, done.stderr)
        assert _planned(there, commands)["next"] == []
    assert there.forked(commands, "run", "--until-end").returncode == 0


def test_settings_that_cut_the_state(there: Rides, commands: Commands) -> None:
    """Another number of shards, or of partitions in the log, takes a replay of everything."""
    with_shards = Rides(there.folder, {"HEADWATER_SHARDS": "4"})
    found = _planned(with_shards, commands)
    assert found["replay"]["because"] == ["HEADWATER_SHARDS: 16 -> 4"]
    (there.partition("rides.done", 1)).touch()
    found = _planned(there, commands)
    assert found["replay"]["because"] == ["partitions of rides.done: 1 -> 2"]
    assert found["replay"]["command"] == "headwater replay"
    assert found["next"] == ["headwater replay", "headwater run"]


def test_states_that_do_not_say_what_they_are(there: Rides, commands: Commands) -> None:
    """An older state fits or is compared with what was applied, and then all of it is replayed."""
    state = there.folder / "data" / "state"
    (state / "plan.json").unlink()
    found = _planned(there, commands)
    assert "but fits" in found["compared_with"]["note"]
    assert found["next"] == []
    _write(there, DEFINITIONS + NEW_VIEW)
    found = _planned(there, commands)
    assert found["compared_with"]["kind"] == "applied"
    assert found["replay"]["command"] == "headwater replay"
    assert _kinds(found, "views")["driver_days"] == "new"
    # What was applied last may already be what is here: then nobody can name what changed.
    assert there.forked(commands, "apply").returncode == 0
    found = _planned(there, commands)
    assert _kinds(found, "views")["driver_days"] == "unchanged"
    assert found["next"] == ["headwater replay", "headwater run"]
    shutil.rmtree(state)
    found = _planned(there, commands)
    assert found["compared_with"]["kind"] == "nothing"
    assert found["next"] == ["headwater run"]


def test_commits_that_cannot_be_had(there: Rides, commands: Commands) -> None:
    """A name that is no commit, and a commit without the folder, are errors of one line."""
    result = there.forked(commands, "plan", "no-such-commit")
    assert result.returncode == 1
    assert "'no-such-commit' is no commit" in result.stderr
    _git(there, "checkout", "--quiet", "--orphan", "empty")
    _git(there, "rm", "--quiet", "-r", "--cached", "feature_repo")
    _git(there, "commit", "--quiet", "--allow-empty", "--message", "nothing")
    result = there.forked(commands, "plan", "empty")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "has no folder feature_repo" in line
