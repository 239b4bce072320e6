"""What on-demand views make, also of features that stand in no vector, and texts."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contracts.category import category_code
from dataflows.definitions.repository import Repository, load_repository
from tests.flow import shop
from tests.flow.log_oracle import ViewOracle, known_records
from tests.verify.demanding import definitions
from tests.verify.world import MODEL, SECOND_US, Inputs, Request, World, counts

RATIO, LENGTH, MINUTES = "compared:ratio", "compared:length", "in_minutes:minutes"
LAST_USER = "shop_users:last_user"
# Where they stand in the vector.
ORDERS_AT, USER_AT, RATIO_AT, LENGTH_AT, MINUTES_AT = 1, 2, 3, 4, 5


@pytest.fixture(scope="module")
def demanding(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The shop of ``demanding.py``, compiled."""
    return load_repository(
        shop.make_repository(tmp_path_factory.mktemp("demanding"), definitions())
    )


class Slow:
    """The rows of all entities by brute force, and vectors made of them."""

    def __init__(self, repository: Repository, records: Sequence[shop.Record]) -> None:
        known = known_records(repository.plan, records)
        self.last_us = max(one.fields["event_us"] for one in known)
        self.rows = {
            view.name: ViewOracle(view, known).rows(self.last_us) for view in repository.plan.views
        }

    def row(self, view: str, key: object, at_us: int) -> list[object] | None:
        """The values of the newest row by then; None if there is none, or if it is too old."""
        found = [row for row in self.rows[view] if row[0] == (key,) and row[1] <= at_us]
        if not found:
            return None
        newest = max(found, key=lambda row: int(row[1]))
        is_old = view == "user_visits" and at_us - newest[1] > 240 * SECOND_US
        return None if is_old else list(newest[2])

    def request(self, name: str, at_us: int, user: str, word: str | None) -> Request:
        """A request that was served what was current."""
        inputs: Inputs = {"user": user, "shop": 1, "amount": 7.0, "word": word}
        orders = self.row("user_orders", user, at_us)
        return Request(name, at_us, inputs, self.vector(at_us, inputs, orders))

    def vector(self, at_us: int, inputs: Inputs, orders: list[object] | None) -> list[float | None]:
        """The vector by some row of the user's orders."""
        count, last = (orders[0], orders[3]) if orders else (None, None)
        visits = self.row("user_visits", inputs["user"], at_us)
        users = self.row("shop_users", 1, at_us)
        assert isinstance(last, float | None)
        assert isinstance(count, float | None)
        ratio = 7.0 / (1.0 + (last or 0.0)) + 1000.0 * (int(count) if count else 0)
        code = 0.0 if users is None or users[0] is None else category_code(str(users[0]))
        word = inputs["word"]
        assert isinstance(word, str | None)
        seconds = visits[0] if visits else None
        assert isinstance(seconds, float | None)
        minutes = 0.0 if seconds is None else seconds / 60.0
        return [7.0, count or 0.0, code, ratio, float(len(word or "")), minutes]

    def before(self, view: str, user: str, at_us: int) -> tuple[list[object], int]:
        """The user's values one row earlier, and when that row was followed."""
        own = self._until(view, user, at_us)
        return list(own[-2][2]), own[-1][1]

    def stamp_before(self, view: str, user: str, at_us: int) -> int:
        """The stamp of that row."""
        return int(self._until(view, user, at_us)[-2][1])

    def _until(self, view: str, user: str, at_us: int) -> list[tuple[Any, ...]]:
        found = [row for row in self.rows[view] if row[0] == (user,) and row[1] <= at_us]
        return sorted(found, key=lambda row: int(row[1]))


@pytest.fixture(scope="module")
def slow(demanding: Repository, records: list[shop.Record]) -> Slow:
    """The oracle of that shop."""
    return Slow(demanding, records)


@pytest.fixture
def world(demanding: Repository, records: list[shop.Record], tmp_path: Path) -> World:
    """A log of which nothing was served yet; its orders have no word of their own."""
    log = shop.write_log(tmp_path / "log", records)
    return World(demanding, log, shop.settings(demanding.directory, log, tmp_path / "out"))


def some_requests(slow: Slow, count: int) -> list[Request]:
    """At random moments, of all users."""
    rng = random.Random(5)
    return [
        slow.request(
            f"r{number}",
            rng.randrange(shop.BEGIN_US + 600 * SECOND_US, slow.last_us),
            f"u{rng.randrange(9)}",
            rng.choice([None, "", "word", "ß"]),
        )
        for number in range(count)
    ]


def with_missing(request: Request, *names: str) -> Request:
    """The same, with names of features in whose place a default stood."""
    return replace(request, more={"missing": list(names)})


