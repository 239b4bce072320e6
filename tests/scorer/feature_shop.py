"""A shop whose features are applied, and a server of nothing but features."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from contracts.feast_bytes import encode_value, entity_key
from contracts.plan import Aggregate, Plan, View
from contracts.plan_file import plan_path, write_plan
from scorer.applied import AppliedFeatures
from scorer.callers import ANYBODY, Caller, Metadata, Peer
from scorer.calls import Call, Calls, Context
from scorer.feast_serving import FeastServing, add_feast_serving
from scorer.features import FeatureLimits, Features
from scorer.features_service import FeatureCalls
from scorer.metrics import ScorerMetrics
from scorer.model import LoadedModel
from scorer.model_pool import ModelPool
from scorer.online_store import OnlineReader, open_online_store
from scorer.unreadable import reading
from scorer.v1 import scorer_pb2, scorer_pb2_grpc
from scorer.v1.scorer_pb2 import FeatureValue, GetFeaturesResponse, MissingReason, Row, Value
from tests.scorer.shop import NOON_US, TTL_SECONDS, Shop

CARD = View(
    name="card_1h",
    topic="payments",
    join_keys=("card",),
    join_key_types=("int64",),
    aggregates=(
        Aggregate("spent", "float64", "amount", "sum", 0, 0),
        Aggregate("visits", "int64", "amount", "count", 0, 0),
        Aggregate("town", "string", "town", "last", 0, 0),
        Aggregate("gift", "bool", "gift", "last", 0, 0),
    ),
    ttl_us=0,
    offline_path="",
)
ROUTE = View(
    name="route_1h",
    topic="flights",
    join_keys=("origin", "dest"),
    join_key_types=("string", "string"),
    aggregates=(Aggregate("delay", "float64", "delay", "mean", 0, 0),),
    ttl_us=round(TTL_SECONDS * 1e6),
    offline_path="",
)
SERVICES = {
    "card": tuple((CARD.name, one.feature) for one in CARD.aggregates),
    "trip": ((ROUTE.name, "delay"), (CARD.name, "visits"), (CARD.name, "spent")),
    "elsewhere": (("batch_view", "income"),),
}
LIMITS = FeatureLimits(in_flight_max=100, rows_max=50, read_timeout_seconds=5.0)
# Rows of noon are half a minute old.
NOW_US = NOON_US + 30_000_000
TRIP: dict[str, Any] = {"card": 42, "origin": "JFK", "dest": "LAX"}
_KINDS = {int: "int64_value", str: "string_value", float: "double_value", bool: "bool_value"}


def row(keys: Mapping[str, Any]) -> Row:
    """A row of these entity keys."""
    return Row(
        inputs={
            name: Value(null_value=0) if value is None else Value(**{_KINDS[type(value)]: value})  # type: ignore[arg-type]
            for name, value in keys.items()
        }
    )


def plain(value: FeatureValue) -> Any:
    """The value itself."""
    kind = value.value.WhichOneof("kind")
    assert kind is not None
    return None if kind == "null_value" else getattr(value.value, kind)


def reasons(response: GetFeaturesResponse) -> list[list[str]]:
    """Why values are missing, in words; empty where they are not."""
    names = [name.removeprefix("MISSING_REASON_") for name, _ in MissingReason.items()]
    return [[names[one.missing] if one.missing else "" for one in r.values] for r in response.rows]


def stamp(time_us: int) -> Timestamp:
    """A moment as a message."""
    time = Timestamp()
    time.FromMicroseconds(time_us)
    return time


class NamedCallers:
    """Callers who say in the metadata which models they may use: the test's own door."""

    def identify(self, metadata: Metadata, peer: Peer) -> Caller:
        """Everything without a word, else what ``models`` has, with commas."""
        given = dict(metadata).get("models")
        if given is None:
            return ANYBODY
        assert isinstance(given, str)
        return Caller("someone", frozenset(filter(None, given.split(","))))


