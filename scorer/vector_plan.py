"""A model's schema, taken apart once for all rows to come, and the checks of rows. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as with_default
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from contracts.category import category_code
from contracts.feast_bytes import entity_key, entity_key_maker
from contracts.feature_schema import FeatureSchema, ValueType, VectorField
from scorer.errors import ConfigurationError, InvalidRequestError
from scorer.on_demand import DerivedFields
from scorer.online_store import Source, Wanted, source

Scalar = float | int | str | bool | None

_NAN = float("nan")
# Entities that are asked for often are known by what callers call them; a long name is not kept.
_KNOWN_MAX = 16_384
_KNOWN_BYTES_MAX = 256
_TYPES: dict[ValueType, frozenset[type]] = {
    "float64": frozenset((float, int, type(None))),
    "int64": frozenset((int, type(None))),
    "bool": frozenset((bool, type(None))),
    "string": frozenset((str, type(None))),
}
_TYPE_NAMES: dict[type, str] = {float: "float64", int: "int64", bool: "bool", str: "string"}


class GoodInputs(dict[str, Scalar]):
    """Inputs of a row that are known to be as the model's plan wants them; see ``messages``."""

    __slots__ = ()


@dataclass(frozen=True)
class EntityKey:
    """One entity: the names of the inputs that make up its key, and what makes the key of them.

    ``sources`` are what is read of it, ``reads`` the numbers of these reads in the plan.
    """

    join_keys: tuple[str, ...]
    make: Callable[[Sequence[str | int]], bytes]
    sources: tuple[Source, ...]
    reads: tuple[int, ...]
    known: dict[Scalar | tuple[Scalar, ...], tuple[Wanted | None, ...]] = with_default(
        default_factory=dict, compare=False, repr=False
    )

    def wanted(self, rows: Sequence[Mapping[str, Scalar]]) -> list[tuple[Wanted | None, ...]]:
        """Of each row what is wanted of its entity, for each source; None where its key is null."""
        # Values are of the types of their inputs: none is equal to one of another type.
        called = list(map(itemgetter(*self.join_keys), rows))
        found = list(map(self.known.get, called))
        if None not in found:
            return found  # type: ignore[return-value]
        return [
            self._made(name, [row[key] for key in self.join_keys]) if one is None else one
            for one, name, row in zip(found, called, rows, strict=True)
        ]

    def _made(
        self, called: Scalar | tuple[Scalar, ...], values: Sequence[Scalar]
    ) -> tuple[Wanted | None, ...]:
        if None in values:
            return (None,) * len(self.sources)
        key = self.make(values)  # type: ignore[arg-type]
        found = tuple(Wanted(one, key) for one in self.sources)
        if len(key) <= _KNOWN_BYTES_MAX:
            if len(self.known) >= _KNOWN_MAX:
                self.known.clear()
            self.known[called] = found
        return found


@dataclass(frozen=True)
class ViewRead:
    """Features of one view that are read together.

    Attributes:
        source: the view and its features.
        positions: ``positions[i]`` is where ``source.features[i]`` stands in the vector.
        columns: the same, as quick as numpy can have it.
        key: number of the plan's entity key.
        ttl_us: older values are missing; 0 is no limit.
        texts: which of the source's features are texts.
    """

    source: Source
    positions: tuple[int, ...]
    columns: slice | tuple[int, ...]
    key: int
    ttl_us: int
    texts: tuple[int, ...]


@dataclass(frozen=True)
class VectorPlan:
    """A schema, taken apart.

    Attributes:
        schema: the vector.
        width: number of its fields, W.
        places: number of values that are gathered, P: the fields and the hidden ones after them.
        defaults: float64[W].
        requests: (position, field) of each request field with a place among those values.
        request_texts: which of them are texts.
        request_columns: their positions.
        derived: what is computed after the read; None for nothing.
        keys: the entities that are read.
        reads: what is read of them, in order of first use.
        stored_columns: positions of all that is read, in that order.
        stored_width: how many they are.
        read_of: of each position the number of its read; None for a request field, -1 for a
            derived one.
        input_types: input name -> its type, for entity keys and request fields together.
        checks: the same, as ``check_rows`` wants it.
        entity_inputs: names of the inputs that are parts of entity keys.
    """

    schema: FeatureSchema
    width: int
    places: int
    defaults: NDArray[np.float64]
    requests: tuple[tuple[int, VectorField], ...]
    request_texts: frozenset[str]
    request_columns: slice | tuple[int, ...]
    derived: DerivedFields | None
    keys: tuple[EntityKey, ...]
    reads: tuple[ViewRead, ...]
    stored_columns: slice | tuple[int, ...]
    stored_width: int
    read_of: tuple[int | None, ...]
    input_types: Mapping[str, tuple[ValueType, ...]]
    checks: tuple[tuple[str, frozenset[type]], ...]
    entity_inputs: frozenset[str]


