"""The columns of a model: where each stands, its reference, and its window.

A column first goes by (warm-up), then a sample says what its cells are, then its reference is
counted, and from then on a window is compared with that. All of it moves in blocks of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataflows.drift.cells import CELLS, EDGES_MAX, Floats, Ints, learn_nominal, learn_ordered
from dataflows.drift.kernel import KINDS, compare, count
from dataflows.drift.spec import BLOCKS, DriftSpec

WAITS, SAMPLED, COUNTED, WATCHED = range(4)
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Look:
    """One comparison of windows with their references; the last column is the score.

    Attributes:
        ready: bool ``[c]``, which columns were compared.
        values: float64 ``[KINDS, c]``.
        logs: of the bounds on their probabilities, the same shape.
        rows: int64 ``[KINDS, c]``, in the window.
        reference_rows: the same of the reference.
    """

    ready: Bools
    values: Floats
    logs: Floats
    rows: Ints
    reference_rows: Ints


class Columns:
    """Counts of all columns: features in the order of the spec, then the score."""

    def __init__(self, spec: DriftSpec) -> None:
        width = len(spec.features) + 1
        self._spec = spec
        self._nominal = (*spec.is_nominal, False)
        self._in_block = 0
        self._block = 0
        self._counts = np.zeros((width, CELLS), np.uint16)
        self._missing = np.zeros(width, np.uint16)
        # What the blocks of the window hold, and when they began and ended.
        self._ring = np.zeros((BLOCKS, width, CELLS), np.uint16)
        self._ring_missing = np.zeros((BLOCKS, width), np.uint16)
        self._times_us = np.zeros((BLOCKS, 2), np.int64)
        self._phases = np.full(width, WAITS if spec.warmup_blocks else SAMPLED, np.int64)
        self._blocks = np.zeros(width, np.int64)  # in this phase
        self._edges = np.full((width, EDGES_MAX), np.inf)
        self._edge_counts = np.zeros(width, np.int64)
        self._groups = np.zeros((width, CELLS), np.int64)
        self._group_counts = np.ones(width, np.int64)
        self._reference = np.zeros((width, CELLS), np.int64)
        self._reference_missing = np.zeros(width, np.int64)
        self._reference_us = np.zeros((width, 2), np.int64)
        # Rows of the block, and of those before, as long as there is a sample to be taken.
        self._pieces: list[Floats] = []
        self._sample: list[Floats] = []

    def add(self, times_us: Ints, rows: Floats) -> int:
        """Take in rows float64 ``[n, c]`` up to the end of the block; how many those were."""
        taken = min(len(rows), self._spec.block_rows - self._in_block)
        rows = rows[:taken]
        if not taken:
            return 0
        slot = self._block % BLOCKS
        if not self._in_block:
            self._times_us[slot, 0] = times_us[0]
        self._times_us[slot, 1] = times_us[taken - 1]
        count(rows, self._edges, self._edge_counts, self._counts, self._missing)
        if (self._phases == SAMPLED).any():
            self._pieces.append(rows)
        self._in_block += taken
        return taken

    @property
    def is_block_over(self) -> bool:
        """Whether ``close_block`` is due."""
        return self._in_block == self._spec.block_rows

    def close_block(self) -> Look | None:
        """Put the block where it belongs, and compare; None if no window is whole yet."""
        slot = self._block % BLOCKS
        self._ring[slot], self._ring_missing[slot] = self._counts, self._missing
        self._counts[:], self._missing[:] = 0, 0
        if self._pieces:
            self._sample.append(np.concatenate(self._pieces))
            self._pieces = []
        self._blocks += 1
        for column in np.flatnonzero(self._phases < WATCHED).tolist():
            self._move_on(column, slot)
        if not (self._phases == SAMPLED).any():
            self._sample = []
        self._in_block = 0
        self._block += 1
        ready = (self._phases == WATCHED) & (self._blocks >= BLOCKS)
        return self._look(ready) if ready.any() else None

    def renew(self, column: int) -> None:
        """Take a new reference for the column from the next rows on."""
        self._begin(column, SAMPLED)

    @property
    def rows_until_watched(self) -> int:
        """Rows until each column that was never compared, or is renewed, can be."""
        spec = self._spec
        whole = (spec.warmup_blocks, spec.sample_blocks, spec.counted_blocks, BLOCKS)
        left = [
            sum(whole[phase:]) - min(done, whole[phase])
            for phase, done in zip(self._phases.tolist(), self._blocks.tolist(), strict=True)
        ]
        return max(0, max(left) * spec.block_rows - self._in_block)

    def window_us(self) -> tuple[int, int]:
        """Event times of the first and the last row of the last ten whole blocks."""
        first, last = self._block % BLOCKS, (self._block - 1) % BLOCKS
        return int(self._times_us[first, 0]), int(self._times_us[last, 1])

    def reference_us(self, column: int) -> tuple[int, int]:
        """Event times of the first and the last row of the column's reference."""
        return int(self._reference_us[column, 0]), int(self._reference_us[column, 1])

    def dump(self) -> dict[str, Any]:
        """Everything but the spec, as plain data."""
        return {name: value for name, value in vars(self).items() if name not in _OF_THE_SPEC}

    def load(self, data: dict[str, Any]) -> None:
        """Go on where ``dump`` was called."""
        vars(self).update(data)

    def _move_on(self, column: int, slot: int) -> None:
        """Count the block, and begin the next phase if this one is over."""
        spec, phase, done = self._spec, int(self._phases[column]), int(self._blocks[column])
        if phase == SAMPLED and done == 1:
            self._reference_us[column, 0] = self._times_us[slot, 0]
        if phase == COUNTED:
            self._reference[column] += self._ring[slot, column]
            self._reference_missing[column] += self._ring_missing[slot, column]
            self._reference_us[column, 1] = self._times_us[slot, 1]
        if phase == WAITS and done >= spec.warmup_blocks:
            self._begin(column, SAMPLED)
        elif phase == SAMPLED and done >= spec.sample_blocks:
            self._learn_cells(column)
            self._begin(column, COUNTED)
        elif phase == COUNTED and done >= spec.counted_blocks:
            self._begin(column, WATCHED)

    def _begin(self, column: int, phase: int) -> None:
        self._phases[column] = phase
        self._blocks[column] = 0

    def _learn_cells(self, column: int) -> None:
        blocks = self._sample[-self._spec.sample_blocks :]
        values = np.concatenate([block[:, column] for block in blocks])
        values = values[np.isfinite(values)]
        cells = (learn_nominal if self._nominal[column] else learn_ordered)(values)
        edges = len(cells.edges)
        self._edges[column] = np.inf
        self._edges[column, :edges] = cells.edges
        self._edge_counts[column] = edges
        self._groups[column] = cells.groups
        self._group_counts[column] = cells.group_count
        self._reference[column] = 0
        self._reference_missing[column] = 0

    def _look(self, ready: Bools) -> Look:
        window = self._ring.sum(axis=0, dtype=np.int64)
        missing = self._ring_missing.sum(axis=0, dtype=np.int64)
        values = np.zeros((KINDS, len(ready)))
        logs = np.zeros((KINDS, len(ready)))
        compare(
            window, self._reference, missing, self._reference_missing,
            self._edge_counts, self._groups, self._group_counts, values, logs,
        )  # fmt: skip
        present, reference = window.sum(axis=1), self._reference.sum(axis=1)
        return Look(
            ready,
            values,
            logs,
            np.stack((present, present, present + missing)),
            np.stack((reference, reference, reference + self._reference_missing)),
        )


_OF_THE_SPEC = frozenset({"_spec", "_nominal"})
