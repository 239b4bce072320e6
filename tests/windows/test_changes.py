"""Changes have the tiles that may have changed: older ones are where they were stored before."""

from __future__ import annotations

import pickle

from tests.windows.stream import Item, Runner, feature, view_of

_HOUR = view_of(feature("n", "count", 3_600, 60), feature("s", "sum", 3_600, 60))


def _full() -> Runner:
    """Fifty entities with values in each minute of an hour, stored."""
    runner = Runner(_HOUR)
    for minute in range(60):
        at = 60 * minute
        items = [Item(b"%d" % k, at, at, minute * 50 + k, (1.0,)) for k in range(50)]
        runner.hold(items)
        runner.advance(at + 1)
    runner.store("dump")
    return runner


def _changed(runner: Runner, event_us: int) -> int:
    """Bytes of the changes after one more event of each entity, which comes in the last minute."""
    at = 3_590
    runner.hold([Item(b"%d" % k, event_us, at, 9_000 + k, (1.0,)) for k in range(50)])
    runner.advance(at + 1)
    return len(pickle.dumps(runner.state.changes()))


def test_tiles_older_than_what_came_are_not_stored_again() -> None:
    """Of sixty tiles of an entity one is written if one event came, and more if it came late."""
    everything = len(_full().stored[0])
    on_time, late = _changed(_full(), 3_590), _changed(_full(), 1_800)
    assert on_time < everything / 6
    assert everything / 3 < late < everything * 2 / 3


def test_tiles_that_only_the_base_has_are_there_after_a_load() -> None:
    """Late and early events, decay and silence between: each feature is as without a restart."""
    stored, plain = _full(), _full()
    for step, late_by in enumerate((0, 1_900, 30, 3_500, 0, 700)):
        at = 3_590 + 130 * step
        keys = range(step, 50, 3)
        items = [Item(b"%d" % k, at - late_by, at, 10_000 * step + k, (2.0,)) for k in keys]
        for runner in (stored, plain):
            runner.hold(items)
            runner.advance(at + 1)
        stored.store("changes, load" if step % 2 else "changes")
    reads = [Item(b"%d" % k, 4_300, 4_300, 99_000 + k, None) for k in range(50)]
    for runner in (stored, plain):
        runner.hold(reads)
    assert repr(stored.advance(4_300)) == repr(plain.advance(4_300))
    assert repr(stored.advance(9_000)) == repr(plain.advance(9_000))
