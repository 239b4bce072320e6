"""The Open Inference Protocol through a real channel: right scores, a status for bad input."""

from __future__ import annotations

import asyncio
import json
import math
import struct
from collections.abc import Callable

import grpc
import numpy as np
import pytest
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from scorer.client import AsyncScorerClient, ScoreOptions
from scorer.foreign import open_inference_pb2 as wire
from scorer.inference import SERVICE
from scorer.server import running
from tests.scorer.inference_requests import (
    INPUTS,
    OTHER_VECTOR,
    SCORES,
    V1,
    Stub,
    code_of,
    matrix,
    raw,
    stub_for,
    typed,
    with_stub,
)
from tests.scorer.shop import (
    MODEL,
    NOON_US,
    ROW,
    SCHEMA,
    VECTOR,
    Shop,
    linear_score,
)

BOTH = [{"name": "missing"}, {"name": "score"}]


@pytest.mark.parametrize("made", [typed, raw])
def test_keys_and_request_fields_are_scored(
    scorer_shop: Shop, made: Callable[..., wire.ModelInferRequest]
) -> None:
    """Stored features are read for the keys; the answer is raw exactly when the request was."""

    async def use(stub: Stub) -> None:
        answer = await stub.ModelInfer(made(id="call 7", outputs=BOTH))
        assert (answer.model_name, answer.model_version, answer.id) == (MODEL, "1", "call 7")
        assert [(one.name, one.datatype, list(one.shape)) for one in answer.outputs] == [
            ("missing", "BYTES", [2]),
            ("score", "FP64", [2]),
        ]
        if made is raw:
            texts, scores = answer.raw_output_contents
            length = struct.unpack_from("<I", texts, 6)[0]
            assert texts[:6] == struct.pack("<I", 2) + b"{}"
            last = texts[10 : 10 + length]
            assert len(texts) == 10 + length
            assert np.frombuffer(scores, "<f8").tolist() == pytest.approx(SCORES, abs=1e-15)
            assert not any(one.HasField("contents") for one in answer.outputs)
        else:
            assert not answer.raw_output_contents
            first, last = answer.outputs[0].contents.bytes_contents
            assert first == b"{}"
            got = list(answer.outputs[1].contents.fp64_contents)
            assert got == pytest.approx(SCORES, abs=1e-15)
        assert json.loads(last) == {"card_1h:spent": "no_row", "card_1h:visits": "no_row"}

    with_stub(scorer_shop, use)


@pytest.mark.parametrize(
    ("change", "vector"),
    [
        ({"amount": ("FP64", [math.nan])}, [0.5, *VECTOR[1:]]),
        ({"amount": ("FP32", [2.5])}, VECTOR),
        ({"amount": ("INT32", [2])}, [2.0, *VECTOR[1:]]),
        ({"items": ("UINT64", [5])}, [2.5, 5.0, *VECTOR[2:]]),
        ({"items.null": ("BOOL", [True])}, [2.5, 1.0, *VECTOR[2:]]),
        ({"items.null": ("BOOL", [False])}, VECTOR),
        ({"gift": ("BOOL", [False])}, [2.5, 3.0, 0.0, *VECTOR[3:]]),
        ({"card": ("BYTES", [b"42"])}, VECTOR),
        ({"card": ("INT32", [42])}, VECTOR),
        ({"card": ("BYTES", [b""]), "card.null": ("BOOL", [True])}, [*VECTOR[:3], -1, -2, 7.5]),
        ({"dest.null": ("BOOL", [True])}, [*VECTOR[:5], -3.0]),
    ],
)
def test_a_value_may_come_in_several_ways(
    scorer_shop: Shop, change: dict[str, tuple[str, list[object]]], vector: list[float]
) -> None:
    """Numbers of other widths, keys as digits, and nulls by NaN or a tensor of their own."""
    one_row = {name: (datatype, values[:1]) for name, (datatype, values) in INPUTS.items()}

    async def use(stub: Stub) -> None:
        for made in (typed, raw):
            answer = await stub.ModelInfer(made({**one_row, **change}))
            got = (
                list(answer.outputs[0].contents.fp64_contents)
                or np.frombuffer(answer.raw_output_contents[0]).tolist()
            )
            assert got == pytest.approx([linear_score(vector, V1)], abs=1e-15)

    with_stub(scorer_shop, use)


def test_vectors_are_scored_as_they_are(scorer_shop: Shop) -> None:
    """One matrix, or a tensor for each field by its name: nothing is read for them."""
    rows = [VECTOR, OTHER_VECTOR]
    by_name = {
        name: ("FP64", [row[column] for row in rows]) for column, name in enumerate(SCHEMA.names)
    }

    async def use(stub: Stub) -> None:
        for request in (matrix(rows), matrix(rows, "FP32"), raw(by_name)):
            answer = await stub.ModelInfer(request)
            got = np.frombuffer(answer.raw_output_contents[0])
            assert got.tolist() == pytest.approx(SCORES, abs=1e-15)
        columns = typed(by_name, outputs=BOTH)
        for tensor in columns.inputs:
            tensor.shape.append(1)
        answer = await stub.ModelInfer(columns)
        assert list(answer.outputs[0].contents.bytes_contents) == [b"{}", b"{}"]
        got_typed = list(answer.outputs[1].contents.fp64_contents)
        assert got_typed == pytest.approx(SCORES, abs=1e-15)

    with_stub(scorer_shop, use)


