"""The repositories that the tests of the command share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.rides import RIDES, Rides, asked, done, lines


@pytest.fixture
def rides(tmp_path: Path) -> Rides:
    """A repository that nothing has been done with yet."""
    made = Rides(tmp_path / "feature_repo")
    made.create()
    return made


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Rides:
    """A repository after apply, produce and run; tests that share it leave it as it is."""
    made = Rides(tmp_path_factory.mktemp("ran") / "feature_repo")
    made.create()
    for words, given in (
        (("apply",), None),
        (("produce", "rides.asked"), lines([asked(i) for i in range(RIDES)])),
        (("produce", "rides.done"), lines([done(i) for i in range(RIDES)])),
        (("run", "--until-end"), None),
    ):
        result = made.headwater(*words, given=given)
        assert result.returncode == 0, result.stderr
    return made
