"""``Explain`` over gRPC: what it answers, what it refuses, and that scoring goes on beside it."""

from __future__ import annotations

import asyncio
import math
import threading

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scorer.calls import Call
from scorer.client import AsyncScorerClient
from scorer.client_requests import ExplainOptions, ScoreOptions, explain_request
from scorer.errors import StoppingError
from scorer.explain import Floats
from scorer.explain_calls import AT_ONCE_MAX, ExplainCalls
from scorer.model import LoadedModel
from scorer.scoring import Rows, Scoring
from scorer.v1 import scorer_pb2, scorer_pb2_grpc
from scorer.vector import Vectors
from tests.scorer.graphs import graph, node, product_of_pairs, slow_model
from tests.scorer.shop import (
    MODEL,
    NOON_US,
    ROW,
    SCHEMA,
    VECTOR,
    WEIGHTS,
    Shop,
    bias_of,
    linear_score,
    manifest_for,
)

DEFAULTS = SCHEMA.defaults
WIDTH = len(DEFAULTS)
LATE_US = NOON_US + 3_600_000_000


def publish(shop: Shop, version: str, data: bytes) -> None:
    """Publish that model, and make it champion."""
    shop.repository.publish(manifest_for(version, data), data)
    shop.repository.set_channel(MODEL, "champion", version, "test", "test", 0)


def explain(
    shop: Shop, *requests: scorer_pb2.ExplainRequest, **given: object
) -> list[scorer_pb2.ExplainResponse]:
    """The answers of a scorer to these requests, one after the other."""

    async def run() -> list[scorer_pb2.ExplainResponse]:
        async with (
            shop.client(**given) as client,
            grpc.aio.insecure_channel(client.address) as channel,
        ):
            stub = scorer_pb2_grpc.ScorerServiceStub(channel)
            return [await stub.Explain(request, timeout=60) for request in requests]

    return asyncio.run(run())


def request(**given: object) -> scorer_pb2.ExplainRequest:
    """A request about the shop's row at noon."""
    options = ExplainOptions(**{"event_time_us": NOON_US, **given})  # type: ignore[arg-type]
    return explain_request(MODEL, ROW, options)


def check_sum(answer: scorer_pb2.ExplainResponse) -> None:
    """The contributions lead from the baseline's output to the row's."""
    total = math.fsum(one.contribution for one in answer.contributions)
    assert answer.baseline_output + total == pytest.approx(answer.output, abs=1e-9)
    assert abs(answer.residual) <= 1e-9 * max(abs(answer.output), abs(answer.baseline_output))
    assert [one.name for one in answer.contributions] == list(SCHEMA.names)


def test_a_linear_model_is_explained_exactly(scorer_shop: Shop) -> None:
    """Weights times differences, on the log-odds, from the defaults or a baseline given in part."""
    plain, named = explain(
        scorer_shop,
        request(request_id="seven"),
        request(baseline={"amount": 2.5, "card_1h:spent": 100.0}),
    )
    for answer, baseline in (
        (plain, list(DEFAULTS)),
        (named, [2.5, *DEFAULTS[1:3], 100.0, *DEFAULTS[4:]]),
    ):
        assert (answer.model, answer.version) == (MODEL, "1")
        assert answer.method == scorer_pb2.EXPLAIN_METHOD_LINEAR
        assert answer.link == scorer_pb2.EXPLAIN_LINK_LOG_ODDS
        assert answer.samples == 0
        expected = np.array(WEIGHTS) * (np.array(VECTOR) - baseline)
        found = [one.contribution for one in answer.contributions]
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        assert [one.value for one in answer.contributions] == VECTOR
        assert [one.baseline for one in answer.contributions] == baseline
        assert not any(one.standard_error for one in answer.contributions)
        assert answer.score == pytest.approx(linear_score(VECTOR, bias_of("1")), abs=1e-15)
        assert answer.baseline_score == pytest.approx(linear_score(baseline, 0.1), abs=1e-15)
        odds = math.log(answer.score / (1 - answer.score))
        assert answer.output == pytest.approx(odds, abs=1e-12)
        check_sum(answer)
    assert plain.request_id == "seven"
    assert named.contributions[0].contribution == 0


def test_what_is_missing_is_named_and_moves_nothing(scorer_shop: Shop) -> None:
    """A value that is too old is its default, as in a score: no contribution, and a stand-in."""
    (answer,) = explain(scorer_shop, request(event_time_us=LATE_US))
    (stand_in,) = answer.stand_ins
    assert stand_in.name == "route_1h:delay"
    assert stand_in.reason == scorer_pb2.MISSING_REASON_EXPIRED
    assert stand_in.value == answer.contributions[-1].value == DEFAULTS[-1]
    assert answer.contributions[-1].contribution == 0
    check_sum(answer)


