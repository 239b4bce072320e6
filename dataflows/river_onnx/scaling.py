"""Scalers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from river import preprocessing

from .graph import Graph
from .registry import Columns, Converter, Wanted, register


def teach() -> None:
    """Register what is in this module."""
    for scaler, append in (
        (preprocessing.StandardScaler, _append_standard_scaler),
        (preprocessing.MinMaxScaler, _append_min_max_scaler),
    ):
        register(scaler, Converter("transformer", _refuse_window, append))


def _refuse_window(scaler: Any) -> str | None:
    if scaler.window_size is None:
        return None
    return f"window_size={scaler.window_size} is not supported; leave it out"


def _scale(graph: Graph, columns: Columns, offsets: list[float], divisors: list[float]) -> Columns:
    """(value - offset) / divisor; 0 wherever the divisor is 0, as River has it."""
    scaled = graph.node("Sub", [columns.value, graph.constant(offsets)])
    if any(divisor != 1.0 for divisor in divisors):
        usable = [divisor or 1.0 for divisor in divisors]
        scaled = graph.node("Div", [scaled, graph.constant(usable)])
    if not all(divisors):
        # Not a multiplication by 0: that would let an infinite value through as NaN.
        constant = graph.constant([divisor == 0.0 for divisor in divisors], np.bool_)
        scaled = graph.node("Where", [constant, graph.constant(0.0), scaled])
    return Columns(scaled, columns.names)


def _append_standard_scaler(
    scaler: preprocessing.StandardScaler, graph: Graph, columns: Columns, _: Wanted
) -> Columns:
    means = [float(scaler.means.get(name, 0.0)) for name in columns.names]
    if not scaler.with_std:
        return _scale(graph, columns, means, [1.0] * len(means))
    variances = [float(scaler.vars.get(name, 0.0)) for name in columns.names]
    # The root is taken as River takes it, so that not even the last bit differs.
    return _scale(graph, columns, means, [variance**0.5 for variance in variances])


def _append_min_max_scaler(
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
