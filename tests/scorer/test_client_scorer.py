"""The client and a real scorer: every method, every kind of error, an outage."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from contracts.settings import PREFIX
from scorer.client import (
    AsyncScorerClient,
    ClientOptions,
    ExplainOptions,
    FeaturesOf,
    NotFoundError,
    NotReadyError,
    Retries,
    Scored,
    ScoreItem,
    ScoreOptions,
    ScorerCallError,
    ScorerClient,
    StandIn,
    WrongRequestError,
)
from scorer.server import running
from tests.scorer.feature_shop import FeatureShop
from tests.scorer.shop import MODEL, NOON_US, ROW, SCHEMA, VECTOR, bias_of, linear_score

ROOT = Path(__file__).resolve().parents[2]
AT_NOON = ScoreOptions(event_time_us=NOON_US + 500_000, include_features=True)
ROUTE_AND_CARD = {name: ROW[name] for name in ("card", "origin", "dest")}
EXPECTED = linear_score(VECTOR, bias_of("1"))


@pytest.fixture
def shop(tmp_path: Path) -> FeatureShop:
    """A shop whose features are applied."""
    made = FeatureShop(tmp_path)
    made.create()
    made.apply()
    return made


async def every_method(client: AsyncScorerClient) -> None:
    """Ask for everything, and look at what comes."""
    unknown = {**ROW, "card": 7, "gift": None}
    answer = await client.score(MODEL, [ROW, unknown], AT_NOON)
    assert answer.scores[0] == pytest.approx(EXPECTED, abs=1e-15)
    assert answer.features[0] == VECTOR
    assert (answer.oldest_us[0], answer.oldest_age_seconds[0]) == (NOON_US, 0.5)
    assert answer.stand_ins == [
        [],
        [
            StandIn("gift", "null_input", 0.0),
            StandIn("card_1h:spent", "no_row", -1.0),
            StandIn("card_1h:visits", "no_row", -2.0),
        ],
    ]
    found = await client.features(FeaturesOf(service="trip"), ROUTE_AND_CARD, event_time_us=NOON_US)
    assert found.names == ["route_1h:delay", "card_1h:visits", "card_1h:spent"]
    assert found.values == [[7.5, 4, 10.25]]
    assert found.ages_seconds == [[0.0, 0.0, 0.0]]
    of_model = await client.features(FeaturesOf(model=MODEL), ROUTE_AND_CARD)
    assert of_model.missing[0][of_model.names.index("route_1h:delay")] == "expired"
    told = await client.explain(MODEL, ROW, ExplainOptions(event_time_us=NOON_US, seed=1))
    total = sum(one.contribution for one in told.contributions)
    assert told.output - told.baseline_output == pytest.approx(total, abs=1e-9)
    assert [one.name for one in told.contributions] == list(SCHEMA.names)
    assert told.link in ("identity", "log_odds")
    assert told.method in ("linear", "sampled_shapley")
    assert await client.models() == {MODEL: "1"}
    assert await client.channels() == {MODEL: {"champion": "1"}}
    about = await client.model(MODEL, channel="champion")
    assert {one.name for one in about.inputs if one.entity_key} == {"card", "origin", "dest"}
    assert (about.trained_until_us, about.metrics) == (NOON_US, {"auc": 0.75})


def test_a_scorer_answers_every_method(shop: FeatureShop) -> None:
    """What a real scorer says arrives as the client's own types."""

    async def run() -> None:
        async with (
            running(shop.settings(), shop.folder) as address,
            AsyncScorerClient(address) as client,
        ):
            await every_method(client)

    asyncio.run(run())


def test_a_scorers_refusals_have_their_class(shop: FeatureShop) -> None:
    """Each status that a real scorer refuses with is an error of its class, in streams as well."""
    cases: list[tuple[ScoreItem, type[ScorerCallError]]] = [
        (ScoreItem(MODEL, {}), WrongRequestError),
        (ScoreItem("nobody", ROW), NotFoundError),
        (ScoreItem(MODEL, ROW, ScoreOptions(channel="shadow")), NotReadyError),
    ]

    async def run() -> None:
        async with (
            running(shop.settings(), shop.folder) as address,
            AsyncScorerClient(address) as client,
        ):
            for item, kind in cases:
                with pytest.raises(kind):
                    await client.score(item.model, item.rows, item.options)
            items = [*(item for item, _ in cases), ScoreItem(MODEL, ROW, AT_NOON)]
            answers = [one async for one in client.score_stream(items, 30.0)]
            assert [type(one) for one in answers] == [*(kind for _, kind in cases), Scored]

    asyncio.run(run())


@contextmanager
def scorer_process(shop: FeatureShop, port: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A scorer in a process of its own, and its address."""
    environment = {**os.environ, f"{PREFIX}SCORER_ADDRESS": f"127.0.0.1:{port}"}
    command = [sys.executable, "-m", "scorer", str(shop.folder)]
    log = shop.folder / "log.txt"
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdout is not None
        try:
            told = (line for line in process.stdout if line.startswith("serving on "))
            yield process, next(told).split()[-1]
        finally:
            process.kill()


def test_a_killed_scorer_is_waited_for(shop: FeatureShop) -> None:
    """A call that begins while the scorer is dead has its answer when another one has started."""
    patient = Retries(tries_max=10_000, first_pause_seconds=0.01, pause_seconds_max=0.1)
    answers: list[Scored] = []
    with ExitStack() as stack:
        process, address = stack.enter_context(scorer_process(shop, 0))
        client = ScorerClient(address, 60.0, options=ClientOptions(patient))
        stack.enter_context(client)
        before = client.score(MODEL, ROW, AT_NOON)
        process.kill()
        process.wait()
        caller = threading.Thread(
            target=lambda: answers.append(client.score(MODEL, ROW, AT_NOON)), daemon=True
        )
        caller.start()
        stack.enter_context(scorer_process(shop, int(address.rpartition(":")[2])))
        caller.join(60)
    assert answers == [before]
