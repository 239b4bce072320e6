"""A flow of several processes: they begin, stop and fail as one, and nothing is lost by it."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contracts.settings import SettingsError
from dataflows.definitions.repository import Repository
from dataflows.flow.errors import EngineError
from dataflows.flow.progress import Progress, by_process, online_watermark_us
from dataflows.flow.run_context import PartitionProgress
from dataflows.flow.session import seat_of
from dataflows.flow.state_lock import is_held, processes_folder, shared_state
from dataflows.status import flow_status
from dataflows.watermark import NOT_YET
from tests.flow import shop
from tests.flow.conftest import Run
from tests.flow.processes import Runner, events, free_addresses, send, wait_for_events
from tests.integration.commands import Commands

SLOW: dict[str, Any] = {"batch_bytes": 1_500, "idle_timeout_seconds": 3_600.0}


@pytest.fixture(scope="module")
def runner(repository: Repository, commands: Commands) -> Iterator[Runner]:
    """One runner for the tests of this module."""
    started = Runner(commands, repository.directory)
    yield started
    started.close()


def _line(error: str) -> str:
    """What the user would be told."""
    return error.splitlines()[-1] if error else ""


def test_two_processes_do_what_one_does(
    first_run: tuple[Path, Path], new_log: Path, tmp_path: Path, runner: Runner,
    repository: Repository,
) -> None:  # fmt: skip
    """Their stores are those of one process, and status adds up what they say of themselves."""
    out = tmp_path / "out"
    for pid in runner.start_several(new_log, out, 1):
        assert runner.ended(pid) == (0, "")
    assert shop.digests(out) == shop.digests(first_run[1])
    status = flow_status(shop.settings(repository.directory, new_log, out))
    assert not status.is_running
    assert len(status.pids) == 2
    assert status.events == events(out) == 3_022
    assert status.lag == 0
    assert [(one.topic, one.partition) for one in status.partitions] == [
        ("orders", 0), ("orders", 1), ("outcomes", 0), ("visits", 0),
    ]  # fmt: skip
    assert status.watermark_us is not None


def test_one_that_is_told_to_stop_stops_all(
    first_run: tuple[Path, Path], new_log: Path, tmp_path: Path, runner: Runner, run: Run
) -> None:
    """SIGTERM to one process ends all with exit 0; a single process goes on exactly from there."""
    out = tmp_path / "out"
    pids = runner.start_several(new_log, out, 0, **SLOW)
    assert wait_for_events(out, 1_000, pids[0])
    send(pids[1], signal.SIGTERM)
    assert [runner.ended(pid) for pid in pids] == [(0, ""), (0, "")]
    read = events(out)
    assert 0 < run(new_log, out).tally.events <= 3_022 - read
    assert shop.digests(out) == shop.digests(first_run[1])


@pytest.mark.parametrize("victim", [0, 1])
def test_one_that_is_killed_ends_the_others(
    first_run: tuple[Path, Path], new_log: Path, tmp_path: Path, runner: Runner, victim: int
) -> None:
    """The others end soon, with a line that says who is gone; started again, nothing is lost."""
    out = tmp_path / "out"
    pids = runner.start_several(new_log, out, 0, workers=2, **SLOW)
    assert wait_for_events(out, 500, pids[0])
    send(pids[victim], signal.SIGKILL)
    killed_at = time.monotonic()
    code, error = runner.ended(pids[1 - victim])
    assert (code, _line(error)) == (1, f"process {victim} is gone; start all again")
    assert time.monotonic() - killed_at < 10
    assert runner.ended(pids[victim])[0] == -signal.SIGKILL
    for pid in runner.start_several(new_log, out, 1):
        assert runner.ended(pid) == (0, "")
    assert shop.digests(out) == shop.digests(first_run[1])


def test_an_error_in_one_is_told_by_all(
    records: list[shop.Record], tmp_path: Path, runner: Runner
) -> None:
    """Who fails says why, although Bytewax forgets it, and the others say who that was and why."""
    log, out = shop.write_log(tmp_path / "log", records), tmp_path / "out"
    with (log / "visits" / "0.ndjson").open("ab") as file:
        file.write(b"rubbish\n" * 5_000)
    pids = runner.start_several(log, out, 1, workers=2, batch_bytes=20_000)
    found = [runner.ended(pid) for pid in pids]
    assert [code for code, _ in found] == [1, 1]
    lines = sorted((_line(error) for _, error in found), key=len)
    assert "records of visits/0 are bad" in lines[0]
    assert lines[1].startswith("process ")
    assert lines[1].endswith(f"is gone ({lines[0]}); start all again")


def test_who_may_not_run_beside_them(
    new_log: Path, tmp_path: Path, runner: Runner, run: Run
) -> None:
    """A single process, and another one with a number that is taken, are refused while they run."""
    out = tmp_path / "out"
    pids = runner.start_several(new_log, out, 0)
    assert wait_for_events(out, 1, pids[0])
    assert is_held(out / "state")
    with pytest.raises(EngineError, match="another dataflow is running"):
        run(new_log, out)
    with pytest.raises(EngineError, match=r"another process 1 is running.*HEADWATER_PROCESS"):
        run(new_log, out, addresses=",".join(free_addresses(2)), process=1)
    send(pids[0], signal.SIGTERM)
    assert [runner.ended(pid) for pid in pids] == [(0, ""), (0, "")]
    assert not is_held(out / "state")


def test_they_may_not_run_beside_a_single_one(
    new_log: Path, tmp_path: Path, runner: Runner, run: Run
) -> None:
    """While one process runs alone, one of several is refused."""
    out = tmp_path / "out"
    pid = runner.start(new_log, out, 0)
    assert wait_for_events(out, 1, pid)
    with pytest.raises(EngineError, match="of a single process is running"):
        run(new_log, out, addresses=",".join(free_addresses(2)))
    send(pid, signal.SIGTERM)
    assert runner.ended() == (0, "")


def test_one_that_does_not_come(new_log: Path, tmp_path: Path, run: Run) -> None:
    """The others are waited for for a bounded time; the one that is missing is named."""
    given = {"addresses": ",".join(free_addresses(2)), "gather_seconds": 0.2}
    with pytest.raises(EngineError, match=r"process 1 has not come within .*GATHER_SECONDS"):
        run(new_log, tmp_path / "out", **given)
    with pytest.raises(EngineError, match=r"process 0 has not begun within .*GATHER_SECONDS"):
        run(new_log, tmp_path / "out", process=1, **given)


def test_processes_with_other_settings(new_log: Path, tmp_path: Path, runner: Runner) -> None:
    """Processes that would not understand each other are refused before anything is read."""
    out, addresses = tmp_path / "out", ",".join(free_addresses(2))
    pids = [
        runner.start(new_log, out, 1, addresses=addresses, process=number, workers=1 + number)
        for number in range(2)
    ]
    lines = [_line(runner.ended(pid)[1]) for pid in pids]
    assert lines[0].startswith("process 1 has other HEADWATER_WORKERS than process 0")
    assert lines[1].startswith("process 0 is gone (process 1 has other HEADWATER_WORKERS")
    assert not (out / "state" / "shards").exists()


def test_what_killed_runs_leave_behind(
    first_run: tuple[Path, Path], new_log: Path, tmp_path: Path, runner: Runner
) -> None:
    """Files of former sessions, whole or torn, are in nobody's way."""
    out = tmp_path / "out"
    folder = processes_folder(out / "state")
    folder.mkdir(parents=True)
    old = '{"session": "old", "error": "old", "terms": {}}'
    for name in ("ended-0", "ended-1", "joined-1", "turn-0", "stop"):
        (folder / f"{name}.json").write_text(old)
    (folder / "session.json").write_text('{"id": "old", "is_open": true, "ends": {"0": 1}}')
    (folder / "turn-1.json").write_text('{"sess')
    for pid in runner.start_several(new_log, out, 1):
        assert runner.ended(pid) == (0, "")
    assert shop.digests(out) == shop.digests(first_run[1])


