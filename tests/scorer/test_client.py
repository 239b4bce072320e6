"""What the client sends and gives back: results, streams, an outage."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.struct_pb2 import NULL_VALUE

from contracts.settings import ClientSettings
from scorer.client import (
    AsyncScorerClient,
    Contribution,
    ExplainOptions,
    FeaturesOf,
    ModelInput,
    Scalar,
    Scored,
    ScoreItem,
    ScoreOptions,
    ScorerClient,
    StandIn,
    Tls,
    UnavailableError,
    WrongRequestError,
    score_request,
)
from scorer.v1 import scorer_pb2
from tests.scorer.scripted import WAIT_SECONDS_MAX, Script, awaited, blocking, scripted

ROOT = Path(__file__).resolve().parents[2]
ROW: dict[str, Scalar] = {"amount": 2.5, "items": 3, "gift": True, "origin": "JFK", "dest": None}
SECRET = "eyJ.secret.token"
NOON_US = 1_700_000_000_000_000
Ask = Callable[..., Any]


both = pytest.mark.parametrize("ask", [blocking, awaited])


@both
def test_all_of_a_score_comes_back(ask: Ask) -> None:
    """A score's options arrive, and its answer is plain Python with all that was said."""
    row = scorer_pb2.RowScore(
        score=0.75,
        missing=["a", "v:b"],
        features=[1.0, 2.0],
        stand_ins=[
            scorer_pb2.StandIn(name="a", reason=scorer_pb2.MISSING_REASON_NULL_INPUT, value=1.0),
            scorer_pb2.StandIn(name="v:b", reason=scorer_pb2.MISSING_REASON_EXPIRED, value=2.0),
        ],
        oldest_feature_age_seconds=-0.5,
    )
    row.oldest_feature_time.FromMicroseconds(NOON_US)
    answer = scorer_pb2.ScoreResponse(
        version="7",
        request_id="r",
        scores=[row, scorer_pb2.RowScore(version="8", channel="challenger")],
        feature_names=["a", "v:b"],
        classes=["no", "yes"],
    )
    answer.scores[1].label = "yes"
    answer.scores[1].probabilities.extend([0.25, 0.75])
    script = Script(answers={"Score": answer})
    options = ScoreOptions(
        "7", "r", NOON_US, include_features=True, channel="shadow", keys=["k1", "k2"]
    )
    with scripted(script) as address:
        assert ask(address, "score", "m", [ROW, {}], options) == Scored(
            version="7",
            scores=[0.75, 0.0],
            missing=[["a", "v:b"], []],
            features=[[1.0, 2.0], []],
            feature_names=["a", "v:b"],
            oldest_us=[NOON_US, None],
            newest_us=[None, None],
            stand_ins=[[StandIn("a", "null_input", 1.0), StandIn("v:b", "expired", 2.0)], []],
            oldest_age_seconds=[-0.5, None],
            newest_age_seconds=[None, None],
            request_id="r",
            versions=["7", "8"],
            channels=["", "challenger"],
            classes=["no", "yes"],
            labels=["", "yes"],
            probabilities=[[], [0.25, 0.75]],
        )
    asked = script.came[0].request
    assert (asked.model, asked.version, asked.channel) == ("m", "7", "shadow")
    assert (asked.request_id, asked.include_features, len(asked.rows)) == ("r", True, 2)
    assert [row.key for row in asked.rows] == ["k1", "k2"]
    assert asked.event_time.ToMicroseconds() == NOON_US
    kinds = {name: value.WhichOneof("kind") for name, value in asked.rows[0].inputs.items()}
    assert kinds == {
        "amount": "double_value",
        "items": "int64_value",
        "gift": "bool_value",
        "origin": "string_value",
        "dest": "null_value",
    }


@both
def test_stored_features_come_back(ask: Ask) -> None:
    """Features are a table of values of their own types, with reasons and ages."""
    there = scorer_pb2.FeatureValue(value=scorer_pb2.Value(int64_value=4), age_seconds=2.5)
    there.event_time.FromMicroseconds(NOON_US)
    gone = scorer_pb2.FeatureValue(
        value=scorer_pb2.Value(null_value=NULL_VALUE), missing=scorer_pb2.MISSING_REASON_NO_ROW
    )
    answer = scorer_pb2.GetFeaturesResponse(
        request_id="r", names=["v:a", "v:b"], rows=[scorer_pb2.FeatureRow(values=[there, gone])]
    )
    script = Script(answers={"GetFeatures": answer})
    with scripted(script) as address:
        for source, kind in (
            (FeaturesOf(service="s"), "feature_service"),
            (FeaturesOf(model="m"), "model"),
            (FeaturesOf(names=["v:a", "v:b"]), "features"),
        ):
            found = ask(address, "features", source, {"card": 42}, event_time_us=NOON_US)
            assert script.came[-1].request.WhichOneof("source") == kind
    assert found.values == [[4, None]]
    assert found.missing == [["", "no_row"]]
    assert found.event_times_us == [[NOON_US, None]]
    assert found.ages_seconds == [[2.5, None]]
    assert list(script.came[-1].request.features.names) == found.names == ["v:a", "v:b"]
    assert script.came[-1].request.rows[0].inputs["card"].int64_value == 42


