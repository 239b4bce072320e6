"""Anything at all may come: each request gets a documented status and nobody else's answer."""

from __future__ import annotations

import contextlib
import math
import socket
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from scorer.client import ScoreOptions, score_request
from scorer.v1 import scorer_pb2
from tests.scorer.besieged import DEADLINE_SECONDS, Server, besieged
from tests.scorer.changed import changed, changed_bytes
from tests.scorer.good_requests import AT_NOON, GOOD
from tests.scorer.shop import MODEL, ROW

Status = grpc.StatusCode
# What a request can end in that somebody made wrong; see the proto.
DOCUMENTED = {
    Status.OK,
    Status.INVALID_ARGUMENT,
    Status.NOT_FOUND,
    Status.FAILED_PRECONDITION,
    Status.RESOURCE_EXHAUSTED,
}
FUZZ = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=40,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A scorer, and two neighbours of ours who use it as well."""
    with besieged(tmp_path_factory.mktemp("fuzz")) as running:
        yield running


def test_every_method_is_here(server: Server) -> None:
    """Every method that the scorer shows is fuzzed, and its good requests have answers."""
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(server.channel))
    shown = set()
    for name in ProtoReflectionDescriptorDatabase(server.channel).get_services():
        if not name.startswith("grpc."):
            shown |= {f"{name}/{method.name}" for method in pool.FindServiceByName(name).methods}
    assert shown
    assert shown <= GOOD.keys()
    for method, requests in GOOD.items():
        for request in requests:
            code, answer = server.send(method, request.SerializeToString())
            assert code is Status.OK, (method, answer)


@pytest.mark.parametrize("method", GOOD)
def test_any_bytes_have_a_status(server: Server, method: str) -> None:
    """Bytes that may or may not be a message end in a status that the caller is to blame for."""
    good = [request.SerializeToString() for request in GOOD[method]]
    # What nothing is in is soon tried out.
    examples = FUZZ if any(good) else settings(FUZZ, max_examples=10)

    @examples
    @given(st.sampled_from(good).flatmap(changed_bytes))
    def send(request: bytes) -> None:
        code, answer = server.send(method, request)
        assert code in DOCUMENTED, answer

    send()
    server.check()


@pytest.mark.parametrize("method", [name for name in GOOD if GOOD[name][0].DESCRIPTOR.fields])
def test_any_message_has_a_status(server: Server, method: str) -> None:
    """Valid messages with anything in them do, too; an answer is one to this very request."""

    @FUZZ
    @given(st.sampled_from(GOOD[method]).flatmap(changed))
    def send(request: Message) -> None:
        code, answer = server.send(method, request.SerializeToString())
        assert code in DOCUMENTED, answer
        if method.endswith("/Score") and code is Status.OK:
            _check_score(request, answer)

    send()
    server.check()


def test_any_metadata_does_no_harm(server: Server) -> None:
    """Headers that mean something to somebody may have any value."""
    request = GOOD["scorer.v1.ScorerService/Score"][0].SerializeToString()
    call: Any = server.channel.unary_unary("/scorer.v1.ScorerService/Score")
    names = ("authorization", "traceparent", "tracestate", "baggage", "x-request-id", "te")
    values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300)

    @FUZZ
    @given(st.lists(st.tuples(st.sampled_from(names), values), max_size=5))
    def send(metadata: list[tuple[str, str]]) -> None:
        call(request, metadata=metadata, timeout=DEADLINE_SECONDS)
        call(request, metadata=[("traceparent-bin", b"\x00\xff")], timeout=DEADLINE_SECONDS)

    send()
    server.check()


def test_calls_that_are_given_up_do_no_harm(server: Server) -> None:
    """Callers may leave at any moment, those who asked for much as well, and close connections."""
    many = _rows(2_000).SerializeToString()
    with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        unary: Any = channel.unary_unary("/scorer.v1.ScorerService/Score")
        stream: Any = channel.stream_stream("/scorer.v1.ScorerService/ScoreStream")
        calls = []
        for number in range(60):
            calls.append(unary.future(many, timeout=0.001 * number))
            calls.append(stream(iter([many] * 5), timeout=DEADLINE_SECONDS))
            if number % 2:
                calls[-1].cancel()
    assert all(call.code() is not None for call in calls)
    server.check()


def test_what_is_not_grpc_does_no_harm(server: Server) -> None:
    """Bytes that are no HTTP/2, or stop in the middle of it, cost their sender the connection."""
    host, _, port = server.address.rpartition(":")
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    for sent in (b"", b"GET / HTTP/1.1\r\n\r\n", preface, preface + b"\xff" * 500, bytes(9_000)):
        with (
            socket.create_connection((host, int(port)), DEADLINE_SECONDS) as connection,
            # The scorer may hang up at any byte.
            contextlib.suppress(OSError),
        ):
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
    server.check()


def _check_score(request: Any, answer: bytes) -> None:
    """The answer has the request's id, a row for each of its rows, and finite probabilities."""
    response = scorer_pb2.ScoreResponse.FromString(answer)
    assert response.request_id == request.request_id
    assert len(response.scores) == len(request.rows)
    for row in response.scores:
        assert 0 <= row.score <= 1
        assert len(row.missing) == len(row.stand_ins)