@dataclass(frozen=True)
class FeatureShop(Shop):
    """The shop with its plan file."""

    def apply(
        self,
        views: Sequence[View] = (CARD, ROUTE),
        services: Mapping[str, Sequence[tuple[str, str]]] = SERVICES,
    ) -> None:
        """What ``headwater apply`` leaves behind."""
        write_plan(plan_path(self.folder), Plan("shop", (), tuple(views), ()), services)

    def put(
        self, view: View, keys: Sequence[str | int], values: Mapping[str, object], at_us: int
    ) -> None:
        """Write a row as our writer does, with microseconds; a value may be bytes as they are."""
        key = entity_key(view.join_keys, view.join_key_types, keys)
        types = {one.feature: one.dtype for one in view.aggregates}
        with closing(sqlite3.connect(self.online_path)) as db, db:
            table = f"shop_{view.name}"
            columns = {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
            if columns and "event_us" not in columns:
                db.execute(f"ALTER TABLE {table} ADD COLUMN event_us INTEGER")
            db.execute(
                f"CREATE TABLE IF NOT EXISTS {table} (entity_key BLOB, feature_name TEXT,"
                " value BLOB, value_text TEXT, vector_value BLOB, event_ts timestamp,"
                " created_ts timestamp, event_us INTEGER, PRIMARY KEY(entity_key, feature_name))"
            )
            for name, value in values.items():
                data = value if isinstance(value, bytes) else encode_value(types[name], value)  # type: ignore[arg-type]
                db.execute(
                    f"INSERT OR REPLACE INTO {table} (entity_key, feature_name, value, event_ts,"
                    " event_us) VALUES (?, ?, ?, ?, ?)",
                    (key, name, data, at_us // 1_000_000, at_us),
                )


class _Ended:
    """Keeps what is known of the calls that are over."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def begun(self, call: Call, context: Context) -> None:
        """A call has come."""

    def ended(self, call: Call) -> None:
        """It is over."""
        self.calls.append(call)


@dataclass(frozen=True)
class FeatureServer:
    """A server that runs; ``ended`` has what it knows of the calls that are over."""

    channel: grpc.aio.Channel
    ended: list[Call]

    async def get(
        self, models: str | None = None, **request: object
    ) -> scorer_pb2.GetFeaturesResponse:
        """``GetFeatures`` by a caller who may use those models, all without a word."""
        stub: scorer_pb2_grpc.ScorerServiceAsyncStub
        stub = scorer_pb2_grpc.ScorerServiceStub(self.channel)
        metadata = () if models is None else (("models", models),)
        message = scorer_pb2.GetFeaturesRequest(**request)  # type: ignore[arg-type]
        return await stub.GetFeatures(message, metadata=metadata, timeout=30.0)


@asynccontextmanager
async def feature_server(
    applied: AppliedFeatures,
    champion: Callable[[str], LoadedModel],
    reader: OnlineReader,
    limits: FeatureLimits = LIMITS,
    clock_us: Callable[[], int] = lambda: NOW_US,
) -> AsyncIterator[FeatureServer]:
    """A server of features over a socket, as long as the context."""
    ended = _Ended()
    calls = Calls(ScorerMetrics(), NamedCallers(), 10.0, (ended,))
    features = Features(applied, champion, reader, limits)
    server = grpc.aio.server()
    work = FeatureCalls(features, clock_us)

    async def answer(
        request: scorer_pb2.GetFeaturesRequest, context: Context
    ) -> scorer_pb2.GetFeaturesResponse:
        return await calls.answer("GetFeatures", work.get, request, context)

    handler = grpc.unary_unary_rpc_method_handler(
        answer,
        scorer_pb2.GetFeaturesRequest.FromString,
        scorer_pb2.GetFeaturesResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("scorer.v1.ScorerService", {"GetFeatures": handler}),)
    )
    add_feast_serving(FeastServing(calls, features, clock_us), reading(server))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield FeatureServer(channel, ended.calls)
    finally:
        await server.stop(None)
        await reader.close()


@asynccontextmanager
async def shop_server(
    shop: FeatureShop, limits: FeatureLimits = LIMITS, reader: OnlineReader | None = None
) -> AsyncIterator[FeatureServer]:
    """A server of the shop's features; it looks at the plan file at every call."""
    pool = ModelPool(shop.repository, 1, lambda model, result, seconds: None)
    await pool.poll()
    applied = AppliedFeatures(plan_path(shop.folder), time.monotonic, look_seconds=0)
    async with feature_server(
        applied,
        lambda model: pool.channel(model, "champion"),
        reader or open_online_store(shop.folder),
        limits,
    ) as server:
        yield server
