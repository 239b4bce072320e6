"""What the compiled inner loop takes and gives: arrays, in tuples with names."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class Lists(NamedTuple):
    """The tiles of all windows that have lists, see ``lists``.

    Attributes:
        table: int64[n, lists, 4], for each list of an entity its block in ``blocks`` (-1 for none),
            the first place in use, how many are, and how many the block has.
        blocks: float64[places * place width]; a place is the number of a tile, then what it holds.
        free: int64[33], places of ``blocks`` that were ever used; then for each size of blocks
            (2 ** i places) the first free one, which has the next one in its first cell; -1 none.
    """

    table: Ints
    blocks: Floats
    free: Ints


class State(NamedTuple):
    """The arrays of ``StateRows``, one row per entity, of which the later ones may be unused.

    Attributes:
        cells: float64[n * width], the tiles of all rings, see ``layout``.
        marks: int64[n, marks], newest tile of each window, and which tiles of the rings hold
            anything.
        lists: the tiles that are in no ring; None for a view that has rings only, and no statistic
            that is rare, see ``kernel``.
        decay_at: int64[n], next hop boundary at which a tile that holds something leaves.
        stamped_at: int64[n], stamp of the newest row; -1 for an entity never updated.
        block_decay_at: int64[ceil(n / 64)], no decay of these 64 entities comes before.
        last_row: int64[at least n], all -1 between two calls. Other states may use it then.
        is_dirty: bool[n], whether the entity changed since it was set to False.
    """

    cells: Floats
    marks: Ints
    lists: Lists | None
    decay_at: Ints
    stamped_at: Ints
    block_decay_at: Ints
    last_row: Ints
    is_dirty: Bools


class Sizes(NamedTuple):
    """Numbers of ``Shape``: as in ``Layout`` the first two, as in ``View`` the others."""

    width: int
    place_width: int
    exact_tiles_max: int
    distinct_bits: int


class Shape(NamedTuple):
    """What is the same in all calls: the arrays of ``Layout``, and what the view asks for.

    Attributes:
        windows, groups, features: as in ``Layout``.
        sizes: how large things are.
        ttl_us: as in ``View``.
        keeps_history: whether all rows are wanted, and not only an entity's last one.
    """

    windows: Ints
    groups: Ints
    features: Ints
    sizes: Sizes
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


class Advanced(NamedTuple):
    """What came of a call.

    Attributes:
        rows: in order of time for each entity; of a view that keeps no history only the last one.
        reads: float64[reads, F], what the reads saw, in their order; NaN is null, as is what is not
            known or too old.
        next_decay_us: nothing decays before.
    """

    rows: Output
    reads: Floats
    next_decay_us: int


class Union(NamedTuple):
    """Room to put sets of distinct values together.

    Attributes:
        hashes: float64[2 * registers].
        registers: int64[registers].
    """

    hashes: Floats
    registers: Ints


EVER = -(2**62)


class Packed(NamedTuple):
    """Rows of ``State``, without what they do not use.

    Attributes:
        since_us: tiles of rings that ended before are left out: whoever puts the rows back has
            them already. ``EVER`` if nothing is left out.
        slots: int64[n].
        marks: int64[n, marks].
        lengths: int64[n, lists], how many tiles each list holds.
        decay_at, stamped_at: int64[n].
        cells: float64[...], the tiles that hold anything, entity by entity and group by group,
            those of a group from the oldest on.
    """

    since_us: int
    slots: Ints
    marks: Ints
    lengths: Ints
    decay_at: Ints
    stamped_at: Ints
    cells: Floats
