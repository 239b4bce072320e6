"""The store of waiting predictions against a dictionary and a list."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.learning import pending as pending_module
from dataflows.learning import pending_kernel as kernel
from dataflows.learning.pending import Pending
from dataflows.learning.pending_types import Rules
from tests.learning.pending_oracle import CLASSES_MAX, Happened, Oracle, Row

WIDTH = 2

KINDS = {
    kernel.PREDICTED: "predicted",
    kernel.REPEATED: "repeated",
    kernel.LABELLED: "labelled",
    kernel.EXPIRED: "expired",
}
FATES = {
    kernel.MATCHED: "matched",
    kernel.UNMATCHED: "unmatched",
    kernel.REPEATED_LABEL: "repeated",
    kernel.LATE: "late",
    kernel.IGNORED: "ignored",
}


def vector(key: str, time_us: int) -> tuple[float, float]:
    """What a prediction's row must hold."""
    return float(time_us), float(sum(key.encode()))


class Driver:
    """A store that is fed call by call, and what came of it."""

    def __init__(self, oracle: Oracle) -> None:
        self._given = (oracle.timeout_us, oracle.every_us, oracle.learns_at, oracle.given,
                       oracle.remembered_max)  # fmt: skip
        self.pending = self.empty()
        self.events: list[Happened] = []
        self.fates: list[str] = []
        self.known = np.zeros(8, np.int8)
        self.files: dict[int, bytes] = {}
        self.head = b""
        self.order: tuple[int, ...] = ()

    def empty(self) -> Pending:
        """A new store."""
        timeout_us, every_us, learns_at, _, remembered_max = self._given
        rules = Rules(timeout_us, every_us, learns_at, CLASSES_MAX, remembered_max, 1)
        return Pending(WIDTH, rules, segments=1)

    def run(self, rows: list[Row], until_us: int) -> None:
        """One call."""
        predictions = [row for row in rows if row.label is None]
        labels = [row for row in rows if row.label is not None]
        pending = self.pending
        call = pending.begin(
            [row.key for row in predictions],
            np.array([row.time_us for row in predictions], np.int64),
            np.array([vector(r.key, r.time_us) for r in predictions]).reshape(-1, WIDTH),
            [row.key for row in labels],
            np.array([row.time_us for row in labels], np.int64),
            np.array([row.label for row in labels], np.int64),
            self.known,
            until_us,
            [[row.key[:1] for row in predictions]],
            self._given[3],
        )
        released = []
        while not pending.is_over(call):
            for events in pending.walk(call):
                columns = (column.tolist() for column in events)
                for kind, slot, row, time_us, since_us in zip(*columns, strict=True):
                    key = pending.rows.keys[slot]
                    label = f" {labels[row].label}" if kind == kernel.LABELLED else ""
                    self.events.append((KINDS[kind] + label, key, time_us))
                    if kind == kernel.LABELLED:
                        self.known[labels[row].label or 0] = 1
                        assert labels[row].key == key
                    elif kind == kernel.EXPIRED and self._given[3] >= 0:
                        self.known[self._given[3]] = 1
                    if kind != kernel.PREDICTED:
                        released.append(slot)
                    if kind in (kernel.LABELLED, kernel.EXPIRED):
                        assert tuple(pending.rows.rows[slot]) == vector(key, since_us)
                        assert pending.rows.versions[slot] == since_us
                        assert pending.rows.segments[0][slot] == key[:1]
                    else:
                        pending.rows.versions[slot] = time_us
            if not pending.is_over(call):
                self.events.append(("boundary", "", pending.boundary_us))
                pending.pass_boundary()
        pending.rows.release(released)
        self.fates.extend(FATES[fate] for fate in call.fates.tolist())

    def keep(self) -> None:
        """Write as files would be, and go on with what is read."""
        saved = self.pending.save()
        self.files = {name: self.files[name] for name in saved.parts if name not in saved.new} | {
            name: pickle.dumps(part) for name, part in saved.new.items()
        }
        self.head, self.order = pickle.dumps(saved.head), saved.parts

    def reload(self) -> None:
        """Go on with what was kept last, as another process would."""
        parts = [pickle.loads(self.files[name]) for name in self.order]
        self.pending = Pending.load(self.empty(), pickle.loads(self.head), parts)
        self.files = {
            new: self.files[old]
            for new, old in zip(self.pending.part_names, self.order, strict=True)
        }


KEYS = st.sampled_from(["a", "b", "c", "", "é", "a long key of more than sixteen bytes"])
ROWS = st.lists(
    st.builds(Row, st.integers(0, 60), KEYS, st.one_of(st.none(), st.none(), st.integers(-1, 4))),
    max_size=60,
).map(lambda rows: sorted(rows, key=lambda row: (row.time_us, row.label is None)))