@dataclass(slots=True)
class CheckedRows:
    """Valid rows of one request: their request values, and what is to be read for them.

    Attributes:
        given: of each row the values of the plan's ``requests``, a text's code; NaN where they were
            null.
        wanted: for each of the plan's reads, of each row what it wants; None where a part of the
            entity key is null.
        texts: of each row its strings for on-demand views; empty if there are none.
    """

    given: list[Sequence[float]]
    wanted: list[list[Wanted | None]]
    texts: list[list[str | None]]


def plan_vector(schema: FeatureSchema) -> VectorPlan:
    """Take a schema apart.

    Raises:
        ConfigurationError: an on-demand view makes or takes a text that it cannot, an entity key is
            of a type that Feast cannot have as a key, or the code of a view cannot be loaded.
    """
    requests: list[tuple[int, VectorField]] = []
    groups: dict[tuple[object, ...], list[tuple[int, VectorField]]] = {}
    types: dict[str, tuple[ValueType, ...]] = {}
    entity_inputs: set[str] = set()
    for position, field in enumerate(schema.places):
        if field.kind == "request":
            types[field.name] = _with(types.get(field.name, ()), field.dtype)
        if field.dtype == "string":
            _check_text(schema, field)
            if position >= len(schema.fields):
                # Only on-demand views see it.
                continue
        if field.kind == "request":
            requests.append((position, field))
        if field.kind != "feature":
            continue
        group = (field.view, field.join_keys, field.join_key_types, field.ttl_seconds)
        groups.setdefault(group, []).append((position, field))
        for name, kind in zip(field.join_keys, field.join_key_types, strict=True):
            types[name] = _with(types.get(name, ()), kind)
            entity_inputs.add(name)
        _check_key(field)
    members = list(groups.values())
    keys = list(dict.fromkeys((one[0][1].join_keys, one[0][1].join_key_types) for one in members))
    read_of: list[int | None] = [-1 if field.kind == "derived" else None for field in schema.places]
    for number, group_members in enumerate(members):
        for position, _ in group_members:
            read_of[position] = number
    stored = [position for one in members for position, _ in one]
    reads = tuple(_read(one, keys) for one in members)
    return VectorPlan(
        schema=schema,
        width=len(schema.fields),
        places=len(schema.places),
        defaults=np.array(schema.defaults, dtype=np.float64),
        requests=tuple(requests),
        request_texts=frozenset(one.name for _, one in requests if one.dtype == "string"),
        request_columns=_columns([position for position, _ in requests]),
        derived=DerivedFields(schema) if schema.on_demand else None,
        keys=tuple(_entity(*one, place, reads) for place, one in enumerate(keys)),
        reads=reads,
        stored_columns=_columns(stored),
        stored_width=len(stored),
        read_of=tuple(read_of),
        input_types=types,
        checks=tuple(
            (name, frozenset.intersection(*(_TYPES[kind] for kind in kinds)))
            for name, kinds in types.items()
        ),
        entity_inputs=frozenset(entity_inputs),
    )


def check_rows(plan: VectorPlan, first: int, rows: Sequence[Mapping[str, Scalar]]) -> CheckedRows:
    """Check the inputs of rows and find out what to read for them.

    Args:
        plan: of the model.
        first: number of the first of them in the request, for messages.
        rows: input name -> value.

    Raises:
        InvalidRequestError: an input is missing, unknown, of the wrong type, NaN or infinite.
    """
    request_names = [field.name for _, field in plan.requests]
    text_names = plan.derived.text_inputs if plan.derived is not None else ()
    is_good = True
    for number, inputs in enumerate(rows, first):
        if type(inputs) is not GoodInputs:
            is_good = False
            _check_inputs(plan, number, inputs)
    given: list[Sequence[float]]
    if is_good and not plan.request_texts and len(request_names) > 1:
        # All are numbers, and numpy makes doubles of them.
        given = list(map(itemgetter(*request_names), rows))
    else:
        given = [[_number(inputs[name]) for name in request_names] for inputs in rows]
    texts: list[list[str | None]] = []
    if text_names:
        texts = [[inputs[name] for name in text_names] for inputs in rows]  # type: ignore[misc]
    wanted: list[list[Wanted | None]] = [[] for _ in plan.reads]
    for key in plan.keys:
        found = key.wanted(rows)
        for place, read in enumerate(key.reads):
            wanted[read] = [one[place] for one in found]
    return CheckedRows(given, wanted, texts)


