"""Views of every kind in the whole flow: right, and the same after kills."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataflows.definitions.repository import Repository, load_repository
from dataflows.flow.engine import run_flow
from tests.flow import every_kind, shop
from tests.flow.log_oracle import ViewOracle, known_records
from tests.flow.processes import Runner, send, wait_for_events
from tests.integration.commands import Commands

# Runs in processes of their own, several of them one after the other.
pytestmark = pytest.mark.timeout(300)
NAMES = [
    *shop.VIEWS,
    "user_facts",
    "user_channels",
    "user_exact",
    "shop_latest",
    "shop_sizes",
    "user_quarters",
]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The definitions of every kind, compiled."""
    folder = tmp_path_factory.mktemp("every_kind")
    return load_repository(shop.make_repository(folder, every_kind.DEFINITIONS))


@pytest.fixture(scope="module")
def records() -> list[shop.Record]:
    """Some two thousand records, over midnight."""
    return every_kind.make_records(seed=11, orders=560)


@pytest.fixture(scope="module")
def first_out(
    tmp_path_factory: pytest.TempPathFactory, repository: Repository, records: list[shop.Record]
) -> Path:
    """What one run over all of the log left behind."""
    folder = tmp_path_factory.mktemp("first")
    log = shop.write_log(folder / "log", records)
    settings = shop.settings(repository.directory, log, folder / "out")
    run_flow(repository, settings, shop.places(folder / "out", NAMES), until_end=True)
    return folder / "out"


@pytest.fixture(scope="module")
def runner(repository: Repository, commands: Commands) -> Iterator[Runner]:
    """Runs the flow in processes of its own."""
    started = Runner(commands, repository.directory)
    yield started
    started.close()


@pytest.mark.parametrize("name", NAMES)
def test_stores_equal_brute_force(
    repository: Repository, records: list[shop.Record], first_out: Path, name: str
) -> None:
    """Every offline row and every online value is what the oracle computes from the log."""
    known = known_records(repository.plan, records)
    end_us = max(record.fields["event_us"] for record in known) + 1
    oracle = ViewOracle(repository.plan.view(name), known)
    wanted = {(key, stamp): values for key, stamp, values in oracle.rows(end_us)}
    assert len(wanted) > 250
    rows = shop.offline_rows(repository, first_out, name)
    found = {(key, stamp): values for key, stamp, values in rows}
    assert len(found) == len(rows)
    assert found.keys() == wanted.keys()
    for place, values in wanted.items():
        assert values == found[place], place
    online = {
        (key, stamp): values for key, stamp, values in shop.online_rows(repository, first_out, name)
    }
    last = {(key, stamp): values for key, stamp, values in oracle.last_rows(end_us)}
    assert online.keys() == last.keys()
    for place, values in last.items():
        assert values == online[place], place
    for number, aggregate in enumerate(repository.plan.view(name).aggregates):
        values = {row[number] for row in found.values()}
        assert len(values) > 1, aggregate.feature
        kind = {"string": str, "bool": bool, "int64": int, "float64": float}[aggregate.dtype]
        assert {type(value) for value in values} <= {kind, type(None)}


@pytest.mark.parametrize("seed", [1, 2])
def test_kills_leave_no_trace(
    first_out: Path, records: list[shop.Record], tmp_path: Path, runner: Runner, seed: int
) -> None:
    """Killed at random moments and started again, every view ends as in a run without a kill."""
    rng = random.Random(seed)
    log, out = shop.write_log(tmp_path / "log", records), tmp_path / "out"
    given = {"batch_bytes": 3_000, "epoch_seconds": rng.choice([0.0, 0.02]), "workers": seed}
    kills = 0
    for _ in range(5):
        pid = runner.start(log, out, 1, **given)
        if wait_for_events(out, rng.randrange(0, 600), pid):
            send(pid, signal.SIGKILL)
        code, error = runner.ended()
        assert code in (0, -signal.SIGKILL), error
        kills += code != 0
    assert kills >= 3
    runner.start(log, out, 1, **given)
    assert runner.ended() == (0, "")
    assert shop.digests(out, NAMES) == shop.digests(first_out, NAMES)
    for name in NAMES:
        days = sorted(path.name for path in (out / "offline" / name).iterdir())
        assert days == ["2013-01-01.parquet", "2013-01-02.parquet"]
