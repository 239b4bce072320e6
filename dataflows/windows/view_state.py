"""The state of one view in one shard, and how it moves on as the watermark does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.plan import Aggregate, View
from dataflows.laps import PIECES
from dataflows.windows import kernel_types
from dataflows.windows.holding import Holding
from dataflows.windows.holding import Pending as Pending
from dataflows.windows.inputs import KeyList, TextList, inputs_of
from dataflows.windows.layout import make_layout
from dataflows.windows.names import Faded, Places, joined, told_keys, told_texts
from dataflows.windows.state_rows import StateRows
from dataflows.windows.turns import NEVER

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NO_PIECES = range(0)
# Fewer are not worth looking through all rows for them.
_TEXTS_MIN = 4_096


@dataclass(frozen=True)
class Rows:
    """Rows of a view in the order (stamp, entity): ``slots`` index the list of entity keys."""

    slots: Ints
    stamps_us: Ints
    values: Floats


@dataclass(frozen=True)
class Reads:
    """What reads saw: ``values[i]`` (NaN is null) is for the read with ``ranks[i]``."""

    ranks: Ints
    values: Floats


class ViewState:
    """All entities of a view that belong to one shard. Not safe for threads."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._inputs = inputs_of(view)
        self._text_inputs = [i for i, one in enumerate(self._inputs) if one.kind == "text"]
        self._keys: Places[bytes] = Places()
        self._texts: Places[str] = Places()
        self._faded = Faded()
        self._rows = StateRows(view)
        self._held = Holding()
        self._next_decay_us = NEVER
        self._watermark_us = -NEVER
        # How many keys and texts the last ``dump`` or ``changes`` knew.
        self._told_keys = self._told_texts = 0
        # How many of them were written again since ``changes`` began anew with that.
        self._again_keys = self._again_texts = 0
        self._texts_kept = 0
        # How many keys there were when the rows had room for all of them.
        self._looked_at = 0
        self._whole = [i for i, a in enumerate(view.aggregates) if a.dtype == "int64"]
        self._none = self._no_rows()

    @property
    def keys(self) -> list[bytes]:
        """The entities' keys; a slot is a place in it. It grows at its end; ``dump`` renews it."""
        return self._keys.names

    @property
    def texts(self) -> list[str]:
        """What text values stand for, as their places in it. It is kept like ``keys``."""
        return self._texts.names

    @property
    def inputs(self) -> int:
        """How many values rows bring."""
        return len(self._inputs)

    @property
    def list_places(self) -> int:
        """For how many tiles in lists there is memory."""
        return self._rows.list_places

    @property
    def held(self) -> int:
        """Number of rows that wait for the watermark."""
        return len(self._held)

    def slots(self, keys: Sequence[bytes]) -> Ints:
        """The places of these entities; new ones get a place, which reads as null until updated."""
        return self._with_room(self._keys.of(keys))

    def slots_of_codes(self, keys: KeyList, codes: Ints) -> Ints:
        """``slots`` of the keys that ``codes`` index; each key is looked up once only."""
        return self._with_room(self._keys.of_codes(keys, keys.keys, codes))

    def text_codes(self, texts: TextList, codes: Ints) -> Ints:
        """What stands here for the texts that ``codes`` index; each is looked up once only."""
        return self._texts.of_codes(texts, texts.texts, codes)

    def with_own_texts(self, texts: TextList, values: Floats) -> Floats:
        """Rows whose text values index ``texts``, as this state holds them."""
        if not self._text_inputs:
            return values
        values = values.copy()
        for i in self._text_inputs:
            some = np.flatnonzero(~np.isnan(values[:, i]))
            values[some, i] = self.text_codes(texts, values[some, i].astype(np.int64))
        return values

    def hold(self, pending: Pending) -> None:
        """Take rows that wait for the watermark."""
        self._held.add(pending)

    def advance(self, watermark_us: int, updates_before_us: int) -> tuple[Rows, Reads]:
        """Run updates before ``updates_before_us``, and reads and decay up to the watermark.

        ``updates_before_us`` is the watermark, or one more than it when all is silent. Of a view
        without an offline table, which keeps no history, each entity's last row is given only.
        """
        self._watermark_us = watermark_us
        due = self._held.take(watermark_us, updates_before_us)
        if due is None:
            if watermark_us < self._next_decay_us:
                return self._none
            due = self._nothing
        out, read_values, self._next_decay_us = self._rows.advance(
            kernel_types.Batch(
                due.slots, due.is_update, due.effective_us, due.event_us, due.values
            ),
            watermark_us,
        )
        rows = self._in_order(out)
        if not len(read_values):
            return rows, self._none[1]
        return rows, Reads(due.ranks[~due.is_update], self._bounded(read_values))

    def forget(
        self,
        are_meant: Callable[[Sequence[bytes]], npt.NDArray[np.bool_]],
        are_faded_meant: Callable[[Sequence[bytes]], npt.NDArray[np.bool_]],
    ) -> int:
        """Let go of some entities as if they had never been; how many.

        Their reads that wait will see null. ``dump`` must come before the next ``changes``.

        Args:
            are_meant: which of some entity keys are meant.
            are_faded_meant: the same of digests of entities that were let go before.
        """
        self._faded.remove(are_faded_meant)
        gone = are_meant(self.keys)
        count = int(gone.sum())
        if not count:
            return 0
        # Whoever asked waits for an answer: it is that of an entity that has no name.
        nobody = int(self.slots([b""])[0])
        gone = np.append(gone, np.zeros(len(self.keys) - len(gone), np.bool_))
        held, self._held = self._held, Holding()
        for part in held.parts:
            rows = part.take(~(part.is_update & gone[part.slots]))
            self._held.add(replace(rows, slots=np.where(gone[rows.slots], nobody, rows.slots)))
        packed = self._packed(self._keep(np.flatnonzero(~gone)))
        self._unpack_anew(packed)
        self._next_decay_us = self._rows.next_decay_us
        return count

    def silent_share(self) -> float:
        """Which part of the entities the next ``dump`` would let go."""
        return float(self._silent()[0].mean()) if self.keys else 0.0

    @property
    def has_old_texts(self) -> bool:
        """Whether so many texts are new since the last ``dump`` that many may be needless."""
        return len(self.texts) > 2 * max(self._texts_kept, _TEXTS_MIN)

    def dump(self) -> dict[str, Any]:
        """Everything, as plain arrays and lists, after letting go of silent entities."""
        packed = self._sweep()
        self._rows.settle()
        self._told_keys, self._told_texts = len(self.keys), len(self.texts)
        self._again_keys = self._again_texts = 0
        self._texts_kept = len(self.texts)
        return {
            "keys": joined(self.keys),
            "texts": self.texts,
            "faded": self._faded.digests,
            "rows": tuple(packed),
            "pending": self._held.parts,
        }

    def changes(self, pieces: range = NO_PIECES) -> dict[str, Any]:
        """What changed since the last ``dump`` or ``changes``; the rows that wait are all in it.

        Args:
            pieces: which of ``PIECES`` of everything to tell again beside. They follow those of
                the call before; after the last one, or a ``dump``, comes 0.
        """
        again = {"again": self._again(pieces)} if pieces else {}  # so that it is no change too
        changed = self._rows.pack_changes(len(self.keys))
        first_key, first_text = self._told_keys, self._told_texts
        self._told_keys, self._told_texts = len(self.keys), len(self.texts)
        return {
            "first_key": first_key,
            "keys": joined(self.keys[first_key:]),
            "first_text": first_text,
            "texts": self.texts[first_text:],
            "texts_kept": self._texts_kept,
            "rows": tuple(changed),
            "pending": self._held.parts,
            **again,
        }

    @classmethod
    def load(
        cls, view: View, base: dict[str, Any], changes: Iterable[dict[str, Any]] = ()
    ) -> ViewState:
        """A state as it was at the last of ``changes``, which followed ``dump`` gave ``base``.

        ``base`` may also be changes, if from there on everything was told again.
        """
        state = cls(view)
        parts = (base, *changes)
        state._keys.replace(told_keys(parts))
        state._texts.replace(told_texts(parts))
        state._rows.ensure(len(state.keys))
        for part in parts:
            again = part.get("again", {})
            for one in (part, again) if again else (part,):
                if one.get("faded") is not None:
                    # Arrays that were read lie in the file's content: that would stay as well.
                    state._faded = Faded(one["faded"].copy())
                state._rows.unpack(kernel_types.Packed(*one["rows"]))
            state._again_keys = again.get("end_key", state._again_keys)
            state._again_texts = again.get("end_text", state._again_texts)
        newest = parts[-1]
        for held in newest["pending"]:
            state._held.add(held.copy())
        state._texts_kept = newest.get("texts_kept", len(state.texts))
        state._next_decay_us = state._rows.next_decay_us
        state._told_keys, state._told_texts = len(state.keys), len(state.texts)
        state._looked_at = len(state.keys)
        return state

    def _again(self, pieces: range) -> dict[str, Any]:
        if pieces.start == 0:
            self._again_keys = self._again_texts = 0
        # What is new since the last pieces counts, so that the last piece ends with the newest.
        first_key, end_key = self._again_keys, len(self.keys) * pieces.stop // PIECES
        first_text, end_text = self._again_texts, len(self.texts) * pieces.stop // PIECES
        self._again_keys, self._again_texts = end_key, end_text
        return {
            "first_key": first_key,
            "end_key": end_key,
            "keys": joined(self.keys[first_key:end_key]),
            "first_text": first_text,
            "end_text": end_text,
            "texts": self.texts[first_text:end_text],
            "faded": None if pieces.start else self._faded.digests,
            "rows": tuple(self._rows.pack_again(first_key, end_key)),
        }

    def _with_room(self, slots: Ints) -> Ints:
        """Make room for entities that are new, and see which of them were known once."""
        first, count = self._looked_at, len(self.keys)
        if count > first:
            self._rows.ensure(count)
            self._rows.wake([first + place for place in self._faded.places(self.keys[first:])])
            self._looked_at = count
        return slots

    def _sweep(self) -> kernel_types.Packed:
        """Let go of silent entities and of texts that nothing stands for; all rows that stay."""
        kept = self._let_go()
        packed = self._packed(kept)
        is_renumbered = len(kept) < self._looked_at
        if self.texts:
            self._renumber_texts(packed)
            is_renumbered = True
        if is_renumbered:
            self._unpack_anew(packed)
        return packed

    def _packed(self, kept: Ints) -> kernel_types.Packed:
        """The rows of these slots, as if they were all."""
        return self._rows.pack(kept)._replace(slots=np.arange(len(kept)))

    def _unpack_anew(self, packed: kernel_types.Packed) -> None:
        count = len(packed.slots)
        self._rows.clear()
        self._rows.ensure(count)
        self._rows.unpack(packed)
        self._looked_at = count

    def _silent(self) -> tuple[kernel_types.Bools, kernel_types.Bools]:
        """As ``StateRows.silent``, without those for whom rows wait."""
        leaves, fades = self._rows.silent(len(self.keys), self._watermark_us)
        for part in self._held.parts:
            leaves[part.slots] = False
        return leaves, fades

    def _let_go(self) -> Ints:
        """Forget the keys of silent entities; the slots (until now) of all others."""
        leaves, fades = self._silent()
        if not leaves.any():
            return np.arange(len(self.keys))
        keys = self.keys
        self._faded.add([keys[slot] for slot in np.flatnonzero(leaves & fades).tolist()])
        return self._keep(np.flatnonzero(~leaves))

    def _keep(self, kept: Ints) -> Ints:
        """Keep the keys of these slots, for whom alone rows may wait; the slots as they were."""
        keys = self.keys
        new_slots = np.full(len(keys), -1, np.int64)
        new_slots[kept] = np.arange(len(kept))
        self._held.change(lambda part: replace(part, slots=new_slots[part.slots]))
        self._keys.replace([keys[slot] for slot in kept.tolist()])
        return kept

    def _renumber_texts(self, packed: kernel_types.Packed) -> None:
        """Keep the texts that rows stand for, in ``packed`` and in those that wait."""
        texts = self.texts
        # The last place counts them.
        new_codes = np.full(len(texts) + 1, -1.0)
        new_codes[-1] = 0.0
        self._rows.replace_texts(packed, new_codes)

        def renumber(part: Pending) -> Pending:
            values = part.values.copy()
            for i in self._text_inputs:
                some = np.flatnonzero(part.is_update & ~np.isnan(values[:, i]))
                codes = values[some, i].astype(np.int64)
                for code in np.unique(codes[new_codes[codes] < 0.0]).tolist():
                    new_codes[code] = new_codes[-1]
                    new_codes[-1] += 1.0
                values[some, i] = new_codes[codes]
            return replace(part, values=values)

        self._held.change(renumber)
        used = np.flatnonzero(new_codes[:-1] >= 0.0)
        order = used[np.argsort(new_codes[used])]
        self._texts.replace([texts[code] for code in order.tolist()])

    def _no_rows(self) -> tuple[Rows, Reads]:
        ints, values = np.empty(0, np.int64), np.empty((0, len(self.view.aggregates)))
        self._nothing = Pending(
            ints, ints, ints, np.empty(0, np.bool_), ints, np.empty((0, len(self._inputs)))
        )
        return Rows(ints, ints, values), Reads(ints, values)

    def _in_order(self, out: kernel_types.Output) -> Rows:
        """The rows by (stamp, slot), of which no two have both in common."""
        slots, stamps_us, values = out
        if len(slots) > 1:
            first_us, slots_end = int(stamps_us.min()), len(self.keys)
            if (int(stamps_us.max()) - first_us + 1) * slots_end < 2**63:
                order = np.argsort((stamps_us - first_us) * slots_end + slots)
            else:
                order = np.lexsort((slots, stamps_us))
            slots, stamps_us, values = slots[order], stamps_us[order], values[order]
        return Rows(slots, stamps_us, self._bounded(values))

    def _bounded(self, values: Floats) -> Floats:
        """Null where a feature has outgrown doubles, or an integer one 64 bits.

        No store could hold the latter; models take infinity for missing when they learn, and so
        must those who score.
        """
        is_too_large = np.isinf(values)
        if self._whole:
            is_too_large[:, self._whole] = np.abs(values[:, self._whole]) >= 2.0**63
        if is_too_large.any():
            values[is_too_large] = np.nan
        return values


def warm_up(views: Iterable[View] = ()) -> None:
    """Compile the kernel (a minute, once on a machine), so that no record has to wait for it.

    There are two kernels; the second is only compiled if one of ``views`` needs it.
    """
    one = np.zeros(1, np.int64)
    aggregate = Aggregate("n", "int64", "x", "count", window_us=2, hop_us=1)
    plain = View("warm_up", "", ("k",), ("string",), (aggregate,), 0, "")
    has_rare = any(make_layout(view).lists >= 0 for view in views)
    for view in [plain, replace(plain, exact_tiles_max=4)][: 2 if has_rare else 1]:
        state = ViewState(view)
        slots = state.slots([b"k"])
        state.hold(Pending(slots, one, one, np.ones(1, np.bool_), one, np.ones((1, 1))))
        state.advance(1, 1)
        ViewState.load(view, state.dump(), [state.changes()])
