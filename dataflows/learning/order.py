"""Rows that come out of order are a caller's mistake, found before they do harm."""

from __future__ import annotations

from dataflows.learning.records import Labels, LearnerSpec, Predictions


def check_rows(
    spec: LearnerSpec, predictions: Predictions, labels: Labels, from_us: int, watermark_us: int
) -> None:
    """Do nothing if both inputs have the right shapes and run forward in time.

    Args:
        spec: of the learner.
        predictions: rows that must lie in ``[from_us, watermark_us)``.
        labels: the same.
        from_us: the watermark of the call before.
        watermark_us: the watermark of this call.

    Raises:
        ValueError: saying which input is wrong, and how.
    """
    model = f"model {spec.name}"
    if watermark_us < from_us:
        raise ValueError(f"{model}: watermark runs backwards, from {from_us} to {watermark_us}")
    for what, rows in (("predictions", predictions), ("labels", labels)):
        times_us = rows.times_us
        if times_us.shape != (len(rows.keys),):
            raise ValueError(
                f"{model}: {what} have {len(rows.keys)} keys but times of shape {times_us.shape}"
            )
        if (times_us[1:] < times_us[:-1]).any():
            raise ValueError(f"{model}: {what} run backwards in time")
        if len(times_us) and (times_us[0] < from_us or times_us[-1] >= watermark_us):
            raise ValueError(
                f"{model}: {what} must lie in [{from_us}, {watermark_us}) "
                f"but are from {times_us[0]} to {times_us[-1]}"
            )
    shape = (len(predictions.keys), len(spec.schema.fields))
    if predictions.features.shape != shape or labels.values.shape != labels.times_us.shape:
        raise ValueError(
            f"{model}: features must have shape {shape} and label values "
            f"{labels.times_us.shape}, got {predictions.features.shape} and {labels.values.shape}"
        )
