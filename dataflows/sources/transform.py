"""The functions that views run over their rows before anything else looks at them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from contracts.log import Chunk
from contracts.plan import ColumnType, Plan, Topic, View
from dataflows.sources.columns import BadColumnError, BadRecord, Decoded, sift
from dataflows.sources.transform_columns import ListRows, taken_column

Function = Callable[[Any], Any]

_REASON_CHARACTERS_MAX = 500


class _Rows(Protocol):
    """How rows are handed to a function, and what it gives is looked at."""

    def give(self, columns: Mapping[str, Any], part: slice) -> Any:
        """These rows of all columns; the function may do with them what it likes."""
        ...

    def take(self, result: Any, count: int) -> Mapping[str, Any]:
        """Column name -> its values; raise BadColumnError if it is not ``count`` rows."""
        ...


@dataclass(frozen=True)
class Derived:
    """What a function made of a batch.

    Attributes:
        columns: of the rows that are good, as ``Decoded.columns``.
        bad: position in the batch -> reason.
    """

    columns: dict[str, Any]
    bad: dict[int, str]


class Transformation:
    """The function of one view. Not safe for threads.

    Attributes:
        view: the view's name.
    """

    def __init__(self, topic: Topic, view: View, function: Function) -> None:
        self.view = view.name
        self._function = function
        self._needed = needed_columns(view)
        self._rows = _rows(topic, view)

    def run(self, columns: Mapping[str, Any], count: int) -> Derived:
        """Run the function over ``count`` rows, whose columns are as ``Decoded.columns``.

        All rows are tried at once. If that fails the halves are, down to the rows at fault: no more
        than twice as many calls as there are rows, and each row in no more than its logarithm.
        """
        pieces: list[dict[str, Any]] = []

        def run_range(begin: int, end: int) -> None:
            try:
                pieces.append(self._run_range(columns, begin, end))
            except BadColumnError as error:
                raise BadColumnError(_one_line(f"view {self.view}: {error}")) from error

        bad = sift(count, run_range) if count else {}
        if not pieces:
            return Derived(
                {name: taken_column(name, k, []) for name, k in self._needed.items()}, bad
            )
        return Derived({name: _joined([p[name] for p in pieces]) for name in self._needed}, bad)

    def _run_range(self, columns: Mapping[str, Any], begin: int, end: int) -> dict[str, Any]:
        given = self._rows.give(columns, slice(begin, end))
        try:
            result = self._function(given)
        except MemoryError:
            # No fault of a record.
            raise
        except (Exception, SystemExit) as error:
            # A function that calls ``exit`` must not end the run, least of all as if all were well.
            raise BadColumnError(f"{type(error).__name__}: {_said(error)}") from error
        count = end - begin
        found = self._rows.take(result, count)
        taken = {}
        for name, kind in self._needed.items():
            if name not in found:
                raise BadColumnError(f"its function gave no column {name!r}")
            taken[name] = taken_column(name, kind, found[name])
            if len(taken[name]) != count:
                raise BadColumnError(
                    f"its function gave {len(taken[name])} values of {name} for {count} rows; it "
                    "must give one for each"
                )
        return taken


def transformations_of(
    plan: Plan, topic: Topic, functions: Mapping[str, Function]
) -> tuple[Transformation, ...]:
    """Those of the views of a topic, out of ``functions``, which has one for each view by name."""
    return tuple(
        Transformation(topic, view, functions[view.name])
        for view in plan.views
        if view.topic == topic.name and view.transform != "none"
    )


def needed_columns(view: View) -> dict[str, ColumnType]:
    """What a view must be given: its join keys and the columns of its aggregates."""
    needed: dict[str, ColumnType] = {one.column: one.column_type for one in view.aggregates}
    for name, kind in zip(view.join_keys, view.join_key_types, strict=True):
        needed[name] = "int64" if kind == "int64" else "string"
    return needed


def transformed(
    decoded: Decoded, chunk: Chunk, transformations: Sequence[Transformation]
) -> tuple[Decoded, dict[str, dict[str, Any]]]:
    """A batch without the records at which a function fails, and view name -> derived columns.

    A record that is bad for one view is bad for all, and is given to no further function.
    """
    derived: dict[str, dict[str, Any]] = {}
    for transformation in transformations:
        count = len(decoded.index)
        done = transformation.run(decoded.columns, count)
        if done.bad:
            is_kept = np.ones(count, np.bool_)
            is_kept[list(done.bad)] = False
            decoded = _without(decoded, chunk, done.bad, is_kept)
            derived = {view: _kept(columns, is_kept) for view, columns in derived.items()}
        derived[transformation.view] = done.columns
    return decoded, derived


def _rows(topic: Topic, view: View) -> _Rows:
    if view.transform == "python":
        return ListRows(topic)
    # Only those who have frames pay for the import of pandas.
    from dataflows.sources.transform_frames import FrameRows

    return FrameRows(topic)


def _joined(pieces: list[Any]) -> Any:
    """One column of several pieces of the batch, in its order."""
    if len(pieces) == 1:
        return pieces[0]
    if isinstance(pieces[0], list):
        return [value for piece in pieces for value in piece]
    return np.concatenate(pieces)


def _without(
    decoded: Decoded, chunk: Chunk, bad: Mapping[int, str], is_kept: npt.NDArray[np.bool_]
) -> Decoded:
    places = [(int(decoded.index[row]), reason) for row, reason in bad.items()]
    found = [BadRecord(place, chunk.record(place), reason) for place, reason in places]
    return Decoded(
        decoded.index[is_kept],
        decoded.event_us[is_kept],
        _kept(decoded.columns, is_kept),
        sorted([*decoded.bad, *found], key=lambda one: one.index),
    )


def _kept(columns: Mapping[str, Any], is_kept: npt.NDArray[np.bool_]) -> dict[str, Any]:
    chosen = is_kept.tolist()
    return {
        name: values[is_kept] if isinstance(values, np.ndarray) else list(compress(values, chosen))
        for name, values in columns.items()
    }


def _said(error: BaseException) -> str:
    """What an error says of itself; its own code may fail too."""
    try:
        return str(error)
    except Exception as failure:  # noqa: BLE001 - it is the function's, whatever it is
        return f"a message that cannot be made ({type(failure).__name__})"


def _one_line(reason: str) -> str:
    """At most so many characters, since what a function raises may hold a whole batch."""
    line = " ".join(reason[: 4 * _REASON_CHARACTERS_MAX].split())
    if len(line) <= _REASON_CHARACTERS_MAX:
        return line
    return line[: _REASON_CHARACTERS_MAX - 3] + "..."
