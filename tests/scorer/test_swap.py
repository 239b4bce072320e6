"""Versions come and go while requests are answered; the last good one stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import grpc
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from structlog.testing import capture_logs

from contracts.model_repository import ModelRepository
from scorer.client import AsyncScorerClient, ScoreOptions
from scorer.model import LoadedModel, UnusableModelError
from scorer.model_pool import ModelPool
from tests.scorer.shop import (
    MODEL,
    NOON_US,
    ROW,
    SCHEMA,
    VECTOR,
    WEIGHTS,
    Shop,
    bias_of,
    linear_onnx,
    linear_score,
    manifest_for,
    schema_with,
)

AT_NOON = ScoreOptions(event_time_us=NOON_US)
FIELDS = len(SCHEMA.fields)


async def version_becomes(client: AsyncScorerClient, version: str) -> None:
    """Wait until requests are answered by that version."""
    async with asyncio.timeout(30):
        while (await client.score(MODEL, [ROW], AT_NOON)).version != version:
            pass


def flip_a_byte(repository: ModelRepository, version: str) -> None:
    """Damage the model's file as a bad disk would."""
    file = repository.root / MODEL / version / "model.onnx"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def test_versions_swap_under_load_without_a_failed_request(scorer_shop: Shop) -> None:
    """While versions change, every request is answered, by one whole version."""

    async def run() -> None:
        stop = asyncio.Event()
        seen: list[tuple[str, float]] = []

        async def ask(client: AsyncScorerClient) -> None:
            while not stop.is_set():
                answer = await client.score(MODEL, [ROW], AT_NOON)
                seen.append((answer.version, answer.scores[0]))

        async with scorer_shop.client() as client, asyncio.TaskGroup() as tasks:
            for _ in range(8):
                tasks.create_task(ask(client))
            for number in range(2, 8):
                await asyncio.to_thread(scorer_shop.publish, str(number))
                await version_becomes(client, str(number))
            stop.set()
        assert {version for version, _ in seen} >= {str(number) for number in range(1, 8)}
        for version, score in seen:
            assert score == pytest.approx(linear_score(VECTOR, bias_of(version)), abs=1e-15)

    asyncio.run(run())


def test_a_corrupt_version_is_refused_and_the_last_good_one_serves_on(scorer_shop: Shop) -> None:
    """A champion with a flipped byte is refused once in the log, and swapped in once mended."""
    repository = scorer_shop.repository
    data = linear_onnx(WEIGHTS, bias_of("2"))
    repository.publish(manifest_for("2", data), data)
    flip_a_byte(repository, "2")

    async def run() -> None:
        tries: list[str] = []
        pool = ModelPool(repository, 1, lambda model, result, seconds: tries.append(result))
        await pool.poll()
        repository.promote(MODEL, "2", "newer", "test", 0)
        with capture_logs() as logs:
            for _ in range(10):
                await pool.poll()
        assert pool.channel(MODEL, "champion").manifest.version == "1"
        assert tries == ["swapped", *["refused"] * 4], "tried again ever more rarely"
        refused = [entry for entry in logs if entry["event"] == "model_refused"]
        assert len(refused) == 1
        assert "SHA-256" in refused[0]["reason"]
        assert refused[0]["serving_on"] == "1"
        flip_a_byte(repository, "2")
        for _ in range(64):
            await pool.poll()
        assert pool.channel(MODEL, "champion").manifest.version == "2"

    asyncio.run(run())


def test_requests_go_on_while_a_version_is_refused(scorer_shop: Shop) -> None:
    """Seen from a client, a corrupt champion changes nothing; asked for by number it is refused."""
    repository = scorer_shop.repository
    data = linear_onnx(WEIGHTS, bias_of("2"))
    repository.publish(manifest_for("2", data), data)
    flip_a_byte(repository, "2")

    async def run() -> None:
        async with scorer_shop.client() as client:
            repository.promote(MODEL, "2", "newer", "test", 0)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.score(MODEL, [ROW], ScoreOptions(version="2"))
            assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert str(scorer_shop.folder) not in str(caught.value.details())
            assert (await client.score(MODEL, [ROW], AT_NOON)).version == "1"
            await asyncio.to_thread(scorer_shop.publish, "3")
            await version_becomes(client, "3")

    asyncio.run(run())


def test_old_versions_answer_by_number(scorer_shop: Shop) -> None:
    """A version that is not champion is loaded when asked for, and only so many are kept."""
    for version in ("2", "3", "4"):
        scorer_shop.publish(version)

    async def run() -> None:
        pool = ModelPool(scorer_shop.repository, 2, lambda *_: None)
        await pool.poll()
        loaded = {v: await pool.version(MODEL, v) for v in ("1", "2")}
        assert await pool.version(MODEL, "1") is loaded["1"]
        assert await pool.version(MODEL, "4") is pool.channel(MODEL, "champion")
        await pool.version(MODEL, "3")
        assert await pool.version(MODEL, "1") is loaded["1"]
        assert await pool.version(MODEL, "2") is not loaded["2"], "least used: it had to go"
        async with scorer_shop.client() as client:
            options = ScoreOptions(version="2", event_time_us=NOON_US)
            answer = await client.score(MODEL, [ROW], options)
            assert answer.version == "2"
            assert answer.scores == pytest.approx([linear_score(VECTOR, bias_of("2"))], abs=1e-15)

    asyncio.run(run())


