"""What the Open Inference Protocol refuses: a status and a reason for everything that is wrong."""

from __future__ import annotations

import asyncio
import math

import grpc
import numpy as np
import pytest

from scorer.foreign import open_inference_pb2 as wire
from scorer.server import running
from tests.scorer.inference_requests import (
    INPUTS,
    OTHER_VECTOR,
    SCORES,
    Given,
    Stub,
    code_of,
    matrix,
    packed,
    raw,
    stub_for,
    typed,
    with_stub,
)
from tests.scorer.shop import MODEL, SCHEMA, VECTOR, Shop


def _without(name: str) -> dict[str, tuple[str, list[object]]]:
    return {key: (kind, list(values)) for key, (kind, values) in INPUTS.items() if key != name}


def _changed(**change: object) -> wire.ModelInferRequest:
    """A raw request of which the tensor ``card`` is changed."""
    request = raw()
    card = next(tensor for tensor in request.inputs if tensor.name == "card")
    shape = change.pop("shape", None)
    if shape is not None:
        del card.shape[:]
    card.MergeFrom(
        wire.ModelInferRequest.InferInputTensor(shape=shape, **change)  # type: ignore[arg-type]
    )
    return request


def _raw_changed(position: int, contents: bytes) -> wire.ModelInferRequest:
    request = raw()
    request.raw_input_contents[position] = contents
    return request


def _longer(request: wire.ModelInferRequest) -> wire.ModelInferRequest:
    request.raw_input_contents.append(b"")
    return request


def _shaped(given: Given, *shapes: list[int]) -> wire.ModelInferRequest:
    """A typed request with other shapes: the last for the last tensor, the first for all others."""
    request = typed(given)
    for number, tensor in enumerate(request.inputs):
        tensor.shape[:] = shapes[-1 if number == len(given) - 1 else 0]
    return request


def _integers() -> wire.ModelInferRequest:
    request = wire.ModelInferRequest(model_name=MODEL)
    tensor = request.inputs.add(name="features", datatype="INT64", shape=[1, 6])
    tensor.contents.int64_contents.extend([1] * 6)
    return request


FIELDS: Given = {name: ("FP64", [1.0, 2.0]) for name in SCHEMA.names}
BAD: dict[str, tuple[wire.ModelInferRequest, str]] = {
    "nothing": (wire.ModelInferRequest(), "no model"),
    "no tensors": (wire.ModelInferRequest(model_name=MODEL), "'amount' is missing"),
    "missing tensor": (typed(_without("card")), "'card' is missing"),
    "unknown tensor": (typed({**INPUTS, "tail": ("INT64", [1, 2])}), "unknown tensor 'tail'"),
    "null of nothing": (typed({**INPUTS, "tail.null": ("BOOL", [True] * 2)}), "unknown tensor"),
    "twice": (_changed(name="items"), "twice"),
    "datatype unknown": (_changed(datatype="FP16"), "unknown datatype 'FP16'"),
    "datatype of a key": (typed({**INPUTS, "card": ("FP64", [1.0, 2.0])}), "takes it as INT64"),
    "datatype of a flag": (typed({**INPUTS, "gift": ("INT64", [1, 0])}), "takes it as BOOL"),
    "datatype of a number": (typed({**INPUTS, "items": ("BYTES", [b"1", b"2"])}), "as INT64"),
    "datatype of a null": (typed({**INPUTS, "card.null": ("INT64", [1, 0])}), "give BOOL"),
    "no shape": (_changed(shape=[]), "0 dimensions"),
    "deep shape": (_changed(shape=[1] * 1000), "1000 dimensions"),
    "negative": (_changed(shape=[-2]), "negative"),
    "both negative": (_changed(shape=[-1, -2]), "negative"),
    "huge": (_changed(shape=[2**62]), "at most"),
    "huge and wide": (_changed(shape=[2, 2**62]), "raw bytes"),
    "other rows": (_changed(shape=[1, 2]), "has 1 rows"),
    "wide": (
        _shaped({**_without("card"), "card": ("INT64", [42] * 4)}, [2], [2, 2]),
        "give [rows] or [rows, 1]",
    ),
    "wide texts": (
        _shaped({**_without("dest"), "dest": ("BYTES", [b"LAX"] * 4)}, [2], [2, 2]),
        "BYTES come as",
    ),
    "wide fields": (_shaped(FIELDS, [1, 2]), "give [rows] or [rows, 1]"),
    "wide null": (
        _shaped({**INPUTS, "card.null": ("BOOL", [True] * 4)}, [2], [2, 2]),
        "give [rows] or [rows, 1]",
    ),
    "rows of fields differ": (typed({**FIELDS, "gift": ("FP64", [1.0])}), "rows"),
    "texts for a field": (typed({**FIELDS, "gift": ("BYTES", [b"1", b"1"])}), "BYTES"),
    "typed too short": (_shaped(FIELDS, [3]), "but 2 values"),
    "typed too long": (_shaped(FIELDS, [1]), "but 2 values"),
    "vectors of integers": (_integers(), "give FP64 or FP32"),
    "vectors without columns": (typed({"features": ("FP64", [1.0, 2.0])}), "takes [rows, 6]"),
    "rows differ": (typed({**INPUTS, "card": ("INT64", [42])}), "rows"),
    "raw too short": (_raw_changed(3, b"1234567"), "take 16"),
    "raw too long": (_raw_changed(3, bytes(24)), "take 16"),
    "raw texts cut": (_raw_changed(4, packed("BYTES", [b"JFK", b"JFK"])[:-1]), "BYTES values"),
    "raw texts few": (_raw_changed(4, packed("BYTES", [b"JFK"])), "2 BYTES values"),
    "raw texts many": (_raw_changed(4, packed("BYTES", [b"J"] * 3)), "2 BYTES values"),
    "raw texts lie": (_raw_changed(4, b"\xff\xff\xff\xff" + b"x" * 10), "BYTES values"),
    "raw texts stub": (_raw_changed(4, b"\0\0\0\0\1"), "BYTES values"),
    "raw contents many": (_longer(raw()), "7 raw_input_contents for 6"),
    "raw and typed": (_changed(contents={"int64_contents": [42, 43]}), "both contents"),
    "not utf-8": (typed({**INPUTS, "dest": ("BYTES", [b"LAX", b"\xff"])}), "rows[1]"),
    "not digits": (typed({**INPUTS, "card": ("BYTES", [b"42", b"4_3"])}), "rows[1]"),
    "too many digits": (typed({**INPUTS, "card": ("BYTES", [b"42", b"9" * 19])}), "rows[1]"),
    "over int64": (typed({**INPUTS, "items": ("UINT64", [1, 2**63])}), "rows[1]"),
    "infinite": (typed({**INPUTS, "amount": ("FP64", [1.0, math.inf])}), "rows[1]"),
    "vector not finite": (matrix([[*VECTOR[:5], math.nan]]), "route_1h:delay"),
    "vector infinite": (matrix([[*VECTOR[:5], -math.inf]]), "route_1h:delay"),
    "vector narrow": (matrix([VECTOR[:5]]), "takes [rows, 6]"),
    "vector and more": (typed({**INPUTS, "features": ("FP64", [1.0, 2.0])}), "'features'"),
    "no rows": (typed({name: (kind, []) for name, (kind, _) in INPUTS.items()}), "no rows"),
    "too many rows": (_changed(shape=[10_001]), "at most 10000"),
    "unknown output": (typed(outputs=[{"name": "label"}]), "unknown output 'label'"),
    "output twice": (typed(outputs=[{"name": "score"}] * 2), "twice"),
    "output in shared memory": (
        typed(outputs=[{"name": "score", "parameters": {"shared_memory_region": {}}}]),
        "shared_memory_region",
    ),
    "input in shared memory": (_changed(parameters={"shared_memory_region": {}}), "unknown param"),
    "unknown parameter": (typed(parameters={"chanel": {"string_param": "x"}}), "'chanel'"),
    "time as text": (typed(parameters={"event_time_us": {"string_param": "1"}}), "int64"),
    "time too far": (typed(parameters={"event_time_us": {"int64_param": 2**62}}), "9999"),
    "version and channel": (
        typed(model_version="1", parameters={"channel": {"string_param": "champion"}}),
        "both version and channel",
    ),
}