@both
def test_an_explanation_comes_back(ask: Ask) -> None:
    """An explanation's options arrive, and its parts have names instead of numbers."""
    part = scorer_pb2.Contribution(
        name="a", value=1.0, baseline=2.0, contribution=3.0, standard_error=4.0
    )
    answer = scorer_pb2.ExplainResponse(
        version="7",
        link=scorer_pb2.EXPLAIN_LINK_LOG_ODDS,
        method=scorer_pb2.EXPLAIN_METHOD_SAMPLED_SHAPLEY,
        samples=200,
        contributions=[part],
    )
    script = Script(answers={"Explain": answer})
    options = ExplainOptions(baseline={"a": 1.5}, samples=100, seed=2**63, channel="challenger")
    with scripted(script) as address:
        found = ask(address, "explain", "m", ROW, options)
    assert (found.link, found.method, found.samples) == ("log_odds", "sampled_shapley", 200)
    assert found.contributions == [Contribution("a", 1.0, 2.0, 3.0, 4.0)]
    asked = script.came[0].request
    assert (dict(asked.baseline), asked.samples, asked.seed) == ({"a": 1.5}, 100, 2**63)
    assert (asked.channel, len(asked.row.inputs)) == ("challenger", len(ROW))


@both
def test_models_come_back(ask: Ask) -> None:
    """Models, their channels and what one of them needs are plain Python."""
    listed = scorer_pb2.ListModelsResponse(
        models=[
            scorer_pb2.ModelSummary(model="m", version="2", channels={"champion": "2"}),
            scorer_pb2.ModelSummary(model="new"),
        ]
    )
    known = scorer_pb2.GetModelResponse(
        model="m",
        version="2",
        inputs=[scorer_pb2.ModelInput(name="card", type="int64", entity_key=True)],
        metrics={"auc": 0.75},
    )
    known.trained_until.FromMicroseconds(NOON_US)
    with scripted(Script(answers={"ListModels": listed, "GetModel": known})) as address:
        assert ask(address, "models") == {"m": "2", "new": ""}
        assert ask(address, "channels") == {"m": {"champion": "2"}, "new": {}}
        about = ask(address, "model", "m")
    assert about.inputs == [ModelInput("card", "int64", entity_key=True)]
    assert (about.trained_until_us, about.metrics) == (NOON_US, {"auc": 0.75})


@both
def test_a_stream_has_an_answer_for_each_request(ask: Ask) -> None:
    """Scores and errors come in the order of the requests; an error does not end the stream."""
    items = [
        ScoreItem("wrong" if number % 3 == 1 else "m", ROW, ScoreOptions(request_id=str(number)))
        for number in range(100)
    ]
    with scripted(Script()) as address:
        answers = ask(address, "score_stream", iter(items))
    assert len(answers) == 100
    for number, answer in enumerate(answers):
        if number % 3 == 1:
            assert isinstance(answer, WrongRequestError)
            assert answer.message == "no rows"
        else:
            assert answer.request_id == str(number)


@both
def test_what_ends_a_stream_is_raised(ask: Ask) -> None:
    """An error of the whole call, of the items, and of an input all reach the caller."""

    def broken() -> Iterator[ScoreItem]:
        yield ScoreItem("m", ROW)
        raise KeyError("mine")

    with scripted(Script()) as address:
        with pytest.raises(UnavailableError, match="stopping"):
            ask(address, "score_stream", [ScoreItem("m", ROW), ScoreItem("end", ROW)])
        with pytest.raises(KeyError, match="mine"):
            ask(address, "score_stream", broken())
        with pytest.raises(TypeError, match="'x' is a list"):
            ask(address, "score_stream", [ScoreItem("m", {"x": []})])  # type: ignore[dict-item]


def test_a_stream_that_nobody_reads_on_ends() -> None:
    """Leaving a stream's loop ends the call at the scorer."""
    script = Script()

    def forever() -> Iterator[ScoreItem]:
        while True:
            yield ScoreItem("m", ROW)

    with scripted(script) as address, ScorerClient(address) as client:
        stream = client.score_stream(forever())
        assert isinstance(next(stream), Scored)
        stream.close()
        assert script.gone.wait(WAIT_SECONDS_MAX)


