"""The manifest of one model version: all that the scorer must know without asking Feast."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, get_args

from contracts.feature_schema import FeatureSchema, FieldKind, ValueType, VectorField
from contracts.model_spec import Task
from contracts.on_demand import SchemaError, check_on_demand

MODEL_NAME = re.compile(r"[a-z0-9_]{1,100}")
# "12" is learned by the dataflow, "b3" was trained from a batch of examples.
VERSION = re.compile(r"b?[1-9][0-9]{0,17}")

# Where and by whom a version was made; they say nothing about what it is.
_PROVENANCE = ("git_commit", "created_by", "offsets", "intended_use", "lineage")
_LATER = ("task", "classes", "assign_by", "segments", "spine_key", "intended_use", "lineage")


class ManifestError(ValueError):
    """The manifest is malformed; the text names the field and the reason."""


@dataclass(frozen=True)
class Manifest:
    """What one version of a model is, and where it came from.

    Attributes:
        model: lower case letters, digits and underscores.
        version: ``"1"``, ``"2"``, ... of the dataflow, ``"b1"``, ``"b2"``, ... of batch training.
        schema: the vector; column ``i`` of the ONNX input is ``schema.fields[i]``.
        fingerprint: ``schema.fingerprint`` when the version was made.
        learner: the estimator, as text for people.
        trained_from_us: event time of the first prediction learned, microseconds since 1970 UTC.
        trained_until_us: event time up to which labels were learned.
        examples: how many labelled examples were learned.
        metrics: name -> finite value, from progressive validation.
        parity: ``rows`` compared and ``max_abs_diff`` between the ONNX model and the learner.
        git_commit: commit of the code and definitions; empty if unknown.
        parent: the version before it, None for the first.
        sha256: of the bytes of ``model.onnx``, hex.
        created_by: the process or person that published it.
        offsets: ``topic/partition`` -> offset up to which the log was read; may be empty.
        task: what the score is: P(True), the largest of the classes' probabilities, a number, or
            how unusual a row is.
        classes: of a multi-class model: the output ``probabilities`` has theirs, in this order.
        assign_by: the input whose value decides between champion and challenger; empty: the row's
            key.
        segments: inputs by which metrics are split.
        spine_key: column of the spine by which a label finds its prediction.
        intended_use: for people.
        lineage: further facts of how it was made, for people and checks: name -> text.
    """

    model: str
    version: str
    schema: FeatureSchema
    fingerprint: str
    learner: str
    trained_from_us: int
    trained_until_us: int
    examples: int
    metrics: Mapping[str, float]
    parity: Mapping[str, float]
    git_commit: str
    parent: str | None
    sha256: str
    created_by: str
    offsets: Mapping[str, int] = field(default_factory=dict)
    task: Task = "binary"
    classes: tuple[str, ...] = ()
    assign_by: str = ""
    segments: tuple[str, ...] = ()
    spine_key: str = ""
    intended_use: str = ""
    lineage: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Canonical JSON text; ``from_json`` is its inverse.

        Raises:
            ManifestError: a field is not what ``from_json`` would accept.
        """
        data = {each.name: getattr(self, each.name) for each in fields(self)}
        for name in ("metrics", "parity", "offsets", "lineage"):
            data[name] = dict(data[name])
        data["schema"] = self.schema.to_json()
        # Tuples become lists, as a reader will see them.
        try:
            text = json.dumps(data, sort_keys=True, indent=2, allow_nan=False) + "\n"
        except (TypeError, ValueError) as error:
            raise ManifestError(f"manifest cannot be written as JSON: {error}") from error
        Manifest.from_json(text)
        return text

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Rebuild what ``to_json`` gave.

        Raises:
            ManifestError: not JSON, or a field is missing, unknown or of the wrong type.
        """
        try:
            data = json.loads(text, parse_constant=_no_constants)
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"manifest is not JSON: {error}") from error
        if not isinstance(data, dict):
            raise ManifestError("manifest must be a JSON object")
        known = {each.name for each in fields(cls)}
        # Versions that were published before these fields came stay readable.
        required = {each.name for each in fields(cls) if each.name not in _LATER}
        for name in sorted(required - data.keys()):
            raise ManifestError(f"manifest lacks {name!r}")
        for name in sorted(data.keys() - known):
            raise ManifestError(f"manifest has an unknown field {name!r}")
        for name, check in _CHECKS.items():
            if name in data and not check(data[name]):
                raise ManifestError(f"manifest field {name!r} is malformed: {data[name]!r:.200}")
        for name in ("classes", "segments"):
            data[name] = tuple(data.get(name, ()))
        return cls(**{**data, "schema": _schema(data["schema"])})

    def same_version_as(self, other: Manifest) -> bool:
        """Whether both describe the same version; who made it, and where, does not count."""
        mine, theirs = asdict(self), asdict(other)
        return all(mine[name] == theirs[name] for name in mine if name not in _PROVENANCE)


def learned_number(version: str) -> int | None:
    """The number of a version that the dataflow learned; None for one of batch training."""
    return None if version.startswith("b") else int(version)


def version_order(version: str) -> tuple[int, int]:
    """Sorts versions: those of batch training first, then those learned, by number."""
    number = learned_number(version)
    return (0, int(version[1:])) if number is None else (1, number)


def sha256_hex(data: bytes) -> str:
    """SHA-256 of the bytes, hex, as ``Manifest.sha256`` holds it."""
    return hashlib.sha256(data).hexdigest()


def _no_constants(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _schema(data: Any) -> FeatureSchema:
    """The schema, with every field's type checked (``FeatureSchema.from_json`` checks none)."""
    try:
        schema = FeatureSchema.from_json(data)
    except (KeyError, TypeError, AttributeError) as error:
        raise ManifestError(f"manifest schema is malformed: {error!r}") from error
    if not _is_text(schema.project) or not schema.fields:
        raise ManifestError("manifest schema needs a project and at least one field")
    for one in schema.places:
        if not _is_good_field(one):
            raise ManifestError(f"manifest schema field {one.name!r} is malformed: {one!r:.300}")
    names = [one.name for one in schema.places]
    if len(set(names)) != len(names):
        raise ManifestError("manifest schema names a field twice")
    try:
        check_on_demand(schema)
    except SchemaError as error:
        raise ManifestError(f"manifest schema: {error}") from error
    return schema


