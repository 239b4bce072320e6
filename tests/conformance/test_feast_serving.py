"""Feast's own clients and servers against our end of its protocol, in SQLite and in Redis."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from feast import FeatureService
from feast.infra.contrib.grpc_server import GrpcFeatureServer
from feast.protos.feast.serving import ServingService_pb2 as theirs
from feast.protos.feast.serving.GrpcServer_pb2_grpc import GrpcFeatureServerStub
from feast.protos.feast.serving.ServingService_pb2_grpc import ServingServiceStub
from feast.protos.feast.types import Value_pb2 as their_types
from feast.protos.feast.types.Value_pb2 import RepeatedValue, Value
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

from contracts.plan import Plan
from contracts.plan_file import plan_path, write_plan
from scorer.applied import AppliedFeatures
from scorer.errors import UnknownModelError
from scorer.foreign import feast_serving_pb2 as ours
from scorer.foreign import feast_types_pb2 as our_types
from scorer.model import LoadedModel
from scorer.online_store import open_online_store
from tests.conformance.stores import Row, Store
from tests.conformance.views import CLICKS, DEVICES, HOUR_US, PROFILES, ROUTES, SPEND, VIEWS
from tests.scorer.feature_shop import FeatureServer, feature_server

T0_US = 1_700_000_000_123_457
NOW_US = T0_US + 60_000_000
SERVICES = {
    "people": [SPEND, CLICKS],
    "places": [PROFILES, ROUTES],
    "all": list(VIEWS),
}


def apply(folder: Path, project: str, online: Mapping[str, Any]) -> None:
    """What our server finds in the folder of a repository where these views are applied."""
    config = {"project": project, "online_store": dict(online)}
    (folder / "feature_store.yaml").write_text(yaml.safe_dump(config))
    services = {
        name: [(view.name, one.feature) for view in views for one in view.aggregates]
        for name, views in SERVICES.items()
    }
    write_plan(plan_path(folder), Plan(project, (), VIEWS, ()), services)


@pytest.fixture
def applied_folder(tmp_path: Path) -> Path:
    """A repository with an empty store, without Feast."""
    apply(tmp_path, "empty", {"type": "sqlite", "path": str(tmp_path / "online.db")})
    sqlite3.connect(tmp_path / "online.db").close()
    return tmp_path


def fill(store: Store) -> None:
    """Rows of several views: nulls, strings, an expired one, and entities that some views lack."""
    store.we_write(SPEND, [Row(("ann",), T0_US, (10.25, 3)), Row(("bob",), T0_US + 1, (None, 0))])
    store.we_write(SPEND, [Row(("old",), NOW_US - 2 * HOUR_US, (1.0, 2))])
    store.feast_writes(CLICKS, [Row(("ann",), T0_US - 5_000_000, (0.5, True))])
    store.feast_writes(CLICKS, [Row(("old",), T0_US, (None, False))])
    store.we_write(ROUTES, [Row(("JFK", 1), T0_US, (2.5, 7, True))])
    store.we_write(DEVICES, [Row((5,), T0_US, (-1.5,))])
    store.we_write(
        PROFILES,
        [
            Row(("JFK", 1), T0_US, ("New York", True, None, -4, 0.5)),
            Row(("Zürich", 2), T0_US, ("東京🗼", None, "", 2**53, -0.0)),
            Row(("Zürich", 1), T0_US, ("z" * 200, False, "東京🗼" * 9_000, 1, 1.0)),
        ],
    )
    store.feast.apply(
        [
            FeatureService(
                name=name, features=[store.feast.get_feature_view(view.name) for view in views]
            )
            for name, views in SERVICES.items()
        ]
    )
    apply(store.folder, store.feast.config.project, store.online)


def column(values: Sequence[str | int | None]) -> RepeatedValue:
    """Values as Feast's clients send them."""
    return RepeatedValue(
        val=[
            Value(string_val=one)
            if isinstance(one, str)
            else Value()
            if one is None
            else Value(int64_val=one)
            for one in values
        ]
    )


