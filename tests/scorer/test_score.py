"""Score through a real channel: right scores, and a status for every kind of bad input."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

import grpc
import pytest

from contracts.feature_schema import FeatureSchema, VectorField
from contracts.model_repository import ModelRepository
from scorer.client import AsyncScorerClient, ScoreOptions, score_request
from scorer.server import running
from scorer.v1 import scorer_pb2, scorer_pb2_grpc
from scorer.vector_plan import Scalar
from tests.scorer.shop import (
    MODEL,
    NOON_US,
    ROW,
    SCHEMA,
    TTL_SECONDS,
    VECTOR,
    WEIGHTS,
    Shop,
    bias_of,
    feast_key,
    linear_onnx,
    linear_score,
    manifest_for,
)

AT_NOON = ScoreOptions(event_time_us=NOON_US, include_features=True)
V1 = bias_of("1")


def with_client(shop: Shop, use: Callable[[AsyncScorerClient], Awaitable[None]]) -> None:
    """Run ``use`` with a client of a running scorer."""

    async def run() -> None:
        async with shop.client() as client:
            await use(client)

    asyncio.run(run())


def test_rows_are_scored_as_the_model_says(scorer_shop: Shop) -> None:
    """A row's vector holds request values and stored values in the schema's order."""

    async def use(client: AsyncScorerClient) -> None:
        answer = await client.score(MODEL, [ROW, {**ROW, "amount": 4}], AT_NOON)
        assert answer.feature_names == list(SCHEMA.names)
        assert answer.features == [VECTOR, [4.0, *VECTOR[1:]]]
        assert answer.missing == [[], []]
        expected = [linear_score(vector, V1) for vector in answer.features]
        assert answer.scores == pytest.approx(expected, abs=1e-15)
        assert answer.oldest_us == answer.newest_us == [NOON_US, NOON_US]
        assert answer.version == "1"
        plain = await client.score(MODEL, [ROW], ScoreOptions(event_time_us=NOON_US))
        assert (plain.features, plain.feature_names) == ([[]], [])

    with_client(scorer_shop, use)


@pytest.mark.parametrize(
    ("change", "vector", "missing"),
    [
        ({"card": 43}, [2.5, 3, 1, -1, -2, 7.5], ["card_1h:spent", "card_1h:visits"]),
        ({"card": None}, [2.5, 3, 1, -1, -2, 7.5], ["card_1h:spent", "card_1h:visits"]),
        ({"dest": None}, [2.5, 3, 1, 10.25, 4, -3], ["route_1h:delay"]),
        ({"amount": None}, [0.5, 3, 1, 10.25, 4, 7.5], ["amount"]),
        ({"gift": None, "origin": "EWR"}, [2.5, 3, 0, 10.25, 4, -3], ["gift", "route_1h:delay"]),
        ({"gift": False}, [2.5, 3, 0, 10.25, 4, 7.5], []),
        ({"items": -(2**63)}, [2.5, -(2.0**63), 1, 10.25, 4, 7.5], []),
    ],
)
def test_what_is_missing_has_its_default(
    scorer_shop: Shop, change: dict[str, Scalar], vector: list[float], missing: list[str]
) -> None:
    """Unknown entities and nulls give the model's default, and the answer names the fields."""

    async def use(client: AsyncScorerClient) -> None:
        answer = await client.score(MODEL, [{**ROW, **change}], AT_NOON)
        assert answer.features == [vector]
        assert answer.missing == [missing]
        assert answer.scores == pytest.approx([linear_score(vector, V1)], abs=1e-15)

    with_client(scorer_shop, use)


def test_a_null_in_the_store_is_missing(scorer_shop: Shop) -> None:
    """A stored null has the default although the entity is known."""
    scorer_shop.write("card_1h", feast_key({"card": 7}), {"spent": None, "visits": 2})

    async def use(client: AsyncScorerClient) -> None:
        answer = await client.score(MODEL, [{**ROW, "card": 7}], AT_NOON)
        assert answer.features == [[2.5, 3.0, 1.0, -1.0, 2.0, 7.5]]
        assert answer.missing == [["card_1h:spent"]]

    with_client(scorer_shop, use)


