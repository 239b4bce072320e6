"""Anything at all may come: each request gets a documented status and nobody else's answer."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
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

from contracts.settings import PREFIX
from scorer.client import ScoreItem, ScoreOptions, ScorerClient, score_request
from scorer.client_retries import call_error
from scorer.foreign import feast_serving_pb2, open_inference_pb2
from scorer.v1 import scorer_pb2
from tests.scorer.changed import changed, changed_bytes
from tests.scorer.feature_shop import FeatureShop
from tests.scorer.shop import (
    MODEL,
    NOON_US,
    ROW,
    VECTOR,
    bias_of,
    feast_key,
    linear_score,
)

ROOT = Path(__file__).resolve().parents[2]
Status = grpc.StatusCode
DEADLINE_SECONDS = 30.0
# What a request can end in that somebody made wrong; see the proto.
DOCUMENTED = {
    Status.OK,
    Status.INVALID_ARGUMENT,
    Status.NOT_FOUND,
    Status.FAILED_PRECONDITION,
    Status.RESOURCE_EXHAUSTED,
}
CARDS = range(100, 120)
AT_NOON = ScoreOptions(event_time_us=NOON_US)
FUZZ = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=40,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


def _inference() -> open_inference_pb2.ModelInferRequest:
    request = open_inference_pb2.ModelInferRequest(model_name=MODEL, id="i")
    for name, value in ROW.items():
        tensor = request.inputs.add(name=name, shape=[1])
        if isinstance(value, bool):
            tensor.datatype = "BOOL"
            tensor.contents.bool_contents.append(value)
        elif isinstance(value, str):
            tensor.datatype = "BYTES"
            tensor.contents.bytes_contents.append(value.encode())
        elif isinstance(value, int):
            tensor.datatype = "INT64"
            tensor.contents.int64_contents.append(value)
        elif isinstance(value, float):
            tensor.datatype = "FP64"
            tensor.contents.fp64_contents.append(value)
    return request


def _vectors() -> open_inference_pb2.ModelInferRequest:
    request = open_inference_pb2.ModelInferRequest(model_name=MODEL)
    tensor = request.inputs.add(name="features", datatype="FP64", shape=[1, len(VECTOR)])
    tensor.contents.fp64_contents.extend(VECTOR)
    return request


def _raw_vectors() -> open_inference_pb2.ModelInferRequest:
    request = open_inference_pb2.ModelInferRequest(model_name=MODEL)
    request.inputs.add(name="features", datatype="FP64", shape=[2, len(VECTOR)])
    request.raw_input_contents.append(bytes(16 * len(VECTOR)))
    return request


def _feast() -> feast_serving_pb2.GetOnlineFeaturesRequest:
    request = feast_serving_pb2.GetOnlineFeaturesRequest(feature_service="card")
    request.entities["card"].val.add(int64_val=42)
    return request


_ROW = score_request(MODEL, ROW).rows[0]
_CARD = scorer_pb2.Row(inputs={"card": scorer_pb2.Value(int64_value=42)})
# Service/method -> requests that have an answer.
GOOD: dict[str, list[Message]] = {
    "scorer.v1.ScorerService/Score": [score_request(MODEL, [ROW, ROW], AT_NOON)],
    "scorer.v1.ScorerService/ScoreStream": [score_request(MODEL, ROW, AT_NOON)],
    "scorer.v1.ScorerService/GetFeatures": [
        scorer_pb2.GetFeaturesRequest(feature_service="card", rows=[_CARD]),
        scorer_pb2.GetFeaturesRequest(
            features=scorer_pb2.FeatureNames(names=["card_1h:spent"]), rows=[_CARD, _CARD]
        ),
    ],
    "scorer.v1.ScorerService/Explain": [
        scorer_pb2.ExplainRequest(model=MODEL, row=_ROW, baseline={"amount": 1.0}, samples=10)
    ],
    "scorer.v1.ScorerService/ListModels": [scorer_pb2.ListModelsRequest()],
    "scorer.v1.ScorerService/GetModel": [scorer_pb2.GetModelRequest(model=MODEL, version="1")],
    "inference.GRPCInferenceService/ServerLive": [open_inference_pb2.ServerLiveRequest()],
    "inference.GRPCInferenceService/ServerReady": [open_inference_pb2.ServerReadyRequest()],
    "inference.GRPCInferenceService/ModelReady": [open_inference_pb2.ModelReadyRequest(name=MODEL)],
    "inference.GRPCInferenceService/ServerMetadata": [open_inference_pb2.ServerMetadataRequest()],
    "inference.GRPCInferenceService/ModelMetadata": [
        open_inference_pb2.ModelMetadataRequest(name=MODEL, version="1")
    ],
    "inference.GRPCInferenceService/ModelInfer": [_inference(), _vectors(), _raw_vectors()],
    "feast.serving.ServingService/GetFeastServingInfo": [
        feast_serving_pb2.GetFeastServingInfoRequest()
    ],
    "feast.serving.ServingService/GetOnlineFeatures": [_feast()],
}
GOOD["GrpcFeatureServer/GetOnlineFeatures"] = GOOD["feast.serving.ServingService/GetOnlineFeatures"]


@dataclass
class Neighbour:
    """A caller of its own card, whose answers must be those of that card, whatever others send."""

    address: str
    card: int
    answers: int = 0
    wrong: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def has_more_than(self, answers: int) -> bool:
        """Whether it has got more answers, or a wrong one."""
        return self.answers > answers or bool(self.wrong)

    def run(self) -> None:
        """Score one at a time, and over a stream, until told to stop."""
        vector = [*VECTOR[:3], float(self.card), *VECTOR[4:]]
        expected = linear_score(vector, bias_of("1"))
        row = {**ROW, "card": self.card}
        with ScorerClient(self.address, DEADLINE_SECONDS) as client:
            while not self.stop.is_set() and not self.wrong:
                ids = [f"{self.card}-{self.answers + number}" for number in range(8)]
                options = [ScoreOptions(request_id=one, event_time_us=NOON_US) for one in ids]
                answers = [client.score(MODEL, row, one) for one in options[:4]]
                items = [ScoreItem(MODEL, row, one) for one in options[4:]]
                answers += client.score_stream(items, DEADLINE_SECONDS)  # type: ignore[arg-type]
                for one, answer in zip(ids, answers, strict=True):
                    if answer.request_id != one or abs(answer.score - expected) > 1e-12:
                        self.wrong.append(f"{one} (score {expected}) got {answer}")
                self.answers += len(ids)
                # The scorer and hypothesis want the processor, too.
                self.stop.wait(0.02)


@dataclass(frozen=True)
class Server:
    """A scorer in a process of its own, while two neighbours of the fuzz use it.

    ``send`` gives the status of a request in bytes, and the bytes of the answer.
    """

    address: str
    process: subprocess.Popen[bytes]
    log: Path
    channel: grpc.Channel
    neighbours: list[Neighbour]

    def send(self, method: str, request: bytes) -> tuple[grpc.StatusCode, bytes]:
        """What comes of one request."""
        try:
            if method.endswith("/ScoreStream"):
                stream: Any = self.channel.stream_stream(f"/{method}")
                (answer,) = stream(iter([request]), timeout=DEADLINE_SECONDS)
                one = scorer_pb2.ScoreStreamResponse.FromString(answer)
                if one.HasField("failure"):
                    return STATUS[one.failure.code], answer
            else:
                unary: Any = self.channel.unary_unary(f"/{method}")
                answer = unary(request, timeout=DEADLINE_SECONDS)
        except grpc.RpcError as error:
            told = call_error(error)
            return told.code(), told.message.encode()
        return Status.OK, answer

    def check(self) -> None:
        """It runs, and no neighbour got another's answer."""
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        assert [one.wrong for one in self.neighbours] == [[], []]

    def check_all(self) -> None:
        """Neighbours get their answers after all that came, and nothing broke on the way."""
        for one in self.neighbours:
            _wait_until(partial(one.has_more_than, one.answers))
        self.check()
        text = self.log.read_text(errors="replace")
        for sign in ("Traceback", "request_failed", '"level": "error"'):
            assert sign not in text, text[text.index(sign) - 1000 :][:3000]


