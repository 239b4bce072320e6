"""What was served against what should have been: by a slow oracle, and with faults planted."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataflows.flow.engine import run_flow
from dataflows.verify.errors import VerifyError
from dataflows.verify.judge import AHEAD_US
from dataflows.verify.report import Report
from dataflows.verify.verify import Terms, verify
from tests.flow import shop
from tests.verify.world import MODEL, SECOND_US, Inputs, Oracle, Request, World, counts

MINUTE_US = 60 * SECOND_US
LAST = "user_orders:last"
SECONDS = "user_visits:seconds"

people = st.sampled_from([None, "nobody", *(f"u{i}" for i in range(9))])
moments = st.integers(shop.BEGIN_US - MINUTE_US, shop.BEGIN_US + 50 * MINUTE_US)
fresh = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def asked(draw: st.DrawFn) -> list[tuple[int, Inputs]]:
    """Moments and inputs of some requests."""
    times = draw(st.lists(moments, min_size=1, max_size=12))
    return [
        (at_us, {"user": draw(people), "shop": draw(st.integers(0, 4)), "amount": 3.0})
        for at_us in times
    ]


def anew(world: World, requests: Sequence[Request]) -> None:
    """Let these be all that was ever served."""
    for path in (world.log / "predictions").glob("*.ndjson"):
        path.unlink()
    world.serve(requests)


def some_requests(oracle: Oracle, seed: int, count: int) -> list[Request]:
    """Requests at random moments of the log, of people who are there."""
    rng = random.Random(seed)
    return [
        oracle.request(
            f"r{number}",
            rng.randrange(shop.BEGIN_US + 5 * MINUTE_US, oracle.last_us),
            {"user": f"u{rng.randrange(9)}", "shop": rng.randrange(3), "amount": 1.0},
        )
        for number in range(count)
    ]


@fresh
@given(asked())
def test_what_was_current_is_equal(
    world: World, oracle: Oracle, wanted: list[tuple[int, Inputs]]
) -> None:
    """Vectors of the oracle, ttl and entities without rows included, are equal in every feature."""
    anew(world, [oracle.request(f"r{i}", *one) for i, one in enumerate(wanted)])
    rows = world.verify().models[MODEL].rows
    assert rows.stale == rows.different == rows.incomparable == 0
    assert rows.not_yet_known == sum(at_us > oracle.last_us for at_us, _ in wanted)
    assert rows.equal == rows.compared == len(wanted) - rows.not_yet_known


@fresh
@given(asked(), st.integers(0, 10 * MINUTE_US))
def test_what_was_current_earlier_is_stale(
    world: World, oracle: Oracle, wanted: list[tuple[int, Inputs]], behind_us: int
) -> None:
    """What a store served that was behind is equal or stale, by as much as the oracle says."""
    wanted = [one for one in wanted if one[0] <= oracle.last_us]
    requests = [
        Request(f"r{i}", at_us, inputs, oracle.vector(at_us, inputs, at_us - behind_us))
        for i, (at_us, inputs) in enumerate(wanted)
    ]
    anew(world, requests)
    found = world.verify().models[MODEL].features
    for place, one in enumerate(oracle.schema.fields):
        if one.kind != "feature":
            continue
        lags = sorted(
            lag_us
            for request in requests
            if (lag_us := lag_of(world, oracle, request, place)) is not None and lag_us > 0
        )
        assert sorted(found[one.name].lags_us) == lags
        assert found[one.name].stale == len(lags)
        assert found[one.name].different == 0
        assert found[one.name].equal == found[one.name].compared - len(lags)


def lag_of(world: World, oracle: Oracle, request: Request, place: int) -> int | None:
    """For how long the served value had been no longer current; 0 if it is; None if it is given."""
    one = oracle.schema.fields[place]
    view = world.repository.plan.view(one.view)
    key = tuple(request.inputs[name] for name in view.join_keys)
    if None in key:
        return None
    feature = [a.feature for a in view.aggregates].index(one.feature)
    at_us, value = request.at_us, one.default
    states = [(-(2**62), value)]
    for stamp_us, values in oracle.rows(one.view, key, at_us):
        is_old = 0 < view.ttl_us < at_us - stamp_us
        value = one.default if is_old or values[feature] is None else values[feature]
        states.append((stamp_us, value))
    ended_us = at_us
    for stamp_us, value in reversed(states):
        if value == request.vector[place]:
            return at_us - ended_us
        ended_us = stamp_us
    raise AssertionError(f"{request} was never current")


def test_the_dataflows_own_vectors_are_equal(world: World, oracle: Oracle, tmp_path: Path) -> None:
    """What a run of the dataflow read for its examples is what verify says was current."""
    run_flow(world.repository, world.settings, shop.places(tmp_path / "out"), until_end=True)
    orders = {fields["order_id"]: fields for fields in good_orders()}
    requests = []
    for order, (at_us, vector) in shop.example_rows(tmp_path / "out").items():
        inputs = {name: orders[order][name] for name in ("user", "shop", "amount")}
        filled = [0.0 if value is None else value for value in vector]
        requests.append(Request(order, at_us, inputs, filled))
    world.serve(requests)
    report = world.verify()
    assert report.is_good
    rows = report.models[MODEL].rows
    # The last moment of all takes effect when all is silent, and it is known.
    assert rows.equal == rows.compared == len(requests) > 150


def good_orders() -> list[dict[str, Any]]:
    """What the log's good records of orders hold."""
    records = shop.make_records(seed=11, orders=200)
    return [r.fields for r in records if r.topic == "orders" and r.fields is not None]


