"""Two state folders that do not belong together are not put together, and neither is changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dataflows.definitions.repository import Repository
from dataflows.flow.errors import EngineError
from dataflows.replay.selection import Selection, closed, restricted
from dataflows.replay_state.graft import GraftFolders, graft
from dataflows.replay_state.positions import read_positions
from dataflows.state_files import StateError
from tests.flow import shop
from tests.replay_state import generations as runs
from tests.replay_state.generations import Load

CUT = 150
Errors = type[Exception] | tuple[type[Exception], ...]


class Pair(NamedTuple):
    """A live state folder, and a replay of a part of it."""

    new: Repository
    selection: Selection
    log: Path
    live: Path
    fresh: Path

    def graft(self, out: Path, selection: Selection | None = None, **given: Any) -> None:
        """Put them together in ``out``."""
        with runs.opened_log(self.new, self.log, out.parent) as opened:
            folders = GraftFolders(self.live, self.fresh, out)
            settings = shop.settings(self.new.directory, self.log, out.parent, **given)
            graft(folders, self.new, selection or self.selection, settings, opened)


@pytest.fixture(scope="module")
def made(load: Load, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Two that fit; for copying only."""
    folder = tmp_path_factory.mktemp("pair")
    definitions, views, models = runs.CHANGES["a changed view that a model reads"]
    new, old = load(definitions), load(runs.OLD)
    log = shop.write_log(folder / "log", shop.make_records(seed=3, orders=80)[:CUT])
    selection = closed(new.plan, views, models)
    runs.run_to_cut(old, log, folder / "live", "busy", batch_bytes=3_000, epoch_seconds=0.0)
    runs.run_to_cut(restricted(new, selection), log, folder / "fresh", "busy")
    return Pair(new, selection, log, folder / "live" / "state", folder / "fresh" / "state")


@pytest.fixture
def pair(made: Pair, tmp_path: Path) -> Pair:
    """Two that fit, to do with as one likes."""
    for name in ("live", "fresh"):
        shutil.copytree(getattr(made, name), tmp_path / name)
    return made._replace(live=tmp_path / "live", fresh=tmp_path / "fresh")


def _fails(pair: Pair, out: Path, error: Errors, text: str, **given: Any) -> None:
    before = [runs.contents(pair.live), runs.contents(pair.fresh)]
    with pytest.raises(error, match=text) as raised:
        pair.graft(out, **given)
    assert "\n" not in str(raised.value)
    assert not out.exists()
    assert [runs.contents(pair.live), runs.contents(pair.fresh)] == before


def test_a_replay_that_stands_elsewhere_is_refused(pair: Pair, tmp_path: Path, load: Load) -> None:
    """Both must have read the same records; the error says which partition is where."""
    shutil.rmtree(pair.fresh)
    log = shop.write_log(tmp_path / "log", shop.make_records(seed=3, orders=80)[: CUT - 20])
    runs.run_to_cut(restricted(pair.new, pair.selection), log, tmp_path / "less", "busy")
    other = pair._replace(fresh=tmp_path / "less" / "state")
    there = read_positions(other.fresh)["visits/0"].offset
    here = read_positions(pair.live)["visits/0"].offset
    assert there < here
    _fails(other, tmp_path / "out", EngineError, "stands at offset .* start the same replay again")


def test_a_replay_that_has_not_begun_is_refused(pair: Pair, tmp_path: Path) -> None:
    """One that nothing was read into does not count as one that is there."""
    shutil.rmtree(pair.fresh / "recovery")
    _fails(pair, tmp_path / "out", EngineError, "at the begin; start the same replay again")


def test_a_live_state_without_an_epoch_is_refused(pair: Pair, tmp_path: Path) -> None:
    """One that was killed before anything was durable has nothing that could be kept."""
    shutil.rmtree(pair.live / "recovery")
    _fails(pair, tmp_path / "out", EngineError, "nothing to keep; rebuild everything")


@pytest.mark.parametrize("what", ["partitions", "topics"])
def test_states_of_different_kinds_are_refused(pair: Pair, tmp_path: Path, what: str) -> None:
    """Another layout, other partitions, shards or topics: nothing of the one fits the other."""
    path = pair.fresh / "identity.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), what: "other"}))
    _fails(pair, tmp_path / "out", EngineError, f"{what} of the state .* differ")


def test_a_run_with_other_shards_is_refused(pair: Pair, tmp_path: Path) -> None:
    """What is to go on with the state must have as many shards as both."""
    _fails(pair, tmp_path / "out", EngineError, "HEADWATER_SHARDS changed", shards=4)


def test_what_neither_side_knows_is_an_error(pair: Pair, tmp_path: Path) -> None:
    """A new view that was not replayed is in the live state no more than in the other."""
    text = "knows nothing of (view|model)"
    other = pair._replace(selection=Selection((), ()))
    swapped = other._replace(live=pair.fresh, fresh=pair.live)
    _fails(swapped, tmp_path / "out", EngineError, text)
    fewer = pair._replace(fresh=pair.live, live=pair.fresh)
    _fails(fewer, tmp_path / "out", EngineError, text)


def test_a_selection_without_the_views_of_its_models_is_a_mistake(
    pair: Pair, tmp_path: Path
) -> None:
    """Reads that are under way belong to a view and its model, so both are on one side."""
    for one in (Selection(("shop_totals",), ()), Selection((), ("late_shop",))):
        with pytest.raises(ValueError, match="late_shop"):
            pair.graft(tmp_path / "out", one)


def test_nothing_is_overwritten(pair: Pair, tmp_path: Path) -> None:
    """A folder that is there stays, and what a killed graft left behind is in nobody's way."""
    out, left = tmp_path / "out", tmp_path / "out.new"
    (left / "shards" / "0000").mkdir(parents=True)
    (left / "shards" / "0000" / "0000000001.state").write_bytes(b"half")
    pair.graft(out)
    assert not left.exists()
    before = runs.contents(out)
    with pytest.raises(FileExistsError):
        pair.graft(out)
    assert runs.contents(out) == before


@pytest.mark.parametrize("kind", ["shards/0001", "models/late_order", "tables/views/user_totals"])
def test_state_that_is_not_whole_is_not_taken_over(pair: Pair, tmp_path: Path, kind: str) -> None:
    """A file that is missing is seen at once, not by the next run."""
    files = sorted((pair.live / kind).iterdir())
    assert files
    for file in files:
        file.unlink()
    _fails(pair, tmp_path / "out", (StateError, EngineError), "headwater replay")


def test_a_damaged_shard_is_not_taken_over(pair: Pair, tmp_path: Path) -> None:
    """What is read to be joined is checked as when a run reads it."""
    for file in (pair.fresh / "shards" / "0002").iterdir():
        file.write_bytes(b"garbage")
    _fails(pair, tmp_path / "out", StateError, "is damaged; rebuild the state")
