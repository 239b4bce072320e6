"""The composition root: builds the scorer from settings, runs it, and stops it gracefully."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable
from enum import Enum
from functools import partial
from pathlib import Path

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from contracts.model_repository import ModelRepository
from contracts.plan_file import plan_path
from contracts.scorer_settings import ScorerSettings
from contracts.settings import split_address
from scorer import inference
from scorer.acceptors import Acceptors
from scorer.answering import Answering
from scorer.applied import AppliedFeatures
from scorer.batcher import Batcher, BatchLimits
from scorer.calls import Calls
from scorer.entrance import open_entrance
from scorer.errors import ConfigurationError
from scorer.explain_calls import ExplainCalls
from scorer.feast_serving import SERVICE as FEAST_SERVICE
from scorer.feast_serving import FeastServing, add_feast_serving
from scorer.features import FeatureLimits, Features
from scorer.features_service import FeatureCalls
from scorer.foreign import feast_serving_pb2, open_inference_pb2, open_inference_pb2_grpc
from scorer.foreign.pool import pool_of
from scorer.large_requests import MessageRoom
from scorer.messages import Messages
from scorer.metrics import ScorerMetrics
from scorer.model import LoadedModel
from scorer.model_pool import ModelPool
from scorer.observation import Observation
from scorer.online_store import OnlineReader, open_online_store
from scorer.onnx_runtime import open_runtime
from scorer.prediction_log import PredictionLog, open_prediction_log
from scorer.row_room import ROWS_PER_REQUEST
from scorer.scoring import Scoring
from scorer.service import ScorerService
from scorer.shadowing import Shadowing, ShadowLimits
from scorer.streams import Streams
from scorer.unreadable import reading
from scorer.v1 import scorer_pb2, scorer_pb2_grpc

SERVICE = scorer_pb2.DESCRIPTOR.services_by_name["ScorerService"].full_name
_SERVICES = (SERVICE, inference.SERVICE, FEAST_SERVICE)
# Requests that share reads and runs with others, and so are to meet them.
_SHARING = (f"{SERVICE}/Score", f"{inference.SERVICE}/ModelInfer")
# Old versions are asked for now and then, to compare; each may take megabytes.
_PINNED_MAX = 8
# A store that hangs is told as UNAVAILABLE, before the deadline would hide the cause.
_READ_SHARE = 0.8
_QUIET_SECONDS = 0.25
# What was scored last gets so long to reach its log, also where calls have used up the grace.
_LOG_SECONDS_MIN = 1.0
# What only the log would see is not waited for longer.
_SHADOW_SECONDS = 0.5
_log = structlog.get_logger()


class Port(Enum):
    """Whether other processes may listen on the same port; the value is gRPC's."""

    # Two scorers on one port would share its calls without anyone noticing.
    ALONE = 0
    SHARED = 1


