"""`GetFeatures`: stored values of any type, and why one is not there."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from contracts.plan_file import plan_path
from scorer.client import FeaturesOf, ScoreOptions
from scorer.feast_serving import SERVICE
from scorer.foreign import feast_serving_pb2, feast_serving_pb2_grpc
from scorer.server import running
from tests.scorer.feature_shop import (
    CARD,
    TRIP,
    FeatureShop,
    plain,
    reasons,
    row,
    shop_server,
    stamp,
)
from tests.scorer.shop import MODEL, NOON_US, SCHEMA, TTL_SECONDS


def test_a_service_has_its_features_in_order_and_in_their_types(feature_shop: FeatureShop) -> None:
    """A feature service gives a column for each of its features, with value, event time and age."""

    async def run() -> None:
        async with shop_server(feature_shop) as server:
            answer = await server.get(
                feature_service="card", rows=[row({"card": 42})], request_id="r-1"
            )
            assert answer.request_id == "r-1"
            assert list(answer.names) == [
                f"card_1h:{name}" for name in ("spent", "visits", "town", "gift")
            ]
            values = answer.rows[0].values
            found = [plain(value) for value in values]
            assert found == [10.25, 4, "Zürich", True]
            assert [type(one) for one in found] == [float, int, str, bool]
            for value in values:
                assert value.event_time.ToMicroseconds() == NOON_US
                assert value.age_seconds == 30.0
                assert not value.missing
            (call,) = server.ended
            assert (call.request_id, call.rows, call.oldest_age_seconds) == ("r-1", 1, 30.0)

    asyncio.run(run())


def test_several_views_and_rows(feature_shop: FeatureShop) -> None:
    """Features of several views come in the order asked for, and each row has its own entities."""
    feature_shop.put(CARD, [7], {"spent": 1.5, "visits": 300}, NOON_US + 1)
    rows = [row(TRIP), row({**TRIP, "card": 7}), row(TRIP)]

    async def run() -> None:
        async with shop_server(feature_shop) as server:
            answer = await server.get(feature_service="trip", rows=rows)
            assert list(answer.names) == ["route_1h:delay", "card_1h:visits", "card_1h:spent"]
            found = [[plain(value) for value in one.values] for one in answer.rows]
            assert found == [[7.5, 4, 10.25], [7.5, 300, 1.5], [7.5, 4, 10.25]]
            times = [value.event_time.ToMicroseconds() for value in answer.rows[1].values]
            assert times == [NOON_US, NOON_US + 1, NOON_US + 1]
            named = await server.get(
                features={"names": ["card_1h:spent", "route_1h:delay"]}, rows=rows
            )
            assert [[plain(v) for v in one.values] for one in named.rows] == [
                [10.25, 7.5],
                [1.5, 7.5],
                [10.25, 7.5],
            ]

    asyncio.run(run())


def test_a_model_gives_what_its_champion_reads(feature_shop: FeatureShop) -> None:
    """Of a model come the stored features of its vector, in its order, without a plan file too."""
    plan_path(feature_shop.folder).unlink()

    async def run() -> None:
        async with shop_server(feature_shop) as server:
            answer = await server.get(model=MODEL, rows=[row(TRIP)])
            stored = [field.name for field in SCHEMA.fields if field.kind == "feature"]
            assert list(answer.names) == stored
            assert [plain(value) for value in answer.rows[0].values] == [10.25, 4, 7.5]
            (call,) = server.ended
            assert (call.model, call.version) == (MODEL, "1")

    asyncio.run(run())


def test_why_a_value_is_missing(feature_shop: FeatureShop) -> None:
    """Null key, no row, null value and NaN each have their reason; the row's age is told."""
    feature_shop.put(CARD, [1], {"spent": None, "visits": 2, "town": b"\x98\x01\x00"}, NOON_US)
    feature_shop.put(CARD, [1], {"gift": b"\x29" + b"\x00" * 6 + b"\xf8\x7f"}, NOON_US)
    rows = [row({"card": None}), row({"card": 99}), row({"card": 1})]

    async def run() -> None:
        async with shop_server(feature_shop) as server:
            answer = await server.get(feature_service="card", rows=rows)
            assert reasons(answer) == [
                ["NULL_INPUT"] * 4,
                ["NO_ROW"] * 4,
                ["NULL_VALUE", "", "NULL_VALUE", "NULL_VALUE"],
            ]
            for number, one in enumerate(answer.rows):
                for place, value in enumerate(one.values):
                    assert (plain(value) is None) == bool(value.missing)
                    assert value.HasField("event_time") == (number == 2), place
                    assert value.HasField("age_seconds") == (number == 2), place

    asyncio.run(run())


