"""Requests of the Open Inference Protocol for the small shop, typed and raw."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from scorer.foreign import open_inference_pb2 as wire
from scorer.foreign import open_inference_pb2_grpc as wire_grpc
from scorer.server import running
from tests.scorer.shop import MODEL, NOON_US, VECTOR, Shop, bias_of, linear_score

if TYPE_CHECKING:
    # There is but one class; only the types know two.
    Stub = wire_grpc.GRPCInferenceServiceAsyncStub
else:
    Stub = wire_grpc.GRPCInferenceServiceStub
FIELDS = {
    "BOOL": "bool_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
DTYPES = {
    "BOOL": "?",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT64": "<u8",
    "FP32": "<f4",
    "FP64": "<f8",
}
V1 = bias_of("1")
OTHER_VECTOR = [4.0, 3.0, 1.0, -1.0, -2.0, 7.5]
# Of the two rows of INPUTS, whose vectors are VECTOR and OTHER_VECTOR.
SCORES = [linear_score(VECTOR, V1), linear_score(OTHER_VECTOR, V1)]
# name -> (datatype, values of the two rows)
Given = Mapping[str, tuple[str, Sequence[object]]]
INPUTS: Given = {
    "amount": ("FP64", [2.5, 4.0]),
    "items": ("INT64", [3, 3]),
    "gift": ("BOOL", [True, True]),
    "card": ("INT64", [42, 43]),
    "origin": ("BYTES", [b"JFK", b"JFK"]),
    "dest": ("BYTES", [b"LAX", b"LAX"]),
}


@asynccontextmanager
async def inference(shop: Shop, **settings: object) -> AsyncIterator[Stub]:
    """A stub for a scorer that runs as long as the context."""
    async with (
        running(shop.settings(**settings), shop.folder) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield stub_for(channel)


def stub_for(channel: grpc.aio.Channel) -> Stub:
    """A stub whose calls can be awaited."""
    return wire_grpc.GRPCInferenceServiceStub(channel)


def packed(datatype: str, values: Sequence[object]) -> bytes:
    """Raw contents, as the protocol describes them."""
    if datatype != "BYTES":
        return np.array(values, dtype=DTYPES[datatype]).tobytes()
    return b"".join(
        struct.pack("<I", len(value)) + value for value in values if isinstance(value, bytes)
    )


def typed(given: Given = INPUTS, **more: object) -> wire.ModelInferRequest:
    """A request with typed contents, at noon."""
    request = empty(**more)
    for name, (datatype, values) in given.items():
        tensor = request.inputs.add(name=name, datatype=datatype, shape=[len(values)])
        getattr(tensor.contents, FIELDS[datatype]).extend(values)
    return request


def raw(given: Given = INPUTS, **more: object) -> wire.ModelInferRequest:
    """The same with raw contents."""
    request = empty(**more)
    for name, (datatype, values) in given.items():
        request.inputs.add(name=name, datatype=datatype, shape=[len(values)])
        request.raw_input_contents.append(packed(datatype, values))
    return request


def empty(**more: object) -> wire.ModelInferRequest:
    """A request without tensors, at noon."""
    request = wire.ModelInferRequest(model_name=MODEL)
    request.parameters["event_time_us"].int64_param = NOON_US
    request.MergeFrom(wire.ModelInferRequest(**more))  # type: ignore[arg-type]
    return request


def matrix(rows: Sequence[Sequence[float]], datatype: str = "FP64") -> wire.ModelInferRequest:
    """A request with whole vectors."""
    request = empty()
    request.inputs.add(name="features", datatype=datatype, shape=[len(rows), len(rows[0])])
    request.raw_input_contents.append(np.array(rows, dtype=DTYPES[datatype]).tobytes())
    return request


def with_stub(shop: Shop, use: Callable[[Stub], Awaitable[None]], **settings: object) -> None:
    """Run ``use`` with a stub of a running scorer."""

    async def run() -> None:
        async with inference(shop, **settings) as stub:
            await use(stub)

    asyncio.run(run())


async def code_of(call: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    """How a call ends that must not succeed."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""