async def serve(
    settings: ScorerSettings,
    repo_dir: Path,
    ready: Callable[[str], None] | None = None,
    port: Port = Port.ALONE,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is under way and return.

    Health says SERVING from the start, also while no model has a version yet: calls for other
    models must come through.

    Args:
        settings: addresses, limits and times.
        repo_dir: folder with ``feature_store.yaml``.
        ready: called once with the address (``host:port``) when calls are answered.
        port: whose the port is.

    Raises:
        ConfigurationError: an address is taken, the online store cannot be set up, or the
            entrance: see ``open_entrance``; or ONNX Runtime: see ``open_runtime``.
        SettingsError: the settings of Kafka cannot be used.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    starting = asyncio.current_task()

    def on_signal() -> None:
        stop.set()
        if starting is not None:
            # Models may lie on a disk that does not answer.
            starting.cancel()

    signals = (signal.SIGTERM, signal.SIGINT)
    for one in signals:
        loop.add_signal_handler(one, on_signal)
    try:
        async with running(settings, repo_dir, port) as address:
            starting = None
            if ready is not None:
                ready(address)
            await stop.wait()
            _log.info("stopping", grace_seconds=settings.grace_seconds)
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
    finally:
        for one in signals:
            loop.remove_signal_handler(one)


@contextlib.asynccontextmanager
async def running(
    settings: ScorerSettings, repo_dir: Path, port: Port = Port.ALONE
) -> AsyncIterator[str]:
    """A scorer that runs as long as the context; gives its address. Raises as ``serve``."""
    metrics = ScorerMetrics()
    entrance = open_entrance(settings, refused=metrics.token_refused)
    predictions = open_prediction_log(settings, metrics)
    reader = open_online_store(repo_dir)
    pool = _model_pool(settings, metrics)
    metrics.show_models(pool.models)
    batcher = Batcher(reader, metrics, _batch_limits(settings))
    observation = Observation(settings, metrics)
    deadline_seconds = settings.default_deadline_seconds
    room = MessageRoom(settings.in_flight_bytes_max, ROWS_PER_REQUEST * settings.in_flight_max)
    calls = Calls(metrics, entrance.callers, deadline_seconds, observation.witnesses, room)
    scoring = Scoring(pool, batcher, metrics, settings.rows_per_request_max, _clock_us)
    shadowing = _shadowing(settings, reader, predictions, metrics)
    answering = Answering(scoring, pool, metrics, _clock_us, predictions, shadowing)
    streams = Streams(calls, settings.stream_in_flight_max)
    explain_calls = ExplainCalls(scoring, settings.explain_samples_max, metrics.explained)
    features = _features(settings, repo_dir, pool, reader)
    feature_calls = FeatureCalls(features, _clock_us)
    feast_serving = FeastServing(calls, features, _clock_us)
    service = ScorerService(
        calls, pool, scoring, answering, Messages(), streams, explain_calls, feature_calls
    )
    inference_service = inference.InferenceService(
        calls, scoring, answering, pool.models, settings.rows_per_request_max
    )
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(reader.close)
        await stack.enter_async_context(observation.running())
        stack.callback(explain_calls.close)
        if settings.metrics_address:
            stack.callback(_serve_metrics(metrics, settings.metrics_address))
        await pool.poll()
        stack.push_async_callback(pool.close)
        watcher = asyncio.create_task(pool.watch(settings.model_poll_seconds))
        stack.push_async_callback(_cancelled, watcher)
        follower = asyncio.create_task(entrance.watch())
        stack.push_async_callback(_cancelled, follower)
        server = _server(settings, port)
        acceptors = Acceptors(server, _SHARING)
        status = _add_services(server, acceptors, service, inference_service, feast_serving)
        address = _listen(server, settings.scorer_address, entrance.credentials)
        await server.start()
        acceptors.start()
        for name in ("", *_SERVICES):
            await status.set(name, health_pb2.HealthCheckResponse.SERVING)
        _log.info("serving", address=address, models=dict(pool.models()))
        if predictions is not None:
            predictions.start(asyncio.get_running_loop().call_later)
        if shadowing is not None:
            shadowing.start()
        try:
            yield address
        finally:
            end = time.monotonic() + settings.grace_seconds
            await status.enter_graceful_shutdown()
            # A call that gRPC has read but not handed to us when it stops ends as CANCELLED
            # (grpc/grpc#41785). So turn callers away first, and stop when it has become quiet.
            calls.refuse()
            await calls.quiet(_QUIET_SECONDS, settings.grace_seconds)
            # A stream that its caller leaves open has used the grace up by now.
            await server.stop(max(0.0, end - time.monotonic()))
            await batcher.drain()
            if shadowing is not None:
                await shadowing.stop(min(_SHADOW_SECONDS, max(0.0, end - time.monotonic())))
            if predictions is not None:
                await predictions.stop(max(_LOG_SECONDS_MIN, end - time.monotonic()))


def _add_services(
    server: grpc.aio.Server,
    acceptors: Acceptors,
    service: ScorerService,
    inference_service: inference.InferenceService,
    feast_serving: FeastServing,
) -> health.aio.HealthServicer:
    """All services, and those that tell of them; gives the one that tells of their health."""
    status = health.aio.HealthServicer()
    scorer_pb2_grpc.add_ScorerServiceServicer_to_server(service, reading(acceptors.as_server))
    open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(
        inference_service, reading(acceptors.as_server)
    )
    add_feast_serving(feast_serving, reading(server))
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    reflection.enable_server_reflection(
        (*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME),
        server,
        pool=pool_of(
            scorer_pb2.DESCRIPTOR,
            open_inference_pb2.DESCRIPTOR,
            feast_serving_pb2.DESCRIPTOR,
            health_pb2.DESCRIPTOR,
            reflection_pb2.DESCRIPTOR,
        ),
    )
    return status


def _features(
    settings: ScorerSettings, repo_dir: Path, pool: ModelPool, reader: OnlineReader
) -> Features:
    return Features(
        AppliedFeatures(plan_path(repo_dir), time.monotonic),
        lambda model: pool.channel(model, "champion"),
        reader,
        FeatureLimits(
            in_flight_max=settings.in_flight_max,
            rows_max=settings.rows_per_request_max,
            read_timeout_seconds=_READ_SHARE * settings.default_deadline_seconds,
        ),
    )


def _batch_limits(settings: ScorerSettings) -> BatchLimits:
    return BatchLimits(
        in_flight_max=settings.in_flight_max,
        wait_seconds_max=settings.batch_wait_ms_max / 1000,
        read_timeout_seconds=_READ_SHARE * settings.default_deadline_seconds,
    )


def _model_pool(settings: ScorerSettings, metrics: ScorerMetrics) -> ModelPool:
    runtime = open_runtime(settings.onnx_providers, settings.onnx_threads, settings.onnx_cache_dir)
    return ModelPool(
        ModelRepository.of(settings, settings.model_repository),
        _PINNED_MAX,
        metrics.swapped,
        partial(LoadedModel, runtime=runtime),
    )


def _shadowing(
    settings: ScorerSettings,
    reader: OnlineReader,
    predictions: PredictionLog | None,
    metrics: ScorerMetrics,
) -> Shadowing | None:
    """What scores beside answers; None where nobody would see it."""
    if predictions is None or settings.shadow_load_max <= 0:
        return None
    limits = ShadowLimits(
        rows_max=settings.shadow_rows_max,
        load_max=settings.shadow_load_max,
        read_timeout_seconds=_READ_SHARE * settings.default_deadline_seconds,
    )
    return Shadowing(reader, predictions, metrics, limits)


def _clock_us() -> int:
    return time.time_ns() // 1000


def _server(settings: ScorerSettings, port: Port) -> grpc.aio.Server:
    return grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", settings.request_bytes_max),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", port.value),
        ]
    )


def _listen(
    server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None
) -> str:
    """Bind, and give the address with the port that port 0 stands for."""
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise ConfigurationError(
            f"cannot listen on {address}: set HEADWATER_SCORER_ADDRESS to a free one"
        ) from error
    host, _, _ = address.rpartition(":")
    return f"{host}:{port}"


def _serve_metrics(metrics: ScorerMetrics, address: str) -> Callable[[], None]:
    """Show the metrics; calling the result ends it."""
    try:
        return metrics.serve(*split_address(address))
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {address}: set HEADWATER_METRICS_ADDRESS to a free one"
        ) from error


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