@pytest.mark.parametrize(("late_us", "reason"), [(0, ""), (1, "EXPIRED")])
def test_the_moment_of_the_read_decides_what_has_expired(
    feature_shop: FeatureShop, late_us: int, reason: str
) -> None:
    """A row as old as its view's ttl counts; one microsecond older it is not shown, but its age."""
    at_us = NOON_US + round(TTL_SECONDS * 1e6) + late_us

    async def run() -> None:
        async with shop_server(feature_shop) as server:
            answer = await server.get(
                feature_service="trip", rows=[row(TRIP)], event_time=stamp(at_us)
            )
            assert reasons(answer) == [[reason, "", ""]]
            delay, visits, _ = answer.rows[0].values
            assert plain(delay) == (None if reason else 7.5)
            assert delay.event_time == stamp(NOON_US)
            assert delay.age_seconds == TTL_SECONDS + late_us / 1e6
            assert plain(visits) == 4

    asyncio.run(run())


def test_numbers_come_in_the_type_of_the_view(feature_shop: FeatureShop) -> None:
    """What Feast wrote as another kind of number comes in the type that the view has."""
    cells = {"spent": b"\x20\x03", "visits": b"\x35\x00\x00\x40\x40", "gift": b"\x20\x01"}
    feature_shop.put(CARD, [5], cells, NOON_US)

    async def run() -> None:
        async with shop_server(feature_shop) as server:
            answer = await server.get(
                features={"names": [f"card_1h:{name}" for name in cells]}, rows=[row({"card": 5})]
            )
            found = [plain(value) for value in answer.rows[0].values]
            assert found == [3.0, 3, True]
            assert [type(one) for one in found] == [float, int, bool]

    asyncio.run(run())


def test_features_are_those_that_a_score_takes(feature_shop: FeatureShop) -> None:
    """In the whole scorer `GetFeatures` of a model has what `Score` reads, and why it does not."""
    for card in range(4):
        spent = None if card == 1 else card * 1.5
        feature_shop.put(CARD, [card], {"spent": spent, "visits": card}, NOON_US + card)
    cards, origins = [*range(5), None], ["JFK", "nowhere", None]
    keys = [{"card": card, "origin": one, "dest": "LAX"} for card in cards for one in origins]
    stored = [place for place, field in enumerate(SCHEMA.fields) if field.kind == "feature"]

    async def run() -> None:
        async with feature_shop.client() as client:
            for late_us in (0, 60_000_000, 60_000_001, -5):
                at_us = NOON_US + late_us
                got = await client.features(FeaturesOf(model=MODEL), keys, event_time_us=at_us)
                scored = await client.score(
                    MODEL,
                    [{**one, "amount": 1.0, "items": 1, "gift": False} for one in keys],
                    ScoreOptions(event_time_us=at_us, include_features=True),
                )
                assert got.names == [scored.feature_names[place] for place in stored]
                for row_, vector, missing, oldest in zip(
                    range(len(keys)),
                    scored.features,
                    scored.stand_ins,
                    scored.oldest_age_seconds,
                    strict=True,
                ):
                    reason = {one.name: one.reason for one in missing}
                    assert got.missing[row_] == [reason.get(name, "") for name in got.names]
                    for place, value in zip(stored, got.values[row_], strict=True):
                        assert vector[place] == (SCHEMA.defaults[place] if value is None else value)
                    ages = [
                        age
                        for age, why in zip(got.ages_seconds[row_], got.missing[row_], strict=True)
                        if age is not None and why in ("", "null_value")
                    ]
                    assert (max(ages) if ages else None) == oldest

    asyncio.run(run())


def test_the_scorer_serves_feasts_protocol_and_tells_of_it(feature_shop: FeatureShop) -> None:
    """The running scorer answers Feast's call, says that it is healthy, and reflection has it."""

    def explore(address: str) -> None:
        with grpc.insecure_channel(address) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            assert SERVICE in database.get_services()
            file = database.FindFileContainingSymbol(SERVICE)
            assert [one.name for one in file.service[0].method] == [
                "GetFeastServingInfo",
                "GetOnlineFeatures",
            ]

    async def run() -> None:
        async with (
            running(feature_shop.settings(), feature_shop.folder) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            stub: feast_serving_pb2_grpc.ServingServiceAsyncStub
            stub = feast_serving_pb2_grpc.ServingServiceStub(channel)
            request = feast_serving_pb2.GetOnlineFeaturesRequest(feature_service="card")
            request.entities["card"].val.add(int64_val=42)
            answer = await stub.GetOnlineFeatures(request)
            assert list(answer.metadata.feature_names.val) == [
                "card",
                "spent",
                "visits",
                "town",
                "gift",
            ]
            assert [one.values[0].WhichOneof("val") for one in answer.results] == [
                "int64_val",
                "double_val",
                "int64_val",
                "string_val",
                "bool_val",
            ]
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                health_pb2.HealthCheckRequest.SerializeToString,
                health_pb2.HealthCheckResponse.FromString,
            )
            told = await check(health_pb2.HealthCheckRequest(service=SERVICE))
            assert told.status == health_pb2.HealthCheckResponse.SERVING
            await asyncio.to_thread(explore, address)

    asyncio.run(run())
