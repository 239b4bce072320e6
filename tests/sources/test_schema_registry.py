"""The schema registry, over HTTP: what it knows, what it does not, and when it is gone."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from contracts.log import LogError
from dataflows.sources import schema_registry
from dataflows.sources.decoding import make_decoder
from dataflows.sources.schema_registry import SchemaRegistry, UnusableSchemaError
from tests.sources.chunks import chunk_of
from tests.sources.orders import AVRO, AVRO_SCHEMA, GOOD, to_avro

SCHEMA = json.dumps(AVRO_SCHEMA)


@dataclass
class Registry:
    """A server that speaks a registry's interface, on a free port."""

    answers: dict[str, tuple[int, object]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    # How many requests are answered with 503 first.
    failures: int = 0
    address: str = ""

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{self.address}"

    def answer(self, path: str, login: str) -> tuple[int, object]:
        """Status and body for a path."""
        self.asked.append(path)
        self.logins.append(login)
        if self.failures:
            self.failures -= 1
            return 503, {"error_code": 50301}
        unknown = {"error_code": 40403, "message": "Schema not found"}
        return self.answers.get(path, (404, unknown))


@pytest.fixture
def registry() -> Iterator[Registry]:
    """A registry that knows schema 1 (ours), 2 (of another type), 3 (with references)."""
    made = Registry()
    made.answers = {
        "/schemas/ids/1": (200, {"schema": SCHEMA}),
        "/schemas/ids/2": (200, {"schema": "message M {}", "schemaType": "PROTOBUF"}),
        "/schemas/ids/3": (200, {"schema": SCHEMA, "references": [{"name": "x"}]}),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = made.answer(self.path, self.headers.get("Authorization", ""))
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "http://127.0.0.1:1/")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.address = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield made
        server.shutdown()
        thread.join()


def test_a_schema_is_asked_for_once(registry: Registry) -> None:
    """What a number stands for never changes, so it is remembered; also behind a path."""
    registry.answers["/base/schemas/ids/1"] = (200, {"schema": SCHEMA, "schemaType": "AVRO"})
    for url, path in ((registry.url, ""), (f"{registry.url}/base/", "/base")):
        client = SchemaRegistry(url)
        assert client.avro_schema(1) == SCHEMA
        assert client.avro_schema(1) == SCHEMA
        assert registry.asked.pop() == f"{path}/schemas/ids/1"
        assert registry.asked == []


@pytest.mark.parametrize(
    ("number", "reason"), [(7, "no schema 7"), (2, "PROTOBUF"), (3, "refers to other schemas")]
)
def test_a_number_without_a_usable_schema(registry: Registry, number: int, reason: str) -> None:
    """An unknown number is a fault of the record; it is asked for again only after a while."""
    now = [0.0]
    client = SchemaRegistry(registry.url, monotonic=lambda: now[0])
    for moment in (0.0, schema_registry.UNKNOWN_SECONDS - 1, schema_registry.UNKNOWN_SECONDS + 1):
        now[0] = moment
        with pytest.raises(UnusableSchemaError, match=reason):
            client.avro_schema(number)
    assert len(registry.asked) == 2


def test_a_passing_failure_is_waited_out(registry: Registry) -> None:
    """A registry that is starting is asked again, each time after a longer wait."""
    registry.failures = 3
    waits: list[float] = []
    told: list[str] = []
    client = SchemaRegistry(registry.url, wait=waits.append, tell=told.append)
    assert client.avro_schema(1) == SCHEMA
    assert waits == [0.1, 0.2, 0.4]
    assert told == [f"schema registry {registry.url} to answer"] * 3 + [""]


def test_a_registry_that_is_gone_is_no_fault_of_the_records() -> None:
    """After its time the flow is told that the registry is gone, with what to do."""
    now = [0.0]

    def wait(seconds: float) -> None:
        now[0] += seconds

    client = SchemaRegistry(
        "http://ada:secret@127.0.0.1:1", patience_seconds=20, wait=wait, monotonic=lambda: now[0]
    )
    with pytest.raises(LogError, match="HEADWATER_SCHEMA_REGISTRY_URL") as caught:
        client.avro_schema(1)
    assert 10 < now[0] <= 20
    assert "http://127.0.0.1:1" in str(caught.value)
    assert "secret" not in str(caught.value)
    topic = replace(AVRO.topic, framing="schema-registry")
    with pytest.raises(LogError):
        make_decoder(topic, client).decode(chunk_of([b"\0\0\0\0\1" + to_avro(GOOD)]))


def test_a_stop_ends_the_waiting() -> None:
    """When the flow is stopped nobody waits for the registry any longer."""
    client = SchemaRegistry("http://127.0.0.1:1", patience_seconds=1e9, wait=lambda _: True)
    with pytest.raises(LogError):
        client.avro_schema(1)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((404, b"<html>not here</html>"), "404"),
        ((404, {"error_code": 404}), "404"),
        ((401, {}), "refuses us"),
        ((302, {}), "302"),
        ((200, b"hello"), "something else"),
        ((200, [1]), "something else"),
        ((200, {"id": 1}), "something else"),
    ],
)
def test_what_is_no_registry_is_no_fault_of_the_records(
    registry: Registry, answer: tuple[int, object], reason: str
) -> None:
    """A wrong address or login stops the flow, and does not make dead letters of all records."""
    registry.answers["/schemas/ids/1"] = answer
    with pytest.raises(LogError, match=reason) as caught:
        SchemaRegistry(registry.url).avro_schema(1)
    assert "HEADWATER_SCHEMA_REGISTRY_URL" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_login_of_the_address_is_used(registry: Registry) -> None:
    """User and password of the URL go as basic authentication, never in the path."""
    assert SchemaRegistry(f"http://ad%40a:s%3Acret@{registry.address}").avro_schema(1) == SCHEMA
    assert registry.logins == ["Basic " + base64.b64encode(b"ad@a:s:cret").decode()]


