"""Scalers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from river import preprocessing, stats

from .arithmetic import total, where_present
from .graph import Graph
from .registry import Columns, Converter, Unseen, Wanted, never, register

_ORDERS = (1, 2, math.inf)
_NUMBERS = (bool, int, float)
# Of a feature never seen the one makes NaN; to the other it is as long as any.
_UNSEEN: dict[type, Unseen] = {
    preprocessing.MinMaxScaler: "refused",
    preprocessing.Normalizer: "minded",
}


def teach() -> None:
    """Register what is in this module."""
    taught: list[tuple[type, Callable[[Any], str | None], Callable[..., Columns]]] = [
        (preprocessing.StandardScaler, _refuse_window, _append_standard),
        (preprocessing.MinMaxScaler, _refuse_window, _append_min_max),
        (preprocessing.MaxAbsScaler, _refuse_window, _append_max_abs),
        (preprocessing.RobustScaler, never, _append_robust),
        (preprocessing.AdaptiveStandardScaler, never, _append_adaptive),
        (preprocessing.Normalizer, _refuse_order, _append_normalizer),
        (preprocessing.Binarizer, _refuse_type, _append_binarizer),
    ]
    for scaler, refusal, append in taught:
        unseen: Unseen = _UNSEEN.get(scaler, "passed")
        register(scaler, Converter("transformer", refusal, append, unseen, takes_gaps=True))


def _refuse_window(scaler: Any) -> str | None:
    if scaler.window_size is None:
        return None
    return f"window_size={scaler.window_size} is not supported; leave it out"


def _refuse_order(scaler: preprocessing.Normalizer) -> str | None:
    if scaler.order in _ORDERS:
        return None
    return f"order={scaler.order} is not supported; use 1, 2 or math.inf"


def _refuse_type(binarizer: preprocessing.Binarizer) -> str | None:
    if binarizer.dtype in _NUMBERS:
        return None
    return f"dtype={binarizer.dtype.__name__} is not supported; use bool, int or float"


def _scale(graph: Graph, columns: Columns, offsets: list[float], divisors: list[float]) -> Columns:
    """(value - offset) / divisor; 0 wherever the divisor is 0, as River has it."""
    scaled = columns.value
    if any(offsets):
        scaled = graph.node("Sub", [scaled, graph.constant(offsets)])
    if any(divisor != 1.0 for divisor in divisors):
        usable = [divisor or 1.0 for divisor in divisors]
        scaled = graph.node("Div", [scaled, graph.constant(usable)])
    if not all(divisors):
        # Not a multiplication by 0: that would let an infinite value through as NaN.
        constant = graph.constant([divisor == 0.0 for divisor in divisors], np.bool_)
        scaled = graph.node("Where", [constant, graph.constant(0.0), scaled])
    return Columns(scaled, columns.names, columns.present)


def _append_standard(
    scaler: preprocessing.StandardScaler, graph: Graph, columns: Columns, _: Wanted
) -> Columns:
    means = [float(scaler.means.get(name, 0.0)) for name in columns.names]
    if not scaler.with_std:
        return _scale(graph, columns, means, [1.0] * len(means))
    variances = [float(scaler.vars.get(name, 0.0)) for name in columns.names]
    # The root is taken as River takes it, so that not even the last bit differs.
    return _scale(graph, columns, means, [variance**0.5 for variance in variances])


def _append_min_max(
    scaler: preprocessing.MinMaxScaler, graph: Graph, columns: Columns, _: Wanted
) -> Columns:
    lows, ranges = [], []
    for name in columns.names:
        # A feature never seen has the range (inf, -inf) in River, which gives NaN: so here.
        low = float(scaler.min[name].get()) if name in scaler.min else math.inf
        high = float(scaler.max[name].get()) if name in scaler.max else -math.inf
        lows.append(low)
        ranges.append(high - low)
    return _scale(graph, columns, lows, ranges)


def _append_max_abs(
    scaler: preprocessing.MaxAbsScaler, graph: Graph, columns: Columns, _: Wanted
) -> Columns:
    largest = [
        float(scaler.abs_max[name].get()) if name in scaler.abs_max else 0.0
        for name in columns.names
    ]
    return _scale(graph, columns, [0.0] * len(largest), largest)


def _append_robust(
    scaler: preprocessing.RobustScaler, graph: Graph, columns: Columns, _: Wanted
) -> Columns:
    # River estimates the quantiles, but what it has estimated is one number for each feature.
    medians, ranges = [], []
    for name in columns.names:
        median = scaler.median[name].get() if name in scaler.median else None
        spread = scaler.iqr[name].get() if name in scaler.iqr else None
        medians.append(float(median) if scaler.with_centering and median is not None else 0.0)
        ranges.append(float(spread or 0.0) if scaler.with_scaling else 1.0)
    return _scale(graph, columns, medians, ranges)


def _append_adaptive(
    scaler: preprocessing.AdaptiveStandardScaler, graph: Graph, columns: Columns, _: Wanted
) -> Columns:
    means, divisors = [], []
    for name in columns.names:
        mean = scaler.means[name] if name in scaler.means else stats.EWMean(scaler.fading_factor)
        variance = float(scaler.vars[name].get()) if name in scaler.vars else 0.0
        means.append(float(mean.get()))
        divisors.append(variance**0.5 if variance > 0 else 0.0)
    return _scale(graph, columns, means, divisors)


def _append_normalizer(
    scaler: preprocessing.Normalizer, graph: Graph, columns: Columns, _: Wanted
) -> Columns:
    sizes = where_present(graph, columns, graph.node("Abs", [columns.value]))
    axis = graph.constant([1], np.int64)
    if scaler.order == math.inf:
        norm = graph.node("ReduceMax", [sizes, axis], keepdims=1)
    else:
        terms = graph.node("Mul", [sizes, sizes]) if scaler.order == 2 else sizes
        norm = graph.node("Unsqueeze", [total(graph, terms, len(columns.names)), axis])
        norm = graph.node("Sqrt", [norm]) if scaler.order == 2 else norm
    return Columns(graph.node("Div", [columns.value, norm]), columns.names, columns.present)


def _append_binarizer(
    binarizer: preprocessing.Binarizer, graph: Graph, columns: Columns, _: Wanted
) -> Columns:
    above = graph.node("Greater", [columns.value, graph.constant(float(binarizer.threshold))])
    one, nothing = graph.constant(1.0), graph.constant(0.0)
    digits = graph.node("Where", [above, one, nothing])
    # River leaves what is no number as it is, so None stays None.
    missing = graph.node("IsNaN", [columns.value])
    value = graph.node("Where", [missing, columns.value, digits])
    return Columns(value, columns.names, columns.present)
