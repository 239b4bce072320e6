"""Tokens over real sockets: which models they open, and that they follow their keys."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from structlog.testing import capture_logs

from scorer.entrance import open_entrance
from scorer.errors import UnauthenticatedError
from scorer.foreign import open_inference_pb2, open_inference_pb2_grpc
from scorer.server import running
from scorer.v1 import scorer_pb2, scorer_pb2_grpc
from tests.scorer.credentials import claims, jwk, jwks, rsa_key, token
from tests.scorer.secured import (
    CA,
    KEY,
    SECONDS_MAX,
    bearer,
    channel,
    metadata,
    score,
    score_request,
    status,
    trust,
    until,
)
from tests.scorer.shop import MODEL, Shop

SECOND_KEY = rsa_key()


def test_tokens_open_models(scorer_shop: Shop, tls: dict[str, str], tokens: dict[str, str]) -> None:
    """A token for one model reads no other, learns of no other, and none gets nothing."""
    settings = scorer_shop.settings(**tls, **tokens)
    ok, no_token = grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED
    forbidden, unknown = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND

    async def run() -> None:
        async with (
            running(settings, scorer_shop.folder) as address,
            channel(address, trust()) as opened,
        ):
            stub = scorer_pb2_grpc.ScorerServiceStub(opened)
            infer = open_inference_pb2_grpc.GRPCInferenceServiceStub(opened).ModelInfer

            async def each(model: str, *headers: str) -> set[grpc.StatusCode]:
                calls: list[tuple[Any, Any]] = [
                    (stub.Score, score_request(model)),
                    (stub.GetModel, scorer_pb2.GetModelRequest(model=model)),
                    (stub.Explain, _explain(model)),
                    (stub.GetFeatures, _features(model)),
                    (infer, open_inference_pb2.ModelInferRequest(model_name=model)),
                ]
                return {
                    await status(call(request, timeout=SECONDS_MAX, metadata=metadata(*headers)))
                    for call, request in calls
                }

            async def listed(*headers: str) -> list[str]:
                answer = await stub.ListModels(
                    scorer_pb2.ListModelsRequest(),
                    timeout=SECONDS_MAX,
                    metadata=metadata(*headers),
                )
                return [one.model for one in answer.models]

            assert await score(address, trust(), bearer(MODEL)) is ok
            assert await score(address, trust(), bearer("*")) is ok
            assert await each(MODEL, bearer("late_arrival")) == {forbidden}
            assert await each("nobody", bearer(MODEL)) == {forbidden}
            assert await each(MODEL, bearer()) == {forbidden}
            assert unknown in await each("nobody", bearer("*"))
            assert await each(MODEL) == {no_token}
            assert await each(MODEL, bearer(MODEL), bearer("*")) == {no_token}
            assert await each(MODEL, bearer(MODEL, exp=1)) == {no_token}
            assert await listed(bearer(MODEL)) == [MODEL]
            assert await listed(bearer("*")) == [MODEL]
            assert await listed(bearer("late_arrival")) == []
            with pytest.raises(grpc.aio.AioRpcError):
                await listed()

    asyncio.run(run())


def _explain(model: str) -> scorer_pb2.ExplainRequest:
    asked = score_request(model)
    return scorer_pb2.ExplainRequest(model=model, row=asked.rows[0], event_time=asked.event_time)


def _features(model: str) -> scorer_pb2.GetFeaturesRequest:
    request = scorer_pb2.GetFeaturesRequest(model=model)
    inputs = score_request(model).rows[0].inputs
    row = request.rows.add()
    for name in ("card", "origin", "dest"):
        row.inputs[name].CopyFrom(inputs[name])
    return request


def test_streams_ask_for_each_request(scorer_shop: Shop, tokens: dict[str, str]) -> None:
    """A stream without a token ends; in one with a token each request has its permission."""

    async def run() -> None:
        async with (
            running(scorer_shop.settings(**tokens), scorer_shop.folder) as address,
            channel(address, None) as opened,
        ):
            stub = scorer_pb2_grpc.ScorerServiceStub(opened)
            answers = stub.ScoreStream(
                iter([score_request(MODEL), score_request("nobody")]),
                timeout=SECONDS_MAX,
                metadata=metadata(bearer(MODEL)),
            )
            codes = [answer.failure.code async for answer in answers]
            assert codes == [0, grpc.StatusCode.PERMISSION_DENIED.value[0]]
            refused = stub.ScoreStream(timeout=SECONDS_MAX)
            assert await refused.code() is grpc.StatusCode.UNAUTHENTICATED

    asyncio.run(run())


def test_a_stream_does_not_outlive_its_key(scorer_shop: Shop, tokens: dict[str, str]) -> None:
    """When the key is taken out, the next request of an open stream is UNAUTHENTICATED."""
    file = Path(tokens["jwks_file"])

    async def run() -> None:
        async with (
            running(scorer_shop.settings(**tokens), scorer_shop.folder) as address,
            channel(address, None) as opened,
        ):
            stub = scorer_pb2_grpc.ScorerServiceStub(opened)
            stream = stub.ScoreStream(metadata=metadata(bearer(MODEL)), timeout=SECONDS_MAX)

            async def code() -> int:
                await stream.write(score_request(MODEL))
                answer = await stream.read()
                assert isinstance(answer, scorer_pb2.ScoreStreamResponse)
                return answer.failure.code

            assert await code() == 0
            file.write_bytes(jwks(jwk(SECOND_KEY, "second")))  # noqa: ASYNC240 - some bytes

            async def refused() -> bool:
                return await code() == grpc.StatusCode.UNAUTHENTICATED.value[0]

            await until(refused)

    asyncio.run(run())


def test_new_keys_are_taken(scorer_shop: Shop, tokens: dict[str, str]) -> None:
    """Keys follow their file; a broken file is told once, and the last good keys stay."""
    file = Path(tokens["jwks_file"])
    entrance = open_entrance(scorer_shop.settings(**tokens))
    second = "Bearer " + token(SECOND_KEY, "second", claims(time.time(), headwater_models=["*"]))

    def opens(header: str) -> bool:
        try:
            entrance.callers.identify(metadata(header), dict)
        except UnauthenticatedError:
            return False
        return True

    def events() -> list[str]:
        with capture_logs() as logs:
            for source in entrance.sources:
                source.look()
        return [one["event"] for one in logs]

    first = bearer("*")
    assert (opens(first), opens(second)) == (True, False)
    assert events() == []
    for spoil in (
        lambda: file.write_text('{"keys": ['),
        lambda: file.write_bytes(jwks()),
        file.unlink,
    ):
        spoil()
        assert events() == ["file_not_taken"]
        assert events() == []
        assert opens(first)
    file.write_bytes(jwks(jwk(KEY, "first")))
    assert events() == []
    file.write_bytes(jwks(jwk(SECOND_KEY, "second"), jwk(KEY, "not for this", use="enc")))
    assert events() == ["jwks_keys_left_out", "files_taken"]
    assert (opens(first), opens(second)) == (False, True)


def test_with_both_the_token_counts(
    scorer_shop: Shop, mutual: dict[str, str], tokens: dict[str, str]
) -> None:
    """With tokens configured a certificate alone is not enough, nor is a token alone."""
    client = CA.signs("billing").channel(CA)

    async def run() -> None:
        settings = scorer_shop.settings(**mutual, **tokens)
        async with running(settings, scorer_shop.folder) as address:
            assert await score(address, client) is grpc.StatusCode.UNAUTHENTICATED
            assert await score(address, trust(), bearer(MODEL)) is grpc.StatusCode.UNAVAILABLE
            assert await score(address, client, bearer(MODEL)) is grpc.StatusCode.OK
            assert await score(address, client, bearer("x")) is grpc.StatusCode.PERMISSION_DENIED

    asyncio.run(run())


def test_every_call_asks_for_a_token(scorer_shop: Shop, tokens: dict[str, str]) -> None:
    """No method of any service that the scorer shows answers without a token, but health's."""

    def methods(address: str) -> list[tuple[str, bool]]:
        with grpc.insecure_channel(address) as opened:
            database = ProtoReflectionDescriptorDatabase(opened)
            return [
                (f"/{service}/{method.name}", method.server_streaming)
                for service in database.get_services()
                if service not in (health.SERVICE_NAME, reflection.SERVICE_NAME)
                for file in [database.FindFileContainingSymbol(service)]
                for described in file.service
                if service.endswith("." + described.name)
                for method in described.method
            ]

    async def run() -> None:
        async with (
            running(scorer_shop.settings(**tokens), scorer_shop.folder) as address,
            channel(address, None) as opened,
        ):
            found = await asyncio.to_thread(methods, address)
            assert len(found) >= 12
            nothing: Any = b""
            for path, streams in found:
                if streams:
                    code = await opened.stream_stream(path)(timeout=SECONDS_MAX).code()
                else:
                    code = await status(opened.unary_unary(path)(nothing, timeout=SECONDS_MAX))
                assert code is grpc.StatusCode.UNAUTHENTICATED, path

    asyncio.run(run())


def test_health_is_free(scorer_shop: Shop, tokens: dict[str, str]) -> None:
    """Health is answered without a token: probes have none."""

    async def run() -> None:
        async with (
            running(scorer_shop.settings(**tokens), scorer_shop.folder) as address,
            channel(address, None) as opened,
        ):
            answer = await opened.unary_unary(
                "/grpc.health.v1.Health/Check",
                health_pb2.HealthCheckRequest.SerializeToString,
                health_pb2.HealthCheckResponse.FromString,
            )(health_pb2.HealthCheckRequest(), timeout=SECONDS_MAX)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING

    asyncio.run(run())
