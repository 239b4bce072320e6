"""Open Inference while two versions answer: one tensor, each row by its own version."""

from __future__ import annotations

import asyncio

import grpc
import numpy as np

from contracts.assignment import is_challenged
from scorer.foreign import open_inference_pb2 as wire
from scorer.foreign import open_inference_pb2_grpc as wire_grpc
from scorer.server import running
from tests.scorer.rollout_shop import add, assign_by, challenge, records
from tests.scorer.shop import MODEL, NOON_US, ROW, VECTOR, Shop, bias_of, linear_score

CARDS = list(range(1, 30))


def request_for(cards: list[int]) -> wire.ModelInferRequest:
    """A row for each card, all else as the shop's row."""
    request = wire.ModelInferRequest(model_name=MODEL, id="infer")
    request.parameters["event_time_us"].int64_param = NOON_US
    columns: dict[str, tuple[str, str, object]] = {
        "card": ("INT64", "int64_contents", cards),
        "amount": ("FP64", "fp64_contents", [ROW["amount"]] * len(cards)),
        "items": ("INT64", "int64_contents", [ROW["items"]] * len(cards)),
        "gift": ("BOOL", "bool_contents", [ROW["gift"]] * len(cards)),
        "origin": ("BYTES", "bytes_contents", [b"JFK"] * len(cards)),
        "dest": ("BYTES", "bytes_contents", [b"LAX"] * len(cards)),
    }
    for name, (datatype, field, values) in columns.items():
        tensor = request.inputs.add(name=name, datatype=datatype, shape=[len(cards)])
        getattr(tensor.contents, field).extend(values)
    for name in ("score", "version", "missing"):
        request.outputs.add(name=name)
    return request


def test_rows_come_back_in_their_order(scorer_shop: Shop) -> None:
    """Scores, versions and what was missing are those of each row; the log has each once."""
    assign_by(scorer_shop, "card")
    add(scorer_shop, "3")
    challenge(scorer_shop, "3", 0.5)

    async def run() -> wire.ModelInferResponse:
        settings = scorer_shop.settings(shadow_load_max=0.0)
        async with (
            running(settings, scorer_shop.folder) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            stub = wire_grpc.GRPCInferenceServiceStub(channel)
            found: wire.ModelInferResponse = await stub.ModelInfer(request_for([*CARDS, 42]))
            return found

    answer = asyncio.run(run())
    score, version, missing = (one.contents for one in answer.outputs)
    versions = [text.decode() for text in version.bytes_contents]
    wanted = ["3" if is_challenged("salt", str(card), 0.5) else "2" for card in [*CARDS, 42]]
    assert versions == wanted
    assert len(set(versions)) == 2
    assert answer.model_version == "2"
    # Of cards that nobody knows the defaults stand in.
    unknown = [*VECTOR[:3], -1.0, -2.0, VECTOR[5]]
    expected = [
        linear_score(VECTOR if card == 42 else unknown, bias_of(version))
        for card, version in zip([*CARDS, 42], versions, strict=True)
    ]
    assert np.abs(np.array(score.fp64_contents) - expected).max() < 1e-15
    assert [text == b"{}" for text in missing.bytes_contents] == [False] * len(CARDS) + [True]
    logged = [row.inputs["card"] for one in records(scorer_shop) for row in one.rows]
    assert sorted(logged) == sorted([*CARDS, 42])  # type: ignore[type-var]
