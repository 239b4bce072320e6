"""What is kept beside the state: how fast the log was read, and what the state was made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from contracts.plan import Plan, View
from dataflows.changes.made_of import MadeOf, StateMadeOf, anywhere, note_state, read_state
from dataflows.changes.rate import known_rate, note_rate

PLAN = Plan("shop", (), (View("v", "t", ("k",), ("string",), (), 0, ""),), ())
STATE = StateMadeOf(
    format=1,
    definitions="digest",
    made_of=MadeOf(PLAN, {"v": "code"}, {}, {"s": (("v", "f"),)}),
    git_commit="abc",
    shards=16,
    log_kind="kafka",
    begins={"t/0": 3},
)


def test_the_rate_of_a_run(tmp_path: Path) -> None:
    """It stands beside the state, with what ran, and outlives the folder."""
    state = tmp_path / "state"
    note_rate(state, 300_000, 2.0, PLAN, workers=2, wall_us=lambda: 7)
    rate = known_rate(state)
    assert rate is not None
    assert rate.events_per_second == 150_000
    assert (rate.views, rate.models, rate.workers, rate.at_us) == (1, 0, 2, 7)
    assert not state.exists()


@pytest.mark.parametrize(("events", "seconds"), [(9_999, 2.0), (50_000, 0.5), (0, 0.0)])
def test_short_runs_tell_no_rate(tmp_path: Path, events: int, seconds: float) -> None:
    """A run that is mostly its own start leaves no rate."""
    note_rate(tmp_path / "state", events, seconds, PLAN)
    assert known_rate(tmp_path / "state") is None


def test_a_long_run_is_believed_longer(tmp_path: Path) -> None:
    """The rate of a run over much less of the log does not replace one over more."""
    state = tmp_path / "state"
    for events, kept in ((1_000_000, 1_000_000), (99_000, 1_000_000), (100_000, 100_000)):
        note_rate(state, events, 2.0, PLAN)
        rate = known_rate(state)
        assert rate is not None
        assert rate.events == kept


def test_a_damaged_rate_is_none(tmp_path: Path) -> None:
    """A rate that cannot be read is not known."""
    (tmp_path / "state.rate.json").write_text('{"format": 1, "events"')
    assert known_rate(tmp_path / "state") is None


def test_what_a_state_is_made_of(tmp_path: Path) -> None:
    """It comes back as it was noted, for the identity that it was noted with and no other."""
    note_state(tmp_path, STATE)
    assert read_state(tmp_path, "digest") == STATE
    assert read_state(tmp_path, "another") is None
    assert read_state(tmp_path / "elsewhere", "digest") is None


def test_where_the_log_began_is_kept(tmp_path: Path) -> None:
    """A later run does not move where the log began for the state, and writes only what is new."""
    note_state(tmp_path, STATE)
    (path,) = tmp_path.iterdir()
    written = path.stat().st_mtime_ns
    note_state(tmp_path, replace(STATE, begins={"t/0": 8}))
    assert path.stat().st_mtime_ns == written
    later = replace(STATE, begins={"t/0": 8, "t/1": 2}, definitions="next")
    note_state(tmp_path, later)
    assert read_state(tmp_path, "next") == replace(later, begins={"t/0": 3, "t/1": 2})


def test_folders_count_from_the_repository(tmp_path: Path) -> None:
    """A plan is the same wherever its repository lies; folders outside of it stay what they are."""
    (view,) = PLAN.views
    found = [
        anywhere(
            replace(PLAN, views=(replace(view, offline_path=str(folder / "data" / "v")),)), folder
        )
        for folder in (tmp_path / "one", tmp_path / "two")
    ]
    assert found[0] == found[1]
    outside = replace(PLAN, views=(replace(view, offline_path="/elsewhere/v"),))
    assert anywhere(outside, tmp_path) == outside
