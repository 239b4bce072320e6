"""Feast's own serving protocol: its clients read features from this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version

import grpc
from google.protobuf.message import DecodeError

from scorer.calls import Call, Calls, Context
from scorer.catalogue import FeatureSet
from scorer.errors import InvalidRequestError, StoreUnavailableError
from scorer.features import Features, StoredRows, why_missing
from scorer.foreign import feast_serving_pb2 as serving
from scorer.foreign import feast_serving_pb2_grpc as serving_grpc
from scorer.foreign import feast_types_pb2 as types
from scorer.vector import MissingReason
from scorer.vector_plan import Scalar

# Feast's server in Python has this very call under a name of its own.
PYTHON_SERVICE = "GrpcFeatureServer"
SERVICE = serving.DESCRIPTOR.services_by_name["ServingService"].full_name
_STATUSES = {
    None: serving.PRESENT,
    MissingReason.NULL_INPUT: serving.NOT_FOUND,
    MissingReason.NO_ROW: serving.NOT_FOUND,
    MissingReason.EXPIRED: serving.OUTSIDE_MAX_AGE,
}


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
        columns = {
            name: [_scalar(name, value) for value in entities[name]]
            for name in features.key_types
            if name in entities
        }
        rows = [{name: column[row] for name, column in columns.items()} for row in range(call.rows)]
        stored = await self._features.read(features, rows, self._clock_us())
        response = serving.GetOnlineFeaturesResponse()
        response.metadata.feature_names.val.extend([*entities, *names])
        for given in entities.values():
            result = response.results.add(values=given, statuses=[serving.PRESENT] * len(given))
            for _ in given:
                result.event_timestamps.add()
        _fill(response, stored, len(entities))
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


def _fill(response: serving.GetOnlineFeaturesResponse, stored: StoredRows, first: int) -> None:
    """Add a result for each column of ``stored``, the first as number ``first``."""
    features = stored.features
    for _ in features.columns:
        response.results.add()
    for read, column in zip(features.reads, stored.found, strict=True):
        reasons = [why_missing(read, cells, stored.at_us) for cells in column]
        for place, position in enumerate(read.positions):
            result = response.results[first + position]
            name = features.columns[position].name
            for cells, reason in zip(column, reasons, strict=True):
                value, time = result.values.add(), result.event_timestamps.add()
                if cells is None or cells.event_time_us is None:
                    result.statuses.append(_STATUSES[reason])
                    continue
                time.FromMicroseconds(cells.event_time_us)
                data = cells.values[place]
                if data is None:
                    result.statuses.append(serving.NOT_FOUND)
                    continue
                _parse(name, data, value)
                is_null = not data or value.WhichOneof("val") == "null_val"
                result.statuses.append(serving.NULL_VALUE if is_null else _STATUSES[reason])


def _parse(name: str, data: bytes, value: types.Value) -> None:
    try:
        value.ParseFromString(data)
    except DecodeError as error:
        raise StoreUnavailableError(f"feature {name} cannot be read: {error}") from error
