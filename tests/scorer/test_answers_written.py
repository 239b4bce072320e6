"""Answers written as bytes are those that the messages would give."""

from __future__ import annotations

import asyncio

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scorer.messages import Messages
from scorer.model import LoadedModel
from scorer.scored import Scored, whole
from scorer.v1 import scorer_pb2
from scorer.vector import Missing, MissingReason, Vectors
from tests.scorer.shop import WEIGHTS, linear_onnx, manifest_for

ONNX = linear_onnx(WEIGHTS, 1.0)
LOADED = LoadedModel(manifest_for("1", ONNX), ONNX)
MOMENTS_US = st.integers(-(10**15), 4 * 10**15)
TIMES = st.one_of(st.none(), st.tuples(MOMENTS_US, MOMENTS_US).map(sorted))
SCORES = st.one_of(st.sampled_from((0.0, -0.0, 1.0)), st.floats(allow_nan=False))
ROWS = st.lists(st.tuples(SCORES, TIMES, st.integers(0, 9)), min_size=1, max_size=6)


@given(ROWS, MOMENTS_US)
def test_rows_say_scores_times_and_ages(
    rows: list[tuple[float, list[int] | None, int]], at_us: int
) -> None:
    """Each row has its score, the times and ages of what was read, and what was missing."""
    gap = Missing(1, MissingReason.NULL_VALUE)
    places: list[tuple[Missing, ...]] = [() if one else (gap,) for _, _, one in rows]
    oldest = [found[0] if found else None for _, found, _ in rows]
    newest = [found[1] if found else None for _, found, _ in rows]
    vectors = Vectors(np.zeros((len(rows), len(WEIGHTS))), places, oldest, newest)
    scored = Scored(LOADED, [score for score, _, _ in rows], vectors, at_us)
    request = scorer_pb2.ScoreRequest(model="m", request_id="r")
    response = asyncio.run(Messages().response(request, whole(scored)))
    expected = scorer_pb2.ScoreResponse(model="m", version="1", request_id="r")
    for (score, found, _), missing in zip(rows, places, strict=True):
        row = expected.scores.add(score=score)
        if found is not None:
            row.oldest_feature_time.FromMicroseconds(found[0])
            row.newest_feature_time.FromMicroseconds(found[1])
            row.oldest_feature_age_seconds = (at_us - found[0]) / 1e6
            row.newest_feature_age_seconds = (at_us - found[1]) / 1e6
        for place in missing:
            field = LOADED.plan.schema.fields[place.position]
            row.missing.append(field.name)
            row.stand_ins.add(name=field.name, reason=4, value=field.default)
    assert response.SerializeToString() == expected.SerializeToString()