def request(entities: Mapping[str, Sequence[str | int | None]], **given: Any) -> Any:
    """A request in Feast's own classes."""
    if "features" in given:
        given["features"] = theirs.FeatureList(val=given["features"])
    return theirs.GetOnlineFeaturesRequest(
        entities={name: column(values) for name, values in entities.items()}, **given
    )


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[FeatureServer]:
    """Our server on what was applied in a folder."""

    def no_model(model: str) -> LoadedModel:
        raise UnknownModelError(model)

    applied = AppliedFeatures(plan_path(folder), time.monotonic)
    reader = open_online_store(folder)
    async with feature_server(applied, no_model, reader, clock_us=lambda: NOW_US) as server:
        yield server


def ask(folder: Path, *requests: Any) -> list[Any]:
    """What our server answers to Feast's stub."""

    async def run() -> list[Any]:
        async with serving(folder) as server:
            stub = ServingServiceStub(server.channel)
            return [await stub.GetOnlineFeatures(one) for one in requests]

    return asyncio.run(run())


@contextmanager
def feast_server(store: Store) -> Iterator[GrpcFeatureServer]:
    """Feast's own gRPC server, without the thread that reads its registry again and again."""
    server = GrpcFeatureServer(store.feast, registry_ttl_sec=3_600)
    try:
        yield server
    finally:
        server._shuting_down = True
        assert server._active_timer is not None
        server._active_timer.cancel()


Cell = tuple[Value, str, int]


def cells(response: theirs.GetOnlineFeaturesResponse) -> dict[str, list[Cell]]:
    """Column -> (value, status, event time in microseconds) of each row."""
    names = list(response.metadata.feature_names.val)
    assert len(set(names)) == len(names)
    return {
        name: [
            (value, theirs.FieldStatus.Name(status), stamp.ToMicroseconds())
            for value, status, stamp in zip(
                result.values, result.statuses, result.event_timestamps, strict=True
            )
        ]
        for name, result in zip(names, response.results, strict=True)
    }


Keys = dict[str, list[str | int | None]]
PEOPLE: Keys = {"user": ["ann", "bob", "old", "nobody", "ann"]}
PLACES: Keys = {"origin": ["JFK", "Zürich", "Zürich", "JFK"], "carrier": [1, 2, 1, 2]}
EVERYONE: Keys = {
    "user": ["ann", "nobody"],
    "device": [5, -1],
    "origin": ["JFK", "Zürich"],
    "carrier": [1, 2],
}
REQUESTS: dict[str, Any] = {
    "a service": request(PEOPLE, feature_service="people"),
    "keys of two parts": request(PLACES, feature_service="places", full_feature_names=True),
    "all views": request(EVERYONE, feature_service="all", full_feature_names=True),
    "by name": request(PEOPLE, features=["clicks_1h:mobile", "spend_1h:total"]),
    "by full name": request(
        EVERYONE,
        features=["profiles:visits", "spend_1h:visits", "devices_1h:heat"],
        full_feature_names=True,
    ),
}


def test_feasts_clients_get_what_feasts_server_gives(store: Store) -> None:
    """Columns, values and event times are those of Feast's server; statuses say what is so.

    Feast's server in Python says PRESENT of nulls and of what has expired, and with Redis of
    entities that are not there too.
    """
    fill(store)
    answers = dict(zip(REQUESTS, ask(store.folder, *REQUESTS.values()), strict=True))
    statuses = set()
    with feast_server(store) as server:
        for name, one in REQUESTS.items():
            wanted = cells(server.GetOnlineFeatures(one, None))
            found = cells(answers[name])
            assert set(found) == set(wanted), name
            for feature, column_ in found.items():
                for (value, status, time_us), (their_value, their_status, their_us) in zip(
                    column_, wanted[feature], strict=True
                ):
                    what = (name, feature, status, their_status)
                    assert value == their_value, what
                    assert store.kept_us(time_us) == their_us, what
                    if status == "PRESENT" or their_status == "NOT_FOUND":
                        assert status == their_status, what
                    statuses.add((status, their_status))
    told = {("PRESENT", "PRESENT"), ("NULL_VALUE", "PRESENT"), ("OUTSIDE_MAX_AGE", "PRESENT")}
    assert statuses >= told
    assert {ours_ for ours_, _ in statuses} == {ours_ for ours_, _ in told} | {"NOT_FOUND"}