@settings(deadline=None, max_examples=150)
@given(
    rows=ROWS,
    timeout_us=st.integers(1, 20),
    every_us=st.integers(1, 30),
    remembered_max=st.integers(0, 5),
    learns_at=st.integers(0, 2),
    cuts=st.sets(st.integers(1, 60)),
    given_class=st.integers(-1, 4),
    data=st.data(),
)
def test_all_happens_as_row_by_row(
    rows: list[Row], timeout_us: int, every_us: int, remembered_max: int, learns_at: int,
    cuts: set[int], given_class: int, data: Any,
) -> None:  # fmt: skip
    """However rows are cut into calls, kept and read back, all is as if done one by one."""
    oracle = Oracle(timeout_us, every_us, remembered_max, learns_at, given_class)
    for row in rows:
        (oracle.predict if row.label is None else oracle.label)(row)
    oracle.pass_time(100)
    driver, begin = Driver(oracle), 0
    for end_us in [*sorted(cuts), 100]:
        driver.run([row for row in rows if begin <= row.time_us < end_us], end_us)
        begin = end_us
        fate = data.draw(st.sampled_from(["go on", "keep", "reload"]))
        if fate != "go on":
            driver.keep()
        if fate == "reload":
            driver.reload()
    assert driver.events == oracle.events
    assert driver.fates == oracle.fates
    states = [entry.state for entry in oracle.entries]
    pending = driver.pending
    assert pending.waiting == states.count("waiting") == pending.rows.used
    assert pending.remembered == states.count("repeated") + states.count("late")
    newest = [pending.rows.keys[slot] for slot in pending.newest(3).tolist()]
    expected = [entry.key for entry in reversed(oracle.entries) if entry.state == "waiting"]
    assert newest == expected[:3]


def filled(count: int, timeout_us: int = 10**9) -> Pending:
    """A store in which so many predictions wait, one a microsecond."""
    pending = Pending(WIDTH, Rules(timeout_us, 10**9, 1, CLASSES_MAX, 10**6, 1))
    feed(pending, list(range(count)), [], count)
    return pending


def feed(pending: Pending, predictions: list[int], labels: list[int], until_us: int) -> list[int]:
    """Predictions named by their times, and labels of the last microsecond; fates of these."""
    call = pending.begin(
        [str(number) for number in predictions],
        np.array(predictions, np.int64),
        np.ones((len(predictions), WIDTH)),
        [str(number) for number in labels],
        np.full(len(labels), until_us - 1),
        np.zeros(len(labels), np.int64),
        np.ones(1, np.int8),
        until_us,
    )
    for events in pending.walk(call):
        pending.rows.release(events.slots[events.kinds >= kernel.LABELLED])
    return [int(fate) for fate in call.fates]


def test_what_was_written_is_not_written_again() -> None:
    """A new row costs itself, a label for an old one two bits: not what all that wait would."""
    pending = filled(20_000)
    whole = len(pickle.dumps(pending.save()))
    feed(pending, [20_000], list(range(0, 20_000, 4)), 20_001)
    saved = pending.save()
    assert [len(part["numbers"]) for part in saved.new.values()] == [1]
    assert len(saved.parts) == 2
    assert len(pickle.dumps(saved)) < whole / 100
    assert pending.save().new == {}


def test_parts_stay_few_and_hold_little_that_is_gone() -> None:
    """Small parts become one; a part is dropped once all in it is forgotten."""
    pending = Pending(WIDTH, Rules(1_000, 10**9, 1, CLASSES_MAX, 10**6, 1))
    most = entries = 0
    for begin in range(0, 20_000, 50):
        feed(pending, list(range(begin, begin + 50)), [], begin + 50)
        saved = pending.save()
        most = max(most, len(saved.parts))
        entries = max(entries, int(saved.head["sizes"].sum()))
    assert most <= 12
    # Those that wait (1,000) and those remembered (1,000), and as many that are gone.
    assert entries <= 4_000
    feed(pending, [], [], 40_000)
    assert pending.save().parts == ()


def test_a_label_for_what_was_forgotten_fits_nothing() -> None:
    """After two timeouts nothing tells a late label from one that never had a prediction."""
    for until_us, fate in ((200, kernel.LATE), (201, kernel.LATE), (202, kernel.UNMATCHED)):
        assert feed(filled(1, 100), [], [0], until_us) == [fate]


