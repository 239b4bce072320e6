"""The tuples of arrays that ``pending_kernel`` works on. Constants are there, not here.

Compiled code is kept until the kernel's own module changes, or the fields of these do.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Places = NDArray[np.int32]
Hashes = NDArray[np.uint64]
Bytes = NDArray[np.int8]


class Entries(NamedTuple):
    """All that is waiting or remembered, in order of prediction.

    Attributes:
        numbers: int64 ``[n]``, ascending, never used again.
        lows: uint64 ``[n]``, hash of the key, the same in every process.
        times: int64 ``[n]``, of the prediction.
        slots: int32 ``[n]``, of the vector, or ``pending_kernel.ANSWERED`` and so on.
        parts: int32 ``[n]``, saved part that it is in, -1 for none yet.
        places: int32 ``[n]``, place within that part.
        table: int32 ``[2 ** k]``, at most half full: an entry, -1 for free.
        highs: int64 ``[slots]``, a second hash of the key of each slot, of this process only.
        live: int64 ``[parts]``, entries of each saved part that are not forgotten.
        waiting: int64 ``[parts]``, entries of each saved part that wait.
        marks: int64 ``[pending_kernel.MARKS]``.
    """

    numbers: Ints
    lows: Hashes
    times: Ints
    slots: Places
    parts: Places
    places: Places
    table: Places
    highs: Ints
    live: Ints
    waiting: Ints
    marks: Ints


class Rows(NamedTuple):
    """Predictions of a call, or its labels, ascending in time.

    Attributes:
        lows: uint64 ``[n]``.
        highs: int64 ``[n]``.
        times: int64 ``[n]``.
        codes: int64 ``[n]``: the slot of a prediction; the class of a label, -1 to ignore it.
    """

    lows: Hashes
    highs: Ints
    times: Ints
    codes: Ints


class Walk(NamedTuple):
    """How far a call is.

    Attributes:
        at: int64 ``[3]``: next prediction, next label, time of the prediction matched last.
        fates: int8 ``[m]``, what became of each label.
        early: int32 ``[2 ** k]``: labels that found no prediction, by hash.
        is_known: int8 ``[classes]``: whether a label of the class was matched before.
        given_class: of what is given up, -1 for none.
    """

    at: Ints
    fates: Bytes
    early: Places
    is_known: Bytes
    given_class: int


class Rules(NamedTuple):
    """What stays as it is.

    Attributes:
        timeout_us: a label so much later than its prediction still counts.
        every_us: boundaries are multiples of it.
        learns_at: 0 if predictions are learned from, 1 labels, 2 labels and what is given up.
        classes_max: a label of one more class is ignored.
        remembered_max: entries that are remembered though they do not wait.
        waits: 0 if predictions never wait: each is like a repeated one.
    """

    timeout_us: int
    every_us: int
    learns_at: int
    classes_max: int
    remembered_max: int
    waits: int


class Events(NamedTuple):
    """What happened, in order.

    Attributes:
        kinds: int8 ``[k]``, ``pending_kernel.PREDICTED`` and so on.
        slots: int64 ``[k]``, of the vector.
        rows: int64 ``[k]``, place of the prediction or label among those of the call, or -1.
        times: int64 ``[k]``, when: for what is given up its deadline.
        since: int64 ``[k]``, time of the prediction.
    """

    kinds: Bytes
    slots: Ints
    rows: Ints
    times: Ints
    since: Ints
