"""Encoders of categories, which are doubles here: two are the same if they are equal."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from onnx import TensorProto, numpy_helper
from river import preprocessing

from .convert import filled
from .graph import ML_DOMAIN, Graph
from .registry import (
    Columns,
    Converter,
    Rows,
    UnsupportedEstimatorError,
    Wanted,
    join,
    register,
    unseen_name,
)


def teach() -> None:
    """Register what is in this module."""
    register(
        preprocessing.OneHotEncoder,
        Converter(
            "transformer", _refuse_one_hot, _append_one_hot, "refused", leaves=_leaves_one_hot
        ),
    )
    register(
        preprocessing.OrdinalEncoder,
        Converter(
            "transformer", _refuse_ordinal, _append_ordinal, unseen="passed", takes_gaps=True
        ),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float) and not math.isnan(value)


def _refuse_one_hot(encoder: preprocessing.OneHotEncoder) -> str | None:
    if encoder.categories is None:
        # Without zeros the encoder keeps no categories; the first one may be one never seen.
        if encoder.drop_zeros:
            return "drop_zeros=True is not supported without categories; leave it out"
        if encoder.drop_first:
            return "drop_first=True is not supported without categories; leave it out"
    elif encoder.drop_zeros and encoder.drop_first:
        return "drop_first=True is not supported together with drop_zeros; leave one out"
    return _refuse_categories(encoder)


def _refuse_ordinal(encoder: preprocessing.OrdinalEncoder) -> str | None:
    codes = {encoder.unknown_value, encoder.none_value}.union(
        *(known.values() for known in encoder.values.values())
    )
    if not all(code is None or _is_number(code) for code in codes):
        return "a code is not a number; give numbers"
    return _refuse_categories(encoder)


def _refuse_categories(encoder: Any) -> str | None:
    for feature, known in (encoder.categories or {}).items():
        if not all(value is None or _is_number(value) for value in known):
            return f"categories of {feature} are not all numbers; give the doubles that stand there"
    return None


def _leaves_one_hot(encoder: preprocessing.OneHotEncoder, _: Rows) -> Rows:
    given = encoder.categories
    signed = given is None or any(_has_sign(value) for known in given.values() for value in known)
    return Rows(unseen=signed, gaps=encoder.drop_zeros)


def _append_one_hot(
    encoder: preprocessing.OneHotEncoder, graph: Graph, columns: Columns, wanted: Wanted
) -> Columns:
    _check_features("OneHotEncoder", encoder, columns)
    categories = _categories(encoder, columns)
    equal, hits = _hits(graph, columns, list(categories.values()))
    digits = graph.node("Cast", [hits], to=TensorProto.DOUBLE)
    known = Columns(digits, tuple(categories), hits if encoder.drop_zeros else None)
    if not wanted.unseen:
        return known
    # A category never seen is a feature of its own in River, one that is not there otherwise.
    if encoder.categories is None:
        seen = _seen(graph, columns, categories, digits)
        unseen = graph.node("Equal", [seen, graph.constant(0.0)])
        names = columns.names
    elif equal != hits:
        unseen = graph.node("And", [equal, graph.node("Not", [hits])])
        names = known.names
    else:
        return known
    value = graph.node("Cast", [unseen], to=TensorProto.DOUBLE)
    return join(graph, [known, Columns(value, tuple(map(unseen_name, names)), unseen)])


def _check_features(name: str, encoder: Any, columns: Columns) -> None:
    missing = [one for one in columns.names if one not in (encoder.categories or columns.names)]
    if missing:
        raise UnsupportedEstimatorError(
            f"{name} cannot be exported to ONNX: it has categories, but none of feature "
            f"{missing[0]}; put a Select in front of it"
        )


def _categories(
    encoder: preprocessing.OneHotEncoder, columns: Columns
) -> dict[str, tuple[int, Any]]:
    """Name of an output -> place of the feature and category, in the order of River's names."""
    places = {name: place for place, name in enumerate(columns.names)}
    found = {
        f"{feature}_{value}": (places.get(feature, -1), value)
        for feature in (*columns.names, *encoder.values)
        for value in encoder.values.get(feature, ())
    }
    names = list(found if encoder.drop_zeros else encoder._zero_dict)
    if encoder.drop_first:
        names.remove(min(names))
    return {name: found[name] for name in names}