def test_what_is_given_up_ends_at_the_scorer_too() -> None:
    """With asyncio, cancelling a task ends its call, and closing a stream ends it there, too."""

    async def cancelled(address: str, script: Script) -> None:
        async with AsyncScorerClient(address) as client:
            task = asyncio.create_task(client.score("m", ROW))
            assert await asyncio.to_thread(script.waits.wait, WAIT_SECONDS_MAX)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(script.gone.wait, WAIT_SECONDS_MAX)

    async def left(address: str, script: Script) -> None:
        async def forever() -> AsyncIterator[ScoreItem]:
            while True:
                yield ScoreItem("m", ROW)

        async with AsyncScorerClient(address) as client:
            async with contextlib.aclosing(client.score_stream(forever())) as answers:
                assert isinstance(await anext(answers), Scored)
            assert await asyncio.to_thread(script.gone.wait, WAIT_SECONDS_MAX)

    for story, script in ((cancelled, Script([None])), (left, Script())):
        with scripted(script) as address:
            asyncio.run(story(address, script))


def test_a_conversation_waits_for_each_answer() -> None:
    """With asyncio a request may depend on the answer to the one before."""

    async def run(address: str) -> None:
        answers: asyncio.Queue[str] = asyncio.Queue()

        async def items() -> AsyncIterator[ScoreItem]:
            number = 0
            for _ in range(5):
                yield ScoreItem("m", ROW, ScoreOptions(request_id=str(number)))
                number = int(await answers.get()) + 10

        async with AsyncScorerClient(address) as client:
            seen = []
            async for answer in client.score_stream(items(), deadline_seconds=WAIT_SECONDS_MAX):
                assert isinstance(answer, Scored)
                seen.append(answer.request_id)
                answers.put_nowait(answer.request_id)
        assert seen == ["0", "10", "20", "30", "40"]

    with scripted(Script()) as address:
        asyncio.run(run(address))


def test_inputs_may_come_from_numpy() -> None:
    """Numbers of other libraries are sent as what they are; what cannot be sent is named."""
    row: dict[str, Any] = {"a": np.int64(3), "b": np.float32(0.5), "c": Fraction(1, 4), "d": True}
    inputs = score_request("m", row).rows[0].inputs
    assert (inputs["a"].int64_value, inputs["b"].double_value) == (3, 0.5)
    assert (inputs["c"].double_value, inputs["d"].bool_value) == (0.25, True)
    wrong: list[tuple[Any, type[Exception]]] = [
        ([1], TypeError),
        (b"x", TypeError),
        (1j, TypeError),
        (2**63, ValueError),
        ("\ud800", ValueError),
    ]
    for value, kind in wrong:
        with pytest.raises(kind, match="'x'"):
            score_request("m", {"x": value})
    with pytest.raises(TypeError, match="names of inputs"):
        score_request("m", {1: 2})  # type: ignore[dict-item]


def test_wrong_use_is_told() -> None:
    """What can only be a mistake of the caller's is refused before anything is sent."""
    for given in ({}, {"service": "s", "model": "m"}):
        with pytest.raises(ValueError, match="give one of"):
            FeaturesOf(**given)
    with pytest.raises(ValueError, match="deadline"):
        ScorerClient("127.0.0.1:1", 0.0)
    with pytest.raises(ValueError, match="private key"):
        Tls(cert_pem=b"x")
    two = Scored("1", [0.1, 0.2], [], [], [], [], [], [], [], [])
    with pytest.raises(ValueError, match="2 scores"):
        _ = two.score
    with pytest.raises(OSError, match="nowhere"):
        ScorerClient.from_settings(ClientSettings(scorer_ca_file="/nowhere"))


def test_two_clients_have_two_connections() -> None:
    """Each client has a connection of its own, so that several reach several processes."""
    peers = set()

    class Noting(Script):
        def Score(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
            peers.add(context.peer())
            return super().Score(request, context)

    with scripted(Noting()) as address, ScorerClient(address) as one, ScorerClient(address) as two:
        for client in (one, two, one):
            client.score("m", ROW)
    assert len(peers) == 2


def test_a_client_is_light_and_stays_in_its_process() -> None:
    """The client loads no numpy, and refuses to be used behind a fork instead of hanging."""
    code = """
import os, sys
from scorer.client import ScorerClient
print({"numpy", "onnxruntime", "pydantic", "contracts"} & set(sys.modules))
client = ScorerClient("127.0.0.1:1")
child = os.fork()
if not child:
    try:
        client.models()
    except RuntimeError as error:
        os._exit("make one in each process" in str(error))
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["set()", "1"]
