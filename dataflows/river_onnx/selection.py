"""Transformers that choose, name, join and multiply columns."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any, cast

import numpy as np
from river import compose, feature_extraction, feature_selection

from .convert import append, filled, steps_of, walk
from .graph import Graph
from .registry import (
    Columns,
    Converter,
    Rows,
    UnsupportedEstimatorError,
    Wanted,
    join,
    never,
    register,
)

_PLACE = "inside a union"
Append = Callable[[Any, Graph, Columns, Wanted], Columns]


def teach() -> None:
    """Register what is in this module."""
    taught: list[tuple[type, Append]] = [
        (compose.Select, _append_select),
        (compose.Discard, _append_discard),
        (compose.Prefixer, _append_prefixer),
        (compose.Suffixer, _append_suffixer),
        (compose.Renamer, _append_renamer),
        (feature_selection.VarianceThreshold, _append_variance_threshold),
        (feature_selection.SelectKBest, _append_best),
        (feature_extraction.PolynomialExtender, _append_polynomial),
    ]
    for transformer, append_one in taught:
        register(
            transformer,
            Converter("transformer", never, append_one, unseen="passed", takes_gaps=True),
        )
    for union, append_all in (
        (compose.TransformerUnion, _append_union),
        (compose.TransformerProduct, _append_product),
    ):
        register(
            union,
            Converter(
                "transformer",
                _refuse_part,
                append_all,
                unseen="passed",
                takes_gaps=True,
                leaves=_leaves_union,
                inside=lambda union: list(union.transformers.values()),
            ),
        )


def _append_select(select: compose.Select, graph: Graph, columns: Columns, _: Wanted) -> Columns:
    missing = sorted(str(name) for name in select.keys if name not in columns.names)
    if missing:
        raise UnsupportedEstimatorError(
            f"Select cannot be exported to ONNX: there is no feature {', '.join(missing)}"
        )
    # River goes through a set, whose order no process shares with another.
    return _keep(graph, columns, lambda name: name in select.keys)


def _append_discard(discard: compose.Discard, graph: Graph, columns: Columns, _: Wanted) -> Columns:
    return _keep(graph, columns, lambda name: name not in discard.keys)


def _append_variance_threshold(
    threshold: feature_selection.VarianceThreshold, graph: Graph, columns: Columns, _: Wanted
) -> Columns:
    return _keep(graph, columns, threshold.check_feature)


def _append_best(
    select: feature_selection.SelectKBest, graph: Graph, columns: Columns, _: Wanted
) -> Columns:
    if not select.leaderboard:
        return columns
    best = {name for name, _ in select.leaderboard.most_common(select.k)}
    return _keep(graph, columns, best.__contains__)


def _keep(graph: Graph, columns: Columns, wanted: Callable[[str], bool]) -> Columns:
    places = [place for place, name in enumerate(columns.names) if wanted(name)]
    return columns.take(graph, places, [columns.names[place] for place in places])


def _append_prefixer(
    prefixer: compose.Prefixer, graph: Graph, columns: Columns, _: Wanted
) -> Columns:
    names = tuple(f"{prefixer.prefix}{name}" for name in columns.names)
    return Columns(columns.value, names, columns.present)


def _append_suffixer(
    suffixer: compose.Suffixer, graph: Graph, columns: Columns, _: Wanted
) -> Columns:
    names = tuple(f"{name}{suffixer.suffix}" for name in columns.names)
    return Columns(columns.value, names, columns.present)


def _append_renamer(renamer: compose.Renamer, graph: Graph, columns: Columns, _: Wanted) -> Columns:
    places = {name: place for place, name in enumerate(columns.names)}
    for old, new in renamer.mapping.items():
        # As River does it: a new name goes to the end, one that is there keeps its place.
        if old in places:
            places[new] = places.pop(old)
    return columns.take(graph, list(places.values()), list(places))


def _refuse_part(union: compose.TransformerUnion) -> str | None:
    if not union.transformers:
        return "it is empty"
    for part in union.transformers.values():
        try:
            walk(part, ("transformer",), _PLACE, Rows())
        except UnsupportedEstimatorError as error:
            return str(error)
        if type(steps_of(part)[0]) is compose.Renamer:
            return "Renamer changes the row that its neighbours see; put it behind a Select"
    return None


def _leaves_union(union: compose.TransformerUnion, rows: Rows) -> Rows:
    left = [walk(part, ("transformer",), _PLACE, rows)[1] for part in union.transformers.values()]
    return reduce(Rows.__or__, left)


def _parts(
    union: compose.TransformerUnion, graph: Graph, columns: Columns, wanted: Wanted
) -> list[Columns]:
    parts = union.transformers.values()
    return [cast(Columns, append(part, graph, columns, wanted)) for part in parts]


def _append_union(
    union: compose.TransformerUnion, graph: Graph, columns: Columns, wanted: Wanted
) -> Columns:
    # River's order: from the last part to the first, whose names win.
    parts = _parts(union, graph, columns, wanted)[::-1]
    joined = join(graph, parts)
    places = {name: place for place, name in enumerate(joined.names)}
    return joined.take(graph, list(places.values()), list(places))


def _append_product(
    product: compose.TransformerProduct, graph: Graph, columns: Columns, wanted: Wanted
) -> Columns:
    parts = _parts(product, graph, columns, wanted)
    joined = join(graph, parts)
    starts = np.cumsum([0, *(len(part.names) for part in parts)]).tolist()
    found = {
        "*".join(parts[one].names[place] for one, place in enumerate(combination)): [
            starts[one] + place for one, place in enumerate(combination)
        ]
        for combination in itertools.product(*(range(len(part.names)) for part in parts))
    }
    return _multiplied(graph, joined, found)


def _append_polynomial(
    extender: feature_extraction.PolynomialExtender, graph: Graph, columns: Columns, _: Wanted
) -> Columns:
    choose = itertools.combinations_with_replacement
    if extender.interaction_only:
        choose = itertools.combinations  # type: ignore[assignment]
    places = range(len(columns.names))
    found = {
        "*".join(sorted(columns.names[place] for place in factors)): list(factors)
        for size in range(1, extender.degree + 1)
        for factors in choose(places, size)
    }
    extended = _multiplied(graph, columns, found)
    if not extender.include_bias:
        return extended
    axis = graph.constant([1], np.int64)
    bias = Columns(
        graph.node("Unsqueeze", [filled(graph, columns, 1.0), axis]), (extender.bias_name,)
    )
    joined = join(graph, [extended, bias])
    last = {name: place for place, name in enumerate(joined.names)}
    return joined.take(graph, list(last.values()), list(last))


def _multiplied(graph: Graph, columns: Columns, products: dict[str, list[int]]) -> Columns:
    """Products of columns: name -> places of the factors, multiplied from left to right."""
    if not products:
        return columns.take(graph, [], [])
    groups: dict[int, dict[str, list[int]]] = {}
    for name, factors in products.items():
        groups.setdefault(len(factors), {})[name] = factors
    made = [_of_equal_length(graph, columns, group) for group in groups.values()]
    joined = join(graph, made)
    places = {name: place for place, name in enumerate(joined.names)}
    return joined.take(graph, [places[name] for name in products], list(products))


def _of_equal_length(graph: Graph, columns: Columns, group: dict[str, list[int]]) -> Columns:
    names = tuple(group)
    factors = [columns.take(graph, places, names) for places in zip(*group.values(), strict=True)]
    value = reduce(lambda one, other: graph.node("Mul", [one, other]), _values(factors))
    masks = [factor.present for factor in factors if factor.present is not None]
    present = reduce(lambda one, other: graph.node("And", [one, other]), masks) if masks else None
    return Columns(value, names, present)


def _values(columns: Iterable[Columns]) -> list[str]:
    return [one.value for one in columns]