def test_other_models_are_explained_by_shapley_values(scorer_shop: Shop) -> None:
    """Exactly where all mixtures are fewer than the samples would be, else with an error."""
    publish(scorer_shop, "2", product_of_pairs(WIDTH, -5.0))
    exact, sampled, same, other = explain(
        scorer_shop,
        request(),
        request(samples=9, seed=3),
        request(samples=10, seed=3),
        request(samples=10, seed=4),
    )
    assert exact.method == scorer_pb2.EXPLAIN_METHOD_EXACT_SHAPLEY
    assert exact.samples == 0
    assert sampled.method == scorer_pb2.EXPLAIN_METHOD_SAMPLED_SHAPLEY
    assert sampled.samples == 10
    for answer in (exact, sampled, same, other):
        assert answer.link == scorer_pb2.EXPLAIN_LINK_IDENTITY
        assert (answer.output, answer.baseline_output) == (answer.score, answer.baseline_score)
        check_sum(answer)
    assert sampled.contributions == same.contributions
    assert sampled.contributions != other.contributions
    assert any(one.standard_error > 0 for one in sampled.contributions)
    assert not any(one.standard_error for one in exact.contributions)


def test_the_score_is_the_one_of_score(scorer_shop: Shop) -> None:
    """Explain and Score agree to the last bit, also on an older version."""
    publish(scorer_shop, "2", product_of_pairs(WIDTH))

    async def run() -> None:
        async with scorer_shop.client() as client:
            for version in ("1", "2"):
                scored = await client.score(
                    MODEL, [ROW], ScoreOptions(version=version, event_time_us=NOON_US)
                )
                told = ExplainOptions(version=version, event_time_us=NOON_US)
                explained = await client.explain(MODEL, ROW, told)
                assert explained.score == scored.scores[0]

    asyncio.run(run())


BAD = {
    "no model": (scorer_pb2.ExplainRequest(), "INVALID_ARGUMENT", "no model"),
    "no row": (scorer_pb2.ExplainRequest(model=MODEL), "INVALID_ARGUMENT", "no row"),
    "unknown model": (scorer_pb2.ExplainRequest(model="x"), "NOT_FOUND", "unknown model"),
    "an input too few": (
        explain_request(MODEL, {"card": 42}, ExplainOptions()),
        "INVALID_ARGUMENT",
        "missing",
    ),
    "no such field": (
        request(baseline={"card": 1.0}),
        "INVALID_ARGUMENT",
        "'card', which is no field",
    ),
    "baseline not finite": (
        request(baseline={"amount": math.inf}),
        "INVALID_ARGUMENT",
        "finite number",
    ),
    "baseline too large": (
        request(version="2", baseline={"amount": 1e308, "items": 1e308, "gift": -1e308}),
        "INVALID_ARGUMENT",
        "too large",
    ),
    "too many samples": (request(samples=101), "INVALID_ARGUMENT", "to 100"),
    "fewer than none": (request(samples=-1), "INVALID_ARGUMENT", "to 100"),
}


def test_bad_requests_get_their_status(scorer_shop: Shop) -> None:
    """Each mistake has its status and is named; a good request after them is answered."""
    publish(scorer_shop, "2", product_of_pairs(WIDTH, -5.0))

    async def run() -> None:
        async with (
            scorer_shop.client(explain_samples_max=100) as client,
            grpc.aio.insecure_channel(client.address) as channel,
        ):
            stub = scorer_pb2_grpc.ScorerServiceStub(channel)
            for case, (bad, code, text) in BAD.items():
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await stub.Explain(bad, timeout=60)
                assert refused.value.code().name == code, case
                assert text in (refused.value.details() or ""), case
            check_sum(await stub.Explain(request(samples=100), timeout=60))

    asyncio.run(run())


ANY = st.one_of(
    st.sampled_from([0.0, -0.0, 1e308, -1.7e308, 5e-324, 1e154, math.nan, math.inf, 1e15]),
    st.floats(-10, 10),
)
BASELINES = st.dictionaries(st.sampled_from((*SCHEMA.names, "nothing")), ANY, max_size=WIDTH)
REQUESTS = st.builds(
    lambda row, options: explain_request(MODEL, {**ROW, **row}, options),
    st.fixed_dictionaries(
        {},
        optional={"amount": st.none() | ANY, "items": st.none() | st.integers(-(2**63), 2**63 - 1)},
    ),
    st.builds(
        ExplainOptions,
        version=st.sampled_from(["1", "2", "3"]),
        event_time_us=st.just(NOON_US),
        baseline=BASELINES,
        samples=st.integers(-1, 11),
        seed=st.integers(0, 2**64 - 1),
    ),
)