def test_one_changed_value_is_different(world: World, oracle: Oracle) -> None:
    """A value that its entity never had is different, told with difference, entity and moment."""
    requests = some_requests(oracle, 1, 40)
    wrong = requests[7]
    place = world.place("user_orders:spent")
    value = wrong.vector[place]
    assert value is not None
    requests[7] = wrong.with_value(place, value + 0.25)
    world.serve(requests)
    report = world.verify()
    assert counts(report, "user_orders:spent") == {
        "compared": 40, "equal": 39, "stale": 0, "different": 1,
    }  # fmt: skip
    assert not report.is_good
    assert report.different_share == 1 / 40
    found = report.models[MODEL]
    assert found.features["user_orders:spent"].difference_max == 0.25
    assert found.rows.different == 1
    (example,) = found.examples
    assert (example.feature, example.served, example.current) == (
        "user_orders:spent", value + 0.25, value,
    )  # fmt: skip
    assert (example.request_id, example.inputs) == ("r7", wrong.inputs)
    assert world.verify(different_max=1 / 40).is_good


def test_the_last_bit_counts(world: World, oracle: Oracle) -> None:
    """A double that differs in its last bit is different, and so is a zero of the other sign."""
    requests = [one for one in some_requests(oracle, 2, 30) if one.vector[4] and one.vector[2]]
    spent = requests[0].vector[2]
    assert spent is not None
    changed = [requests[0].with_value(2, spent * (1 + 2**-52)), *requests[1:]]
    world.serve(changed)
    assert counts(world.verify(), "user_orders:spent_20m")["different"] == 1
    empty = oracle.request("r", oracle.last_us, {"user": "nobody", "shop": 1, "amount": 1.0})
    anew(world, [empty.with_value(2, -0.0)])
    assert counts(world.verify(), "user_orders:spent_20m")["different"] == 1


def test_a_store_that_was_wrong_for_a_while(world: World, oracle: Oracle) -> None:
    """What was served while a bad deploy doubled a sum is different, and nothing else is."""
    begin_us, end_us = shop.BEGIN_US + 15 * MINUTE_US, shop.BEGIN_US + 30 * MINUTE_US
    place = world.place("user_orders:spent")
    requests = some_requests(oracle, 4, 120)
    wrong = [
        one.with_value(place, 2.0 * (one.vector[place] or 0.0) + 0.5)
        if begin_us <= one.at_us < end_us
        else one
        for one in requests
    ]
    bad = sum(begin_us <= one.at_us < end_us for one in requests)
    assert 0 < bad < 120
    world.serve(wrong)
    report = world.verify(examples_max=200)
    assert counts(report, "user_orders:spent")["different"] == bad
    assert report.models[MODEL].rows.different == bad
    assert {one.feature for one in report.models[MODEL].examples} == {"user_orders:spent"}
    assert world.verify(to_us=begin_us).is_good
    assert world.verify(from_us=end_us).is_good
    within = world.verify(from_us=begin_us, to_us=end_us)
    assert within.different_share == 1.0
    assert within.models[MODEL].rows.compared == bad