def test_the_last_good_version_outlives_its_repository(scorer_shop: Shop) -> None:
    """Broken channels, or a repository that is gone, change nothing and are logged once."""
    repository = scorer_shop.repository

    async def run() -> None:
        pool = ModelPool(repository, 1, lambda *_: None)
        await pool.poll()
        channels = repository.root / MODEL / "channels.json"
        text = channels.read_text()
        channels.write_text("{")
        with capture_logs() as logs:
            await pool.poll()
            await pool.poll()
        assert [entry["event"] for entry in logs] == ["model_repository_trouble"]
        channels.write_text(text)
        repository.root.rename(scorer_shop.folder / "moved")
        await pool.poll()
        assert pool.channel(MODEL, "champion").manifest.version == "1"

    asyncio.run(run())


def graph(
    input_name: str, kind: int, shape: list[str | int], output_name: str, constant: float
) -> bytes:
    """A model that adds a constant to the sum of its inputs."""
    dtype = np.float64 if kind == TensorProto.DOUBLE else np.float32
    nodes = [
        helper.make_node("ReduceSum", [input_name, "axis"], ["total"], keepdims=0),
        helper.make_node("Add", ["total", "c"], [output_name]),
    ]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(input_name, kind, shape)],
        [helper.make_tensor_value_info(output_name, kind, [shape[0]])],
        [
            numpy_helper.from_array(np.array([1], dtype=np.int64), "axis"),
            numpy_helper.from_array(np.array(constant, dtype=dtype), "c"),
        ],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: b"not onnx", "ONNX Runtime refuses"),
        (lambda: graph("x", TensorProto.DOUBLE, ["n", FIELDS], "score", 0), "one input"),
        (lambda: graph("features", TensorProto.FLOAT, ["n", FIELDS], "score", 0), "one input"),
        (lambda: graph("features", TensorProto.DOUBLE, ["n", 5], "score", 0), "6 fields"),
        (lambda: graph("features", TensorProto.DOUBLE, [1, FIELDS], "score", 0), "rows"),
        (lambda: graph("features", TensorProto.DOUBLE, ["n", FIELDS], "y", 0), "output"),
        (lambda: graph("features", TensorProto.DOUBLE, ["n", FIELDS], "score", np.nan), "warm-up"),
    ],
)
def test_a_model_that_breaks_the_contract_is_refused(
    make: Callable[[], bytes], reason: str
) -> None:
    """An intact file that is no model of ours is refused at load, saying what is wrong."""
    data = make()
    with pytest.raises(UnusableModelError, match=reason):
        LoadedModel(manifest_for("1", data), data)


def test_a_score_of_one_dimension_will_do() -> None:
    """The output may be of shape [N] as well as [N, 1]."""
    data = graph("features", TensorProto.DOUBLE, ["n", FIELDS], "score", 1.0)
    model = LoadedModel(manifest_for("1", data), data)
    assert model.run(np.ones((3, FIELDS))).tolist() == [7.0] * 3


def test_a_schema_that_cannot_be_served_refuses_the_version() -> None:
    """A key of a type that no key has is found before the version can serve."""
    data = linear_onnx(WEIGHTS, 0.0)
    schema = schema_with(3, join_key_types=("float64",))
    with pytest.raises(UnusableModelError, match="card_1h:spent"):
        LoadedModel(manifest_for("1", data, schema), data)


def test_another_model_under_the_same_number_is_noticed(scorer_shop: Shop) -> None:
    """A repository that a replay puts in the place of the old one serves, whatever its numbers."""
    root = scorer_shop.repository.root
    fresh = ModelRepository(root.with_name("fresh"))
    onnx = linear_onnx(WEIGHTS, bias_of("9"))
    fresh.publish(manifest_for("1", onnx), onnx)
    fresh.promote(MODEL, "1", "replayed", "test", 0)

    async def run() -> None:
        expected = linear_score(VECTOR, bias_of("9"))
        async with scorer_shop.client() as client, asyncio.timeout(30):
            assert (await client.score(MODEL, [ROW], AT_NOON)).scores != [expected]
            root.rename(root.with_name("old"))
            fresh.root.rename(root)
            while (await client.score(MODEL, [ROW], AT_NOON)).scores != pytest.approx([expected]):
                pass

    asyncio.run(run())


def test_a_version_whose_manifest_is_wrong_is_no_fault_of_the_caller(scorer_shop: Shop) -> None:
    """GetModel says INTERNAL of a time that no message can hold; the version scores on."""
    onnx = linear_onnx(WEIGHTS, bias_of("2"))
    never = replace(manifest_for("2", onnx), trained_until_us=10**20)
    scorer_shop.repository.publish(never, onnx)

    async def run() -> None:
        async with scorer_shop.client() as client:
            assert (await client.score(MODEL, [ROW], pinned_to("2"))).version == "2"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.model(MODEL, "2")
            assert caught.value.code() is grpc.StatusCode.INTERNAL
            assert "version 2 says" in str(caught.value.details())

    asyncio.run(run())


def pinned_to(version: str) -> ScoreOptions:
    """Of that version, at noon."""
    return replace(AT_NOON, version=version)