def test_statuses_and_order(store: Store) -> None:
    """Join keys come first, then features as they were asked for; each status has its meaning."""
    fill(store)
    names = ["spend_1h:visits", "clicks_1h:rate", "spend_1h:total"]
    (answer,) = ask(store.folder, request(PEOPLE, features=names))
    assert list(answer.metadata.feature_names.val) == ["user", "visits", "rate", "total"]
    user, visits, rate, total = answer.results
    assert [value.string_val for value in user.values] == PEOPLE["user"]
    present, null, none, old = (
        theirs.PRESENT,
        theirs.NULL_VALUE,
        theirs.NOT_FOUND,
        theirs.OUTSIDE_MAX_AGE,
    )
    assert list(user.statuses) == [present] * 5
    assert list(visits.statuses) == [present, present, old, none, present]
    assert list(rate.statuses) == [present, none, null, none, present]
    assert list(total.statuses) == [present, null, old, none, present]
    # As in Feast's other servers the value is there, for whoever wants it old.
    assert [value.int64_val for value in visits.values] == [3, 0, 2, 0, 3]
    assert total.event_timestamps[2].ToMicroseconds() == NOW_US - 2 * HOUR_US
    assert total.event_timestamps[3].ToMicroseconds() == 0


def test_columns_that_are_not_needed(applied_folder: Path) -> None:
    """Join keys of other views come back as they were given; what is no join key is left out."""
    given: Keys = {"user": ["ann", None], "device": [1, 2], "amount": [3, 4]}
    (answer,) = ask(applied_folder, request(given, features=["spend_1h:total"]))
    assert list(answer.metadata.feature_names.val) == ["device", "user", "total"]
    device, user, total = answer.results
    assert [value.int64_val for value in device.values] == [1, 2]
    assert list(user.values) == [Value(string_val="ann"), Value()]
    # A key that is null has no entity.
    assert list(total.statuses) == [theirs.NOT_FOUND, theirs.NOT_FOUND]
    assert list(total.values) == [Value(), Value()]


def test_views_are_named_if_asked_for(applied_folder: Path) -> None:
    """The views of the features are told in order of first use, if the request wants them."""
    names = ["clicks_1h:rate", "spend_1h:total", "clicks_1h:mobile"]
    requests = [
        request({"user": ["ann"]}, features=names, include_feature_view_version_metadata=wanted)
        for wanted in (False, True)
    ]
    without, told = ask(applied_folder, *requests)
    assert not without.metadata.feature_view_metadata
    views = [(one.name, one.version) for one in told.metadata.feature_view_metadata]
    assert views == [("clicks_1h", 0), ("spend_1h", 0)]


