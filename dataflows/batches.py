"""What travels between the steps of the dataflow. Arrays are columns; times are microseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflows.watermark import PartitionClock
from dataflows.windows.inputs import KeyList, TextList
from dataflows.windows.view_state import Reads, Rows

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

OFFSET_BITS = 48


def ranks_of(partition: int, offsets: Ints) -> Ints:
    """One integer per record that orders records as (partition, offset) do."""
    return (np.int64(partition) << OFFSET_BITS) | offsets


def partitions_of(ranks: Ints) -> Ints:
    """The partition that each rank begins with."""
    return ranks >> OFFSET_BITS


def split_ranks(ranks: Ints) -> tuple[list[int], list[int]]:
    """Partitions and offsets that ``ranks_of`` put together."""
    return partitions_of(ranks).tolist(), (ranks & ((1 << OFFSET_BITS) - 1)).tolist()


@dataclass(frozen=True)
class DeadLetter:
    """A record set aside: where it stood, what it was, why, and when Kafka says it was written."""

    topic: str
    partition: int
    offset: int
    record: bytes
    reason: str
    time_ms: int | None = None


@dataclass(frozen=True)
class SourceBatch:
    """Records of one partition, in its order.

    Attributes:
        columns: as ``Decoded.columns``, by the names that views and models have for them.
        derived: view name -> the columns that the view's transformation made of them, in the same
            form; for views that have one.
    """

    topic: str
    clock: PartitionClock
    ranks: Ints
    event_us: Ints
    effective_us: Ints
    columns: Mapping[str, Any] = field(default_factory=dict)
    derived: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    dead: tuple[DeadLetter, ...] = ()


def _own_texts(
    values: Floats, texts: Sequence[str], columns: tuple[int, ...] | None
) -> tuple[Floats, list[str]]:
    """Values whose text columns index a list without what they do not have, and that list."""
    if columns is None or not texts:
        return values, list(texts)
    values, places = values.copy(), list(columns)
    codes = values[:, places]
    is_there = ~np.isnan(codes)
    used, own = np.unique(codes[is_there], return_inverse=True)
    codes[is_there] = own
    values[:, places] = codes
    return values, [texts[int(code)] for code in used]


@dataclass(frozen=True)
class KeyedRows:
    """Rows of one view for one shard; ``codes`` index ``keys`` (Feast's entity key bytes).

    ``keys`` and ``texts`` are their worker's own and hold far more than what these rows have.
    ``values`` is float64[n, C] with a column for each of ``inputs.inputs_of(view)``, as said there;
    those that are text (``text_columns``, None for any) index ``texts``. What goes to another
    process takes only those keys and texts along that its rows have.
    """

    keys: KeyList
    codes: Ints
    effective_us: Ints
    ranks: Ints
    event_us: Ints
    values: Floats
    texts: TextList = field(default_factory=TextList)
    text_columns: tuple[int, ...] | None = None

    @staticmethod
    def join(parts: Sequence[KeyedRows]) -> KeyedRows:
        """All rows of parts of one view that have their keys and texts in common, in that order."""
        first = parts[0]
        if len(parts) == 1:
            return first
        return KeyedRows(
            first.keys,
            np.concatenate([p.codes for p in parts]),
            np.concatenate([p.effective_us for p in parts]),
            np.concatenate([p.ranks for p in parts]),
            np.concatenate([p.event_us for p in parts]),
            np.concatenate([p.values for p in parts]),
            first.texts,
            first.text_columns,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled without what other rows have."""
        used, codes = np.unique(self.codes, return_inverse=True)
        keys = KeyList([self.keys.keys[code] for code in used.tolist()])
        values, texts = _own_texts(self.values, self.texts.texts, self.text_columns)
        times = (self.effective_us, self.ranks, self.event_us)
        return KeyedRows, (keys, codes, *times, values, TextList(texts), self.text_columns)


@dataclass(frozen=True)
class ShardInput:
    """News of partitions for one shard, by view. Empty but for the clock more often than not.

    Attributes:
        shard: its number.
        clock: of the partition that brought the news; of several the last one.
        updates: rows by view.
        reads: rows that want to know, by view.
        before: the clocks of the other partitions, in the order in which they are to be heard.
    """

    shard: int
    clock: PartitionClock
    updates: dict[str, KeyedRows]
    reads: dict[str, KeyedRows]
    before: tuple[PartitionClock, ...] = ()


@dataclass(frozen=True)
class ViewRows:
    """New rows of one view from one shard, in the order (stamp, entity).

    Attributes:
        keys: all entity keys that the shard knows of the view. The list is the shard's own and
            grows at its end; now and then it makes a new one, without those that fell silent. So a
            slot means something together with this very list only.
        rows: ``rows.slots`` index ``keys``.
        texts: what the values of text features stand for (their place in this list); the same holds
            for it as for ``keys``.
        text_columns: which columns of ``rows.values`` are text; None for any.

    What goes to another process takes lists of its own along, of what its rows have.
    """

    keys: list[bytes]
    rows: Rows
    texts: list[str] = field(default_factory=list)
    text_columns: tuple[int, ...] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled without what other rows have."""
        used, slots = np.unique(self.rows.slots, return_inverse=True)
        keys = [self.keys[slot] for slot in used.tolist()]
        values, texts = _own_texts(self.rows.values, self.texts, self.text_columns)
        return ViewRows, (keys, Rows(slots, self.rows.stamps_us, values), texts, self.text_columns)


@dataclass(frozen=True)
class ShardOutput:
    """What a shard did up to its watermark: rows for the stores, and what reads saw, by view."""

    shard: int
    watermark_us: int
    rows: dict[str, ViewRows]
    reads: dict[str, Reads]
    late: dict[str, int]


@dataclass(frozen=True)
class SpineRows:
    """Moments at which a prediction is wanted.

    ``request`` has a column for each request field of the schema that is a number (texts of the
    vector as their codes), ``texts`` a list for each text that on-demand views are given, and
    ``segments`` one for each of the model's segments; ``reads`` is how many views will answer each
    row, and ``~reads`` that of a row of which no prediction is to be made (see ``blanked``).
    """

    keys: list[str]
    effective_us: Ints
    ranks: Ints
    request: Floats
    reads: Ints
    texts: tuple[list[str | None], ...] = ()
    segments: tuple[list[str | None], ...] = ()

    def blanked(self, gone: npt.NDArray[np.bool_]) -> SpineRows:
        """Without all that some rows say: their answers are waited for, and then they go."""
        rows = np.flatnonzero(gone & (self.reads >= 0)).tolist()
        request, reads = self.request.copy(), self.reads.copy()
        request[rows], reads[rows] = np.nan, ~reads[rows]
        keys, texts, segments = list(self.keys), list(self.texts), list(self.segments)
        for row in rows:
            keys[row] = ""
        for columns in (texts, segments):
            for place, column in enumerate(columns):
                columns[place] = list(column)
                for row in rows:
                    columns[place][row] = None
        return SpineRows(
            keys, self.effective_us, self.ranks, request, reads, tuple(texts), tuple(segments)
        )


@dataclass(frozen=True)
class LabelRows:
    """Truths that became known; with many classes ``texts`` has them, and values say nothing."""

    keys: list[str]
    effective_us: Ints
    ranks: Ints
    values: Floats
    texts: list[str | None] = field(default_factory=list)


@dataclass(frozen=True)
class ModelInput:
    """One partition's news for one model; ``is_spine`` tells whether its topic is the spine."""

    clock: PartitionClock
    is_spine: bool
    spine: SpineRows | None
    labels: LabelRows | None
