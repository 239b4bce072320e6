"""On-demand views: functions that make fields of a vector out of the others, wherever it is made.

The dataflow and the scorer run the very same text through this module. Pure, but for what the
functions themselves do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from contracts.feature_schema import FeatureSchema, OnDemandView, Takes, ValueType

Floats = npt.NDArray[np.float64]
Texts = Mapping[str, Sequence[str | None]]

_DETAIL_CHARACTERS_MAX = 300
_NAN = math.nan


class SchemaError(ValueError):
    """What a schema says of its on-demand views does not fit together."""


class BrokenCodeError(Exception):
    """The code of a view cannot be loaded; the text names the view and the reason."""


@dataclass(frozen=True)
class Failure:
    """Why a row has no values of a view.

    Attributes:
        view: the view's name.
        reason: what happened, without anything out of the row.
        detail: what the function said of it; may hold values of the row, and may be empty.
    """

    view: str
    reason: str
    detail: str = ""

    def __str__(self) -> str:
        """For callers, who must not see more than they gave."""
        return f"on-demand view {self.view!r}: {self.reason}"


class _FailedError(Exception):
    """A call did not give what it should; ``args`` are reason and detail."""

    def failure(self, view: str) -> Failure:
        reason, detail = self.args
        return Failure(view, reason, detail)


class OnDemandViews:
    """The on-demand views of one schema, loaded. Safe for threads as far as the functions are.

    Attributes:
        text_inputs: names of the request fields that are strings.
    """

    def __init__(self, schema: FeatureSchema) -> None:
        """Run the modules of all views.

        Raises:
            BrokenCodeError: the code of a view cannot be loaded.
        """
        self._views = tuple(_LoadedView(schema, view) for view in schema.on_demand)
        taken = {name for view in schema.on_demand for name in view.inputs}
        self.text_inputs = tuple(
            one.name for one in schema.places if one.dtype == "string" and one.name in taken
        )

    def fill(self, values: Floats, texts: Texts) -> dict[int, Failure]:
        """Put what the views make into their places.

        Args:
            values: float64[N, P], a column for each of ``schema.places``, NaN for null. Of a row
                at which a function fails the view's places become null.
            texts: name -> N strings, for each of ``text_inputs``.

        Returns:
            The rows at which a function failed, with the first failure of each.
        """
        failures: dict[int, Failure] = {}
        for view in self._views:
            for row, failure in view.fill(values, texts).items():
                failures.setdefault(row, failure)
        return failures


def text_inputs(schema: FeatureSchema) -> tuple[str, ...]:
    """Names of the texts that on-demand views are given, in the order of their places."""
    given = {name for view in schema.on_demand for name in view.inputs}
    return tuple(one.name for one in schema.places if one.dtype == "string" and one.name in given)


class _LoadedView:
    """One view: its function, what it is given and where what it gives goes."""

    def __init__(self, schema: FeatureSchema, view: OnDemandView) -> None:
        self._name = view.name
        self._takes = view.takes
        self._function = _load(view)
        places = {one.name: place for place, one in enumerate(schema.places)}
        fields = [schema.places[places[name]] for name in view.inputs]
        # Feast calls a feature both by its own name and with its view.
        self._numbers = [
            ((one.feature, f"{one.view}__{one.feature}") if one.view else (one.name,), one.dtype)
            for one in fields
            if one.dtype != "string"
        ]
        self._number_places = [places[one.name] for one in fields if one.dtype != "string"]
        self._texts = [one.name for one in fields if one.dtype == "string"]
        self._outputs = [
            (place, one.feature, one.dtype)
            for place, one in enumerate(schema.fields)
            if one.kind == "derived" and one.view == view.name
        ]

    def fill(self, values: Floats, texts: Texts) -> dict[int, Failure]:
        count = len(values)
        given = self._given(values, texts)
        failures: dict[int, Failure] = {}
        # All rows are tried at once; if that fails the halves are, down to the rows at fault.
        widest = count if self._takes == "columns" else 1
        left = [(row, min(row + widest, count)) for row in range(0, count, widest or 1)]
        while left:
            begin, end = left.pop()
            try:
                self._fill_range(values, given, begin, end)
            except _FailedError as error:
                if end - begin > 1:
                    middle = (begin + end) // 2
                    left += [(begin, middle), (middle, end)]
                    continue
                failures[begin] = error.failure(self._name)
                for place, _, _ in self._outputs:
                    values[begin, place] = _NAN
        return failures

    def _given(self, values: Floats, texts: Texts) -> dict[str, list[Any]]:
        """All rows as lists, by all names that the function may know them by."""
        given: dict[str, list[Any]] = {name: list(texts[name]) for name in self._texts}
        columns = values[:, self._number_places].T.tolist()
        for (names, dtype), column in zip(self._numbers, columns, strict=True):
            held = _as_type(column, dtype)
            for name in names:
                given[name] = held
        return given

    def _fill_range(
        self, values: Floats, given: Mapping[str, list[Any]], begin: int, end: int
    ) -> None:
        if self._takes == "row":
            found = self._called({name: column[begin] for name, column in given.items()})
            for place, name, dtype in self._outputs:
                values[begin, place] = _number(name, dtype, _taken(found, name))
            return
        found = self._called({name: column[begin:end] for name, column in given.items()})
        taken = [_column(name, dtype, found, end - begin) for _, name, dtype in self._outputs]
        for (place, _, _), column in zip(self._outputs, taken, strict=True):
            values[begin:end, place] = column

    def _called(self, given: dict[str, Any]) -> Mapping[str, Any]:
        """What the function gives, and beneath it what it was given, as Feast has it."""
        try:
            result = self._function(given)
        except MemoryError:
            # No fault of the row.
            raise
        except (Exception, SystemExit) as error:
            # A function that calls ``exit`` must not end the process.
            raise _FailedError(f"it raised {type(error).__name__}", _said(error)) from error
        if not isinstance(result, Mapping):
            raise _FailedError(f"it gave a value of type {type(result).__name__}, not a dict", "")
        return {**given, **result}


def check_on_demand(schema: FeatureSchema) -> None:
    """Raise SchemaError unless derived fields, hidden fields and views fit together."""
    kinds = {one.name: one.kind for one in schema.places}
    views = {view.name: view for view in schema.on_demand}
    if len(views) < len(schema.on_demand):
        raise SchemaError("an on-demand view stands twice")
    for view in schema.on_demand:
        texts = (view.name, view.function, view.code, *view.inputs)
        if not all(isinstance(text, str) for text in texts) or view.takes not in get_args(Takes):
            raise SchemaError(f"on-demand view {view.name!r} is malformed")
        for name in view.inputs:
            if kinds.get(name, "derived") == "derived":
                raise SchemaError(f"on-demand view {view.name!r} takes {name!r}, which is no input")
    for one in schema.fields:
        if one.kind == "derived" and one.view not in views:
            raise SchemaError(f"field {one.name!r} is of an on-demand view that is not there")
    used = {name for view in schema.on_demand for name in view.inputs}
    for one in schema.hidden:
        if one.kind == "derived" or one.name not in used:
            raise SchemaError(f"hidden field {one.name!r} is no input of an on-demand view")


def _load(view: OnDemandView) -> Callable[[Any], Any]:
    namespace: dict[str, Any] = {"__name__": f"on_demand_{view.name}"}
    try:
        # The repository's code: whoever may write there may run code here, see the decision.
        exec(compile(view.code, f"<on-demand view {view.name}>", "exec"), namespace)
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        raise BrokenCodeError(
            f"on-demand view {view.name!r}: its code cannot be loaded ({type(error).__name__}: "
            f"{_said(error)})"
        ) from error
    function = namespace.get(view.function)
    if not callable(function):
        raise BrokenCodeError(
            f"on-demand view {view.name!r}: its code has no function {view.function!r}"
        )
    return function  # type: ignore[no-any-return]


def _as_type(column: list[float], dtype: ValueType) -> list[Any]:
    # NaN differs from itself.
    if dtype == "int64":
        return [int(value) if value == value else None for value in column]
    if dtype == "bool":
        return [value != 0.0 if value == value else None for value in column]
    return [value if value == value else None for value in column]


def _taken(found: Mapping[str, Any], name: str) -> Any:
    try:
        return found[name]
    except KeyError:
        raise _FailedError(f"it gave no {name!r}", "") from None


def _column(name: str, dtype: ValueType, found: Mapping[str, Any], count: int) -> list[float]:
    values = _taken(found, name)
    if not isinstance(values, list):
        raise _FailedError(f"it gave a {type(values).__name__} for {name!r}, not a list", "")
    if len(values) != count:
        raise _FailedError(f"it gave {len(values)} values of {name!r} for {count} rows", "")
    return [_number(name, dtype, value) for value in values]


def _number(name: str, dtype: ValueType, value: Any) -> float:
    """A value as a vector holds it, NaN for null; raise _FailedError if it is of another type."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        return _NAN
    kind = type(value)
    good = kind is bool or (dtype != "bool" and kind in (int, float))
    if not good:
        raise _FailedError(f"it gave a {kind.__name__} for {name!r}, which is {dtype}", "")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isinf(number):
        raise _FailedError(f"it gave infinity for {name!r}", "")
    if dtype == "int64" and kind is float and not math.isnan(number) and number % 1:
        raise _FailedError(f"it gave a fraction for {name!r}, which is int64", "")
    return number


def _said(error: BaseException) -> str:
    """What an error says of itself, in one line; its own code may fail too."""
    try:
        text = str(error)
    except Exception as failure:  # noqa: BLE001 - it is the function's, whatever it is
        text = f"a message that cannot be made ({type(failure).__name__})"
    return " ".join(text[: 4 * _DETAIL_CHARACTERS_MAX].split())[:_DETAIL_CHARACTERS_MAX]
