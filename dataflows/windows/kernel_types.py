"""What the compiled inner loop takes and gives: arrays, in tuples with names."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class State(NamedTuple):
    """The arrays of ``ViewState``, one row per entity, of which the later ones may be unused.

    Attributes:
        cells: float64[n, width], the tiles, see ``layout``.
        marks: int64[n, marks], newest tile of each window, and which tiles hold anything.
        decay_at: int64[n], next hop boundary at which a tile that holds something leaves.
        stamped_at: int64[n], stamp of the newest row; -1 for an entity never updated.
        block_decay_at: int64[ceil(n / 64)], no decay of these 64 entities comes before.
        last_row: int64[n], all -1 between two calls.
    """

    cells: Floats
    marks: Ints
    decay_at: Ints
    stamped_at: Ints
    block_decay_at: Ints
    last_row: Ints


class Shape(NamedTuple):
    """What is the same in all calls: the arrays of ``Layout``, and what the view asks for.

    Attributes:
        windows, groups, features: as in ``Layout``.
        ttl_us: as in ``View``.
        keeps_history: whether all rows are wanted, and not only an entity's last one.
    """

    windows: Ints
    groups: Ints
    features: Ints
    ttl_us: int
    keeps_history: bool


class Batch(NamedTuple):
    """The columns of ``Pending``, in the order in which they are to be run."""

    slots: Ints
    is_update: Bools
    effective_us: Ints
    event_us: Ints
    values: Floats


class Output(NamedTuple):
    """Rows: entity, stamp, float64[n, F] features (NaN is null)."""

    slots: Ints
    stamps_us: Ints
    values: Floats
