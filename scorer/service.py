"""The servicer of ``scorer.v1``: from messages to the domain and back, nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import grpc
import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from scorer.batcher import Batcher, ScoredRow
from scorer.errors import DeadlineError, InvalidRequestError, ScorerError, StoppingError
from scorer.metrics import ScorerMetrics
from scorer.model import LoadedModel
from scorer.model_pool import ModelPool
from scorer.prediction_log import PredictionLog, ScoredRequest
from scorer.status import status_of
from scorer.v1 import scorer_pb2, scorer_pb2_grpc
from scorer.vector import Scalar, check_row

_log = structlog.get_logger()
_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")
_Context = grpc.aio.ServicerContext[object, object]


@dataclass(frozen=True)
class ServiceLimits:
    """Most rows in a request, and the longest it may take if it brings no deadline."""

    rows_per_request_max: int
    default_deadline_seconds: float


class ScorerService(scorer_pb2_grpc.ScorerServiceServicer):
    """Answers calls with what the pool and the batcher give."""

    def __init__(
        self,
        pool: ModelPool,
        batcher: Batcher,
        metrics: ScorerMetrics,
        limits: ServiceLimits,
        clock_us: Callable[[], int],
        predictions: PredictionLog | None,
    ) -> None:
        """``clock_us`` gives the moment of prediction for requests that do not say it."""
        self._pool = pool
        self._batcher = batcher
        self._metrics = metrics
        self._limits = limits
        self._clock_us = clock_us
        self._predictions = predictions
        self._refusing = False
        self._arrived = 0
        self._under_way = 0

    async def Score(  # noqa: N802 - gRPC names it
        self, request: scorer_pb2.ScoreRequest, context: _Context
    ) -> scorer_pb2.ScoreResponse:
        """See the proto."""
        return await self._answered("Score", self._score, request, context)

    async def ListModels(  # noqa: N802 - gRPC names it
        self, request: scorer_pb2.ListModelsRequest, context: _Context
    ) -> scorer_pb2.ListModelsResponse:
        """See the proto."""
        return await self._answered("ListModels", self._list_models, request, context)

    async def GetModel(  # noqa: N802 - gRPC names it
        self, request: scorer_pb2.GetModelRequest, context: _Context
    ) -> scorer_pb2.GetModelResponse:
        """See the proto."""
        return await self._answered("GetModel", self._get_model, request, context)

    def refuse(self) -> None:
        """Answer every call from now on with UNAVAILABLE; those under way go on."""
        self._refusing = True

    async def quiet(self, quiet_seconds: float, timeout_seconds: float) -> None:
        """Wait until no call is under way and none has come for a while, or time is up."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_seconds
        while (left := end - loop.time()) > 0:
            arrived = self._arrived
            await asyncio.sleep(min(quiet_seconds, left))
            if not self._under_way and arrived == self._arrived:
                return

    async def _answered(
        self,
        method: str,
        work: Callable[[_Request], Awaitable[_Answer]],
        request: _Request,
        context: _Context,
    ) -> _Answer:
        """The result of ``work``; errors and the deadline become status codes here."""
        self._arrived += 1
        self._under_way += 1
        started = time.perf_counter()
        code = grpc.StatusCode.CANCELLED
        remaining = _seconds_left(context)
        default = self._limits.default_deadline_seconds
        try:
            if self._refusing:
                raise StoppingError("the scorer is stopping; try again")
            try:
                async with asyncio.timeout(default if remaining is None else remaining):
                    answer = await work(request)
            except TimeoutError:
                raise DeadlineError("the answer was not ready within the deadline") from None
            code = grpc.StatusCode.OK
            return answer
        except ScorerError as error:
            code, text = status_of(error), str(error)
        except Exception:  # noqa: BLE001 - a call ends in a status whatever happens
            code, text = grpc.StatusCode.INTERNAL, "internal error; the scorer's log has the cause"
            _log.exception("request_failed", method=method)
        finally:
            self._under_way -= 1
            self._metrics.requests.labels(method, code.name).inc()
            self._metrics.request_seconds.labels(method).observe(time.perf_counter() - started)
        await context.abort(code, text)
        raise AssertionError("abort always raises")

    async def _score(self, request: scorer_pb2.ScoreRequest) -> scorer_pb2.ScoreResponse:
        started = time.perf_counter()
        rows_max = self._limits.rows_per_request_max
        if not request.rows:
            raise InvalidRequestError("no rows: give at least one row to score")
        if len(request.rows) > rows_max:
            raise InvalidRequestError(
                f"{len(request.rows)} rows, at most {rows_max} in one request: split it"
            )
        came_us = self._clock_us()
        at_us = _to_us(request.event_time) if request.HasField("event_time") else came_us
        model = await self._model(request.model, request.version)
        inputs = [_inputs(number, row.inputs) for number, row in enumerate(request.rows)]
        rows = [check_row(model.plan, number, given) for number, given in enumerate(inputs)]
        scored = await self._batcher.score(model, rows, at_us)
        response = self._response(request, model, scored)
        if self._predictions is not None:
            latency = time.perf_counter() - started
            self._predictions.put(
                ScoredRequest(
                    request.request_id, model.manifest, inputs, scored, came_us, at_us, latency
                )
            )
        return response

    def _response(
        self, request: scorer_pb2.ScoreRequest, model: LoadedModel, scored: list[ScoredRow]
    ) -> scorer_pb2.ScoreResponse:
        schema = model.manifest.schema
        response = scorer_pb2.ScoreResponse(
            model=request.model, version=model.manifest.version, request_id=request.request_id
        )
        if request.include_features:
            response.feature_names.extend(schema.names)
        for row in scored:
            vector = row.vector
            message = response.scores.add(score=row.score)
            for position in vector.missing:
                field = schema.fields[position]
                message.missing.append(field.name)
                if field.view:
                    self._metrics.missing_features.labels(request.model, field.view).inc()
            if request.include_features:
                message.features.extend(vector.values)
            if vector.oldest_us is not None and vector.newest_us is not None:
                message.oldest_feature_time.FromMicroseconds(vector.oldest_us)
                message.newest_feature_time.FromMicroseconds(vector.newest_us)
        return response

    async def _list_models(
        self, request: scorer_pb2.ListModelsRequest
    ) -> scorer_pb2.ListModelsResponse:
        return scorer_pb2.ListModelsResponse(
            models=[
                scorer_pb2.ModelSummary(model=name, version=version)
                for name, version in self._pool.models()
            ]
        )

    async def _get_model(self, request: scorer_pb2.GetModelRequest) -> scorer_pb2.GetModelResponse:
        model = await self._model(request.model, request.version)
        manifest, plan = model.manifest, model.plan
        trained_until = Timestamp()
        trained_until.FromMicroseconds(manifest.trained_until_us)
        return scorer_pb2.GetModelResponse(
            model=manifest.model,
            version=manifest.version,
            inputs=[
                scorer_pb2.ModelInput(
                    name=name,
                    type=plan.input_types[name][0],
                    entity_key=name in plan.entity_inputs,
                )
                for name in sorted(plan.input_types)
            ],
            feature_names=manifest.schema.names,
            fingerprint=manifest.fingerprint,
            learner=manifest.learner,
            trained_until=trained_until,
            examples=manifest.examples,
            metrics=manifest.metrics,
        )

    async def _model(self, model: str, version: str) -> LoadedModel:
        if not model:
            raise InvalidRequestError("no model named: set `model`")
        if version:
            return await self._pool.version(model, version)
        return self._pool.champion(model)


def _seconds_left(context: _Context) -> float | None:
    """Until the caller's deadline; None without one, which the type stubs do not know."""
    return context.time_remaining()


def _to_us(time: Timestamp) -> int:
    if not 0 <= time.nanos < 1_000_000_000 or not -62135596800 <= time.seconds <= 253402300799:
        raise InvalidRequestError("event_time is not a valid Timestamp (years 1 to 9999)")
    return time.seconds * 1_000_000 + time.nanos // 1000


def _inputs(number: int, inputs: Mapping[str, scorer_pb2.Value]) -> dict[str, Scalar]:
    values: dict[str, Scalar] = {}
    for name, value in inputs.items():
        kind = value.WhichOneof("kind")
        if kind is None:
            raise InvalidRequestError(
                f"rows[{number}]: input {name!r:.100} has no value; set null_value if it is unknown"
            )
        values[name] = None if kind == "null_value" else getattr(value, kind)
    return values
