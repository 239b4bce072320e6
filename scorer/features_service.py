"""``GetFeatures`` of ``scorer.v1.ScorerService``: messages in, messages out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from google.protobuf.struct_pb2 import NULL_VALUE

from scorer.calls import Call
from scorer.catalogue import FeatureSet, stored_value
from scorer.errors import InvalidRequestError
from scorer.features import Features, StoredRows, why_missing
from scorer.messages import rows_of, to_us
from scorer.v1 import scorer_pb2
from scorer.vector import MissingReason
from scorer.vector_plan import Scalar

# Other calls get their turn after so many values of a long answer: one takes microseconds.
_VALUES_PER_TURN = 2_000


class FeatureCalls:
    """The work of ``GetFeatures``."""

    def __init__(self, features: Features, clock_us: Callable[[], int]) -> None:
        """``clock_us`` tells the moment of requests that have none, microseconds since 1970 UTC."""
        self._features = features
        self._clock_us = clock_us

    async def get(
        self, request: scorer_pb2.GetFeaturesRequest, call: Call
    ) -> scorer_pb2.GetFeaturesResponse:
        """The answer; ``call`` learns what was asked for.

        Raises:
            ScorerError: as ``Features`` does; the proto lists which.
        """
        call.request_id = request.request_id
        call.rows = len(request.rows)
        features = await self._asked(request, call)
        at_us = to_us(request.event_time) if request.HasField("event_time") else self._clock_us()
        self._features.check_count(len(request.rows))
        with self._features.room(len(request.rows)):
            return await self._answer(request, call, features, at_us)

    async def _answer(
        self, request: scorer_pb2.GetFeaturesRequest, call: Call, features: FeatureSet, at_us: int
    ) -> scorer_pb2.GetFeaturesResponse:
        rows = await rows_of(request.rows)
        stored = await self._features.read(features, rows, at_us)
        response = scorer_pb2.GetFeaturesResponse(
            request_id=request.request_id, names=[one.name for one in features.columns]
        )
        rows_per_turn = 1 + _VALUES_PER_TURN // (1 + len(features.columns))
        for number in range(len(rows)):
            if number % rows_per_turn == rows_per_turn - 1:
                await asyncio.sleep(0)
            _fill(response.rows.add(), stored, number)
        call.oldest_age_seconds = stored.oldest_age_seconds()
        return response

    async def _asked(self, request: scorer_pb2.GetFeaturesRequest, call: Call) -> FeatureSet:
        caller = call.caller
        source = request.WhichOneof("source")
        if source == "feature_service":
            return await self._features.of_service(caller, request.feature_service)
        if source == "features":
            return await self._features.of_names(caller, request.features.names)
        if source == "model":
            call.model = request.model
            model, features = self._features.of_model(caller, request.model)
            call.version = model.manifest.version
            return features
        raise InvalidRequestError(
            "no source of features: set `feature_service`, `model` or `features`"
        )


def _fill(message: scorer_pb2.FeatureRow, stored: StoredRows, row: int) -> None:
    """The values of one row, in the order of the columns."""
    features, at_us = stored.features, stored.at_us
    values = [message.values.add() for _ in features.columns]
    for read, column in zip(features.reads, stored.found, strict=True):
        cells = column[row]
        reason = why_missing(read, cells, at_us)
        common = scorer_pb2.FeatureValue()
        if cells is not None and cells.event_time_us is not None:
            common.event_time.FromMicroseconds(cells.event_time_us)
            common.age_seconds = (at_us - cells.event_time_us) / 1e6
        for place, position in enumerate(read.positions):
            value = values[position]
            # Setting the parts of a message one by one takes three times as long.
            value.CopyFrom(common)
            found = None
            if cells is not None and reason is None:
                found = stored_value(features.columns[position], cells.values[place])
            if found is None:
                value.missing = (reason or MissingReason.NULL_VALUE).value  # type: ignore[assignment]
            _set(value.value, found)


def _set(message: scorer_pb2.Value, value: Scalar) -> None:
    # bool before int: every bool is an int.
    if value is None:
        message.null_value = NULL_VALUE
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, int):
        message.int64_value = value
    elif isinstance(value, float):
        message.double_value = value
    else:
        message.string_value = value
