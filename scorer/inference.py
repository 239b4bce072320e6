"""The servicer of the Open Inference Protocol: from its messages to the domain and back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from scorer.answering import Answering, Asked
from scorer.calls import Call, Calls, Context
from scorer.errors import InvalidRequestError, ModelNotReadyError, UnknownModelError
from scorer.foreign import open_inference_pb2 as wire
from scorer.foreign import open_inference_pb2_grpc as wire_grpc
from scorer.inference_inputs import DATATYPES, rows_of, vectors_of
from scorer.inference_outputs import (
    outputs_of,
    values_of,
    values_of_vectors,
    wanted_outputs,
)
from scorer.inference_tensors import (
    add_raw_output,
    add_typed_output,
    check_hints,
    encoded_tensors,
)
from scorer.scoring import Scoring

SERVICE = wire.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
_CHANNEL, _EVENT_TIME = "channel", "event_time_us"
# Years 1 to 9999, as in a google.protobuf.Timestamp.
_TIME_US_MIN, _TIME_US_MAX = -62135596800_000_000, 253402300799_999_999


class InferenceService(wire_grpc.GRPCInferenceServiceServicer):
    """Answers the calls of the protocol."""

    def __init__(
        self,
        calls: Calls,
        scoring: Scoring,
        answering: Answering,
        serving: Callable[[], Sequence[tuple[str, Mapping[str, str]]]],
        rows_max: int,
    ) -> None:
        """Put the parts together.

        Args:
            calls: runs the work of each call.
            scoring: knows the models, and scores vectors.
            answering: scores rows.
            serving: gives (model, channel -> version that serves there) of all known models.
            rows_max: rows in one request.
        """
        self._calls = calls
        self._scoring = scoring
        self._answering = answering
        self._serving = serving
        self._rows_max = rows_max

    async def ServerLive(  # noqa: N802 - gRPC names it
        self, request: wire.ServerLiveRequest, context: Context
    ) -> wire.ServerLiveResponse:
        """See the proto."""
        return await self._calls.answer(f"{SERVICE}/ServerLive", _live, request, context)

    async def ServerReady(  # noqa: N802 - gRPC names it
        self, request: wire.ServerReadyRequest, context: Context
    ) -> wire.ServerReadyResponse:
        """See the proto."""
        return await self._calls.answer(f"{SERVICE}/ServerReady", self._ready, request, context)

    async def ModelReady(  # noqa: N802 - gRPC names it
        self, request: wire.ModelReadyRequest, context: Context
    ) -> wire.ModelReadyResponse:
        """See the proto."""
        return await self._calls.answer(
            f"{SERVICE}/ModelReady", self._model_ready, request, context
        )

    async def ServerMetadata(  # noqa: N802 - gRPC names it
        self, request: wire.ServerMetadataRequest, context: Context
    ) -> wire.ServerMetadataResponse:
        """See the proto."""
        return await self._calls.answer(f"{SERVICE}/ServerMetadata", _metadata, request, context)

    async def ModelMetadata(  # noqa: N802 - gRPC names it
        self, request: wire.ModelMetadataRequest, context: Context
    ) -> wire.ModelMetadataResponse:
        """See the proto."""
        return await self._calls.answer(
            f"{SERVICE}/ModelMetadata", self._model_metadata, request, context
        )

    async def ModelInfer(  # noqa: N802 - gRPC names it
        self, request: wire.ModelInferRequest, context: Context
    ) -> wire.ModelInferResponse:
        """See the proto."""
        return await self._calls.answer(f"{SERVICE}/ModelInfer", self._infer, request, context)

    async def _ready(
        self, request: wire.ServerReadyRequest, call: Call
    ) -> wire.ServerReadyResponse:
        return wire.ServerReadyResponse(
            ready=all("champion" in channels for _, channels in self._serving())
        )

    async def _model_ready(
        self, request: wire.ModelReadyRequest, call: Call
    ) -> wire.ModelReadyResponse:
        try:
            await self._scoring.model(call, request.name, request.version)
        except (UnknownModelError, ModelNotReadyError):
            return wire.ModelReadyResponse(ready=False)
        return wire.ModelReadyResponse(ready=True)

    async def _model_metadata(
        self, request: wire.ModelMetadataRequest, call: Call
    ) -> wire.ModelMetadataResponse:
        model = await self._scoring.model(call, request.name, request.version)
        manifest, plan = model.manifest, model.plan
        tensor = wire.ModelMetadataResponse.TensorMetadata
        return wire.ModelMetadataResponse(
            name=manifest.model,
            versions=[manifest.version],
            platform="onnxruntime_onnx",
            inputs=[
                tensor(name=name, datatype=DATATYPES[kinds[0]], shape=[-1])
                for name, kinds in sorted(plan.input_types.items())
            ],
            outputs=[
                tensor(name=name, datatype=kind, shape=shape)
                for name, (kind, shape) in outputs_of(model).items()
            ],
        )

    async def _infer(self, request: wire.ModelInferRequest, call: Call) -> wire.ModelInferResponse:
        call.request_id = request.id
        channel, at_us = _parameters(request)
        target = await self._answering.target(
            call, request.model_name, request.model_version, channel
        )
        model = target.model
        wanted = wanted_outputs(request, model)
        tensors = encoded_tensors(request)
        vectors = vectors_of(model.plan, tensors, self._rows_max)
        if vectors is None:
            rows = await rows_of(model.plan, tensors, self._rows_max)
            with self._scoring.room(len(rows)):
                asked = Asked(rows, [""] * len(rows), at_us)
                answer = await self._answering.score(call, target, asked)
            version, tell = answer.model.manifest.version, partial(values_of, answer)
        else:
            outputs = await self._scoring.score_vectors(call, model, vectors)
            version, tell = model.manifest.version, partial(values_of_vectors, model, outputs)
        response = wire.ModelInferResponse(
            model_name=request.model_name, model_version=version, id=request.id
        )
        add = add_raw_output if request.raw_input_contents else add_typed_output
        for name in wanted:
            add(response, name, await tell(name))
            await asyncio.sleep(0)
        return response


async def _live(request: wire.ServerLiveRequest, call: Call) -> wire.ServerLiveResponse:
    return wire.ServerLiveResponse(live=True)


async def _metadata(request: wire.ServerMetadataRequest, call: Call) -> wire.ServerMetadataResponse:
    try:
        ours = version("headwater")
    except PackageNotFoundError:
        ours = ""
    return wire.ServerMetadataResponse(name="headwater", version=ours)


def _parameters(request: wire.ModelInferRequest) -> tuple[str, int | None]:
    """Channel and moment of prediction."""
    given = dict(request.parameters)
    channel = given.pop(_CHANNEL, wire.InferParameter(string_param=""))
    if channel.WhichOneof("parameter_choice") != "string_param":
        raise InvalidRequestError(f"parameter {_CHANNEL!r} must be a string")
    moment = given.pop(_EVENT_TIME, None)
    check_hints(given, f"beside {_CHANNEL!r} and {_EVENT_TIME!r}")
    if moment is None:
        return channel.string_param, None
    at_us = moment.int64_param
    good = moment.WhichOneof("parameter_choice") == "int64_param"
    if not good or not _TIME_US_MIN <= at_us <= _TIME_US_MAX:
        raise InvalidRequestError(
            f"parameter {_EVENT_TIME!r} must be an int64: microseconds since 1970, years 1 to 9999"
        )
    return channel.string_param, at_us
