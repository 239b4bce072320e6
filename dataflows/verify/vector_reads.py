"""A model's vector taken apart: what the scorer read for a row, and what it makes of it.

The rules are those of ``scorer/vector.py``, which this package must not import; the tests of both
and the demo hold them against each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from contracts.category import category_code
from contracts.feast_bytes import entity_key
from contracts.feature_schema import FeatureSchema, ValueType, is_in_vector
from contracts.on_demand import OnDemandViews
from contracts.plan import ModelPlan, Plan
from dataflows.verify.served_rows import Scalar, ServedRow

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ViewRead:
    """Features of one view that stand in a vector, or that on-demand views take.

    Attributes:
        places: where they stand among the schema's places.
        columns: which of the view's aggregates they are.
        known_after_us: of each how long a log must be whole before it is known; None: for ever.
        ttl_us: older rows are missing; 0 is no limit.
    """

    view: str
    topic: str
    join_keys: tuple[str, ...]
    join_key_types: tuple[ValueType, ...]
    places: tuple[int, ...]
    columns: tuple[int, ...]
    known_after_us: tuple[int | None, ...]
    ttl_us: int

    def key(self, inputs: Mapping[str, Scalar]) -> bytes | None:
        """The entity's key; None if a part of it is null.

        Raises:
            KeyError, TypeError, ValueError: the inputs are not as the schema has them.
        """
        values = self.entity(inputs)
        if None in values:
            return None
        return entity_key(self.join_keys, self.join_key_types, values)  # type: ignore[arg-type]

    def entity(self, inputs: Mapping[str, Scalar]) -> list[Scalar]:
        """The parts of the entity's key, in the order of ``join_keys``."""
        return [inputs[name] for name in self.join_keys]


class VectorReads:
    """One model's vector.

    Attributes:
        reads: what is read of which view.
        width: number of fields in the vector.
        compared: places in the vector that are stored or derived; requests' own are given.
        derived: those of them that on-demand views make.
        defaults: float64[width], NaN for one that JSON cannot say.
    """

    def __init__(self, plan: Plan, model: ModelPlan) -> None:
        """Take the schema apart; raise BrokenCodeError for an on-demand view without code."""
        self.schema: FeatureSchema = model.schema
        fields = self.schema.fields
        self.width = len(fields)
        self.reads = tuple(_reads(plan, self.schema))
        self.derived = tuple(i for i, one in enumerate(fields) if one.kind == "derived")
        self.compared = tuple(i for i, one in enumerate(fields) if one.kind != "request")
        self.defaults = as_json_has(np.array(self.schema.defaults, dtype=np.float64))
        self._requests = [
            (place, one.name)
            for place, one in enumerate(self.schema.places)
            if one.kind == "request" and is_in_vector(place, one, self.schema)
        ]
        self._on_demand = OnDemandViews(self.schema) if self.schema.on_demand else None
        names = [one.name for one in self.schema.places]
        inputs = {view.name: view.inputs for view in self.schema.on_demand}
        # Derived place -> the places that its view is given.
        self.inputs_of = {
            place: tuple(names.index(name) for name in inputs[fields[place].view])
            for place in self.derived
        }

    def new_places(self, row: ServedRow) -> Floats:
        """float64[P]: the values that came with the request, NaN for all others."""
        places = np.full(len(self.schema.places), np.nan)
        for place, name in self._requests:
            places[place] = _number(row.inputs[name])
        return places

    def derive(self, places: Floats, rows: Sequence[ServedRow]) -> None:
        """Put what on-demand views make into float64[N, P] values of N rows; NaN for null."""
        if self._on_demand is None:
            return
        texts = {
            name: [_text(row.inputs[name]) for row in rows] for name in self._on_demand.text_inputs
        }
        self._on_demand.fill(places, texts)

    def vector(self, places: Floats) -> Floats:
        """float64[..., W] of float64[..., P]: with defaults in the place of null."""
        values = as_json_has(places[..., : self.width])
        return np.where(np.isnan(values), self.defaults, values)

    def check(self, row: ServedRow) -> list[tuple[str, bytes]]:
        """(view, key) of the entities that were read for a row.

        Raises:
            KeyError, TypeError, ValueError: the inputs are not as the schema has them.
        """
        self.new_places(row)
        if self._on_demand is not None:
            for name in self._on_demand.text_inputs:
                _text(row.inputs[name])
        keys = ((read.view, read.key(row.inputs)) for read in self.reads)
        return [(view, key) for view, key in keys if key is not None]


def as_json_has(values: Floats) -> Floats:
    """Doubles as the prediction log can say them: infinite is null, as NaN is."""
    return np.where(np.isfinite(values), values, np.nan)


def are_same(one: Floats, other: Floats) -> npt.NDArray[np.bool_]:
    """Where two arrays have the same double, bit for bit; one NaN is as good as another."""
    bits = np.ascontiguousarray(one).view(np.int64) == np.ascontiguousarray(other).view(np.int64)
    same: npt.NDArray[np.bool_] = bits | (np.isnan(one) & np.isnan(other))
    return same


def _reads(plan: Plan, schema: FeatureSchema) -> list[ViewRead]:
    places: dict[str, list[int]] = {}
    for place, one in enumerate(schema.places):
        if one.kind == "feature":
            places.setdefault(one.view, []).append(place)
    found = []
    for name, own in places.items():
        first, view = schema.places[own[0]], plan.view(name)
        columns = {a.feature: column for column, a in enumerate(view.aggregates)}
        chosen = [columns[schema.places[place].feature] for place in own]
        aggregates = [view.aggregates[column] for column in chosen]
        found.append(
            ViewRead(
                view=name,
                topic=view.topic,
                join_keys=first.join_keys,
                join_key_types=first.join_key_types,
                places=tuple(own),
                columns=tuple(chosen),
                known_after_us=tuple(
                    0 if a.function == "latest" else a.window_us or None for a in aggregates
                ),
                ttl_us=round(first.ttl_seconds * 1_000_000),
            )
        )
    return found


def _number(value: Scalar) -> float:
    if value is None:
        return float("nan")
    return category_code(value) if isinstance(value, str) else float(value)


def _text(value: Scalar) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError("an on-demand view takes a text")
    return value
