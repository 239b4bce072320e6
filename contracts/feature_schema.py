"""The vector of a model: which value stands at which place, and a fingerprint of that agreement."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

FieldKind = Literal["request", "feature", "derived"]
ValueType = Literal["float64", "int64", "bool", "string"]
Takes = Literal["columns", "row"]


@dataclass(frozen=True)
class VectorField:
    """One place of a model's vector.

    Attributes:
        name: ``view:feature`` for a stored or derived feature, the bare column name for a request
            field.
        kind: ``feature`` is read from the online store, ``request`` comes with the request,
            ``derived`` is what an on-demand view makes of the others.
        dtype: type of the value at its origin; in the vector it is always a double, of a text its
            ``category_code``.
        default: what stands in for a value that is missing (null, absent entity, older than ttl).
        view: feature view that holds the value, or on-demand view that makes it; empty for request
            fields.
        feature: name of the feature in the view; empty for request fields.
        join_keys: names of the columns that make up the entity key, in the view's order.
        join_key_types: their value types, in the same order.
        ttl_seconds: values older than this at the time of the read are missing; 0 is no limit.
    """

    name: str
    kind: FieldKind
    dtype: ValueType
    default: float
    view: str = ""
    feature: str = ""
    join_keys: tuple[str, ...] = ()
    join_key_types: tuple[ValueType, ...] = ()
    ttl_seconds: float = 0.0


@dataclass(frozen=True)
class OnDemandView:
    """A function that makes fields of a vector out of other fields, with its code.

    What it makes are the schema's fields of kind ``derived`` whose ``view`` is its name.

    Attributes:
        name: of the view.
        function: what the code calls it.
        code: a Python module that needs nothing besides the standard library and numpy.
        takes: ``columns``: a dict of lists, for many rows at once; ``row``: a dict of values.
        inputs: names of the fields that it is given; none of them is derived.
    """

    name: str
    function: str
    code: str
    takes: Takes
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class FeatureSchema:
    """The whole vector, in order. ``fields[i]`` is column ``i`` of the model's input.

    Attributes:
        project: Feast's.
        fields: the vector.
        hidden: what on-demand views need besides, in no vector; request fields may be strings, of
            which the views are given the text itself.
        on_demand: the views that make the derived fields, in order of first use.
    """

    project: str
    fields: tuple[VectorField, ...]
    # State of models without on-demand views knows the schema by how it was written before.
    hidden: tuple[VectorField, ...] = field(default=(), repr=False)
    on_demand: tuple[OnDemandView, ...] = field(default=(), repr=False)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the canonical JSON: equal exactly when two processes agree."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the fields, in order."""
        return tuple(field.name for field in self.fields)

    @cached_property
    def defaults(self) -> tuple[float, ...]:
        """What stands in for a missing value, in order."""
        return tuple(field.default for field in self.fields)

    @cached_property
    def places(self) -> tuple[VectorField, ...]:
        """The fields and after them the hidden ones: where values stand until all are made."""
        return self.fields + self.hidden

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready form; ``from_json`` is its inverse.

        Without on-demand views it is what it was before there were any, and so is the fingerprint.
        """
        data = asdict(self)
        for name in ("hidden", "on_demand"):
            if not data[name]:
                del data[name]
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> FeatureSchema:
        """Rebuild what ``to_json`` gave."""
        views = (
            OnDemandView(**{**view, "inputs": tuple(view["inputs"])})
            for view in data.get("on_demand", ())
        )
        return cls(
            project=data["project"],
            fields=_fields(data["fields"]),
            hidden=_fields(data.get("hidden", ())),
            on_demand=tuple(views),
        )


def is_in_vector(place: int, one: VectorField, schema: FeatureSchema) -> bool:
    """Whether a place holds a double: a number, or a text of the vector as its code.

    Hidden texts are only for on-demand views.
    """
    return one.dtype != "string" or place < len(schema.fields)


def _fields(data: Iterable[dict[str, Any]]) -> tuple[VectorField, ...]:
    return tuple(
        VectorField(
            **{
                **field,
                "join_keys": tuple(field["join_keys"]),
                "join_key_types": tuple(field["join_key_types"]),
            }
        )
        for field in data
    )
