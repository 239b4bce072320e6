"""What a run holds of who is forgotten, against a world in which that never came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.learning.pending import key_codes
from dataflows.windows.names import Faded
from tests.learning.pending_oracle import Oracle, Row
from tests.learning.test_pending import KEYS, ROWS, Driver
from tests.windows.random_streams import Stream, streams
from tests.windows.stream import Item, Runner, expected, feature, view_of

GONE = b"a"


def _are_gone(keys: Sequence[bytes]) -> Any:
    return np.array([key == GONE for key in keys], np.bool_)


def _nobody(digests: Sequence[bytes]) -> Any:
    return np.zeros(len(digests), np.bool_)


@settings(max_examples=60)
@given(streams(), st.data())
def test_windows_are_as_if_it_had_never_been(stream: Stream, data: st.DataObject) -> None:
    """Others have the same rows and reads; the one that is forgotten begins anew, or reads null."""
    items, view = stream.items, stream.view
    cut = data.draw(st.integers(0, len(items)), "cut")
    watermark_us = items[cut].effective_us if cut < len(items) else stream.up_to_us
    # Of what came before, some still waits.
    watermark_us = min(watermark_us, items[cut // 2].effective_us)
    runner = Runner(view)
    runner.hold(items[:cut])
    before = runner.advance(watermark_us)
    if data.draw(st.booleans(), "stored before"):
        runner.store("dump, load")
    known = GONE in runner.state.keys
    assert runner.state.forget(_are_gone, _nobody) == known
    assert GONE not in runner.state.keys
    runner.store(data.draw(st.sampled_from(["dump", "dump, load"]), "stored"))
    runner.hold(items[cut:])
    after = runner.advance(stream.up_to_us)
    others = [item for item in items if item.key != GONE]
    wanted = expected(view, others, stream.up_to_us)
    found = [row for part in (before, after) for row in part.rows if row[1] != GONE]
    assert sorted(found, key=repr) == sorted(wanted.rows, key=repr)
    reads = {rank: values for part in (before, after) for rank, values in part.reads.items()}
    assert {one.rank: reads[one.rank] for one in others if one.values is None} == wanted.reads
    late = [item for item in items[cut:] if item.key == GONE]
    anew = expected(view, late, stream.up_to_us)
    assert [row for row in after.rows if row[1] == GONE] == sorted(anew.rows)
    for one in items[:cut]:
        if one.key == GONE and one.values is None and one.rank not in before.reads:
            assert reads[one.rank] == [None] * len(view.aggregates)
    assert {one.rank: reads[one.rank] for one in late if one.values is None} == anew.reads


def test_who_fell_silent_is_forgotten_too() -> None:
    """Of an entity that was let go only a digest is left; without it nobody reads as count 0."""
    view = view_of(feature("n", "count", 10, 5))
    meant = Faded()
    meant.add([GONE])
    for forgets, count in ((False, 0), (True, None)):
        runner = Runner(view)
        runner.hold([Item(GONE, 1, 1, 0, (1.0,)), Item(b"b", 1, 1, 1, (1.0,))])
        runner.advance(1_000)
        runner.store("dump")
        assert GONE not in runner.state.keys
        if forgets:
            runner.state.forget(_are_gone, lambda found: np.isin(found, meant.digests))
            runner.store("dump")
        runner.hold([Item(key, 2_000, 2_000, rank, None) for rank, key in enumerate((GONE, b"b"))])
        assert runner.advance(3_000).reads == {0: [count], 1: [0]}


@settings(deadline=None, max_examples=60)
@given(
    rows=ROWS,
    timeout_us=st.integers(1, 20),
    remembered_max=st.integers(0, 5),
    cuts=st.sets(st.integers(1, 60)),
    forgotten=st.dictionaries(st.integers(0, 5), st.sets(KEYS, min_size=1)),
    data=st.data(),
)
def test_predictions_that_wait_are_forgotten(
    rows: list[Row], timeout_us: int, remembered_max: int, cuts: set[int],
    forgotten: dict[int, set[str]], data: st.DataObject,
) -> None:  # fmt: skip
    """All goes on as if they had not been made, whatever is kept, and no part has them any more."""
    oracle = Oracle(timeout_us, 30, remembered_max, 1)
    driver, begin = Driver(oracle), 0
    for number, end_us in enumerate([*sorted(cuts), 100]):
        own = [row for row in rows if begin <= row.time_us < end_us]
        for row in own:
            (oracle.predict if row.label is None else oracle.label)(row)
        oracle.pass_time(end_us)
        driver.run(own, end_us)
        begin = end_us
        if data.draw(st.booleans()):
            driver.keep()
            driver.reload()
        gone = forgotten.get(number, set())
        codes = key_codes(sorted(gone))
        waited = 0
        for entry in oracle.entries:
            if entry.key in gone:
                waited += entry.state == "waiting"
                entry.state = "forgotten"
        assert driver.pending.forget(lambda found: np.isin(found, codes)) == waited  # noqa: B023
        driver.keep()
        for part in driver.files.values():
            for key in gone:
                if len(key) > 1:
                    assert key.encode() not in part
        if data.draw(st.booleans()):
            driver.reload()
    assert driver.events == oracle.events
    assert driver.fates == oracle.fates
    states = [entry.state for entry in oracle.entries]
    pending = driver.pending
    assert pending.waiting == states.count("waiting") == pending.rows.used
    assert pending.remembered == states.count("repeated") + states.count("late")


def test_what_was_written_of_predictions_is_written_anew() -> None:
    """A part that has a forgotten prediction is left behind, and the new one has the others."""
    oracle = Oracle(1_000, 1_000, 10, 1)
    driver = Driver(oracle)
    driver.run([Row(1, "someone"), Row(2, "others"), Row(3, "someone else")], 10)
    driver.keep()
    (before,) = driver.files.values()
    assert b"someone" in before
    codes = key_codes(["someone"])
    assert driver.pending.forget(lambda found: np.isin(found, codes)) == 1
    driver.keep()
    (after,) = driver.files.values()
    assert after.count(b"someone") == after.count(b"someone else") == 1
    driver.reload()
    assert driver.pending.waiting == 2
