"""The repositories that the tests of the command share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.rides import RIDES, Rides, asked, done, lines
from tests.integration.commands import Commands


@pytest.fixture
def rides(tmp_path: Path) -> Rides:
    """A repository that nothing has been done with yet."""
    made = Rides(tmp_path / "feature_repo")
    made.create()
    return made


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory, commands: Commands) -> Rides:
    """A repository after apply, produce and run; tests that share it leave it as it is."""
    made = Rides(tmp_path_factory.mktemp("ran") / "feature_repo")
    made.create()
    results = [
        made.forked(commands, "apply"),
        made.forked(
            commands, "produce", "rides.asked", given=lines(list(map(asked, range(RIDES))))
        ),
        made.forked(commands, "produce", "rides.done", given=lines(list(map(done, range(RIDES))))),
        made.forked(commands, "run", "--until-end"),
    ]
    assert [result.returncode for result in results] == [0] * 4, results
    return made
