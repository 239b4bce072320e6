"""From a row's inputs to the model's vector. Pure: no gRPC, no store, no clock."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from contracts.feast_bytes import entity_key
from contracts.feature_schema import FeatureSchema, ValueType, VectorField
from scorer.errors import ConfigurationError, InvalidRequestError
from scorer.online_store import Found, Wanted

Scalar = float | int | str | bool | None


@dataclass(frozen=True)
class ViewRead:
    """Features of one view that are read together: one entity key, one ``Wanted``.

    ``positions[i]`` is where ``features[i]`` stands in the vector; ``ttl_us`` 0 is no limit.
    """

    view: str
    features: tuple[str, ...]
    positions: tuple[int, ...]
    join_keys: tuple[str, ...]
    join_key_types: tuple[ValueType, ...]
    ttl_us: int


@dataclass(frozen=True)
class VectorPlan:
    """A schema, taken apart once for all rows to come.

    Attributes:
        schema: the vector.
        requests: (position, field) of each request field.
        reads: what is read from the store, in order of first use.
        input_types: input name -> its type, for entity keys and request fields together.
        entity_inputs: names of the inputs that are parts of entity keys.
    """

    schema: FeatureSchema
    requests: tuple[tuple[int, VectorField], ...]
    reads: tuple[ViewRead, ...]
    input_types: Mapping[str, tuple[ValueType, ...]]
    entity_inputs: frozenset[str]


@dataclass(frozen=True, slots=True)
class RowInputs:
    """One valid row: its request values in place, and what is to be read for it.

    Attributes:
        base: the vector so far: request values, and defaults everywhere else.
        missing: positions of request fields that were null.
        wanted: one for each of the plan's reads; None where the entity key is null.
    """

    base: list[float]
    missing: tuple[int, ...]
    wanted: tuple[Wanted | None, ...]


@dataclass(frozen=True, slots=True)
class RowVector:
    """The vector as it is scored.

    Attributes:
        values: one double for each field of the schema, in order.
        missing: positions, ascending, at which the default stands in.
        oldest_us: event time of the oldest row used, microseconds; None if none was.
        newest_us: event time of the newest row used, microseconds; None if none was.
    """

    values: list[float]
    missing: tuple[int, ...]
    oldest_us: int | None
    newest_us: int | None


def plan_vector(schema: FeatureSchema) -> VectorPlan:
    """Take a schema apart.

    Raises:
        ConfigurationError: a field holds text, which no vector of doubles can, or its entity key
            is of a type that Feast cannot have as a key.
    """
    requests: list[tuple[int, VectorField]] = []
    groups: dict[tuple[object, ...], list[tuple[int, VectorField]]] = {}
    types: dict[str, tuple[ValueType, ...]] = {}
    entity_inputs: set[str] = set()
    for position, field in enumerate(schema.fields):
        if field.dtype == "string":
            raise ConfigurationError(f"field {field.name!r} is a string; a vector holds numbers")
        if field.kind == "request":
            requests.append((position, field))
            types[field.name] = _with(types.get(field.name, ()), field.dtype)
            continue
        group = (field.view, field.join_keys, field.join_key_types, field.ttl_seconds)
        groups.setdefault(group, []).append((position, field))
        for name, kind in zip(field.join_keys, field.join_key_types, strict=True):
            types[name] = _with(types.get(name, ()), kind)
            entity_inputs.add(name)
        _check_key(field)
    reads = tuple(
        ViewRead(
            view=members[0][1].view,
            features=tuple(field.feature for _, field in members),
            positions=tuple(position for position, _ in members),
            join_keys=members[0][1].join_keys,
            join_key_types=members[0][1].join_key_types,
            ttl_us=round(members[0][1].ttl_seconds * 1_000_000),
        )
        for members in groups.values()
    )
    return VectorPlan(schema, tuple(requests), reads, types, frozenset(entity_inputs))


def check_row(plan: VectorPlan, row: int, inputs: Mapping[str, Scalar]) -> RowInputs:
    """Check the inputs of row number ``row`` and find out what to read for it.

    Raises:
        InvalidRequestError: an input is missing, unknown, of the wrong type, NaN or infinite.
    """
    if inputs.keys() != plan.input_types.keys():
        raise InvalidRequestError(_wrong_names(plan, row, inputs))
    for name, kinds in plan.input_types.items():
        for kind in kinds:
            problem = _problem(inputs[name], kind)
            if problem:
                raise InvalidRequestError(f"rows[{row}]: input {name!r} {problem}")
    base = list(plan.schema.defaults)
    missing = []
    for position, field in plan.requests:
        value = inputs[field.name]
        if value is None:
            missing.append(position)
        else:
            base[position] = float(value)
    return RowInputs(base, tuple(missing), tuple(_wanted(read, inputs) for read in plan.reads))


def fill_row(
    plan: VectorPlan, row: RowInputs, found: Sequence[Found | None], at_us: int
) -> RowVector:
    """Put what was read into the vector.

    Args:
        plan: of the schema.
        row: from ``check_row``.
        found: one for each of the plan's reads; None where nothing was wanted.
        at_us: the moment of prediction; rows older than their ttl by then are missing.
    """
    values, missing, times = row.base.copy(), list(row.missing), []
    for read, answer in zip(plan.reads, found, strict=True):
        time_us = answer.event_time_us if answer is not None else None
        if answer is None or time_us is None or 0 < read.ttl_us < at_us - time_us:
            missing.extend(read.positions)
            continue
        times.append(time_us)
        for position, value in zip(read.positions, answer.values, strict=True):
            if value is None:
                missing.append(position)
            else:
                values[position] = value
    oldest, newest = (min(times), max(times)) if times else (None, None)
    return RowVector(values, tuple(sorted(missing)), oldest, newest)


def _check_key(field: VectorField) -> None:
    sample = ["" if kind == "string" else 0 for kind in field.join_key_types]
    try:
        entity_key(field.join_keys, field.join_key_types, sample)
    except ValueError as error:
        raise ConfigurationError(f"field {field.name!r}: {error}") from error


def _with(kinds: tuple[ValueType, ...], kind: ValueType) -> tuple[ValueType, ...]:
    return kinds if kind in kinds else (*kinds, kind)


def _wanted(read: ViewRead, inputs: Mapping[str, Scalar]) -> Wanted | None:
    keys = []
    for name in read.join_keys:
        value = inputs[name]
        if value is None:
            return None
        assert isinstance(value, str | int)
        keys.append(value)
    return Wanted(read.view, read.features, entity_key(read.join_keys, read.join_key_types, keys))


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


def _problem(value: Scalar, kind: ValueType) -> str | None:
    """What is wrong with a value that should be of type ``kind``; None if nothing is."""
    if value is None:
        return None
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    good = {
        "float64": is_integer or isinstance(value, float),
        "int64": is_integer,
        "bool": isinstance(value, bool),
        "string": isinstance(value, str),
    }[kind]
    if not good:
        return f"must be {kind}, not {_TYPE_NAMES[type(value)]}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"is {value}; give a finite number, or null if unknown"
    return None


_TYPE_NAMES: dict[type, str] = {float: "float64", int: "int64", bool: "bool", str: "string"}