@pytest.mark.parametrize(
    ("one", "code", "text"),
    [
        (request(PEOPLE), "INVALID_ARGUMENT", "no features"),
        (request(PEOPLE, features=[]), "INVALID_ARGUMENT", "no features"),
        (request({}, feature_service="people"), "INVALID_ARGUMENT", "no rows"),
        (request({"user": []}, feature_service="people"), "INVALID_ARGUMENT", "no rows"),
        (request({"user": ["a"] * 51}, feature_service="people"), "INVALID_ARGUMENT", "at most 50"),
        (request({"device": [1]}, feature_service="people"), "INVALID_ARGUMENT", "'user'"),
        (
            request({"user": ["a", "b"], "device": [1]}, feature_service="people"),
            "INVALID_ARGUMENT",
            "differ in length",
        ),
        (request({"user": [1]}, feature_service="people"), "INVALID_ARGUMENT", "must be string"),
        (
            theirs.GetOnlineFeaturesRequest(
                feature_service="people",
                entities={"user": RepeatedValue(val=[Value(bytes_val=b"x")])},
            ),
            "INVALID_ARGUMENT",
            "not bytes_val",
        ),
        (
            request(EVERYONE, features=["spend_1h:visits", "profiles:visits"]),
            "INVALID_ARGUMENT",
            "set `full_feature_names`",
        ),
        (
            request(PEOPLE, features=["spend_1h:visits"] * 2, full_feature_names=True),
            "INVALID_ARGUMENT",
            "twice",
        ),
        (request(PEOPLE, feature_service="nothing"), "NOT_FOUND", "'nothing'"),
        (request(PEOPLE, features=["spend_1h:nothing"]), "NOT_FOUND", "'spend_1h:nothing'"),
        (request(PEOPLE, features=["spend_1h"]), "NOT_FOUND", "write view:feature"),
    ],
)
def test_bad_requests_have_a_status(applied_folder: Path, one: Any, code: str, text: str) -> None:
    """What cannot be answered ends in a status and a text that names what is wrong."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        ask(applied_folder, one)
    assert caught.value.code().name == code
    assert text in (caught.value.details() or "")


def test_callers_are_held_to_their_models(applied_folder: Path) -> None:
    """A caller whose models read none of it gets nothing by Feast's protocol either."""

    async def run() -> None:
        async with serving(applied_folder) as server:
            stub = ServingServiceStub(server.channel)
            for asked in ({"feature_service": "people"}, {"features": ["spend_1h:total"]}):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await stub.GetOnlineFeatures(
                        request({"user": ["ann"]}, **asked), metadata=(("models", "other"),)
                    )
                assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED

    asyncio.run(run())


@pytest.mark.parametrize(
    ("mine", "feasts"), [(ours, theirs), (our_types, their_types)], ids=["serving", "types"]
)
def test_the_protos_are_feasts(mine: Any, feasts: Any) -> None:
    """Each message, field, enum and call of ours is in Feast's installed protos, all the same."""
    own, installed = _described(mine), _described(feasts)
    assert own["package"] == installed["package"]
    for kind in ("fields", "values", "calls"):
        assert own[kind].items() <= installed[kind].items(), kind
    assert own["fields"]


def _described(module: Any) -> dict[str, Any]:
    """What a generated module says, flat: fields, values of enums and calls by their full names."""
    file = FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
    fields: dict[str, Any] = {}

    def add(prefix: str, message: DescriptorProto) -> None:
        for field in message.field:
            group = (
                message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
            )
            fields[f"{prefix}{message.name}.{field.name}"] = (
                field.number,
                field.type,
                field.label,
                field.type_name,
                group,
            )
        for inner in message.nested_type:
            add(f"{prefix}{message.name}.", inner)

    for message in file.message_type:
        add("", message)
    return {
        "package": file.package,
        "fields": fields,
        "values": {
            f"{enum.name}.{value.name}": value.number
            for enum in file.enum_type
            for value in enum.value
        },
        "calls": {
            f"{service.name}.{call.name}": (call.input_type, call.output_type)
            for service in file.service
            for call in service.method
        },
    }


def test_the_names_of_both_servers_answer(applied_folder: Path) -> None:
    """Feast's server in Python has a service name of its own; its clients get the same answer."""

    async def run() -> None:
        async with serving(applied_folder) as server:
            stub = ServingServiceStub(server.channel)
            info = await stub.GetFeastServingInfo(theirs.GetFeastServingInfoRequest())
            assert info.version.startswith("headwater")
            python = GrpcFeatureServerStub(server.channel)
            one = request({"user": ["nobody"]}, features=["spend_1h:total"])
            answers = [await each.GetOnlineFeatures(one) for each in (stub, python)]
            assert answers[0] == answers[1]
            assert [call.rows for call in server.ended] == [0, 1, 1]
            assert answers[0].results[1].statuses == [theirs.NOT_FOUND]

    asyncio.run(run())