def _number(value: Scalar) -> float:
    if value is None:
        return _NAN
    return category_code(value) if isinstance(value, str) else float(value)


def _check_inputs(plan: VectorPlan, row: int, inputs: Mapping[str, Scalar]) -> None:
    if inputs.keys() != plan.input_types.keys():
        raise InvalidRequestError(_wrong_names(plan, row, inputs))
    for name, kinds in plan.checks:
        value = inputs[name]
        kind = type(value)
        if kind not in kinds or (kind is float and not math.isfinite(value)):  # type: ignore[arg-type]
            raise InvalidRequestError(_wrong_value(plan, row, name, value))


def _entity(
    names: tuple[str, ...], kinds: tuple[ValueType, ...], place: int, reads: Sequence[ViewRead]
) -> EntityKey:
    """The entity key that stands at that place among the plan's."""
    numbers = tuple(number for number, read in enumerate(reads) if read.key == place)
    sources = tuple(reads[number].source for number in numbers)
    return EntityKey(names, entity_key_maker(names, kinds), sources, numbers)


def _read(
    members: list[tuple[int, VectorField]],
    keys: list[tuple[tuple[str, ...], tuple[ValueType, ...]]],
) -> ViewRead:
    first = members[0][1]
    positions = tuple(position for position, _ in members)
    return ViewRead(
        source=source(first.view, tuple(field.feature for _, field in members)),
        positions=positions,
        columns=_columns(positions),
        key=keys.index((first.join_keys, first.join_key_types)),
        ttl_us=round(first.ttl_seconds * 1_000_000),
        texts=tuple(place for place, (_, one) in enumerate(members) if one.dtype == "string"),
    )


def _columns(positions: Sequence[int]) -> slice | tuple[int, ...]:
    if positions and list(positions) == list(range(positions[0], positions[-1] + 1)):
        return slice(positions[0], positions[-1] + 1)
    return tuple(positions)


def _check_text(schema: FeatureSchema, field: VectorField) -> None:
    """Raise ConfigurationError for a text that an on-demand view makes, or takes from the store."""
    if field.kind == "derived":
        raise ConfigurationError(f"field {field.name!r} is a string; on-demand views make numbers")
    takers = [view.name for view in schema.on_demand if field.name in view.inputs]
    if field.kind == "feature" and takers:
        raise ConfigurationError(
            f"on-demand view {takers[0]!r} takes {field.name!r}, a stored string; views take"
            " strings of requests only"
        )


def _check_key(field: VectorField) -> None:
    sample = ["" if kind == "string" else 0 for kind in field.join_key_types]
    try:
        entity_key(field.join_keys, field.join_key_types, sample)
    except ValueError as error:
        raise ConfigurationError(f"field {field.name!r}: {error}") from error


def _with(kinds: tuple[ValueType, ...], kind: ValueType) -> tuple[ValueType, ...]:
    return kinds if kind in kinds else (*kinds, kind)


def _wrong_names(plan: VectorPlan, row: int, inputs: Mapping[str, Scalar]) -> str:
    absent = sorted(plan.input_types.keys() - inputs.keys())
    if absent:
        name = absent[0]
        role = "entity key" if name in plan.entity_inputs else "request field"
        kind = plan.input_types[name][0]
        return f"rows[{row}]: {role} {name!r} ({kind}) is missing; give a value, or null if unknown"
    unknown = min(inputs.keys() - plan.input_types.keys())
    known = ", ".join(sorted(plan.input_types))
    return f"rows[{row}]: unknown input {unknown!r:.100}; the inputs of this model are: {known}"


def _wrong_value(plan: VectorPlan, row: int, name: str, value: Scalar) -> str:
    """What is wrong with a value that is not of all the types that its input has to be."""
    for kind in plan.input_types[name]:
        if type(value) not in _TYPES[kind]:
            is_now = _TYPE_NAMES.get(type(value), "that")
            return f"rows[{row}]: input {name!r} must be {kind}, not {is_now}"
    return f"rows[{row}]: input {name!r} is {value}; give a finite number, or null if unknown"