def test_ttl_is_measured_from_the_event_time(scorer_shop: Shop) -> None:
    """A value is served up to its ttl after its event, and is missing a microsecond later."""
    edge_us = NOON_US + int(TTL_SECONDS * 1e6)

    async def use(client: AsyncScorerClient) -> None:
        for at_us, missing in ((edge_us, []), (edge_us + 1, ["route_1h:delay"])):
            answer = await client.score(MODEL, [ROW], ScoreOptions(event_time_us=at_us))
            assert answer.missing == [missing]
        now = await client.score(MODEL, [ROW])
        assert now.missing == [["route_1h:delay"]], "the server's clock is years after the event"

    with_client(scorer_shop, use)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"amount": math.nan}, "amount"),
        ({"amount": math.inf}, "amount"),
        ({"amount": "2"}, "amount"),
        ({"amount": True}, "amount"),
        ({"items": 3.0}, "items"),
        ({"gift": 1}, "gift"),
        ({"card": "42"}, "card"),
        ({"card": 42.0}, "card"),
        ({"origin": 1}, "origin"),
        ({"colour": 1}, "colour"),
        ({"": 1}, "''"),
        ({"card_1h:spent": 1.0}, "card_1h:spent"),
    ],
)
def test_a_wrong_input_is_named(scorer_shop: Shop, change: dict[str, Scalar], named: str) -> None:
    """A wrong input is INVALID_ARGUMENT with its row and name, also beside good rows."""

    async def use(client: AsyncScorerClient) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.score(MODEL, [ROW, {**ROW, **change}], AT_NOON)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "rows[1]" in str(caught.value.details())
        assert named in str(caught.value.details())

    with_client(scorer_shop, use)


@pytest.mark.parametrize("name", list(ROW))
def test_a_missing_input_is_named(scorer_shop: Shop, name: str) -> None:
    """Leaving out an entity key or a request field is INVALID_ARGUMENT with its name."""

    async def use(client: AsyncScorerClient) -> None:
        row = {key: value for key, value in ROW.items() if key != name}
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.score(MODEL, [row], AT_NOON)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert repr(name) in str(caught.value.details())

    with_client(scorer_shop, use)


