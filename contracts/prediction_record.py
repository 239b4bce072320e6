"""A record of the prediction log: one scored request, as the scorer writes it for others."""

from __future__ import annotations

import msgspec


class ScoredRow(msgspec.Struct, frozen=True, gc=False):
    """One row of a scored request.

    Attributes:
        inputs: entity keys and request values as the caller gave them.
        vector: what the model saw, in the order of ``PredictionRecord.features``; a missing value
            is already replaced by its default. What JSON cannot say (NaN, infinite) is null.
        missing: names of the features whose default stood in.
        oldest_feature_us: event time of the oldest stored value used (microseconds since 1970
            UTC); None if none was.
        newest_feature_us: of the newest.
        score: what the caller got.
    """

    inputs: dict[str, float | int | str | bool | None]
    vector: list[float | None]
    missing: list[str]
    oldest_feature_us: int | None
    newest_feature_us: int | None
    score: float


class PredictionRecord(msgspec.Struct, frozen=True, gc=False):
    """One scored request.

    One that is too large for a record stands in several, its rows in order. After a failure a
    record may stand in the log twice, the same byte for byte.

    Attributes:
        request_id: the caller's, or one made by the scorer, which the caller does not learn.
        event_timestamp: when it came by the scorer's clock, RFC 3339 with microseconds, UTC.
        model: name.
        version: of the model.
        fingerprint: of the vector's schema.
        features: names of the vector's fields, in order.
        at_us: event time as of which it was scored, microseconds since 1970 UTC.
        latency_ms: from the request's arrival to its answer.
        rows: what was scored.
    """

    request_id: str
    event_timestamp: str
    model: str
    version: str
    fingerprint: str
    features: list[str]
    at_us: int
    latency_ms: float
    rows: list[ScoredRow]