def _score(**change: Any) -> scorer_pb2.ScoreRequest:
    return score_request(MODEL, {**ROW, **change}, AT_NOON)


def _rows(count: int) -> scorer_pb2.ScoreRequest:
    return score_request(MODEL, [ROW] * count, AT_NOON)


def _empty_rows(count: int) -> scorer_pb2.ScoreRequest:
    start = scorer_pb2.ScoreRequest(model=MODEL).SerializeToString()
    return scorer_pb2.ScoreRequest.FromString(start + b"\x12\x00" * count)


def _at(seconds: int, nanos: int = 0) -> scorer_pb2.ScoreRequest:
    request = score_request(MODEL, ROW)
    request.event_time.seconds, request.event_time.nanos = seconds, nanos
    return request


def _empty_value() -> scorer_pb2.ScoreRequest:
    request = _score()
    request.rows[0].inputs["card"].Clear()
    return request


_INVALID, _TOO_MUCH, _OK = Status.INVALID_ARGUMENT, Status.RESOURCE_EXHAUSTED, Status.OK
_NOT_READY = Status.FAILED_PRECONDITION


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (scorer_pb2.ScoreRequest, _INVALID),
        (lambda: score_request(MODEL, []), _INVALID),
        (lambda: score_request(MODEL, {}), _INVALID),
        (_empty_value, _INVALID),
        (lambda: _score(amount="2.5"), _INVALID),
        (lambda: _score(amount=True), _INVALID),
        (lambda: _score(items=3.0), _INVALID),
        (lambda: _score(gift=1), _INVALID),
        (lambda: _score(card="42"), _INVALID),
        (lambda: _score(origin=7), _INVALID),
        (lambda: _score(colour="red"), _INVALID),
        (lambda: _score(amount=math.nan), _INVALID),
        (lambda: _score(amount=math.inf), _INVALID),
        (lambda: _score(amount=-math.inf), _INVALID),
        (lambda: _score(amount=-1e308, items=-(2**63)), _OK),
        (lambda: _score(card=-(2**63)), _OK),
        (lambda: _score(card=2**63 - 1), _OK),
        (lambda: _score(origin=""), _OK),
        (lambda: _score(origin="\x00\n😀\u202e"), _OK),
        (lambda: _score(origin="x" * 3_000_000), _OK),
        (lambda: _score(origin="x" * 5_000_000), _TOO_MUCH),
        (lambda: _score(**{"x" * 3_000_000: 1}), _INVALID),
        (lambda: _score(**{f"input{number}": number for number in range(100_000)}), _INVALID),
        (lambda: _rows(10_000), _OK),
        (lambda: _rows(10_001), _INVALID),
        (lambda: _empty_rows(1_000_000), _INVALID),
        (lambda: _at(-62_135_596_800), _OK),
        (lambda: _at(253_402_300_799, 999_999_999), _OK),
        (lambda: _at(253_402_300_800), _INVALID),
        (lambda: _at(-62_135_596_801), _INVALID),
        (lambda: _at(2**63 - 1), _INVALID),
        (lambda: _at(-(2**63)), _INVALID),
        (lambda: _at(0, -1), _INVALID),
        (lambda: _at(0, 10**9), _INVALID),
        (lambda: score_request("nobody", ROW), Status.NOT_FOUND),
        (lambda: score_request("../fraud", ROW), Status.NOT_FOUND),
        (lambda: score_request("x" * 3_000_000, ROW), Status.NOT_FOUND),
        (lambda: score_request(MODEL, ROW, ScoreOptions("9")), Status.NOT_FOUND),
        (lambda: score_request(MODEL, ROW, ScoreOptions("-1")), Status.NOT_FOUND),
        (lambda: score_request(MODEL, ROW, ScoreOptions("x" * 3_000_000)), Status.NOT_FOUND),
        (lambda: score_request(MODEL, ROW, ScoreOptions(channel="best")), _INVALID),
        (lambda: score_request(MODEL, ROW, ScoreOptions("1", channel="champion")), _INVALID),
        (lambda: score_request(MODEL, ROW, ScoreOptions(channel="shadow")), _NOT_READY),
        (lambda: score_request(MODEL, ROW, ScoreOptions(request_id="x" * 3_000_000)), _OK),
    ],
)
def test_each_kind_of_wrong_has_its_status(
    server: Server, make: Callable[[], scorer_pb2.ScoreRequest], code: grpc.StatusCode
) -> None:
    """What the proto says of each kind of wrong request is what comes, alone and in a stream."""
    request = make()
    found, answer = server.send("scorer.v1.ScorerService/Score", request.SerializeToString())
    assert found is code, answer[:500]
    assert code is Status.OK or len(answer) < 2_000, "an error does not repeat what was sent"
    if code is Status.OK:
        _check_score(request, answer)
    found, answer = server.send("scorer.v1.ScorerService/ScoreStream", request.SerializeToString())
    assert found is code, answer[:500]
    server.check()
