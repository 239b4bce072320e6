"""Learning through a pipeline's steps directly: to the last bit what ``Pipeline.learn_one`` does.

River's pipeline routes arguments that we never pass, and its StandardScaler walks the vector once
to learn and once to scale. Half of the time spent learning a scaled regression goes there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from river import base, compose, preprocessing

Vector = dict[str, float]
Truth = base.typing.ClfTarget  # a label of any River classifier; ours are booleans
Learn = Callable[[Vector, Truth], None]


def learning_step(estimator: Any) -> Learn:
    """What to call instead of ``estimator.learn_one``; it updates the estimator itself.

    Only pipelines of plain transformers are walked through; all else learns as it always does.
    """
    if type(estimator) is not compose.Pipeline:
        return _learn_as_ever(estimator)
    *transformers, last = estimator.steps.values()
    if not all(_is_plain(transformer) for transformer in transformers):
        return _learn_as_ever(estimator)
    stages = [_stage(transformer) for transformer in transformers]
    learn_last: Learn = last.learn_one

    def learn(x: Vector, truth: Truth) -> None:
        for stage in stages:
            x = stage(x)
        learn_last(x, truth)

    return learn


def _learn_as_ever(estimator: Any) -> Learn:
    learn: Learn = estimator.learn_one
    return learn


def _is_plain(step: Any) -> bool:
    return isinstance(step, base.Transformer) and not isinstance(
        step, base.SupervisedTransformer | compose.TransformerUnion
    )


def _stage(transformer: Any) -> Callable[[Vector], Vector]:
    """Learns from a vector, then transforms it."""
    if type(transformer) is preprocessing.StandardScaler and (
        transformer.with_std and transformer.window_size is None
    ):
        return _standard_scaler_stage(transformer)

    def learn_and_transform(x: Vector) -> Vector:
        transformer.learn_one(x)
        transformed: Vector = transformer.transform_one(x)
        return transformed

    return learn_and_transform


def _standard_scaler_stage(scaler: preprocessing.StandardScaler) -> Callable[[Vector], Vector]:
    """``learn_one`` and ``transform_one`` in one walk, in River's order of operations."""
    counts, means, variances = scaler.counts, scaler.means, scaler.vars

    def learn_and_scale(x: Vector) -> Vector:
        scaled = {}
        for name, value in x.items():
            count = counts[name] + 1
            counts[name] = count
            mean = means[name]
            off_before = value - mean
            mean += off_before / count
            means[name] = mean
            off = value - mean
            variance = variances[name]
            variance += (off_before * off - variance) / count
            variances[name] = variance
            scaled[name] = off / variance**0.5 if variance else 0.0
        return scaled

    return learn_and_scale