def test_the_latest_prediction_of_a_key_says_what_its_label_is() -> None:
    """Labelled once, and then made again and given up: a label is late, not repeated."""
    pending = Pending(WIDTH, Rules(100, 10**9, 1, CLASSES_MAX, 10, 1))
    feed(pending, [0], [], 1)
    assert feed(pending, [], [0], 2) == [kernel.MATCHED]
    call = pending.begin(
        ["0"], np.array([10]), np.ones((1, WIDTH)), [], np.empty(0, np.int64),
        np.empty(0, np.int64), np.ones(1, np.int8), 120,
    )  # fmt: skip
    for _ in pending.walk(call):
        pass
    assert feed(pending, [], [0], 121) == [kernel.LATE]


def test_no_more_are_remembered_than_allowed() -> None:
    """Once newer ones were forgotten, one that waited longer than they is not remembered either."""
    pending = Pending(WIDTH, Rules(1_000, 10**9, 1, CLASSES_MAX, 0, 1))
    feed(pending, [0, 1], [], 2)
    for labels, fate in (([1], kernel.MATCHED), ([1], kernel.UNMATCHED), ([0], kernel.MATCHED)):
        assert feed(pending, [], labels, 5) == [fate]
    assert pending.remembered == 0
    assert feed(pending, [], [0], 6) == [kernel.UNMATCHED]


def test_memory_follows_what_waits_and_not_what_came() -> None:
    """Rows of labelled and given-up predictions are used again, and so are their entries."""
    pending = Pending(WIDTH, Rules(100, 10**9, 1, CLASSES_MAX, 50, 1))
    for begin in range(0, 20_000, 20):
        feed(pending, list(range(begin, begin + 20)), list(range(begin, begin + 20, 2)), begin + 20)
    assert pending.waiting <= 61
    assert len(pending.rows.keys) <= 200
    assert len(pending._held.lows) <= 400


def test_however_many_are_given_up_in_one_call() -> None:
    """When time makes a leap, all that waited is given up, however much that is."""
    pending = filled(50_000, 100_000)
    feed(pending, [], [], 10**8)
    assert (pending.waiting, pending.remembered, pending.rows.used) == (0, 0, 0)


def test_keys_are_compared_as_they_are() -> None:
    """Keys beyond ASCII, even with a lone surrogate, find their own prediction only."""
    pending = Pending(WIDTH, Rules(100, 10**9, 1, CLASSES_MAX, 50, 1))
    keys = ["é", "e\u0301", "\udc80", "", "\0", "aé", "a", "b" * 100]
    call = pending.begin(
        keys, np.zeros(8, np.int64), np.arange(16.0).reshape(8, 2), [*reversed(keys), "none"],
        np.ones(9, np.int64), np.zeros(9, np.int64), np.ones(1, np.int8), 5,
    )  # fmt: skip
    (events,) = pending.walk(call)
    assert [pending.rows.keys[slot] for slot in events.slots.tolist()] == keys + keys[::-1]
    assert call.fates.tolist() == [kernel.MATCHED] * 8 + [kernel.UNMATCHED]


def test_the_first_label_of_the_very_time_of_a_prediction_is_its_own() -> None:
    """Two labels that come just before their prediction: the first is learned, the other not."""
    pending = Pending(WIDTH, Rules(100, 10**9, 1, CLASSES_MAX, 50, 1))
    call = pending.begin(
        ["a"], np.zeros(1, np.int64), np.ones((1, WIDTH)), ["b", "a", "a"],
        np.zeros(3, np.int64), np.zeros(3, np.int64), np.ones(1, np.int8), 5,
    )  # fmt: skip
    (events,) = pending.walk(call)
    assert events.rows.tolist() == [0, 1]
    assert call.fates.tolist() == [kernel.UNMATCHED, kernel.MATCHED, kernel.UNMATCHED]


def test_one_hash_alone_matches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that someone has made to have the same public hash still find their own prediction."""
    hashes = pending_module._hashes

    def colliding(keys: Sequence[str]) -> Any:
        lows, highs = hashes(keys)
        return np.zeros_like(lows), highs

    monkeypatch.setattr(pending_module, "_hashes", colliding)
    pending = filled(50)
    saved = pending.save()
    pending = Pending.load(filled(0), saved.head, list(saved.new.values()))
    call = pending.begin(
        [], np.empty(0, np.int64), np.empty((0, WIDTH)), [str(n) for n in range(49, -1, -2)],
        np.full(25, 60), np.zeros(25, np.int64), np.ones(1, np.int8), 61,
    )  # fmt: skip
    (events,) = pending.walk(call)
    assert events.since.tolist() == list(range(49, -1, -2))
