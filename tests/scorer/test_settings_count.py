"""Settings that nothing but a slower or a larger scorer would show: each comes where it counts."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import onnxruntime
import pytest

from contracts import metric_names
from scorer.batcher import Batcher, BatchLimits
from scorer.client import ScoreOptions, score_request
from scorer.metrics import ScorerMetrics
from scorer.online_store import OnlineReader
from scorer.server import running
from scorer.v1 import scorer_pb2, scorer_pb2_grpc
from tests.scorer.shop import MODEL, NOON_US, ROW, Shop
from tests.scorer.small_server import until
from tests.scorer.test_batcher import WatchedReader

READ_AHEAD, REQUESTS = 3, 10
ROUND_TRIPS = 20


def test_a_stream_is_read_ahead_as_far_as_the_setting_says(
    scorer_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many requests of a stream are in flight while the store is slow; in the end all come."""
    reader, metrics = WatchedReader(scorer_shop), ScorerMetrics()
    monkeypatch.setattr("scorer.server.open_online_store", lambda _: reader)
    monkeypatch.setattr("scorer.server.ScorerMetrics", lambda: metrics)
    request = score_request(MODEL, [ROW], ScoreOptions(event_time_us=NOON_US))

    def in_flight() -> float | None:
        return metrics.registry.get_sample_value(metric_names.IN_FLIGHT)

    async def run() -> int:
        settings = scorer_shop.settings(stream_in_flight_max=READ_AHEAD)
        async with (
            running(settings, scorer_shop.folder) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            stub: Any = scorer_pb2_grpc.ScorerServiceStub(channel)
            reader.gate.clear()
            call = stub.ScoreStream(iter([request] * REQUESTS))
            await until(lambda: in_flight() == READ_AHEAD, "the stream is not read ahead")
            # Whatever else it would read it has read by now.
            for _ in range(ROUND_TRIPS):
                await stub.ListModels(scorer_pb2.ListModelsRequest())
            assert in_flight() == READ_AHEAD
            reader.gate.set()
            return sum([one.HasField("response") async for one in call])

    assert asyncio.run(run()) == REQUESTS


def test_the_wait_for_others_is_the_settings(
    scorer_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batcher, whose tests say how it waits, is given the milliseconds as seconds."""
    given: list[BatchLimits] = []

    def made(reader: OnlineReader, metrics: ScorerMetrics, limits: BatchLimits) -> Batcher:
        given.append(limits)
        return Batcher(reader, metrics, limits)

    monkeypatch.setattr("scorer.server.Batcher", made)

    async def run() -> None:
        async with running(scorer_shop.settings(batch_wait_ms_max=7.5), scorer_shop.folder):
            pass

    asyncio.run(run())
    assert [limits.wait_seconds_max for limits in given] == [0.0075]


def test_models_run_on_as_many_threads_as_the_setting_says(
    scorer_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each session of ONNX Runtime is made with that number of threads."""
    make = onnxruntime.InferenceSession
    threads: list[int] = []

    def made(onnx: bytes, options: Any, **given: Any) -> Any:
        threads.append(options.intra_op_num_threads)
        return make(onnx, options, **given)

    monkeypatch.setattr(onnxruntime, "InferenceSession", made)

    async def run() -> None:
        async with running(scorer_shop.settings(onnx_threads=3), scorer_shop.folder):
            pass

    asyncio.run(run())
    assert threads == [3]
