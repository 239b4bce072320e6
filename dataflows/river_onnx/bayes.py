"""Naive Bayes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from river import naive_bayes

from .arithmetic import class_sums, softmax
from .graph import Graph
from .registry import ByClass, Columns, Converter, Stacked, Unseen, Wanted, never, register

_FLOOR = 1e-9  # River adds it to a density or probability before it takes the logarithm
_ROOT_OF_TAU = math.sqrt(2.0 * math.pi)
Likelihood = Callable[[Any, Graph, Columns], str]


def teach() -> None:
    """Register what is in this module."""
    taught: list[tuple[type, Likelihood, Unseen]] = [
        (naive_bayes.GaussianNB, _gaussian, "ignored"),
        (naive_bayes.BernoulliNB, _bernoulli, "ignored"),
        (naive_bayes.MultinomialNB, _multinomial, "minded"),
        (naive_bayes.ComplementNB, _complement, "minded"),
    ]
    for classifier, likelihood, unseen in taught:
        register(
            classifier,
            Converter("classifier", never, _append_of(likelihood), unseen, takes_gaps=True),
        )


def _append_of(
    likelihood: Likelihood,
) -> Callable[[Any, Graph, Columns, Wanted], Stacked | ByClass]:
    """A converter from what adds the logarithms ``[N, C]`` of the joint likelihoods."""

    def append(model: Any, graph: Graph, columns: Columns, wanted: Wanted) -> Stacked | ByClass:
        labels = list(model.class_counts)
        if not labels:
            return ByClass({})
        return softmax(graph, columns, likelihood(model, graph, columns), labels, wanted)

    return append


def _log(value: float) -> float:
    """Its logarithm; NaN where River raises an error."""
    return math.log(value) if value > 0 else math.nan


def _priors(model: Any) -> list[float]:
    return [_log(model.p_class(label)) for label in model.class_counts]


def _gaussian(model: naive_bayes.GaussianNB, graph: Graph, columns: Columns) -> str:
    shape = (1, len(model.class_counts), len(columns.names))
    # 0 is the spread where River has no density; the logarithm is then that of the floor alone.
    means, spreads = np.zeros(shape), np.zeros(shape)
    for row, label in enumerate(model.class_counts):
        known: Mapping[str, Any] = model.gaussians.get(label, {})
        for place, name in enumerate(columns.names):
            if name in known:
                variance = known[name]._var.get()
                means[0, row, place] = known[name].mu
                spreads[0, row, place] = math.sqrt(variance) if variance > 0.0 else 0.0
    flat = spreads == 0.0

    def terms(features: str) -> str:
        usable = graph.constant(np.where(flat, 1.0, spreads))
        off = graph.node("Sub", [features, graph.constant(means)])
        off = graph.node("Div", [off, usable])
        power = graph.node("Mul", [graph.node("Mul", [graph.constant(-0.5), off]), off])
        density = graph.node("Div", [graph.node("Exp", [power]), graph.constant(_ROOT_OF_TAU)])
        density = graph.node("Div", [density, usable])
        if flat.any():
            none = [graph.constant(flat, np.bool_), graph.constant(0.0), density]
            density = graph.node("Where", none)
        return graph.node("Log", [graph.node("Add", [graph.constant(_FLOOR), density])])

    return class_sums(graph, columns, terms, _priors(model))


def _bernoulli(model: Any, graph: Graph, columns: Columns) -> str:
    # River goes through the features it has learned; one that a row lacks counts as not there.
    learned = list(model.feature_counts)
    places = {name: place for place, name in enumerate(columns.names)}
    here = [name for name in learned if name in places]
    columns = columns.take(graph, [places[name] for name in here], here)
    if columns.present is not None:
        lowest = graph.constant(-math.inf)
        value = graph.node("Where", [columns.present, columns.value, lowest])
        columns = Columns(value, columns.names)
    shares = np.array(
        [
            [[model.p_feature_given_class(name, label) for name in here]]
            for label in model.class_counts
        ]
    ).reshape(1, len(model.class_counts), len(here))
    starts = [
        prior
        + sum(
            _log(_FLOOR + (1.0 - model.p_feature_given_class(name, label)))
            for name in learned
            if name not in places
        )
        for prior, label in zip(_priors(model), model.class_counts, strict=True)
    ]
    logarithm = np.vectorize(_log, otypes=[np.float64])

    def terms(features: str) -> str:
        threshold = graph.constant(float(model.true_threshold))
        there = graph.node("Greater", [features, threshold])
        with_it = graph.constant(logarithm(_FLOOR + shares))
        without = graph.constant(logarithm(_FLOOR + (1.0 - shares)))
        return graph.node("Where", [there, with_it, without])

    return class_sums(graph, columns, terms, starts)


def _multinomial(model: Any, graph: Graph, columns: Columns) -> str:
    factors = [
        [
            # Without counts and without smoothing River divides by 0.
            _log(model.p_feature_given_class(name, label))
            if model.class_totals[label] + model.alpha * model.n_terms
            else math.nan
            for name in columns.names
        ]
        for label in model.class_counts
    ]
    return _counted(graph, columns, factors, _priors(model))


def _complement(model: naive_bayes.ComplementNB, graph: Graph, columns: Columns) -> str:
    factors = []
    for label in model.class_counts:
        others = {
            name: model.feature_totals[name] + model.alpha - counts.get(label, 0)
            for name, counts in model.feature_counts.items()
        }
        everything = sum(others.values())
        factors.append(
            [
                -_log(others.get(name, model.alpha) / everything) if everything else math.nan
                for name in columns.names
            ]
        )
    return _counted(graph, columns, factors, [0.0] * len(factors))


def _counted(
    graph: Graph, columns: Columns, factors: list[list[float]], starts: list[float]
) -> str:
    """For each class a number plus the features times its factors."""
    by_class = graph.constant([factors])
    return class_sums(
        graph, columns, lambda features: graph.node("Mul", [features, by_class]), starts
    )
