"""What a system says of itself while it runs, and afterwards."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from cli import status as status_command
from contracts.model_repository import ModelRepository
from dataflows.status import FlowStatus
from tests.cli.rides import SECONDS_MAX, Rides, asked, lines
from tests.integration.commands import Commands


def _status(ran: Rides, commands: Commands) -> tuple[int, dict[str, Any], str]:
    result = ran.forked(commands, "status", "--json")
    return result.returncode, json.loads(result.stdout), result.stderr


def test_without_a_dataflow(ran: Rides, commands: Commands) -> None:
    """After a run everything is shown as it was left, and the exit code says that nothing runs."""
    code, report, error = _status(ran, commands)
    assert code == 1
    assert "no dataflow is running" in error
    assert report["dataflow"]["running"] is False
    assert report["lag"] == 0
    assert report["lag_unit"] == "bytes"
    assert {(p["topic"], p["idle"]) for p in report["partitions"]} == {
        ("rides.asked", True),
        ("rides.done", True),
    }
    (model,) = report["models"]
    assert model["model"] == "late_ride"
    assert model["champion"] == model["newest"]
    assert model["examples"] > 0
    table = ran.headwater("status")
    assert table.returncode == 1
    assert "dataflow\tnot running\n" in table.stdout
    assert f"late_ride\t{model['champion']}\t" in table.stdout


def test_what_is_not_read_is_lag(ran: Rides, commands: Commands) -> None:
    """Records that come while nothing runs are shown as lag, in bytes of the file log."""
    new = lines([asked(5_000)])
    before = ran.partition("rides.asked").stat().st_size
    try:
        assert ran.forked(commands, "produce", "rides.asked", given=new).returncode == 0
        size = ran.partition("rides.asked").stat().st_size - before
        _, report, _ = _status(ran, commands)
        assert report["lag"] == size > 0
        (asked_for,) = (p for p in report["partitions"] if p["topic"] == "rides.asked")
        assert asked_for["lag"] == size
        assert asked_for["end"] - asked_for["offset"] == size
    finally:
        with ran.partition("rides.asked").open("rb+") as log:
            log.truncate(before)


def test_while_it_runs(ran: Rides, commands: Commands) -> None:
    """A running dataflow is shown with its pid, and status then exits with 0."""
    running = commands.start({}, "run", "--repo", str(ran.folder))
    try:
        deadline = time.monotonic() + SECONDS_MAX
        while True:
            code, report, _ = _status(ran, commands)
            if code == 0 and report["dataflow"]["pids"] == [running.pid]:
                break
            assert time.monotonic() < deadline, report
            assert running.poll() is None, running.output
        assert report["dataflow"]["running"] is True
        assert report["dataflow"]["waiting_for"] == ""
        assert running.stop(SECONDS_MAX) == 0
    finally:
        running.kill()


def test_nothing_was_ever_run(rides: Rides, commands: Commands) -> None:
    """In a new repository everything is unknown, which is no error but that nothing runs."""
    rides.create()
    code, report, _ = _status(rides, commands)
    assert code == 1
    assert report["online_watermark"] is None
    assert report["partitions"] == report["models"] == []
    assert report["lag"] is None
    assert "lag\tunknown\n" in rides.forked(commands, "status").stdout


@pytest.mark.parametrize(
    ("pids", "silent_us", "shown"),
    [
        ([7], 900_000, "dataflow\trunning, pid 7\n"),
        ([7, 9], 900_000, "dataflow\trunning, pid 7, 9\n"),
        ([7], 12_500_000, "dataflow\trunning, pid 7, has said nothing for 12.500 s\n"),
        ([], None, "dataflow\trunning, has said nothing yet\n"),
        # The clock was set back by an hour since.
        ([7], -3_600_000_000, "dataflow\trunning, pid 7\n"),
    ],
)
def test_a_dataflow_that_is_silent(
    pids: list[int],
    silent_us: int | None,
    shown: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """One that runs and has said nothing for ten seconds is shown with how long that is."""
    now_us = 1_750_000_000_000_000
    flow = FlowStatus(
        is_running=True,
        pids=pids,
        said_at_us=None if silent_us is None else now_us - silent_us,
        waiting_for="",
        watermark_us=None,
        events=0,
        bad=0,
        late=0,
        labels=0,
        lag_unit="records",
        partitions=[],
        log_problem="",
    )
    report = status_command._report(flow, ModelRepository(tmp_path), now_us)
    assert (report["dataflow"]["said_seconds_ago"] or 0.0) >= 0.0
    status_command._show(report, 10.0)
    assert shown in capsys.readouterr().out