def test_what_views_made_of_current_values_is_equal(world: World, slow: Slow) -> None:
    """Derived fields are computed again, of hidden features, texts and nulls too."""
    world.serve(some_requests(slow, 80))
    report = world.verify()
    assert report.is_good
    for name in (RATIO, LENGTH, MINUTES, LAST_USER):
        assert counts(report, name)["equal"] == 80
    assert json.loads(json.dumps(report.to_json()))["models"][MODEL]["rows"]["equal"] == 80


def test_a_view_that_made_something_else_is_different(world: World, slow: Slow) -> None:
    """A derived value that neither current nor earlier inputs make is different."""
    requests = some_requests(slow, 20)
    for place in (RATIO_AT, LENGTH_AT, MINUTES_AT):
        requests[place] = requests[place].with_value(place, 0.123)
    world.serve(requests)
    report = world.verify()
    for name in (RATIO, LENGTH, MINUTES):
        assert counts(report, name) == {"compared": 20, "equal": 19, "stale": 0, "different": 1}


def test_what_views_made_of_stale_values_is_stale(world: World, slow: Slow) -> None:
    """By as much as their inputs were, of which one stands in the vector and one does not."""
    served, lags = [], []
    for one in some_requests(slow, 60):
        orders, ended_us = slow.before("user_orders", str(one.inputs["user"]), one.at_us)
        vector = slow.vector(one.at_us, one.inputs, orders)
        if vector[RATIO_AT] != one.vector[RATIO_AT]:
            served.append(replace(one, vector=vector))
            lags.append(one.at_us - ended_us)
    assert len(served) > 30
    world.serve(served)
    report = world.verify()
    found = report.models[MODEL].features[RATIO]
    assert (found.stale, found.different) == (len(served), 0)
    assert sorted(found.lags_us) == sorted(lags)
    assert counts(report, LENGTH)["equal"] == len(served)


def test_what_views_made_of_hidden_stale_values_is_stale(world: World, slow: Slow) -> None:
    """By as much as an input was that stands in no vector, so that only the result tells."""
    served, lags = [], []
    for one in some_requests(slow, 200):
        visits, ended_us = slow.before("user_visits", str(one.inputs["user"]), one.at_us)
        stamp_us = slow.stamp_before("user_visits", str(one.inputs["user"]), one.at_us)
        seconds = visits[0]
        assert isinstance(seconds, float)
        is_new = one.vector[MINUTES_AT] not in (0.0, seconds / 60.0)
        if is_new and seconds and one.at_us - stamp_us <= 240 * SECOND_US:
            served.append(one.with_value(MINUTES_AT, seconds / 60.0))
            lags.append(one.at_us - ended_us)
    assert len(served) > 30
    world.serve(served)
    found = world.verify().models[MODEL].features[MINUTES]
    assert (found.stale, found.different) == (len(served), 0)
    assert sorted(found.lags_us) == sorted(lags)


def test_a_derived_value_of_wrong_inputs_is_different(world: World, slow: Slow) -> None:
    """What a view made of a value that was never current is as wrong as that."""
    one = some_requests(slow, 1)[0]
    count, ratio = one.vector[ORDERS_AT], one.vector[RATIO_AT]
    assert count is not None
    assert ratio is not None
    wrong = one.with_value(ORDERS_AT, count + 50.0)
    world.serve([wrong.with_value(RATIO_AT, ratio + 50_000.0)])
    report = world.verify()
    assert counts(report, "user_orders:orders_20m")["different"] == 1
    assert counts(report, RATIO)["different"] == 1


def test_an_expired_hidden_value_that_was_used_is_different(world: World, slow: Slow) -> None:
    """What a view made of a feature past its ttl is different."""
    for one in some_requests(slow, 400):
        rows = [r for r in slow.rows["user_visits"] if r[0] == (one.inputs["user"],)]
        before = [row for row in rows if row[1] <= one.at_us and row[2][0]]
        if before and slow.row("user_visits", one.inputs["user"], one.at_us) is None:
            break
    else:
        raise AssertionError("no such moment in the log")
    newest = max(before, key=lambda row: int(row[1]))
    world.serve([one.with_value(MINUTES_AT, newest[2][0] / 60.0)])
    assert counts(world.verify(), MINUTES)["different"] == 1


def test_another_text_is_different_without_a_difference(world: World, slow: Slow) -> None:
    """A text that was never current is different; that codes differ by a number says nothing."""
    one = some_requests(slow, 1)[0]
    world.serve([one.with_value(USER_AT, category_code("somebody"))])
    report = world.verify()
    found = report.models[MODEL].features[LAST_USER]
    assert (found.different, found.difference_max) == (1, None)