@given(requests=st.lists(REQUESTS, min_size=20, max_size=40))
@settings(max_examples=6)
def test_whatever_is_asked_has_its_status(
    tmp_path_factory: pytest.TempPathFactory, requests: list[scorer_pb2.ExplainRequest]
) -> None:
    """However far apart the values are: a sum that holds, or an error of the request."""
    shop = Shop(tmp_path_factory.mktemp("shop"))
    shop.create()
    publish(shop, "2", product_of_pairs(WIDTH))
    squares = [node("Mul", "features features", "h"), node("MatMul", "h w", "score")]
    publish(shop, "3", graph(WIDTH, squares, {"w": np.array([WEIGHTS]).T}))

    async def run() -> None:
        async with shop.client() as client, grpc.aio.insecure_channel(client.address) as channel:
            stub = scorer_pb2_grpc.ScorerServiceStub(channel)
            for one in requests:
                asked = stub.Explain(one, timeout=60)
                code, told = await asked.code(), await asked.details()
                if code is not grpc.StatusCode.OK:
                    assert code is grpc.StatusCode.INVALID_ARGUMENT, told
                    continue
                answer = await asked
                parts = [
                    answer.baseline_output,
                    *(one.contribution for one in answer.contributions),
                ]
                largest = max(map(abs, [answer.output, *parts]))
                assert abs(math.fsum(parts) - answer.output) <= 1e-9 * largest

    asyncio.run(run())


async def long_request(client: AsyncScorerClient, seconds: float = 60.0) -> object:
    """Explain by thousands of mixtures of a slow model; what it ended in."""
    async with grpc.aio.insecure_channel(client.address) as channel:
        stub = scorer_pb2_grpc.ScorerServiceStub(channel)
        try:
            return await stub.Explain(request(), timeout=seconds)
        except grpc.aio.AioRpcError as error:
            return error.code()


def test_a_few_at_one_time_and_scores_meanwhile(scorer_shop: Shop) -> None:
    """One explanation too many is refused at once; others are answered, and so is a score."""
    publish(scorer_shop, "2", slow_model(WIDTH, 30))

    async def run() -> None:
        async with scorer_shop.client() as client:
            tasks = [asyncio.create_task(long_request(client)) for _ in range(AT_ONCE_MAX + 1)]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=60)
            assert [task.result() for task in tasks if task.done()] == [
                grpc.StatusCode.RESOURCE_EXHAUSTED
            ]
            quick = ScoreOptions(version="1", event_time_us=NOON_US)
            assert (await client.score(MODEL, [ROW], quick)).version == "1"
            assert sum(task.done() for task in tasks) == 1
            answers = await asyncio.gather(*tasks)
            assert (
                sum(isinstance(one, scorer_pb2.ExplainResponse) for one in answers) == AT_ONCE_MAX
            )

    asyncio.run(run())


def test_a_caller_who_leaves_makes_room(scorer_shop: Shop) -> None:
    """Past the deadline the work ends too, and others are answered."""
    publish(scorer_shop, "2", slow_model(WIDTH, 10))

    async def run() -> None:
        async with scorer_shop.client() as client:
            left = [long_request(client, 0.05) for _ in range(AT_ONCE_MAX)]
            assert set(await asyncio.gather(*left)) == {grpc.StatusCode.DEADLINE_EXCEEDED}
            async with asyncio.timeout(60):
                answer = await long_request(client)
                while answer is grpc.StatusCode.RESOURCE_EXHAUSTED:
                    answer = await long_request(client)
            assert isinstance(answer, scorer_pb2.ExplainResponse)
            check_sum(answer)

    asyncio.run(run())


class GatedModel(LoadedModel):
    """A model whose runs are counted, and wait at a gate."""

    def __init__(self, data: bytes) -> None:
        self.gate, self.entered = threading.Event(), threading.Event()
        self.runs = 0
        self.gate.set()
        super().__init__(manifest_for("1", data), data)
        self.runs = 0
        self.gate.clear()
        self.entered.clear()

    def run(self, matrix: Floats) -> Floats:
        """Scores, once the gate is open."""
        self.runs += 1
        self.entered.set()
        assert self.gate.wait(60)
        return super().run(matrix)


class OneModel(Scoring):
    """Scoring that has one model, and the shop's vector for every row."""

    def __init__(self, only: LoadedModel) -> None:
        self._only = only

    async def model(
        self, call: Call, name: str, version: str = "", channel: str = ""
    ) -> LoadedModel:
        """The model."""
        return self._only

    async def vectors(
        self, call: Call, model: LoadedModel, rows: Rows, at_us: int | None
    ) -> Vectors:
        """The vector."""
        return Vectors(np.array([VECTOR]), [()], [None], [None])


@pytest.mark.parametrize("end", ["caller leaves", "scorer stops"])
def test_work_that_nobody_waits_for_ends_with_its_run(end: str) -> None:
    """No further run of the model is begun once the caller has left or the scorer stops."""

    async def run() -> None:
        model = GatedModel(product_of_pairs(WIDTH))
        calls = ExplainCalls(OneModel(model), 100)
        task = asyncio.create_task(calls.explain(request(), Call("Explain", 0.0)))
        assert await asyncio.to_thread(model.entered.wait, 60)
        if end == "caller leaves":
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            calls.close()
        model.gate.set()
        if end == "scorer stops":
            with pytest.raises(StoppingError):
                await task
        calls.close()
        for thread in threading.enumerate():
            if thread.name.startswith("explain"):
                await asyncio.to_thread(thread.join, 60)
        assert model.runs == 1

    asyncio.run(run())