STATUS = {code.value[0]: code for code in grpc.StatusCode}


def _wait_until(is_so: Callable[[], object]) -> None:
    event = threading.Event()
    for _ in range(int(DEADLINE_SECONDS / 0.01)):
        if is_so():
            return
        event.wait(0.01)
    raise AssertionError("waited in vain")


@contextmanager
def _neighbours(address: str) -> Iterator[list[Neighbour]]:
    all_ = [Neighbour(address, card) for card in (CARDS[0], CARDS[-1])]
    threads = [threading.Thread(target=one.run) for one in all_]
    for thread in threads:
        thread.start()
    try:
        yield all_
    finally:
        for one in all_:
            one.stop.set()
        for thread in threads:
            thread.join(DEADLINE_SECONDS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A scorer that logs every request."""
    shop = FeatureShop(tmp_path_factory.mktemp("fuzz"))
    shop.create()
    shop.apply()
    for card in CARDS:
        shop.write("card_1h", feast_key({"card": card}), {"spent": float(card), "visits": 4})
    environment = {name: text for name, text in os.environ.items() if not name.startswith(PREFIX)}
    environment[f"{PREFIX}SCORER_ADDRESS"] = "127.0.0.1:0"
    environment[f"{PREFIX}REQUEST_LOG_SHARE"] = "1"
    environment[f"{PREFIX}DEFAULT_DEADLINE_SECONDS"] = "30"
    log = shop.folder / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "scorer", str(shop.folder)],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_until(lambda: "serving on " in log.read_text() or process.poll() is not None)
        (line,) = [one for one in log.read_text().splitlines() if one.startswith("serving on ")]
        address = line.removeprefix("serving on ")
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(address, options) as channel, _neighbours(address) as neighbours:
            running = Server(address, process, log, channel, neighbours)
            yield running
            running.check_all()
    finally:
        process.terminate()
        assert process.wait(DEADLINE_SECONDS) == 0


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
