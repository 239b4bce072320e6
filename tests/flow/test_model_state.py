"""What a model keeps on the disk, and a kill at the worst of moments."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataflows.definitions.repository import Repository
from tests.flow import shop
from tests.flow.processes import Runner
from tests.integration.commands import Commands


@pytest.fixture(scope="module")
def runner(repository: Repository, commands: Commands) -> Iterator[Runner]:
    """One runner for the tests of this module."""
    started = Runner(commands, repository.directory)
    yield started
    started.close()


def test_killed_between_a_models_state_and_its_commit(
    first_run: tuple[Path, Path], new_log: Path, tmp_path: Path, runner: Runner
) -> None:
    """Files that no epoch knows of are as if never written: each row is learned exactly once."""
    out = tmp_path / "out"
    given = {"batch_bytes": 3_000, "epoch_seconds": 0.0}
    for heads in (1, 2, 4, 9):
        runner.start(new_log, out, 1, kill_at_head=heads, **given)
        assert runner.ended()[0] == -signal.SIGKILL
    runner.start(new_log, out, 1, **given)
    assert runner.ended() == (0, "")
    assert shop.digests(out) == shop.digests(first_run[1])
