"""The vector of a model: which value stands at which place, and a fingerprint of that agreement."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

FieldKind = Literal["request", "feature"]
ValueType = Literal["float64", "int64", "bool", "string"]


@dataclass(frozen=True)
class VectorField:
    """One place of a model's vector.

    Attributes:
        name: ``view:feature`` for a stored feature, the bare column name for a request field.
        kind: ``feature`` is read from the online store, ``request`` comes with the request.
        dtype: type of the value at its origin; in the vector it is always a double.
        default: what stands in for a value that is missing (null, absent entity, older than ttl).
        view: feature view that holds the value; empty for request fields.
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
class FeatureSchema:
    """The whole vector, in order. ``fields[i]`` is column ``i`` of the model's input."""

    project: str
    fields: tuple[VectorField, ...]

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the canonical JSON: equal exactly when two processes agree."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fields, in order."""
        return tuple(field.name for field in self.fields)

    @property
    def defaults(self) -> tuple[float, ...]:
        """What stands in for a missing value, in order."""
        return tuple(field.default for field in self.fields)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready form; ``from_json`` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> FeatureSchema:
        """Rebuild what ``to_json`` gave."""
        fields = tuple(
            VectorField(
                **{
                    **field,
                    "join_keys": tuple(field["join_keys"]),
                    "join_key_types": tuple(field["join_key_types"]),
                }
            )
            for field in data["fields"]
        )
        return cls(project=data["project"], fields=fields)
