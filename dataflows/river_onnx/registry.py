"""How each class of River estimators becomes nodes of a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .graph import Graph

Role = Literal["transformer", "classifier", "regressor", "anomaly"]
Unseen = Literal["ignored", "passed", "minded", "refused"]


class UnsupportedEstimatorError(ValueError):
    """The estimator cannot be exported; the message names the class and what is supported."""


@dataclass(frozen=True)
class Columns:
    """Named columns that run through a pipeline.

    Attributes:
        value: name of a float64 tensor ``[N, len(names)]``; NaN is River's None.
        names: of the columns, in order.
        present: name of a bool tensor ``[N, len(names)]``: which names River's dictionary has in
            that row; None if it always has all of them. Only converters that say so are given it.
    """

    value: str
    names: tuple[str, ...]
    present: str | None = None

    def take(self, graph: Graph, places: Sequence[int], names: Sequence[str]) -> Columns:
        """Some of the columns, in that order and under these names."""
        if list(places) == list(range(len(self.names))):
            return Columns(self.value, tuple(names), self.present)
        chosen = graph.constant(list(places), np.int64)
        value = graph.node("Gather", [self.value, chosen], axis=1)
        present = self.present and graph.node("Gather", [self.present, chosen], axis=1)
        return Columns(value, tuple(names), present)


def join(graph: Graph, parts: Sequence[Columns]) -> Columns:
    """Columns beside each other; names may be there twice."""
    if len(parts) == 1:
        return parts[0]
    names = tuple(name for part in parts for name in part.names)
    value = graph.node("Concat", [part.value for part in parts], axis=1)
    if all(part.present is None for part in parts):
        return Columns(value, names)
    present = [part.present or _all_present(graph, part) for part in parts]
    return Columns(value, names, graph.node("Concat", present, axis=1))


def _all_present(graph: Graph, columns: Columns) -> str:
    shape = graph.node("Shape", [columns.value])
    return graph.node("Expand", [graph.constant([True], np.bool_), shape])


@dataclass(frozen=True)
class Rows:
    """What the rows at a place of a pipeline may have.

    Attributes:
        unseen: whether a row may have names that nothing behind can have learned (of categories
            never seen). Their columns have names that ``is_unseen`` tells.
        gaps: whether a row may lack names that others have.
    """

    unseen: bool = False
    gaps: bool = False

    def __or__(self, other: Rows) -> Rows:
        return Rows(self.unseen or other.unseen, self.gaps or other.gaps)


_MARK = "\0"


def unseen_name(feature: str) -> str:
    """The name of the column that stands for all categories of a feature never seen."""
    return f"{feature}_{_MARK}"


def is_unseen(name: str) -> bool:
    """Whether it is such a name, or was made from one."""
    return _MARK in str(name)


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
        unseen: whether some later step minds the columns of categories never seen.
    """

    classes: tuple[Any, ...] = ()
    unseen: bool = False


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
        unseen: columns of categories never seen are left out before ``append`` sees them
            ("ignored"); or it sees them too, with ``Columns.present``, and passes them on
            ("passed") or needs them ("minded"); or River would do something with them that cannot
            be kept ("refused").
        takes_gaps: whether ``append`` minds ``Columns.present``; else rows with gaps are refused.
        leaves: what the rows it gives may have, from the estimator and the rows it is given.
        inside: estimators that are given the same rows, if ``append`` passes all columns on.
    """

    role: Role
    refusal: Callable[[Any], str | None]
    append: Callable[[Any, Graph, Columns, Wanted], Columns | Probabilities | str]
    unseen: Unseen = "ignored"
    takes_gaps: bool = False
    leaves: Callable[[Any, Rows], Rows] = lambda _, rows: rows
    inside: Callable[[Any], Sequence[Any]] = lambda _: ()


def never(_: Any) -> None:
    """The ``refusal`` of a class of which each instance can be exported."""


_CONVERTERS: dict[type, Converter] = {}
_REFUSED: dict[type, str] = {}


def register(estimator_class: type, converter: Converter) -> None:
    """Teach the exporter a class; exactly that class, as a subclass may compute otherwise."""
    _CONVERTERS[estimator_class] = converter


def refuse(estimator_class: type, why: str) -> None:
    """Say why a class has no converter, and what to use in its place."""
    _REFUSED[estimator_class] = why


def refused(estimator: Any) -> str | None:
    """Why the estimator's class has no converter, None if nothing was said of it."""
    return _REFUSED.get(type(estimator))


def converter_of(estimator: Any) -> Converter | None:
    """The converter of the estimator's class, None if there is none."""
    return _CONVERTERS.get(type(estimator))


def supported(role: Role) -> list[str]:
    """Names of the classes that can take that role, sorted."""
    return sorted(c.__name__ for c, found in _CONVERTERS.items() if found.role == role)
