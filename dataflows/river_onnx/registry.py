"""How each class of River estimators becomes nodes of a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .graph import Graph

Role = Literal["transformer", "classifier", "regressor", "anomaly"]


class UnsupportedEstimatorError(ValueError):
    """The estimator cannot be exported; the message names the class and what is supported."""


@dataclass(frozen=True)
class Columns:
    """Named columns that run through a pipeline.

    Attributes:
        value: name of a float64 tensor ``[N, len(names)]``; NaN is River's None.
        names: of the columns, in order.
    """

    value: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class ByClass:
    """Probabilities as one tensor ``[N]`` for each class asked for; one left out is 0."""

    values: Mapping[Any, str]


@dataclass(frozen=True)
class Stacked:
    """Probabilities as one tensor ``[N, C]``, in the order of the classes asked for."""

    value: str


Probabilities = ByClass | Stacked


@dataclass(frozen=True)
class Wanted:
    """What a converter is asked for.

    Attributes:
        classes: whose probabilities; ``(True,)`` for a binary classifier, empty if the estimator
            is no classifier.
    """

    classes: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Converter:
    """How one class of estimators becomes nodes.

    Attributes:
        role: what it is at its place in a pipeline.
        refusal: why this instance cannot be exported exactly, or None if it can. It is asked
            before anything was learned, and again before each export.
        append: adds the nodes for (estimator, graph, its input, what is wanted). Gives
            ``Columns`` for a transformer, ``Probabilities`` for a classifier, and otherwise the
            name of a tensor ``[N]``. Must not change the estimator (River's dictionaries grow when
            they are read).
    """

    role: Role
    refusal: Callable[[Any], str | None]
    append: Callable[[Any, Graph, Columns, Wanted], Columns | Probabilities | str]


_CONVERTERS: dict[type, Converter] = {}


def register(estimator_class: type, converter: Converter) -> None:
    """Teach the exporter a class; exactly that class, as a subclass may compute otherwise."""
    _CONVERTERS[estimator_class] = converter


def converter_of(estimator: Any) -> Converter | None:
    """The converter of the estimator's class, None if there is none."""
    return _CONVERTERS.get(type(estimator))


def supported(role: Role) -> list[str]:
    """Names of the classes that can take that role, sorted."""
    return sorted(c.__name__ for c, found in _CONVERTERS.items() if found.role == role)