def test_bad_input_gets_its_reason(scorer_shop: Shop) -> None:
    """Everything that the caller can do wrong is INVALID_ARGUMENT with a text that says what."""

    async def use(stub: Stub) -> None:
        for title, (request, reason) in BAD.items():
            code, text = await code_of(stub.ModelInfer(request))
            assert (title, code) == (title, grpc.StatusCode.INVALID_ARGUMENT)
            assert reason in text, (title, text)
            assert len(text) < 500, (title, text)

    with_stub(scorer_shop, use)


def test_what_is_not_there_is_not_found(scorer_shop: Shop) -> None:
    """Unknown models and versions are NOT_FOUND, as in scorer.v1."""

    async def use(stub: Stub) -> None:
        for request in (wire.ModelInferRequest(model_name="other"), typed(model_version="9")):
            code, _ = await code_of(stub.ModelInfer(request))
            assert code is grpc.StatusCode.NOT_FOUND

    with_stub(scorer_shop, use)


def _damaged(data: bytes, random: np.random.Generator) -> bytes:
    """The bytes with some of them changed, doubled or cut away."""
    damaged = bytearray(data)
    for _ in range(int(random.integers(1, 5))):
        place = int(random.integers(len(damaged)))
        kind = random.integers(4)
        if kind == 0:
            damaged[place] = int(random.integers(256))
        elif kind == 1:
            damaged[place] ^= 1 << int(random.integers(8))
        elif kind == 2:
            damaged[place:place] = damaged[place : place + 9]
        else:
            del damaged[place : place + int(random.integers(1, 4))]
    return bytes(damaged)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_bytes_harm_nobody(scorer_shop: Shop, seed: int) -> None:
    """Damaged requests get a documented status, and whole ones beside them their own scores."""
    random = np.random.default_rng(seed)
    whole = [made().SerializeToString() for made in (typed, raw)]
    whole.append(matrix([VECTOR, OTHER_VECTOR]).SerializeToString())
    documented = {
        grpc.StatusCode.OK,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
    }

    async def run() -> None:
        async with (
            running(scorer_shop.settings(), scorer_shop.folder) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            stub = stub_for(channel)
            send: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelInfer"
            )
            seen = set()
            for _ in range(20):
                calls = [send(_damaged(data, random)) for data in whole * 3]
                answer = await stub.ModelInfer(typed())
                scores = list(answer.outputs[0].contents.fp64_contents)
                assert scores == pytest.approx(SCORES, abs=1e-15)
                seen.update([await call.code() for call in calls])
            assert seen <= documented
            assert {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT} <= seen

    asyncio.run(run())