def test_a_place_is_kept_until_the_process_is_gone(tmp_path: Path) -> None:
    """Whose threads cannot be ended keeps its place beyond the context that gave it."""
    state = tmp_path / "state"
    with shared_state(state, 0):
        pass
    assert not is_held(state)
    with shared_state(state, 0) as keep:
        keep()
    assert is_held(state)


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ({"process": 1}, "HEADWATER_ADDRESSES is empty"),
        ({"process": 2, "addresses": "a:1,b:2"}, "the last process has number 1"),
    ],
)
def test_a_seat_that_does_not_exist(
    repository: Repository, tmp_path: Path, given: dict[str, Any], advice: str
) -> None:
    """A number without an address is refused, with what is there."""
    settings = shop.settings(repository.directory, tmp_path / "log", tmp_path, **given)
    with pytest.raises(EngineError, match=advice):
        seat_of(settings)


@pytest.mark.parametrize("addresses", ["a:1", "a:1,a:1", "a,b:1", "a:1,", "a:1,b:70000"])
def test_addresses_that_cannot_be(repository: Repository, tmp_path: Path, addresses: str) -> None:
    """One address only, two alike, and what is none are refused by the name of the setting."""
    with pytest.raises(SettingsError, match="HEADWATER_ADDRESSES"):
        shop.settings(repository.directory, tmp_path / "log", tmp_path, addresses=addresses)


def test_an_address_of_another_machine(new_log: Path, tmp_path: Path, runner: Runner) -> None:
    """Who cannot listen at its address says so, before Bytewax does at length."""
    out = tmp_path / "out"
    addresses = f"{free_addresses(1)[0]},192.0.2.1:4000"
    pids = [
        runner.start(new_log, out, 1, addresses=addresses, process=number) for number in range(2)
    ]
    lines = [_line(runner.ended(pid)[1]) for pid in pids]
    assert lines[1].startswith("process 1 cannot listen on 192.0.2.1:4000: ")
    assert lines[0] == f"process 1 is gone ({lines[1]}); start all again"


def test_what_the_workers_of_all_processes_say() -> None:
    """Of each process the latest word counts; workers without shards hold no watermark back."""
    said = [
        _said(0, 5, shards=8, watermark_us=70, events=10),
        _said(0, 6, shards=8, watermark_us=50, events=12),
        _said(1, 4, shards=0, watermark_us=NOT_YET, events=7),
    ]
    assert [one.events for one in by_process(said)] == [12, 7]
    assert online_watermark_us(said) == 50
    assert online_watermark_us(said[2:]) == NOT_YET


def test_the_latest_word_though_the_clock_was_set_back() -> None:
    """Counts and the time of running only grow; the wall clock need not."""
    said = [
        _said(0, 9_000, shards=8, watermark_us=70, events=10),
        _said(0, 5, shards=8, watermark_us=50, events=12),
        replace(_said(0, 4, shards=8, watermark_us=50, events=12), seconds=99.0, waiting_for="x"),
    ]
    for order in itertools.permutations(said):
        (latest,) = by_process(order)
        assert latest.waiting_for == "x"


def _said(process: int, at_us: int, *, shards: int, watermark_us: int, events: int) -> Progress:
    place = PartitionProgress(1, 1, is_idle=False)
    return Progress(
        1, shards, watermark_us, events, 0, 0, 0, 0, 0, 0, 1.0, {"t/0": place}, "", at_us, process
    )