def _is_good_field(one: VectorField) -> bool:
    is_request, is_derived = one.kind == "request", one.kind == "derived"
    return (
        all(_is_text(text) for text in (one.name, one.view, one.feature, *one.join_keys))
        and one.kind in get_args(FieldKind)
        and all(kind in get_args(ValueType) for kind in (one.dtype, *one.join_key_types))
        and _is_number(one.default)
        and _is_number(one.ttl_seconds)
        and one.ttl_seconds >= 0
        and len(one.join_keys) == len(one.join_key_types)
        and (is_request or bool(one.view and one.feature))
        and (is_request or is_derived or bool(one.join_keys))
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_version(value: Any) -> bool:
    return isinstance(value, str) and VERSION.fullmatch(value) is not None


def _is_time(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "model": lambda v: isinstance(v, str) and MODEL_NAME.fullmatch(v) is not None,
    "version": _is_version,
    "fingerprint": _is_hash,
    "learner": _is_text,
    "trained_from_us": _is_time,
    "trained_until_us": _is_time,
    "examples": _is_count,
    "metrics": lambda v: isinstance(v, dict) and all(map(_is_number, v.values())),
    "parity": lambda v: (
        isinstance(v, dict)
        and v.keys() == {"rows", "max_abs_diff"}
        and _is_count(v["rows"])
        and _is_number(v["max_abs_diff"])
    ),
    "git_commit": _is_text,
    "parent": lambda v: v is None or _is_version(v),
    "sha256": _is_hash,
    "created_by": _is_text,
    "offsets": lambda v: isinstance(v, dict) and all(map(_is_count, v.values())),
    "task": lambda v: v in get_args(Task),
    "classes": lambda v: _is_texts(v) and len(set(v)) == len(v),
    "assign_by": _is_text,
    "segments": lambda v: _is_texts(v),
    "spine_key": _is_text,
    "intended_use": _is_text,
    "lineage": lambda v: isinstance(v, dict) and all(map(_is_text, v.values())),
}
