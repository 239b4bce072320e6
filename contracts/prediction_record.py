"""A record of the prediction log: one scored request, as the scorer writes it for others.

In JSON what has the default is left out.
"""

from __future__ import annotations

import msgspec


class ScoredRow(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One row of a scored request.

    Attributes:
        inputs: entity keys and request values as the caller gave them.
        vector: what the model saw, in the order of ``PredictionRecord.features``; a missing value
            is already replaced by its default. What JSON cannot say (NaN, infinite) is null. Empty
            in a record that is not ``answered`` and has the fingerprint of the one that is: the
            answered row has it.
        missing: names of the features whose default stood in.
        oldest_feature_us: event time of the oldest stored value used (microseconds since 1970
            UTC); None if none was.
        newest_feature_us: of the newest.
        score: what the caller got.
        key: of the prediction, as the caller gave it: a label with this key says what came true.
            Empty if the caller gave none; then a request of one row goes by its ``request_id``. A
            row without key of a request of several that may stand in several records has the
            request's id, ``#`` and its number instead: no label finds it, but its other scores do.
        channel: the one that the row is assigned to, ``champion`` or ``challenger``, whichever
            version scored it; empty if the caller asked for a version or a channel.
        label: of a multi-class model, the class whose probability ``score`` is.
        probabilities: of a multi-class model, in the order of ``PredictionRecord.classes``.
    """

    inputs: dict[str, float | int | str | bool | None]
    vector: list[float | None]
    missing: list[str]
    oldest_feature_us: int | None
    newest_feature_us: int | None
    score: float
    key: str = ""
    channel: str = ""
    label: str = ""
    probabilities: list[float] = []


class PredictionRecord(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One scored request.

    One that is too large for a record, or whose rows were scored by several versions, stands in
    several, the rows of each in order. After a failure a record may stand in the log twice, the
    same byte for byte.

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
        channel: whose version it is, ``champion``, ``challenger`` or ``shadow``; empty if the
            caller asked for a version by its number.
        answered: False for what only the log saw: a shadow's scores, and a challenger's of rows
            that the champion answered.
        classes: of a multi-class model.
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
    channel: str = ""
    answered: bool = True
    classes: list[str] = []
