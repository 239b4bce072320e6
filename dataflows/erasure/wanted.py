"""Who is to be forgotten, as somebody asked for it, and what of the plan knows such entities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.feast_bytes import decode_entity_key, entity_key
from contracts.feature_schema import ValueType
from contracts.plan import ModelPlan, Plan, View

Bools = npt.NDArray[np.bool_]


class ErasureError(Exception):
    """Somebody cannot be forgotten; the message says why and what to do."""


@dataclass(frozen=True)
class Wanted:
    """Entities of the same join keys.

    Attributes:
        names: join keys, sorted.
        types: their types in the plan.
        values: of each entity its value of each join key.
    """

    names: tuple[str, ...]
    types: tuple[ValueType, ...]
    values: tuple[tuple[str | int, ...], ...]

    @property
    def keys(self) -> list[bytes]:
        """Feast's entity keys."""
        return [entity_key(self.names, self.types, one) for one in self.values]

    def views(self, plan: Plan) -> list[View]:
        """Views whose entities have these join keys, and perhaps others too."""
        return [view for view in plan.views if self._is_part_of(view)]

    def models(self, plan: Plan) -> list[ModelPlan]:
        """Models that read such a view."""
        names = {view.name for view in self.views(plan)}
        return [model for model in plan.models if names.intersection(model.views)]

    def rows(self, columns: Mapping[str, Sequence[Any]]) -> Bools:
        """bool[n]: which rows of some columns, in which the join keys are, are of them."""
        parts = [columns[name] for name in self.names]
        if len(parts) == 1:
            single = {one[0] for one in self.values}
            return np.fromiter((value in single for value in parts[0]), np.bool_, len(parts[0]))
        wanted = set(self.values)
        rows = list(zip(*parts, strict=True))
        return np.fromiter((row in wanted for row in rows), np.bool_, len(rows))

    def is_meant(self, key: bytes) -> bool:
        """Whether the entity of this key is one of them, or one of them with further join keys."""
        values = decode_entity_key(key)
        return all(name in values for name in self.names) and (
            tuple(values[name] for name in self.names) in set(self.values)
        )

    def _is_part_of(self, view: View) -> bool:
        types = dict(zip(view.join_keys, view.join_key_types, strict=True))
        return all(
            types.get(name) == kind for name, kind in zip(self.names, self.types, strict=True)
        )


def join_keys_of(plan: Plan, entities: Mapping[str, str], given: str) -> tuple[str, ...]:
    """The join keys that somebody means: Feast entities or join keys, with commas between them.

    Args:
        plan: what is in definitions.py.
        entities: Feast entity -> its join key.
        given: what was written.

    Raises:
        ErasureError: no view has such an entity.
    """
    known = {name for view in plan.views for name in view.join_keys}
    found = []
    for word in (part.strip() for part in given.split(",")):
        name = word if word in known else entities.get(word, "")
        if name not in known:
            raise ErasureError(
                f"no view has an entity {word!r}; there are {', '.join(sorted(known)) or 'none'}"
            )
        found.append(name)
    if len(set(found)) < len(found):
        raise ErasureError(f"{given!r} names a join key twice")
    if not any(set(found) <= set(view.join_keys) for view in plan.views):
        raise ErasureError(
            f"no view has entities of {', '.join(found)} together; forget one after the other"
        )
    return tuple(sorted(found))


def wanted_entities(
    plan: Plan,
    names: tuple[str, ...],
    typed: Callable[[ValueType], Sequence[Sequence[str | int | None]]],
) -> list[Wanted]:
    """The entities, for each combination of types that views have these join keys in.

    Args:
        plan: what is in definitions.py.
        names: join keys, sorted.
        typed: of each join key's type, the values of each entity; None for one that is not of it.

    Raises:
        ErasureError: a value fits no view.
    """
    kinds: list[tuple[ValueType, ...]] = []
    for view in plan.views:
        types = dict(zip(view.join_keys, view.join_key_types, strict=True))
        if set(names) <= types.keys():
            kinds.append(tuple(types[name] for name in names))
    found: list[Wanted] = []
    fitting: set[int] = set()
    count = 0
    for types_of in dict.fromkeys(kinds):
        columns = [[row[place] for row in typed(kind)] for place, kind in enumerate(types_of)]
        rows = list(zip(*columns, strict=True))
        count = len(rows)
        good = {place: row for place, row in enumerate(rows) if None not in row}
        fitting.update(good)
        if good:
            found.append(Wanted(names, types_of, tuple(dict.fromkeys(good.values()))))
    for place in range(count):
        if place not in fitting:
            shown = ", ".join(f"{n} ({k})" for n, k in zip(names, kinds[0], strict=True))
            raise ErasureError(f"key {place + 1} is not of the type that views have: {shown}")
    return found
