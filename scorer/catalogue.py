"""Which stored features there are, and what it takes to read some of them. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from contracts.feast_bytes import decode_value, entity_key
from contracts.feature_schema import FeatureSchema, ValueType
from contracts.plan_file import Applied
from scorer.errors import InvalidRequestError, StoreUnavailableError, UnknownFeatureError
from scorer.online_store import Wanted, wanted
from scorer.vector_plan import Scalar

_TYPE_NAMES: dict[type, str] = {float: "float64", int: "int64", bool: "bool", str: "string"}


@dataclass(frozen=True, slots=True)
class StoredFeature:
    """A feature of a view in the online store.

    Attributes:
        view: name of the view.
        feature: name of the feature in it.
        dtype: type of its values.
        join_keys: names of the parts of the view's entity key.
        join_key_types: their types, in the same order.
        ttl_us: older values have expired, microseconds; 0 is no limit.
    """

    view: str
    feature: str
    dtype: ValueType
    join_keys: tuple[str, ...]
    join_key_types: tuple[ValueType, ...]
    ttl_us: int

    @property
    def name(self) -> str:
        """``view:feature``."""
        return f"{self.view}:{self.feature}"


@dataclass(frozen=True, slots=True)
class FeatureRead:
    """Features that one row of one view has.

    Attributes:
        first: one of them; what it says of its view holds for all.
        features: their names in the view.
        positions: ``positions[i]`` is where ``features[i]`` stands among the columns.
    """

    first: StoredFeature
    features: tuple[str, ...]
    positions: tuple[int, ...]

    def wanted(self, keys: Mapping[str, Scalar]) -> Wanted | None:
        """What to read for a row of checked keys; None where a part of the key is null."""
        values = [keys[name] for name in self.first.join_keys]
        if None in values:
            return None
        made = entity_key(self.first.join_keys, self.first.join_key_types, values)  # type: ignore[arg-type]
        return wanted(self.first.view, self.features, made)


class FeatureSet:
    """Features that are read together, one column each.

    Attributes:
        columns: the features, in order.
        reads: one for each view, in order of first use.
        key_types: join key -> its types; more than one if views do not agree, and then no value
            but null is of all of them.
    """

    def __init__(self, columns: Sequence[StoredFeature]) -> None:
        """No feature may be there twice."""
        self.columns = tuple(columns)
        groups: dict[tuple[object, ...], list[int]] = {}
        types: dict[str, tuple[ValueType, ...]] = {}
        for position, one in enumerate(self.columns):
            group = (one.view, one.join_keys, one.join_key_types, one.ttl_us)
            groups.setdefault(group, []).append(position)
            for name, kind in zip(one.join_keys, one.join_key_types, strict=True):
                known = types.get(name, ())
                types[name] = known if kind in known else (*known, kind)
        self.key_types: Mapping[str, tuple[ValueType, ...]] = types
        self.reads = tuple(
            FeatureRead(
                first=self.columns[positions[0]],
                features=tuple(self.columns[position].feature for position in positions),
                positions=tuple(positions),
            )
            for positions in groups.values()
        )

    def check(self, row: int, keys: Mapping[str, Scalar]) -> None:
        """Check the entity keys of row number ``row``.

        Raises:
            InvalidRequestError: a key is missing, unknown or of the wrong type.
        """
        for name, kinds in self.key_types.items():
            if name not in keys:
                raise InvalidRequestError(
                    f"rows[{row}]: entity key {name!r} ({kinds[0]}) is missing; give a value, or"
                    " null if unknown"
                )
            value = keys[name]
            for kind in kinds:
                if value is not None and type(value) is not (str if kind == "string" else int):
                    raise InvalidRequestError(
                        f"rows[{row}]: entity key {name!r} must be {kind}, not"
                        f" {_TYPE_NAMES[type(value)]}"
                    )
        if len(keys) > len(self.key_types):
            unknown = min(keys.keys() - self.key_types.keys())
            known = ", ".join(sorted(self.key_types)) or "none"
            raise InvalidRequestError(
                f"rows[{row}]: unknown entity key {unknown!r:.100}; those of these features are:"
                f" {known}"
            )


def features_of(schema: FeatureSchema) -> FeatureSet:
    """The stored features that a model reads: those of its vector, in order, then hidden ones."""
    found = (
        StoredFeature(
            field.view,
            field.feature,
            field.dtype,
            field.join_keys,
            field.join_key_types,
            round(field.ttl_seconds * 1_000_000),
        )
        for field in schema.places
        if field.kind == "feature"
    )
    return FeatureSet(list(dict.fromkeys(found)))


def stored_value(feature: StoredFeature, data: bytes | None) -> Scalar:
    """A stored value in the type that the feature has; null, NaN and nothing are None.

    Raises:
        StoreUnavailableError: the bytes cannot be read.
    """
    try:
        value = decode_value(data or b"")
    except ValueError as error:
        raise StoreUnavailableError(f"feature {feature.name} cannot be read: {error}") from error
    # NaN differs from itself.
    return None if value is None or value != value else _typed(feature.dtype, value)


def _typed(dtype: ValueType, value: float | str) -> Scalar:
    """The value as ``dtype``: Feast may have written a number in another type of its own."""
    if isinstance(value, str) or dtype == "string":
        return value
    if dtype == "bool":
        return bool(value)
    return int(value) if dtype == "int64" and math.isfinite(value) else float(value)


class Catalogue:
    """What ``headwater apply`` has left behind, by name."""

    def __init__(self, applied: Applied) -> None:
        """Take it apart."""
        self._features = {
            one.name: one
            for view in applied.plan.views
            for one in (
                StoredFeature(
                    view.name,
                    aggregate.feature,
                    aggregate.dtype,
                    view.join_keys,
                    view.join_key_types,
                    view.ttl_us,
                )
                for aggregate in view.aggregates
            )
        }
        self._services = {
            name: tuple(f"{view}:{feature}" for view, feature in pairs)
            for name, pairs in applied.services.items()
        }
        self._sets: dict[str, FeatureSet] = {}
        self.join_keys = frozenset(name for view in applied.plan.views for name in view.join_keys)

    def has_service(self, service: str) -> bool:
        """Whether there is a feature service of that name."""
        return service in self._services

    def service_names(self, service: str) -> tuple[str, ...]:
        """``view:feature`` of all features of a service.

        Raises:
            UnknownFeatureError: there is no such service.
        """
        names = self._services.get(service)
        if names is None:
            known = ", ".join(sorted(self._services)) or "none"
            raise UnknownFeatureError(
                f"no feature service {service!r:.120}; there are: {known:.1000}"
            )
        return names

    def service(self, service: str) -> FeatureSet:
        """All features of a service.

        Raises:
            UnknownFeatureError: there is no such service, or it has features that are not stored.
        """
        found = self._sets.get(service)
        if found is None:
            names = self.service_names(service)
            for name in names:
                if name not in self._features:
                    raise UnknownFeatureError(
                        f"feature service {service!r} has {name!r}, which no stream feature view"
                        " stores (views on demand store nothing); ask for a service without it, or"
                        " name features in GetFeatures"
                    )
            found = self._sets[service] = self.named(names)
        return found

    def stored_of(self, service: str) -> tuple[FeatureSet, tuple[str, ...]]:
        """The stored features of a service, and the names of those that are not.

        Raises:
            UnknownFeatureError: there is no such service, or none of its features is stored.
        """
        names = self.service_names(service)
        stored = [name for name in names if name in self._features]
        if not stored:
            raise UnknownFeatureError(
                f"feature service {service!r} has no feature that a stream feature view stores;"
                " ask for another one"
            )
        return self.named(stored), tuple(name for name in names if name not in self._features)

    def named(self, names: Iterable[str]) -> FeatureSet:
        """Features by name, each ``view:feature``.

        Raises:
            InvalidRequestError: there is none, or one is named twice.
            UnknownFeatureError: no stream feature view has such a feature.
        """
        columns: dict[str, StoredFeature] = {}
        for name in names:
            one = self._features.get(name)
            if one is None:
                raise UnknownFeatureError(
                    f"no stream feature view has a feature {name!r:.200}; write view:feature, and"
                    " run `headwater apply` if it is new"
                )
            if name in columns:
                raise InvalidRequestError(f"feature {name!r:.200} is named twice; name it once")
            columns[name] = one
        if not columns:
            raise InvalidRequestError("no features: name at least one")
        return FeatureSet(list(columns.values()))
