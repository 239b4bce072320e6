"""Scores that are no probabilities: regression, anomalies, and classes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from contracts.manifest import Manifest
from scorer.client import ExplainOptions, ScoreOptions
from scorer.foreign import open_inference_pb2 as wire
from scorer.foreign import open_inference_pb2_grpc as wire_grpc
from scorer.model import LoadedModel, UnusableModelError
from scorer.server import running
from tests.scorer.graphs import graph, node
from tests.scorer.rollout_shop import AT_NOON, records, shadow, until, until_routed
from tests.scorer.shop import (
    MODEL,
    ROW,
    SCHEMA,
    VECTOR,
    WEIGHTS,
    Shop,
    linear_onnx,
    manifest_for,
)

WIDTH = len(SCHEMA.fields)
CLASSES = ("early", "on time", "late")
AXIS = {"axis": np.array([1])}


def softmax_onnx(classes: int, seed: int = 0, last: str = "Softmax") -> bytes:
    """``softmax(features @ w)``, with the largest as the score."""
    weights = np.random.default_rng(seed).normal(size=(WIDTH, classes)) / 10
    made = helper.make_graph(
        [
            node("MatMul", "features w", "logits"),
            node(last, "logits", "probabilities"),
            node("ReduceMax", "probabilities axis", "score", keepdims=0),
        ],
        "softmax",
        [helper.make_tensor_value_info("features", TensorProto.DOUBLE, ["n", WIDTH])],
        [
            helper.make_tensor_value_info("score", TensorProto.DOUBLE, ["n"]),
            helper.make_tensor_value_info("probabilities", TensorProto.DOUBLE, ["n", classes]),
        ],
        [
            numpy_helper.from_array(weights, "w"),
            numpy_helper.from_array(np.array([1], dtype=np.int64), "axis"),
        ],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def softmax(vectors: list[list[float]], classes: int = 3, seed: int = 0) -> np.ndarray:
    """What ``softmax_onnx`` must give, by numpy."""
    weights = np.random.default_rng(seed).normal(size=(WIDTH, classes)) / 10
    powers = np.exp(np.array(vectors) @ weights)
    found: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return found


def put(shop: Shop, version: str, data: bytes, **change: object) -> Manifest:
    """Publish a model of the shop's vector, in no channel."""
    manifest = replace(manifest_for(version, data), **change)  # type: ignore[arg-type]
    shop.repository.publish(manifest, data)
    return manifest


def promote(shop: Shop, version: str) -> None:
    """Make it the champion."""
    shop.repository.promote(MODEL, version, "test", "test", 0)


def test_classes_and_their_probabilities_come_back(scorer_shop: Shop) -> None:
    """The score is the largest probability, the label its class; the log has both."""
    put(scorer_shop, "2", softmax_onnx(3), task="multiclass", classes=CLASSES)
    promote(scorer_shop, "2")
    amounts = (-40.0, 0.0, 2.5, 40.0)
    rows = [{**ROW, "amount": amount} for amount in amounts]
    expected = softmax([[amount, *VECTOR[1:]] for amount in amounts])

    async def run() -> None:
        async with scorer_shop.client() as client:
            answer = await client.score(MODEL, rows, replace(AT_NOON, request_id="r"))
            assert answer.classes == list(CLASSES)
            assert answer.probabilities == pytest.approx(expected, abs=1e-12)
            assert answer.scores == [max(one) for one in answer.probabilities]
            assert answer.labels == [CLASSES[place] for place in expected.argmax(axis=1)]
            assert len(set(answer.labels)) > 1
            one = await client.score(MODEL, ROW, AT_NOON)
            assert one.label == answer.labels[2]
            about = await client.model(MODEL)
            assert (about.task, about.classes) == ("multiclass", list(CLASSES))

    asyncio.run(run())
    record = next(one for one in records(scorer_shop) if one.request_id == "r")
    assert record.classes == list(CLASSES)
    assert [row.probabilities for row in record.rows] == pytest.approx(expected, abs=1e-12)
    assert [row.score for row in record.rows] == pytest.approx(expected.max(axis=1), abs=1e-12)


