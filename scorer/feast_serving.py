"""Feast's own serving protocol: its clients read features from this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from scorer.calls import Call, Calls, Context
from scorer.catalogue import FeatureSet
from scorer.errors import InvalidRequestError, StoreUnavailableError
from scorer.features import Features, StoredRows, why_missing
from scorer.foreign import feast_serving_pb2 as serving
from scorer.foreign import feast_serving_pb2_grpc as serving_grpc
from scorer.foreign import feast_types_pb2 as types
from scorer.online_store import Cells
from scorer.vector import MissingReason
from scorer.vector_plan import Scalar

# Feast's server in Python has this very call under a name of its own.
PYTHON_SERVICE = "GrpcFeatureServer"
SERVICE = serving.DESCRIPTOR.services_by_name["ServingService"].full_name
_NOT_THERE = (MissingReason.NULL_INPUT, MissingReason.NO_ROW)
_NULLS = (b"", types.Value(null_val=types.NULL).SerializeToString())
_VALUES, _TIMES = (
    serving.GetOnlineFeaturesResponse.FeatureVector.DESCRIPTOR.fields_by_name[name].number
    for name in ("values", "event_timestamps")
)


class FeastServing(serving_grpc.ServingServiceServicer):
    """``feast.serving.ServingService``.

    Values, names and event times are those that Feast's servers give. Statuses are what Feast's
    proto says that they mean, as its server in Java gives them: the one in Python knows no ttl, and
    says PRESENT of nulls, and with Redis of entities that are not there too.
    """

    def __init__(self, calls: Calls, features: Features, clock_us: Callable[[], int]) -> None:
        """``clock_us`` tells what is too old, microseconds since 1970 UTC."""
        self._calls = calls
        self._features = features
        self._clock_us = clock_us

    async def GetFeastServingInfo(  # noqa: N802 - gRPC names it
        self, request: serving.GetFeastServingInfoRequest, context: Context
    ) -> serving.GetFeastServingInfoResponse:
        """See the proto."""
        return await self._calls.answer(
            f"{SERVICE}/GetFeastServingInfo", self._info, request, context
        )

    async def GetOnlineFeatures(  # noqa: N802 - gRPC names it
        self, request: serving.GetOnlineFeaturesRequest, context: Context
    ) -> serving.GetOnlineFeaturesResponse:
        """See the proto."""
        return await self._calls.answer(f"{SERVICE}/GetOnlineFeatures", self.get, request, context)

    async def _info(
        self, request: serving.GetFeastServingInfoRequest, call: Call
    ) -> serving.GetFeastServingInfoResponse:
        try:
            ours = f"headwater {version('headwater')}"
        except PackageNotFoundError:
            ours = "headwater"
        return serving.GetFeastServingInfoResponse(version=ours)

    async def get(
        self, request: serving.GetOnlineFeaturesRequest, call: Call
    ) -> serving.GetOnlineFeaturesResponse:
        """The answer to a request for features; ``call`` learns what was asked for."""
        features = await self._asked(request, call)
        names = _names(features, request)
        catalogue = await self._features.catalogue()
        # What is no join key is not looked at: Feast's clients send request data along.
        entities = {
            name: request.entities[name].val
            for name in sorted(request.entities)
            if name in catalogue.join_keys
        }
        call.rows = _row_count(request.entities)
        self._features.check_count(call.rows)
        with self._features.room(call.rows):
            return await self._answer(request, call, features, names, entities)

    async def _answer(
        self,
        request: serving.GetOnlineFeaturesRequest,
        call: Call,
        features: FeatureSet,
        names: Sequence[str],
        entities: Mapping[str, Sequence[types.Value]],
    ) -> serving.GetOnlineFeaturesResponse:
        columns = {
            name: [_scalar(name, value) for value in entities[name]]
            for name in features.key_types
            if name in entities
        }
        rows = [{name: column[row] for name, column in columns.items()} for row in range(call.rows)]
        stored = await self._features.read(features, rows, self._clock_us())
        call.oldest_age_seconds = stored.oldest_age_seconds()
        response = serving.GetOnlineFeaturesResponse()
        response.metadata.feature_names.val.extend([*entities, *names])
        for given in entities.values():
            result = response.results.add(values=given, statuses=[serving.PRESENT] * len(given))
            for _ in given:
                result.event_timestamps.add()
        await _fill(response, stored)
        if request.include_feature_view_version_metadata:
            for view in dict.fromkeys(one.view for one in features.columns):
                response.metadata.feature_view_metadata.add(name=view)
        return response

    async def _asked(self, request: serving.GetOnlineFeaturesRequest, call: Call) -> FeatureSet:
        kind = request.WhichOneof("kind")
        if kind == "feature_service":
            return await self._features.of_service(call.caller, request.feature_service)
        if kind == "features":
            return await self._features.of_names(call.caller, request.features.val)
        raise InvalidRequestError("no features: set `feature_service` or `features`")


def add_feast_serving(servicer: FeastServing, server: grpc.aio.Server) -> None:
    """Serve ``ServingService``, and ``GetOnlineFeatures`` of the server in Python too."""
    serving_grpc.add_ServingServiceServicer_to_server(servicer, server)
    handler = grpc.unary_unary_rpc_method_handler(
        servicer.GetOnlineFeatures,
        request_deserializer=serving.GetOnlineFeaturesRequest.FromString,
        response_serializer=serving.GetOnlineFeaturesResponse.SerializeToString,
    )
    # Both, as generated code does: which one counts depends on the server.
    handlers = {"GetOnlineFeatures": handler}
    generic = grpc.method_handlers_generic_handler(PYTHON_SERVICE, handlers)
    server.add_generic_rpc_handlers((generic,))
    server.add_registered_method_handlers(PYTHON_SERVICE, handlers)


def _names(features: FeatureSet, request: serving.GetOnlineFeaturesRequest) -> list[str]:
    """What the columns are called in the answer."""
    if request.full_feature_names:
        return [f"{one.view}__{one.feature}" for one in features.columns]
    names = [one.feature for one in features.columns]
    if len(set(names)) < len(names):
        twice = min(name for name in names if names.count(name) > 1)
        raise InvalidRequestError(
            f"feature {twice!r:.200} is in several views; set `full_feature_names`"
        )
    return names


def _row_count(entities: Mapping[str, types.RepeatedValue]) -> int:
    counts = {len(column.val) for column in entities.values()}
    if len(counts) > 1:
        raise InvalidRequestError("columns of `entities` differ in length; give each row a value")
    return max(counts, default=0)


def _scalar(name: str, value: types.Value) -> Scalar:
    """An entity key as a value of ours; None for a null."""
    kind = value.WhichOneof("val")
    if kind is None or kind == "null_val":
        return None
    if kind in ("string_val", "int64_val", "int32_val", "bool_val", "double_val", "float_val"):
        scalar: Scalar = getattr(value, kind)
        return scalar
    raise InvalidRequestError(
        f"entity key {name!r:.100} must be a string or an integer: not {kind}"
    )


async def _fill(response: serving.GetOnlineFeaturesResponse, stored: StoredRows) -> None:
    """Add a result for each column of ``stored``, in order."""
    columns = stored.features.columns
    results: dict[int, serving.GetOnlineFeaturesResponse.FeatureVector] = {}
    for read, found in zip(stored.features.reads, stored.found, strict=True):
        reasons = [why_missing(read, cells, stored.at_us) for cells in found]
        times = b"".join([_field(_TIMES, _time(cells)) for cells in found])
        for place, position in enumerate(read.positions):
            # Other calls get their turn: a column may be long.
            await asyncio.sleep(0)
            data = [None if cells is None else cells.values[place] for cells in found]
            result = results[position] = _result(columns[position].name, data, times)
            result.statuses.extend(map(_status, data, reasons))
    response.results.extend(results[position] for position in range(len(columns)))


def _result(
    name: str, data: Sequence[bytes | None], times: bytes
) -> serving.GetOnlineFeaturesResponse.FeatureVector:
    """A column with its values and times. The store has the very bytes in which a value is sent."""
    values = b"".join([_field(_VALUES, one or b"") for one in data])
    try:
        return serving.GetOnlineFeaturesResponse.FeatureVector.FromString(values + times)
    except DecodeError as error:
        raise StoreUnavailableError(f"feature {name} cannot be read: {error}") from error


def _status(data: bytes | None, reason: MissingReason | None) -> serving.FieldStatus.ValueType:
    if data is None or reason in _NOT_THERE:
        return serving.NOT_FOUND
    if data in _NULLS:
        return serving.NULL_VALUE
    return serving.PRESENT if reason is None else serving.OUTSIDE_MAX_AGE


def _time(cells: Cells | None) -> bytes:
    """The event time of a row as it is sent; without a row it is 1970."""
    time = Timestamp()
    if cells is not None and cells.event_time_us is not None:
        time.FromMicroseconds(cells.event_time_us)
    return time.SerializeToString()


def _field(number: int, data: bytes) -> bytes:
    """A field that holds a message: its tag, its length in groups of 7 bits, its bytes."""
    head, length = bytearray((number << 3 | 2,)), len(data)
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + data