def test_the_same_as_score(scorer_shop: Shop) -> None:
    """Both protocols give the same bits, and the call's id is in the prediction log for both."""

    async def run() -> None:
        settings = scorer_shop.settings()
        async with running(settings, scorer_shop.folder) as address:
            async with AsyncScorerClient(address) as client:
                options = ScoreOptions(event_time_us=NOON_US)
                mine = await client.score(MODEL, [ROW, {**ROW, "amount": 4.0, "card": 43}], options)
            async with grpc.aio.insecure_channel(address) as channel:
                answer = await stub_for(channel).ModelInfer(typed(id="in the log"))
            assert list(answer.outputs[0].contents.fp64_contents) == mine.scores

    asyncio.run(run())
    (log,) = scorer_shop.folder.rglob("predictions/0.ndjson")
    assert any("in the log" in line for line in log.read_text(encoding="utf-8").splitlines())


def test_version_and_channel_are_chosen(scorer_shop: Shop) -> None:
    """``model_version`` pins a version; the parameter ``channel`` takes that of a channel."""
    scorer_shop.publish("2")
    scorer_shop.repository.set_channel(MODEL, "challenger", "1", "test", "test", 0)

    async def use(stub: Stub) -> None:
        champion = await stub.ModelInfer(typed())
        assert champion.model_version == "2"
        pinned = await stub.ModelInfer(typed(model_version="1"))
        assert list(pinned.outputs[0].contents.fp64_contents) == pytest.approx(SCORES, abs=1e-15)
        challenger = typed()
        challenger.parameters["channel"].string_param = "challenger"
        assert (await stub.ModelInfer(challenger)).model_version == "1"
        for parameter in ({"string_param": "winner"}, {"int64_param": 1}):
            request = typed()
            request.parameters["channel"].MergeFrom(wire.InferParameter(**parameter))
            code, text = await code_of(stub.ModelInfer(request))
            assert (code, "channel" in text) == (grpc.StatusCode.INVALID_ARGUMENT, True)

    with_stub(scorer_shop, use)


def test_metadata_describes_what_infer_takes(scorer_shop: Shop) -> None:
    """Every input is named with its datatype, and every output."""

    async def use(stub: Stub) -> None:
        answer = await stub.ModelMetadata(wire.ModelMetadataRequest(name=MODEL))
        told = {one.name: (one.datatype, list(one.shape)) for one in answer.inputs}
        assert told == {name: (datatype, [-1]) for name, (datatype, _) in INPUTS.items()}
        assert [(one.name, one.datatype) for one in answer.outputs] == [
            ("score", "FP64"),
            ("missing", "BYTES"),
            ("version", "BYTES"),
        ]
        assert (answer.name, list(answer.versions)) == (MODEL, ["1"])
        server = await stub.ServerMetadata(wire.ServerMetadataRequest())
        assert (server.name, list(server.extensions)) == ("headwater", [])
        request = wire.ModelMetadataRequest(name="other")
        assert (await code_of(stub.ModelMetadata(request)))[0] is grpc.StatusCode.NOT_FOUND

    with_stub(scorer_shop, use)


def test_ready_is_who_can_score(scorer_shop: Shop) -> None:
    """A model is ready when it can score; the server when every known model has a champion."""

    async def use(stub: Stub) -> None:
        assert (await stub.ServerLive(wire.ServerLiveRequest())).live
        assert (await stub.ServerReady(wire.ServerReadyRequest())).ready
        for name, version, ready in [
            (MODEL, "", True),
            (MODEL, "1", True),
            (MODEL, "2", False),
            (MODEL, "../1", False),
            ("other", "", False),
        ]:
            request = wire.ModelReadyRequest(name=name, version=version)
            assert (await stub.ModelReady(request)).ready is ready
        code, _ = await code_of(stub.ModelReady(wire.ModelReadyRequest()))
        assert code is grpc.StatusCode.INVALID_ARGUMENT

    with_stub(scorer_shop, use)


def test_a_model_without_a_champion_is_not_ready(scorer_shop: Shop) -> None:
    """One model that cannot score makes the server say that it is not ready, and live still."""
    (scorer_shop.folder / "data" / "models" / "idle" / "1").mkdir(parents=True)

    async def use(stub: Stub) -> None:
        assert (await stub.ServerLive(wire.ServerLiveRequest())).live
        assert not (await stub.ServerReady(wire.ServerReadyRequest())).ready
        assert not (await stub.ModelReady(wire.ModelReadyRequest(name="idle"))).ready
        assert (await stub.ModelReady(wire.ModelReadyRequest(name=MODEL))).ready

    with_stub(scorer_shop, use)


def test_hints_of_clients_are_passed_over(scorer_shop: Shop) -> None:
    """Parameters with which clients describe encodings change nothing."""

    async def use(stub: Stub) -> None:
        request = typed(
            parameters={"content_type": {"string_param": "np"}},
            outputs=[{"name": "score", "parameters": {"binary_data": {"bool_param": True}}}],
        )
        request.inputs[0].parameters["binary_data_size"].int64_param = 16
        answer = await stub.ModelInfer(request)
        assert list(answer.outputs[0].contents.fp64_contents) == pytest.approx(SCORES, abs=1e-15)

    with_stub(scorer_shop, use)


def test_reflection_shows_the_protocol(scorer_shop: Shop) -> None:
    """Tools such as grpcurl find the service and its messages without having the proto."""

    def look(address: str) -> None:
        with grpc.insecure_channel(address) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            assert SERVICE in database.get_services()
            for symbol in (SERVICE, "inference.ModelInferRequest"):
                assert database.FindFileContainingSymbol(symbol).name == wire.DESCRIPTOR.name

    async def run() -> None:
        async with running(scorer_shop.settings(), scorer_shop.folder) as address:
            await asyncio.to_thread(look, address)

    asyncio.run(run())