def test_versions_that_know_other_classes_share_a_request(scorer_shop: Shop) -> None:
    """Each row's probabilities are by the answer's classes, 0 for what its version lacks."""
    put(scorer_shop, "2", softmax_onnx(3), task="multiclass", classes=CLASSES, assign_by="amount")
    others = ("late", "cancelled", "early", "on time")
    put(scorer_shop, "3", softmax_onnx(4, seed=1), task="multiclass", classes=others)
    promote(scorer_shop, "2")
    scorer_shop.repository.set_challenger(MODEL, "3", 0.5, "s", "test", "test", 0)
    rows = [{**ROW, "amount": float(amount)} for amount in range(30)]

    async def run() -> None:
        async with scorer_shop.client() as client:
            await until_routed(client, "3", 0.5)
            answer = await client.score(MODEL, rows, AT_NOON)
            assert set(answer.versions) == {"2", "3"}
            assert answer.classes == [*CLASSES, "cancelled"]
            for number, version in enumerate(answer.versions):
                vector = [float(number), *VECTOR[1:]]
                classes, seed = (CLASSES, 0) if version == "2" else (others, 1)
                (found,) = softmax([vector], len(classes), seed)
                wanted = dict(zip(classes, found, strict=True))
                got = dict(zip(answer.classes, answer.probabilities[number], strict=True))
                assert got == pytest.approx({**dict.fromkeys(answer.classes, 0.0), **wanted})
                assert answer.labels[number] == max(wanted, key=lambda name: wanted[name])

    asyncio.run(run())


@pytest.mark.parametrize("task", ["regression", "anomaly"])
def test_any_finite_number_is_a_score(scorer_shop: Shop, task: str) -> None:
    """It comes back as it is; GetModel tells the task; contributions add up to the score."""
    nodes = [node("ReduceSum", "features axis", "score", keepdims=1)]
    put(scorer_shop, "2", graph(WIDTH, nodes, AXIS), task=task)
    promote(scorer_shop, "2")

    async def run() -> None:
        async with scorer_shop.client() as client:
            answer = await client.score(MODEL, {**ROW, "amount": -1e6}, AT_NOON)
            assert answer.score == pytest.approx(sum(VECTOR) - 2.5 - 1e6)
            assert (answer.classes, answer.labels, answer.probabilities) == ([], [""], [[]])
            with pytest.raises(ValueError, match="no classes"):
                _ = answer.label
            assert (await client.model(MODEL)).task == task
            told = await client.explain(
                MODEL, ROW, ExplainOptions(event_time_us=AT_NOON.event_time_us)
            )
            assert (told.link, told.method, told.label) == ("identity", "linear", "")
            assert told.output == told.score

    asyncio.run(run())


def test_log_odds_are_those_of_probabilities(scorer_shop: Shop) -> None:
    """A regression that happens to end in a logistic function is explained as the number it is."""
    put(scorer_shop, "2", linear_onnx(WEIGHTS, 0.0), task="regression")

    async def run() -> None:
        async with scorer_shop.client() as client:
            links = [
                (await client.explain(MODEL, ROW, ExplainOptions(version=version))).link
                for version in ("1", "2")
            ]
            assert links == ["log_odds", "identity"]

    asyncio.run(run())


def test_requests_of_one_batch_keep_their_probabilities(scorer_shop: Shop) -> None:
    """What came together is run together, and each request gets the classes of its own rows."""
    put(scorer_shop, "2", softmax_onnx(3), task="multiclass", classes=CLASSES)
    promote(scorer_shop, "2")

    async def run() -> None:
        async with scorer_shop.client() as client:
            amounts = [[float(10 * number - 40), 1.0] for number in range(12)]
            answers = await asyncio.gather(
                *(
                    client.score(MODEL, [{**ROW, "amount": one} for one in pair], AT_NOON)
                    for pair in amounts
                )
            )
            for pair, answer in zip(amounts, answers, strict=True):
                wanted = softmax([[one, *VECTOR[1:]] for one in pair])
                assert answer.probabilities == pytest.approx(wanted, abs=1e-12)

    asyncio.run(run())


def test_a_class_is_explained(scorer_shop: Shop) -> None:
    """Contributions are to the probability of the row's own class, and add up to it."""
    put(scorer_shop, "2", softmax_onnx(3), task="multiclass", classes=CLASSES)
    promote(scorer_shop, "2")

    async def run() -> None:
        async with scorer_shop.client() as client:
            answer = await client.score(MODEL, ROW, AT_NOON)
            options = ExplainOptions(event_time_us=AT_NOON.event_time_us)
            told = await client.explain(MODEL, ROW, options)
            (baseline,) = softmax([list(SCHEMA.defaults)])
            assert (told.label, told.link) == (answer.label, "identity")
            assert told.score == answer.score
            assert told.baseline_score == pytest.approx(baseline[CLASSES.index(answer.label)])
            moved = sum(one.contribution for one in told.contributions)
            assert moved == pytest.approx(told.score - told.baseline_score, abs=1e-12)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("data", "change", "reason"),
    [
        (softmax_onnx(3), {"classes": ("a", "b")}, r"shape \[1, 3\], not \[1, 2\]"),
        (softmax_onnx(3), {"classes": ()}, "names no classes"),
        (softmax_onnx(3, seed=3, last="Log"), {"classes": CLASSES}, "warm-up"),
        (
            graph(WIDTH, [node("ReduceSum", "features axis", "score", keepdims=1)], AXIS),
            {"classes": CLASSES},
            "an output 'probabilities'",
        ),
    ],
)
def test_a_model_without_its_classes_is_refused(
    data: bytes, change: dict[str, Any], reason: str
) -> None:
    """What the manifest says of classes must be what the model gives."""
    manifest = replace(manifest_for("1", data), task="multiclass", **change)
    with pytest.raises(UnusableModelError, match=reason):
        LoadedModel(manifest, data)


