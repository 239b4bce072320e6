"""Predictions and labels merged by time and matched by key, compiled.

Every prediction is an *entry*: first it waits, then its label came or it is given up, and for a
while it is remembered, so that a second label or a late one is told from one that fits nothing.
Entries stand in order of prediction. A table of their places is found by the keys' hashes.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from dataflows.learning.pending_types import (
    Bytes,
    Entries,
    Events,
    Hashes,
    Ints,
    Rows,
    Rules,
    Walk,
)

NEVER_US = np.iinfo(np.int64).max
ALWAYS_US = np.iinfo(np.int64).min

# What an entry's slot is once it does not wait any more.
ANSWERED, GIVEN_UP, FORGOTTEN = -1, -2, -3
# Kinds of events.
PREDICTED, REPEATED, LABELLED, EXPIRED = 0, 1, 2, 3
# What became of a label.
MATCHED, UNMATCHED, REPEATED_LABEL, LATE, IGNORED = 0, 1, 2, 3, 4
# Why a walk stopped.
DONE, AT_BOUNDARY, FULL = 0, 1, 2
# Places in ``Entries.marks``.
END, EXPIRE_AT, FORGET_AT, WAITING, REMEMBERED, BOUNDARY_US, CLASSES, NUMBER = range(8)
MARKS = 8
# A row of a walk may make two events.
EVENTS_PER_ROW = 2


@numba.njit(cache=True)
def hash_pieces(data: NDArray[np.uint8], ends: Ints) -> Hashes:
    """MurmurHash64A of each of the pieces that lie one behind another."""
    factor, shift = np.uint64(0xC6A4A7935BD1E995), np.uint64(47)
    found = np.empty(len(ends), np.uint64)
    begin = 0
    for row in range(len(ends)):
        end = ends[row]
        mixed = np.uint64(0x9E3779B97F4A7C15) ^ (np.uint64(end - begin) * factor)
        while begin < end:
            word = np.uint64(0)
            for place in range(min(8, end - begin)):
                word |= np.uint64(data[begin + place]) << np.uint64(8 * place)
            word *= factor
            word ^= word >> shift
            mixed = (mixed ^ (word * factor)) * factor
            begin += 8
        begin = end
        mixed = (mixed ^ (mixed >> shift)) * factor
        found[row] = mixed ^ (mixed >> shift)
    return found


@numba.njit(cache=True)
def find(entries: Entries, low: np.uint64, high: int) -> np.int64:
    """The entry of a key: the one that waits, else the latest that is remembered, else -1."""
    last = np.uint64(len(entries.table) - 1)
    row = low & last
    found = np.int64(-1)
    while True:
        place = entries.table[row]
        if place < 0:
            return found
        if entries.lows[place] == low:
            slot = entries.slots[place]
            if slot >= 0:
                if entries.highs[slot] == high:
                    return np.int64(place)
            elif slot != FORGOTTEN and place > found:
                found = np.int64(place)
        row = (row + np.uint64(1)) & last


@numba.njit(cache=True)
def fill_table(entries: Entries) -> None:
    """Put all entries that are not forgotten into the table."""
    last = np.uint64(len(entries.table) - 1)
    entries.table[:] = -1
    for place in range(entries.marks[END]):
        if entries.slots[place] != FORGOTTEN:
            row = entries.lows[place] & last
            while entries.table[row] >= 0:
                row = (row + np.uint64(1)) & last
            entries.table[row] = place


@numba.njit(cache=True)
def _append(entries: Entries, low: np.uint64, high: int, time_us: int, slot: int) -> None:
    place = entries.marks[END]
    entries.marks[END] += 1
    entries.marks[WAITING] += 1
    entries.numbers[place] = entries.marks[NUMBER]
    entries.marks[NUMBER] += 1
    entries.lows[place] = low
    entries.times[place] = time_us
    entries.slots[place] = slot
    entries.parts[place] = -1
    entries.highs[slot] = high
    last = np.uint64(len(entries.table) - 1)
    row = low & last
    while entries.table[row] >= 0:
        row = (row + np.uint64(1)) & last
    entries.table[row] = place


@numba.njit(cache=True)
def _forget(entries: Entries, place: np.int64) -> None:
    entries.slots[place] = FORGOTTEN
    part = entries.parts[place]
    if part >= 0:
        entries.live[part] -= 1


@numba.njit(cache=True)
def _settle(entries: Entries, place: np.int64, state: int) -> None:
    """An entry waits no more."""
    part = entries.parts[place]
    if part >= 0:
        entries.waiting[part] -= 1
    entries.marks[WAITING] -= 1
    entries.slots[place] = state
    if place < entries.marks[FORGET_AT]:
        _forget(entries, place)  # its neighbours in time were forgotten before
    else:
        entries.marks[REMEMBERED] += 1


@numba.njit(cache=True)
def _forget_old(entries: Entries, time_us: int, rules: Rules) -> None:
    """Let go what two timeouts have passed over, and the oldest of what is too much."""
    marks = entries.marks
    while marks[FORGET_AT] < marks[END]:
        place = marks[FORGET_AT]
        # Not twice the timeout at once: it may be nearly as long as time itself.
        is_old = time_us - entries.times[place] - rules.timeout_us > rules.timeout_us
        if marks[REMEMBERED] <= rules.remembered_max and not is_old:
            return
        if entries.slots[place] < 0:
            _forget(entries, place)
            marks[REMEMBERED] -= 1
        marks[FORGET_AT] += 1


@numba.njit(cache=True)
def _overdue(entries: Entries, before_us: int, rules: Rules) -> np.int64:
    """The oldest entry that waits, if its deadline is before a moment; else -1."""
    marks = entries.marks
    while marks[EXPIRE_AT] < marks[END]:
        place = marks[EXPIRE_AT]
        if entries.slots[place] >= 0:
            is_due = entries.times[place] + rules.timeout_us < before_us
            return place if is_due else np.int64(-1)
        marks[EXPIRE_AT] += 1
    return np.int64(-1)


@numba.njit(cache=True)
def _learn(entries: Entries, time_us: int, rules: Rules) -> None:
    if entries.marks[BOUNDARY_US] == NEVER_US:
        entries.marks[BOUNDARY_US] = (time_us // rules.every_us + 1) * rules.every_us


@numba.njit(cache=True)
def _know_class(entries: Entries, code: int, walk: Walk) -> None:
    if walk.is_known[code] == 0:
        walk.is_known[code] = 1
        entries.marks[CLASSES] += 1


@numba.njit(cache=True)
def _early_of(labels: Rows, low: np.uint64, high: int, time_us: int, walk: Walk) -> np.int64:
    """Where the table of early labels has this key at this time: a row, or ~row that is free."""
    last = np.uint64(len(walk.early) - 1)
    row = low & last
    while True:
        label = walk.early[row]
        if label < 0:
            return np.int64(-1) - np.int64(row)
        is_same = labels.lows[label] == low and labels.highs[label] == high
        if is_same and labels.times[label] == time_us:
            return np.int64(row)
        row = (row + np.uint64(1)) & last


@numba.njit(cache=True)
def _take_label(entries: Entries, labels: Rows, row: int, walk: Walk, rules: Rules) -> int:
    """The slot of the prediction that a label is for, -1 for none."""
    code, low, high = labels.codes[row], labels.lows[row], labels.highs[row]
    if code < 0 or (walk.is_known[code] == 0 and entries.marks[CLASSES] >= rules.classes_max):
        walk.fates[row] = IGNORED
        return -1
    place = find(entries, low, high)
    slot = -1 if place < 0 else entries.slots[place]
    if slot >= 0:
        walk.fates[row] = MATCHED
        walk.at[2] = entries.times[place]
        _settle(entries, place, ANSWERED)
        _know_class(entries, code, walk)
        if rules.learns_at > 0:
            _learn(entries, labels.times[row], rules)
        return slot
    walk.fates[row] = UNMATCHED
    if place >= 0:
        walk.fates[row] = REPEATED_LABEL if slot == ANSWERED else LATE
    free = _early_of(labels, low, high, labels.times[row], walk)
    if free < 0:
        walk.early[~free] = row
    return -1


@numba.njit(cache=True)
def _put(
    events: Events, count: int, kind: int, slot: int, row: int, time_us: int, since_us: int
) -> int:
    events.kinds[count] = kind
    events.slots[count] = slot
    events.rows[count] = row
    events.times[count] = time_us
    events.since[count] = since_us
    return count + 1


@numba.njit(cache=True)
def _predict(
    entries: Entries, predictions: Rows, labels: Rows, walk: Walk, rules: Rules, events: Events,
    count: int,
) -> int:  # fmt: skip
    """The next prediction, and right after it its own label if that came at the same time."""
    row = walk.at[0]
    walk.at[0] += 1
    low, high = predictions.lows[row], predictions.highs[row]
    time_us, slot = predictions.times[row], predictions.codes[row]
    if rules.learns_at == 0:
        _learn(entries, time_us, rules)
    place = find(entries, low, high)
    if rules.waits == 0 or (place >= 0 and entries.slots[place] >= 0):
        return _put(events, count, REPEATED, slot, row, time_us, time_us)
    _append(entries, low, high, time_us, slot)
    count = _put(events, count, PREDICTED, slot, row, time_us, time_us)
    early = _early_of(labels, low, high, time_us, walk)
    if early < 0:
        return count
    label = walk.early[early]
    if walk.fates[label] == MATCHED:
        return count
    fate = walk.fates[label]
    slot = _take_label(entries, labels, label, walk, rules)
    if slot < 0:
        walk.fates[label] = fate
        return count
    return _put(events, count, LABELLED, slot, label, time_us, time_us)


@numba.njit(cache=True)
def walk_rows(
    entries: Entries, predictions: Rows, labels: Rows, until_us: int, walk: Walk, rules: Rules,
    events: Events,
) -> tuple[int, int]:  # fmt: skip
    """Run rows in order of time, labels first; give up what is overdue; (why it stopped, events).

    All rows lie before ``until_us``. It stops at the boundary, once all before has happened.
    """
    count, marks = 0, entries.marks
    while count + EVENTS_PER_ROW <= len(events.kinds):
        predicted_us = labelled_us = NEVER_US
        if walk.at[0] < len(predictions.times):
            predicted_us = predictions.times[walk.at[0]]
        if walk.at[1] < len(labels.times):
            labelled_us = labels.times[walk.at[1]]
        time_us = min(predicted_us, labelled_us, until_us)
        overdue = _overdue(entries, min(time_us, marks[BOUNDARY_US]), rules)
        if overdue >= 0:
            slot, since_us = entries.slots[overdue], entries.times[overdue]
            deadline_us = since_us + rules.timeout_us
            _settle(entries, overdue, GIVEN_UP)
            if walk.given_class >= 0:
                _know_class(entries, walk.given_class, walk)
            if rules.learns_at > 1:
                _learn(entries, deadline_us, rules)
            count = _put(events, count, EXPIRED, slot, -1, deadline_us, since_us)
            continue
        if time_us >= marks[BOUNDARY_US]:
            return AT_BOUNDARY, count
        _forget_old(entries, time_us, rules)
        if labelled_us <= predicted_us and labelled_us < until_us:
            row = walk.at[1]
            walk.at[1] += 1
            slot = _take_label(entries, labels, row, walk, rules)
            if slot >= 0:
                count = _put(events, count, LABELLED, slot, row, labelled_us, walk.at[2])
        elif predicted_us < until_us:
            count = _predict(entries, predictions, labels, walk, rules, events, count)
        else:
            return DONE, count
    return FULL, count


@numba.njit(cache=True)
def newest_waiting(entries: Entries, slots: Ints) -> int:
    """Fill ``slots`` with those of the newest predictions that wait; how many there are."""
    count = 0
    place = entries.marks[END] - 1
    while place >= 0 and count < min(len(slots), entries.marks[WAITING]):
        if entries.slots[place] >= 0:
            slots[count] = entries.slots[place]
            count += 1
        place -= 1
    return count


@numba.njit(cache=True)
def compact(entries: Entries, into: Entries) -> None:
    """Copy all that is not forgotten, in order; ``into`` shares what is not by entry."""
    end = expire_at = forget_at = 0
    for place in range(entries.marks[END]):
        if place == entries.marks[EXPIRE_AT]:
            expire_at = end
        if place == entries.marks[FORGET_AT]:
            forget_at = end
        if entries.slots[place] != FORGOTTEN:
            into.numbers[end] = entries.numbers[place]
            into.lows[end] = entries.lows[place]
            into.times[end] = entries.times[place]
            into.slots[end] = entries.slots[place]
            into.parts[end] = entries.parts[place]
            into.places[end] = entries.places[place]
            end += 1
    if entries.marks[EXPIRE_AT] >= entries.marks[END]:
        expire_at = end
    if entries.marks[FORGET_AT] >= entries.marks[END]:
        forget_at = end
    into.marks[END], into.marks[EXPIRE_AT], into.marks[FORGET_AT] = end, expire_at, forget_at


@numba.njit(cache=True)
def states_of_parts(entries: Entries, offsets: Ints, states: Bytes) -> None:
    """Write the state of each saved entry (0 waiting, 1 answered, 2 given up, 3 forgotten).

    That of place p of part q goes to ``states[offsets[q] + p]``; forgotten ones are there before.
    """
    for place in range(entries.marks[END]):
        part = entries.parts[place]
        if part >= 0 and entries.slots[place] != FORGOTTEN:
            state = -entries.slots[place] if entries.slots[place] < 0 else 0
            states[offsets[part] + entries.places[place]] = state
