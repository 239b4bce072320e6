"""An erasure that was killed anywhere is finished by doing it again."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from cli.run import tell_unfinished_erasure
from dataflows.definitions.repository import Repository
from dataflows.erasure.tombstones import read_tombstones
from dataflows.flow.fence import check_fence
from tests.erasure.conftest import NewWorld
from tests.erasure.dying import forget_and_die
from tests.erasure.world import World, contents, moved
from tests.flow import shop

# Before the tombstone, before the online store, before the first table, among the tables, at last.
CHANGES = [0, 1, 4, 9]


@pytest.fixture(scope="module")
def stopped(
    tmp_path_factory: pytest.TempPathFactory, repository: Repository, records: list[shop.Record]
) -> tuple[Path, Path]:
    """A world whose dataflow was stopped, and one like it that has forgotten a user."""
    out = tmp_path_factory.mktemp("stopped") / "world"
    out.mkdir()
    world = World(out, moved(repository, out))
    world.write(records[:700])
    world.stop_at_end()
    done = out.with_name("done")
    shutil.copytree(out, done)
    World(done, moved(repository, done)).forget("user", ("u3",))
    return out, done


@pytest.mark.parametrize("changes", CHANGES)
def test_a_killed_erasure_is_finished(
    stopped: tuple[Path, Path], repository: Repository, tmp_path: Path, changes: int
) -> None:
    """Killed by SIGKILL and done again, all is as if it had not been killed."""
    out = tmp_path / "world"
    shutil.copytree(stopped[0], out)
    world = World(out, moved(repository, out))
    assert forget_and_die(world, "u3", changes) == -signal.SIGKILL
    found = read_tombstones(world.settings().state_dir)
    assert (found is None) == (changes == 0)
    assert found is None or not found.tombstones[0].is_done
    check_fence(world.places.state)
    world.forget("user", ("u3",))
    expected = World(stopped[1], moved(repository, stopped[1]))
    assert contents(world.repository, out) == contents(expected.repository, expected.out)
    again = read_tombstones(world.settings().state_dir)
    wanted = read_tombstones(expected.settings().state_dir)
    assert again is not None
    assert wanted is not None
    assert len(again.tombstones) == 1
    assert again.tombstones[0].is_done
    assert again.tombstones[0].ends == wanted.tombstones[0].ends


def test_a_run_after_a_killed_erasure_brings_nobody_back(
    stopped: tuple[Path, Path], repository: Repository, new_world: NewWorld
) -> None:
    """If a dataflow runs before the erasure is done again, it lets go of its part already."""
    world = new_world()
    shutil.copytree(stopped[0], world.out, dirs_exist_ok=True)
    assert forget_and_die(world, "u3", 2) == -signal.SIGKILL
    world.run_to_end()
    world.forget("user", ("u3",))
    world.run_to_end()
    assert contents(world.repository, world.out) == contents(world.repository, world.rebuild())


def test_another_erasure_does_not_finish_it(
    stopped: tuple[Path, Path],
    repository: Repository,
    new_world: NewWorld,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Who was being forgotten when it was killed is not done with by forgetting somebody else."""
    world = new_world()
    shutil.copytree(stopped[0], world.out, dirs_exist_ok=True)
    assert forget_and_die(world, "u3", 2) == -signal.SIGKILL
    world.forget("user", ("u4",))
    found = read_tombstones(world.settings().state_dir)
    assert found is not None
    assert [one.is_done for one in found.tombstones] == [False, True]
    tell_unfinished_erasure(world.settings().state_dir)
    assert "an erasure was interrupted" in capsys.readouterr().err
    world.forget("user", ("u3",))
    tell_unfinished_erasure(world.settings().state_dir)
    assert capsys.readouterr().err == ""