def test_a_shadow_s_probabilities_are_in_the_log(scorer_shop: Shop) -> None:
    """Each version's record has its own classes and labels."""
    put(scorer_shop, "2", softmax_onnx(3), task="multiclass", classes=CLASSES)
    others = ("late", "cancelled", "early", "on time")
    put(scorer_shop, "3", softmax_onnx(4, seed=1), task="multiclass", classes=others)
    promote(scorer_shop, "2")
    shadow(scorer_shop, "3")

    async def run() -> None:
        async with scorer_shop.client() as client:
            await client.score(MODEL, [ROW] * 2, AT_NOON)
            await until(lambda: len(records(scorer_shop)) == 2)

    asyncio.run(run())
    ours, theirs = sorted(records(scorer_shop), key=lambda one: one.version)
    assert (ours.classes, theirs.classes) == (list(CLASSES), list(others))
    (wanted,) = softmax([VECTOR], 4, 1)
    for row in theirs.rows:
        assert row.probabilities == pytest.approx(wanted, abs=1e-12)
        assert row.label == others[wanted.argmax()]


@pytest.mark.parametrize("raw", [False, True])
def test_other_clients_get_classes_too(scorer_shop: Shop, raw: bool) -> None:
    """Open Inference has outputs for classes, probabilities and versions."""
    put(scorer_shop, "2", softmax_onnx(3), task="multiclass", classes=CLASSES)
    promote(scorer_shop, "2")
    (wanted,) = softmax([VECTOR])

    async def run() -> None:
        import grpc

        settings = scorer_shop.settings()
        async with (
            running(settings, scorer_shop.folder) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            stub = wire_grpc.GRPCInferenceServiceStub(channel)
            about = await stub.ModelMetadata(wire.ModelMetadataRequest(name=MODEL))
            assert {one.name: list(one.shape) for one in about.outputs} == {
                "score": [-1],
                "missing": [-1],
                "version": [-1],
                "label": [-1],
                "probabilities": [-1, 3],
            }
            request = wire.ModelInferRequest(model_name=MODEL)
            tensor = request.inputs.add(name="features", datatype="FP64", shape=[2, WIDTH])
            if raw:
                request.raw_input_contents.append(np.array(VECTOR * 2).tobytes())
            else:
                tensor.contents.fp64_contents.extend(VECTOR * 2)
            for name in ("probabilities", "label", "version"):
                request.outputs.add(name=name)
            answer = await stub.ModelInfer(request)
            assert [list(one.shape) for one in answer.outputs] == [[2, 3], [2], [2]]
            if raw:
                got = np.frombuffer(answer.raw_output_contents[0]).reshape(2, 3)
            else:
                got = np.reshape(answer.outputs[0].contents.fp64_contents, (2, 3))
                texts = [list(one.contents.bytes_contents) for one in answer.outputs[1:]]
                label = CLASSES[wanted.argmax()].encode()
                assert texts == [[label] * 2, [b"2"] * 2]
            assert got == pytest.approx(np.array([wanted, wanted]), abs=1e-12)
            request.outputs.add(name="nothing")
            with pytest.raises(grpc.aio.AioRpcError, match="unknown output 'nothing'"):
                await stub.ModelInfer(request)

    asyncio.run(run())


def test_a_request_may_ask_for_a_version_of_another_task(scorer_shop: Shop) -> None:
    """By its number each version answers as what it is."""
    put(scorer_shop, "2", softmax_onnx(3), task="multiclass", classes=CLASSES)

    async def run() -> None:
        async with scorer_shop.client() as client:
            assert (await client.score(MODEL, ROW, AT_NOON)).classes == []
            options = ScoreOptions(version="2", event_time_us=AT_NOON.event_time_us)
            assert (await client.score(MODEL, ROW, options)).classes == list(CLASSES)

    asyncio.run(run())
