"""A state grafted of two goes on as if its definitions had been there from the beginning."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dataflows.flow.identity import generation
from dataflows.replay.selection import closed, restricted
from dataflows.replay_state.graft import GraftFolders, graft
from dataflows.replay_state.positions import read_positions, read_watermark
from tests.flow import shop
from tests.replay_state import generations as runs
from tests.replay_state.generations import Load

# Over midnight, so that days are closed on both sides of the cut.
RECORDS = runs.delayed(shop.make_records(seed=7, orders=260), 5_400)
# More than any of them is late.
SILENCE_SECONDS = 7_200
# From here on there is one in each partition.
_FIRST_OF_ALL = 20


@dataclass(frozen=True)
class Case:
    """One graft.

    Attributes:
        change: which of ``CHANGES``.
        cut: how many records there are before it.
        stop: how the live run ended: "busy" with nobody idle, "silent" with everybody idle, or
            "between" with some.
        replay: how the other run came there: stopped like a live one, or cut off, perhaps in the
            knowledge of the live watermark, perhaps in two parts.
        batch_bytes: of the live run.
        epoch_seconds: of the live run.
    """

    change: str
    cut: int
    stop: str = "busy"
    replay: str = "cut"
    batch_bytes: int = 20_000
    epoch_seconds: float = 0.05


CASES = st.builds(
    Case,
    st.sampled_from(list(runs.CHANGES)),
    st.integers(_FIRST_OF_ALL, len(RECORDS)),
    st.sampled_from(["busy", "silent", "between"]),
    st.sampled_from(["stopped", "cut", "known", "twice"]),
    st.sampled_from([2_000, 9_000, 100_000]),
    st.sampled_from([0.0, 0.02, 1.0]),
)


@given(CASES)
@settings(max_examples=2)
@example(Case("a new view", 400, "silent", "known"))
@example(Case("a changed view", 700, "busy", "twice", 3_000, 0.0))
@example(Case("a changed view that a model reads", 555, "between", "cut"))
@example(Case("a changed model", 640, "busy", "stopped", 3_000))
@example(Case("a new model", 600, "silent", "cut"))
@example(Case("a model that is gone", 500))
@example(Case("a changed model", 0, "silent"))
@example(Case("a new view", 1, "between"))
@example(Case("a view that is gone, and a new one", 900, "busy", "known"))
def test_a_grafted_state_goes_on_as_if_it_had_always_been_so(load: Load, case: Case) -> None:
    """Old definitions to a cut, a part replayed to it, the rest after it: as the new ones alone."""
    with tempfile.TemporaryDirectory() as folder:
        check(load, case, Path(folder))


@pytest.mark.parametrize(
    "case",
    [
        Case("a changed view that two models read", 700, "busy", "cut"),
        Case("a changed on-demand view", 610, "silent", "known"),
    ],
    ids=["a shared view", "an on-demand view"],
)
def test_models_that_share_a_view_are_grafted_together(
    load: Load, case: Case, tmp_path: Path
) -> None:
    """One of them reads it through an on-demand view and has a drift monitor under way."""
    check(load, case, tmp_path)


def check(load: Load, case: Case, folder: Path) -> None:
    """One case, in an empty folder."""
    definitions, views, models = runs.CHANGES[case.change]
    new, old = load(definitions), load(runs.old_definitions(case.change))
    before, after = RECORDS[: case.cut], RECORDS[case.cut :]
    if case.stop != "busy":
        # Who was idle may be so by chance only: nothing that comes later is to be late by it.
        after = runs.delayed(after, SILENCE_SECONDS)
    log = shop.write_log(folder / "log", before)
    whole_log = shop.write_log(folder / "whole_log", [*before, *after])
    live, fresh, out = (folder / name for name in ("live", "fresh", "out"))
    runs.run_to_cut(
        old, log, live, case.stop, batch_bytes=case.batch_bytes, epoch_seconds=case.epoch_seconds
    )
    selection = closed(new.plan, views, models)
    part = restricted(new, selection)
    if case.replay == "stopped":
        runs.run_to_cut(part, log, fresh, "busy")
    else:
        if case.replay == "twice":
            runs.cut_off(part, whole_log, fresh, runs.halves(read_positions(live / "state"), log))
        is_known = case.replay == "known"
        known = [read_watermark(live / "state")] if is_known else []
        offsets = {name: p.offset for name, p in read_positions(live / "state").items()}
        runs.cut_off(part, whole_log, fresh, offsets, *known)
    untouched = {side: runs.contents(side) for side in (live, fresh)}
    out.mkdir()
    with runs.opened_log(new, log, out) as opened:
        folders = GraftFolders(live / "state", fresh / "state", out / "state")
        graft(folders, new, selection, shop.settings(new.directory, log, out), opened)
    runs.put_together(new.plan, selection, live, fresh, out)
    assert generation(out / "state") not in map(generation, (live / "state", fresh / "state"))
    offsets = {name: position.offset for name, position in read_positions(out / "state").items()}
    assert offsets == {name: p.offset for name, p in read_positions(live / "state").items()}
    runs.run_to_end(new, whole_log, out)
    assert {side: runs.contents(side) for side in (live, fresh)} == untouched
    runs.run_to_end(new, whole_log, folder / "whole")
    assert runs.digests(new.plan, out) == runs.digests(new.plan, folder / "whole")