def _hits(graph: Graph, columns: Columns, categories: list[tuple[int, Any]]) -> tuple[str, str]:
    """Two bool tensors ``[N, K]``: the features equal the categories, and have their names."""
    at = [max(place, 0) for place, _ in categories]
    if len(set(at)) == 1:
        del at[1:]  # one column is compared with all of them
    values = graph.node("Gather", [columns.value, graph.constant(at, np.int64)], axis=1)
    # NaN, as what no double is equal to, stands for a category that no row can have.
    wanted = [float(v) if place >= 0 and _is_number(v) else math.nan for place, v in categories]
    equal = graph.node("Equal", [values, graph.constant(wanted)])
    if any(value is None for _, value in categories):
        missing = graph.constant([v is None and place >= 0 for place, v in categories], np.bool_)
        missing = graph.node("And", [graph.node("IsNaN", [values]), missing])
        equal = graph.node("Or", [equal, missing])
    if not any(_has_sign(value) for _, value in categories):
        return equal, equal
    # 0.0 and -0.0 are equal, but River names them by their texts.
    signs = [math.copysign(math.inf, v) if _has_sign(v) else math.nan for _, v in categories]
    free = graph.constant([not _has_sign(value) for _, value in categories], np.bool_)
    same = graph.node("Equal", [graph.node("Reciprocal", [values]), graph.constant(signs)])
    return equal, graph.node("And", [equal, graph.node("Or", [same, free])])


def _has_sign(value: Any) -> bool:
    return isinstance(value, float) and value == 0.0


def _seen(
    graph: Graph, columns: Columns, categories: dict[str, tuple[int, Any]], digits: str
) -> str:
    """A tensor ``[N, features]``: 1 if the feature is one of its categories, else 0."""
    axis = graph.constant([1], np.int64)
    none = graph.node("Unsqueeze", [filled(graph, columns, 0.0), axis])
    parts = []
    for place in range(len(columns.names)):
        own = [at for at, (one, _) in enumerate(categories.values()) if one == place]
        if not own:
            parts.append(none)
            continue
        chosen = graph.node("Gather", [digits, graph.constant(own, np.int64)], axis=1)
        parts.append(graph.node("ReduceMax", [chosen, axis], keepdims=1))
    return graph.node("Concat", parts, axis=1)


def _append_ordinal(
    encoder: preprocessing.OrdinalEncoder, graph: Graph, columns: Columns, _: Wanted
) -> Columns:
    _check_features("OrdinalEncoder", encoder, columns)
    codes = [
        _coded(encoder, graph, columns.take(graph, [place], [name]))
        for place, name in enumerate(columns.names)
    ]
    value = graph.node("Concat", codes, axis=1)
    missing = graph.node("IsNaN", [columns.value])
    of_none = graph.constant(_double(encoder.none_value))
    return Columns(graph.node("Where", [missing, of_none, value]), columns.names, columns.present)


def _coded(encoder: preprocessing.OrdinalEncoder, graph: Graph, column: Columns) -> str:
    """The codes of one column, ``[N, 1]``."""
    known = {
        float(category): _double(code)
        for category, code in encoder.values.get(column.names[0], {}).items()
        if isinstance(category, float | int) and not math.isnan(category)
    }
    unknown = _double(encoder.unknown_value)
    if not known:
        axis = graph.constant([1], np.int64)
        return graph.node("Unsqueeze", [filled(graph, column, unknown), axis])
    return graph.node(
        "LabelEncoder",
        [column.value],
        domain=ML_DOMAIN,
        keys_tensor=numpy_helper.from_array(np.array(list(known))),
        values_tensor=numpy_helper.from_array(np.array(list(known.values()))),
        default_tensor=numpy_helper.from_array(np.array([unknown])),
    )


def _double(code: float | None) -> float:
    return math.nan if code is None else float(code)