def test_a_registry_keeps_a_bounded_number(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of too many schemas the oldest is forgotten, and asked for again."""
    monkeypatch.setattr(schema_registry, "SCHEMAS_MAX", 2)
    client = SchemaRegistry(registry.url)
    for number in (4, 5, 6):
        registry.answers[f"/schemas/ids/{number}"] = (200, {"schema": SCHEMA})
    for number in (4, 5, 6, 6, 5, 4):
        client.avro_schema(number)
    assert [path[-1] for path in registry.asked] == ["4", "5", "6", "4"]


def test_records_are_read_as_the_registry_says(registry: Registry) -> None:
    """A record's number leads to its writer's schema, which is read as the definition's."""
    newer = {
        **AVRO_SCHEMA,
        "fields": [{"name": "channel", "type": "string"}, *AVRO_SCHEMA["fields"]],
    }
    registry.answers["/schemas/ids/8"] = (200, {"schema": json.dumps(newer)})
    registry.answers["/schemas/ids/9"] = (200, {"schema": '"long"'})
    topic = replace(AVRO.topic, framing="schema-registry")
    records = [
        b"\0\0\0\0\1" + to_avro(GOOD),
        b"\0\0\0\0\x08" + to_avro({**GOOD, "channel": "web", "user": "u2"}, newer),
        b"\0\0\0\0\x07" + to_avro(GOOD),
        b"\0\0\0\0\x09" + to_avro(GOOD),
        b"\0\0\0\0\1" + to_avro({**GOOD, "user": "u3"}),
    ]
    decoded = make_decoder(topic, SchemaRegistry(registry.url)).decode(chunk_of(records))
    assert decoded.columns["user"] == ["u1", "u2", "u3"]
    assert [bad.index for bad in decoded.bad] == [2, 3]
    assert decoded.bad[0].reason == "the schema registry has no schema 7"
    assert "schema 9: its Avro schema must be that of a record" in decoded.bad[1].reason