def test_wrong_requests_have_their_status(scorer_shop: Shop) -> None:
    """Each way in which a request as a whole is wrong has its documented status."""
    row = score_request(MODEL, [ROW]).rows[0]
    empty_value = scorer_pb2.Row(inputs={**row.inputs, "card": scorer_pb2.Value()})
    (scorer_shop.repository.root / "newborn").mkdir()
    invalid, not_found = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
    cases = [
        (scorer_pb2.ScoreRequest(rows=[row]), invalid, "model"),
        (scorer_pb2.ScoreRequest(model=MODEL), invalid, "no rows"),
        (scorer_pb2.ScoreRequest(model=MODEL, rows=[row] * 4), invalid, "4 rows"),
        (scorer_pb2.ScoreRequest(model=MODEL, rows=[empty_value]), invalid, "card"),
        (scorer_pb2.ScoreRequest(model="nobody", rows=[row]), not_found, "nobody"),
        (scorer_pb2.ScoreRequest(model="../models/fraud", rows=[row]), not_found, "model"),
        (scorer_pb2.ScoreRequest(model="nobody", version="1", rows=[row]), not_found, "nobody"),
        (scorer_pb2.ScoreRequest(model=MODEL, version="9", rows=[row]), not_found, "'9'"),
        (scorer_pb2.ScoreRequest(model=MODEL, version="../1", rows=[row]), not_found, "version"),
        (
            scorer_pb2.ScoreRequest(model="newborn", rows=[row]),
            grpc.StatusCode.FAILED_PRECONDITION,
            "no champion",
        ),
    ]
    bad_time = scorer_pb2.ScoreRequest(model=MODEL, rows=[row])
    bad_time.event_time.seconds = 2**62
    cases.append((bad_time, invalid, "event_time"))

    async def run() -> None:
        settings = scorer_shop.settings(rows_per_request_max=3)
        async with (
            running(settings, scorer_shop.folder) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            stub = scorer_pb2_grpc.ScorerServiceStub(channel)
            for request, code, named in cases:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await stub.Score(request)
                assert caught.value.code() is code, request
                assert named in str(caught.value.details())

    asyncio.run(run())


def test_values_too_large_are_the_callers_fault(scorer_shop: Shop) -> None:
    """Finite inputs that overflow the model are INVALID_ARGUMENT, and do not touch other calls."""
    # Plus and minus infinity add up to NaN.
    gauge = VectorField("gauge", "request", "float64", 0.0)
    schema = FeatureSchema(SCHEMA.project, (gauge, *SCHEMA.fields))
    data = linear_onnx((1e10, -1e10, *WEIGHTS[1:]), 0.0)
    scorer_shop.repository.publish(manifest_for("2", data, schema), data)

    async def use(client: AsyncScorerClient) -> None:
        pinned = ScoreOptions(version="2", event_time_us=NOON_US)
        bad, good = await asyncio.gather(
            client.score(MODEL, [{**ROW, "amount": 1e308, "gauge": 1e308}], pinned),
            client.score(MODEL, [{**ROW, "gauge": 0.0}], pinned),
            return_exceptions=True,
        )
        assert isinstance(bad, grpc.aio.AioRpcError)
        assert bad.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert not isinstance(good, BaseException)

    with_client(scorer_shop, use)


def test_a_store_that_is_gone_is_unavailable(scorer_shop: Shop) -> None:
    """Without its online store the scorer says UNAVAILABLE, and scores again once it is back."""

    async def use(client: AsyncScorerClient) -> None:
        away = scorer_shop.online_path.with_suffix(".away")
        scorer_shop.online_path.rename(away)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.score(MODEL, [ROW], AT_NOON)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        away.rename(scorer_shop.online_path)
        assert (await client.score(MODEL, [ROW], AT_NOON)).features == [VECTOR]

    with_client(scorer_shop, use)


def test_models_are_listed_and_described(scorer_shop: Shop) -> None:
    """ListModels and GetModel tell which inputs a model needs and which version serves."""

    async def run() -> None:
        async with (
            running(scorer_shop.settings(), scorer_shop.folder) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            stub = scorer_pb2_grpc.ScorerServiceStub(channel)
            listed = await stub.ListModels(scorer_pb2.ListModelsRequest())
            assert [(one.model, one.version) for one in listed.models] == [(MODEL, "1")]
            model = await stub.GetModel(scorer_pb2.GetModelRequest(model=MODEL))
            assert {(one.name, one.type, one.entity_key) for one in model.inputs} == {
                ("amount", "float64", False),
                ("items", "int64", False),
                ("gift", "bool", False),
                ("card", "int64", True),
                ("origin", "string", True),
                ("dest", "string", True),
            }
            assert list(model.feature_names) == list(SCHEMA.names)
            assert model.trained_until.ToMicroseconds() == NOON_US
            assert dict(model.metrics) == {"auc": 0.75}
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.GetModel(scorer_pb2.GetModelRequest(model="nobody"))
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND

    asyncio.run(run())


def test_a_request_id_comes_back(scorer_shop: Shop) -> None:
    """The caller's request id is in the answer as it was."""

    async def run() -> None:
        async with (
            running(scorer_shop.settings(), scorer_shop.folder) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            stub = scorer_pb2_grpc.ScorerServiceStub(channel)
            request = score_request(MODEL, [ROW], ScoreOptions(request_id="é-1"))
            assert (await stub.Score(request)).request_id == "é-1"

    asyncio.run(run())


def test_a_repository_without_models_still_serves(scorer_shop: Shop) -> None:
    """The scorer starts on an empty repository and finds the first model when it is published."""
    later = Shop(scorer_shop.folder / "later")

    async def run() -> None:
        settings = scorer_shop.settings(model_repository=later.folder)
        async with (
            running(settings, scorer_shop.folder) as address,
            AsyncScorerClient(address) as client,
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.score(MODEL, [ROW], AT_NOON)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
            repository = ModelRepository(later.folder)
            data = linear_onnx(WEIGHTS, V1)
            repository.publish(manifest_for("1", data), data)
            repository.promote(MODEL, "1", "first", "test", 0)
            async with asyncio.timeout(20):
                while True:
                    try:
                        answer = await client.score(MODEL, [ROW], AT_NOON)
                        break
                    except grpc.aio.AioRpcError:
                        await asyncio.sleep(0.01)
            assert answer.features == [VECTOR]

    asyncio.run(run())


def test_oldest_and_newest_are_told_apart(scorer_shop: Shop) -> None:
    """Times and ages of an answer are those of the oldest and of the newest row that it used."""
    oldest_us, newest_us = NOON_US - 20_000_000, NOON_US - 5_000_000
    scorer_shop.write("card_1h", feast_key({"card": 42}), {"spent": 10.25, "visits": 4}, oldest_us)
    route = feast_key({"origin": "JFK", "dest": "LAX"})
    scorer_shop.write("route_1h", route, {"delay": 7.5}, newest_us)

    async def run() -> None:
        async with scorer_shop.client() as client:
            answer = await client.score(MODEL, [ROW], ScoreOptions(event_time_us=NOON_US))
            assert (answer.oldest_us, answer.newest_us) == ([oldest_us], [newest_us])
            assert (answer.oldest_age_seconds, answer.newest_age_seconds) == ([20.0], [5.0])

    asyncio.run(run())


@pytest.mark.parametrize("letter", ["x", "\N{ROLLING ON THE FLOOR LAUGHING}"])
def test_a_long_reason_reaches_the_caller(scorer_shop: Shop, letter: str) -> None:
    """The inputs of a wide model do not fit into a status; what fits is told, with its code."""
    name = letter * 20_000
    wide = FeatureSchema("shop", (*SCHEMA.fields, VectorField(name, "request", "float64", 0.0)))
    data = linear_onnx((*WEIGHTS, 1.0), 0.0)
    scorer_shop.repository.publish(manifest_for("2", data, wide), data)

    async def use(client: AsyncScorerClient) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.score(MODEL, [ROW], ScoreOptions(version="2"))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "rows[0]: request field" in str(caught.value.details())

    with_client(scorer_shop, use)