def test_an_ignored_ttl_is_different(world: World, oracle: Oracle) -> None:
    """A value that was served past its view's ttl was never right, though it once was current."""
    place = world.place(SECONDS)
    for one in some_requests(oracle, 5, 400):
        rows = oracle.rows("user_visits", (one.inputs["user"],), one.at_us)
        if rows and one.at_us - rows[-1][0] > 4 * MINUTE_US and rows[-1][1][0]:
            break
    else:
        raise AssertionError("no such moment in the log")
    assert one.vector[place] == 0.0
    world.serve([one.with_value(place, rows[-1][1][0])])
    assert counts(world.verify(), SECONDS)["different"] == 1


def test_a_limit_to_staleness(world: World, oracle: Oracle) -> None:
    """What is stale by more than the limit is different: a wiped store serves what once was."""
    requests = some_requests(oracle, 6, 30)
    place = world.place("user_orders:spent")
    world.serve([one.with_value(place, 0.0) for one in requests])
    found = world.verify().models[MODEL].features["user_orders:spent"]
    assert found.stale == 30
    assert found.to_json()["stale_seconds_max"] > 600
    assert counts(world.verify(lag_us_max=SECOND_US), "user_orders:spent")["different"] == 30


def later_row(oracle: Oracle, request: Request) -> tuple[int, float]:
    """In how long the entity has another last amount, and which."""
    key = (request.inputs["user"],)
    now = request.vector[4]
    for stamp_us, values in oracle.rows("user_orders", key, request.at_us + AHEAD_US):
        known = {v[3] for s, v in oracle.rows("user_orders", key, request.at_us) if s}
        if stamp_us > request.at_us and values[3] not in (now, None, 0.0, *known):
            return stamp_us - request.at_us, values[3]
    return 0, 0.0


def test_a_later_value_is_different_and_said_to_be(world: World, oracle: Oracle) -> None:
    """What became current only after the request is different; while it was answered, equal."""
    one, (ahead_us, value) = next(
        (one, found)
        for one in some_requests(oracle, 8, 300)
        if (found := later_row(oracle, one))[0] and one.at_us + AHEAD_US < oracle.last_us
    )
    early = one.with_value(4, value)
    world.serve([early])
    report = world.verify()
    judged = report.models[MODEL].features[LAST]
    assert (judged.different, judged.ahead) == (1, 1)
    (example,) = report.models[MODEL].examples
    assert (example.verdict, example.lag_seconds) == ("ahead", ahead_us / 1e6)
    anew(world, [replace(early, more={"latency_ms": ahead_us / 1e3 + 0.001})])
    assert counts(world.verify(), LAST)["equal"] == 1


def test_no_verdict_depends_on_how_the_log_is_read(world: World, oracle: Oracle) -> None:
    """However the log is cut into batches, the report is the same."""
    requests = [
        replace(one, vector=oracle.vector(one.at_us, one.inputs, one.at_us - 90 * SECOND_US))
        for one in some_requests(oracle, 9, 60)
    ]
    world.serve(requests)
    expected = world.verify().to_json()
    for batch_bytes in (900, 20_000):
        chosen = world.settings.model_copy(update={"batch_bytes": batch_bytes})
        assert replace(world, settings=chosen).verify().to_json() == expected
    assert expected["models"][MODEL]["rows"]["stale"] > 0


