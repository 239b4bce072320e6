"""The process around the service: health, reflection, metrics, limits, start and stop."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from scorer.client import ScoreOptions, ScorerClient
from scorer.errors import ConfigurationError
from scorer.server import SERVICE, running
from tests.scorer.shop import MODEL, NOON_US, ROW, Shop

ROOT = Path(__file__).resolve().parents[2]
ANYWHERE_AND_PATIENT = {
    "HEADWATER_SCORER_ADDRESS": "127.0.0.1:0",
    "HEADWATER_DEFAULT_DEADLINE_SECONDS": "30",
}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def scorer_process(shop: Shop, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``python -m scorer`` on the shop, ready; gives the process and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "scorer", str(shop.folder)],
        cwd=ROOT,
        env={**os.environ, **ANYWHERE_AND_PATIENT, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 60)[0], "the scorer did not get ready"
        line = process.stdout.readline()
        assert line.startswith("serving on "), process.communicate(timeout=30)
        yield process, line.split()[-1]
    finally:
        process.kill()
        process.communicate(timeout=30)


def test_health_tells_of_server_and_service(scorer_shop: Shop) -> None:
    """Health is SERVING for the server and for the service, and knows no other."""

    async def run() -> None:
        async with (
            running(scorer_shop.settings(), scorer_shop.folder) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                health_pb2.HealthCheckRequest.SerializeToString,
                health_pb2.HealthCheckResponse.FromString,
            )
            for name in ("", SERVICE):
                answer = await check(health_pb2.HealthCheckRequest(service=name))
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await check(health_pb2.HealthCheckRequest(service="nobody"))
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND

    asyncio.run(run())


def test_reflection_gives_the_proto(scorer_shop: Shop) -> None:
    """A client that knows nothing learns services and messages from the server."""

    def explore(address: str) -> None:
        with grpc.insecure_channel(address) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            assert set(database.get_services()) >= {SERVICE, "grpc.health.v1.Health"}
            file = database.FindFileContainingSymbol(SERVICE)
            assert file.name == "scorer/v1/scorer.proto"
            assert file.service[0].method[0].name == "Score"

    async def run() -> None:
        async with running(scorer_shop.settings(), scorer_shop.folder) as address:
            await asyncio.to_thread(explore, address)

    asyncio.run(run())


def test_metrics_are_shown(scorer_shop: Shop) -> None:
    """Requests are counted by method and code, missing values by model and view."""
    address = f"127.0.0.1:{free_port()}"

    async def run() -> str:
        async with scorer_shop.client(metrics_address=address) as client:
            options = ScoreOptions(event_time_us=NOON_US)
            await client.score(MODEL, [{**ROW, "card": 1}], options)
            with pytest.raises(grpc.aio.AioRpcError):
                await client.score("nobody", [ROW], options)

            def fetch() -> str:
                with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as page:
                    return str(page.read(), "utf-8")

            return await asyncio.to_thread(fetch)

    text = asyncio.run(run())
    service = 'grpc_service="scorer.v1.ScorerService",grpc_type="unary"'
    for code in ("OK", "NOT_FOUND"):
        labels = f'grpc_code="{code}",grpc_method="Score",{service}'
        assert f"grpc_server_handled_total{{{labels}}} 1.0" in text
    labels = 'model="fraud",reason="no_row",view="card_1h"'
    assert f"headwater_scorer_missing_features_total{{{labels}}} 2.0" in text
    assert "headwater_scorer_requests_in_flight 0.0" in text


def test_a_message_over_the_limit_is_refused(scorer_shop: Shop) -> None:
    """A request larger than the setting is RESOURCE_EXHAUSTED, and the server goes on."""

    async def run() -> None:
        async with scorer_shop.client(request_bytes_max=2_000) as client:
            options = ScoreOptions(event_time_us=NOON_US)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.score(MODEL, [ROW] * 100, options)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert len((await client.score(MODEL, [ROW], options)).scores) == 1

    asyncio.run(run())


@pytest.mark.parametrize("setting", ["scorer_address", "metrics_address"])
def test_a_taken_address_is_named(scorer_shop: Shop, setting: str) -> None:
    """Starting on an address that is in use fails and says which setting to change."""

    async def run(address: str) -> None:
        settings = scorer_shop.settings(**{setting: address})
        async with running(settings, scorer_shop.folder):
            pytest.fail("it started on a taken address")

    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigurationError, match=setting.upper()):
            asyncio.run(run(address))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "feature_store.yaml"),
        ("project: [", "feature_store.yaml"),
        ("online_store: {type: sqlite}", "project"),
        ("project: shop\nonline_store: {type: redis, connection_string: nowhere}", "host:port"),
        ("project: shop\nonline_store: {type: ${SHOP_STORE}}", "dynamodb"),
    ],
)
def test_a_wrong_feature_store_is_one_line(
    scorer_shop: Shop, text: str | None, reason: str
) -> None:
    """A configuration that cannot work ends with exit code 1 and one line on what to change."""
    file = scorer_shop.folder / "feature_store.yaml"
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "scorer", str(scorer_shop.folder)],
        cwd=ROOT,
        env={**os.environ, "SHOP_STORE": "dynamodb"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("scorer: ")
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_sigterm_finishes_what_is_under_way(scorer_shop: Shop) -> None:
    """On SIGTERM each call is answered, or refused as UNAVAILABLE, and the exit code is 0."""
    with scorer_process(scorer_shop) as (process, address):
        outcomes: list[grpc.StatusCode] = []
        answered = threading.Event()

        def ask() -> None:
            with ScorerClient(address) as client:
                while True:
                    try:
                        client.score(MODEL, [ROW], ScoreOptions(event_time_us=NOON_US))
                    except grpc.RpcError as error:
                        outcomes.append(error.code())
                        return
                    outcomes.append(grpc.StatusCode.OK)
                    answered.set()

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert answered.wait(30)
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(30)
        process.wait(timeout=30)
    assert process.returncode == 0
    assert set(outcomes) == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert outcomes.count(grpc.StatusCode.UNAVAILABLE) == len(threads)


def test_the_scorer_never_imports_feast() -> None:
    """Everything the server needs, its client too, loads without Feast and other heavy packages."""
    code = (
        "import sys, scorer.server, scorer.client, scorer.__main__,"
        "scorer.sqlite_reader, scorer.redis_reader, scorer.redis_cluster;"
        "print({m.partition('.')[0] for m in sys.modules}"
        " & {'feast', 'bytewax', 'river', 'pandas', 'numba', 'dataflows'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "set()"
