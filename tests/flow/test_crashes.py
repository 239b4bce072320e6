"""A process that is killed or told to stop goes on as if nothing had been."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from dataflows.definitions.repository import Repository
from tests.flow import shop
from tests.flow.conftest import Run
from tests.flow.processes import Runner, events, wait_for_events
from tests.integration.commands import Commands


@pytest.fixture(scope="module")
def runner(repository: Repository, commands: Commands) -> Iterator[Runner]:
    """One runner for the tests of this module."""
    started = Runner(commands, repository.directory)
    yield started
    started.close()


def test_killed_before_it_began(
    first_run: tuple[Path, Path], new_log: Path, tmp_path: Path, runner: Runner
) -> None:
    """Killed again and again while it sets up its state, a run still can start and end well."""
    out = tmp_path / "out"
    for number in range(12):
        pid = runner.start(new_log, out, 1)
        time.sleep(number * 0.004)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        code, error = runner.ended()
        assert code in (0, -signal.SIGKILL), error
    runner.start(new_log, out, 1)
    assert runner.ended() == (0, "")
    assert shop.digests(out) == shop.digests(first_run[1])


@pytest.mark.parametrize("seed", [1, 2])
def test_kills_leave_no_trace(
    first_run: tuple[Path, Path], new_log: Path, tmp_path: Path, runner: Runner, seed: int
) -> None:
    """Killed at random moments and started again, the end is the same as without a kill."""
    rng = random.Random(seed)
    out = tmp_path / "out"
    given = {"batch_bytes": 3_000, "epoch_seconds": rng.choice([0.0, 0.02]), "workers": seed}
    kills = 0
    for _ in range(5):
        pid = runner.start(new_log, out, 1, **given)
        if wait_for_events(out, rng.randrange(0, 900), pid):
            time.sleep(rng.random() * 0.05)
            with suppress(ProcessLookupError):  # it may have come to its end meanwhile
                os.kill(pid, signal.SIGKILL)
        code, error = runner.ended()
        assert code in (0, -signal.SIGKILL), error
        kills += code != 0
    assert kills >= 3
    runner.start(new_log, out, 1, **given)
    assert runner.ended() == (0, "")
    assert shop.digests(out) == shop.digests(first_run[1])
    letters = sorted(map(json.dumps, shop.dead_letters(new_log)))
    assert letters == sorted(map(json.dumps, shop.dead_letters(first_run[0])))


def test_told_to_stop_it_keeps_its_state(
    first_run: tuple[Path, Path], new_log: Path, tmp_path: Path, runner: Runner, run: Run
) -> None:
    """SIGTERM ends a run that follows the log with exit code 0; the next one goes on from there."""
    out = tmp_path / "out"
    given = {"batch_bytes": 1_500, "idle_timeout_seconds": 3_600.0}
    pid = runner.start(new_log, out, 0, **given)
    assert wait_for_events(out, 1_000, pid)
    os.kill(pid, signal.SIGTERM)
    assert runner.ended() == (0, "")
    read = events(out)
    rest = run(new_log, out).tally.events
    assert 0 < rest <= 3_022 - read
    assert shop.digests(out) == shop.digests(first_run[1])


def test_two_runs_on_one_state_are_refused(
    new_log: Path, tmp_path: Path, runner: Runner, run: Run
) -> None:
    """While one process has the state, another is refused with what to do."""
    out = tmp_path / "out"
    pid = runner.start(new_log, out, 0)
    assert wait_for_events(out, 1, pid)
    with pytest.raises(Exception, match="another dataflow is running"):
        run(new_log, out)
    os.kill(pid, signal.SIGTERM)
    assert runner.ended() == (0, "")