def test_an_unknown_model_and_no_log_are_refused(world: World) -> None:
    """The message names the models there are, or the setting."""
    with pytest.raises(VerifyError, match="no model 'late'; it has late_order"):
        world.verify(models=("late",))
    nowhere = world.settings.model_copy(update={"prediction_topic": ""})
    with pytest.raises(VerifyError, match="HEADWATER_PREDICTION_TOPIC is none"):
        replace(world, settings=nowhere).verify()
    same = world.settings.model_copy(update={"prediction_topic": "orders"})
    with pytest.raises(VerifyError, match="also a topic in definitions"):
        replace(world, settings=same).verify()


def test_each_row_is_told(world: World, oracle: Oracle) -> None:
    """Who listens is told of each row, by time, with the worst of its verdicts."""
    requests = some_requests(oracle, 10, 10)
    world.serve([one.with_value(4, 1234.5) if one.name == "r3" else one for one in requests])
    told: list[tuple[int, str, str]] = []
    repository = world.repository
    report: Report = verify(
        repository.plan,
        repository.transforms,
        world.settings,
        Terms(),
        on_row=lambda row, verdict: told.append((row.at_us, row.request_id, verdict)),
    )
    assert report.compared == 10
    assert told == sorted(told)
    assert {name: verdict for _, name, verdict in told} == {
        one.name: "different" if one.name == "r3" else "equal" for one in requests
    }


def test_a_row_counts_from_its_stamp_on(world: World, oracle: Oracle) -> None:
    """A value is current from its stamp on, and not a microsecond before."""
    rows = [row for row in oracle.rows("user_orders", ("u1",), oracle.last_us) if row[1][4]]
    changes = [(a, b) for a, b in pairwise(rows) if a[1][4] != b[1][4]]
    assert len(changes) > 5
    place = world.place("user_orders:spent")
    inputs: Inputs = {"user": "u1", "shop": 1, "amount": 1.0}
    served = []
    for number, ((_, old), (stamp_us, new)) in enumerate(changes):
        at = oracle.request(f"at{number}", stamp_us, inputs)
        before = oracle.request(f"before{number}", stamp_us - 1, inputs)
        assert (at.vector[place], before.vector[place]) == (new[4], old[4])
        served += [at, before, replace(at.with_value(place, old[4]), name=f"late{number}")]
    world.serve(served)
    found = world.verify().models[MODEL].features["user_orders:spent"]
    assert found.equal == 2 * len(changes)
    assert list(found.lags_us) == [0] * len(changes)


def test_bounded_memory_changes_only_how_far_it_looks_back(
    world: World, oracle: Oracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With few rows kept of an entity what is current stays right, and what is near stale."""
    served = some_requests(oracle, 12, 80)
    place = world.place("user_orders:spent")
    for number, one in enumerate(served):
        rows = oracle.rows("user_orders", (one.inputs["user"],), one.at_us)
        values = [values[4] for _, values in rows if values[4] is not None]
        distinct = list(dict.fromkeys(values))
        if number % 3 and len(distinct) > 12:
            # One before the current one, or far back.
            earlier = distinct[-2] if number % 3 == 1 else distinct[1]
            served[number] = replace(one.with_value(place, earlier), name=f"{number % 3}")
    near, far = ([one.name for one in served].count(name) for name in ("1", "2"))
    assert min(near, far) > 5
    world.serve(served)
    whole = world.verify().models[MODEL].features["user_orders:spent"]
    assert (whole.equal, whole.stale, whole.different) == (80 - near - far, near + far, 0)
    monkeypatch.setattr("dataflows.verify.history.LOOK_BACK_ROWS", 8)
    chosen = world.settings.model_copy(update={"batch_bytes": 900})
    small = replace(world, settings=chosen)
    kept = small.verify().models[MODEL].features["user_orders:spent"]
    assert (kept.equal, kept.stale, kept.different) == (80 - near - far, near, far)
    assert {*kept.lags_us} <= {*whole.lags_us}
    monkeypatch.setattr("dataflows.verify.history.LOOK_BACK_ROWS", 4_096)
    monkeypatch.setattr("dataflows.verify.history._ROWS_MAX", 100)
    report = small.verify()
    assert report.look_back_rows == 16
    assert report.models[MODEL].features["user_orders:spent"].equal == 80 - near - far
