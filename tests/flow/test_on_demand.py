"""On-demand views in a run: what fails is set aside, and too much of it stops the run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dataflows.definitions.repository import Repository, load_repository
from dataflows.flow.engine import run_flow
from dataflows.flow.errors import EngineError
from dataflows.sources.bad_share import TooManyBadRecordsError
from tests.flow import shop

DEMANDED = """
from feast import RequestSource
from feast.on_demand_feature_view import on_demand_feature_view

asked = RequestSource(name="asked", schema=[
    Field(name="amount", dtype=Float64), Field(name="user", dtype=String)])


@on_demand_feature_view(
    sources=[user_orders[["last"]], asked], mode="python", singleton=SINGLETON,
    schema=[Field(name="ratio", dtype=Float64)])
def compared(inputs):
    def compare(amount, last, user):
        # Orders without an amount, a seventh of them, cannot be compared.
        return amount / (1.0 + (last or 0.0)) + len(user or "")

    amount, last, user = inputs["amount"], inputs["last"], inputs["user"]
    if SINGLETON:
        return {"ratio": compare(amount, last, user)}
    return {"ratio": [compare(*row) for row in zip(amount, last, user, strict=True)]}


service.feature_view_projections.append(compared.projection)
"""


def definitions(singleton: str) -> str:
    """The shop's with an on-demand view that the model reads."""
    head, model = shop.DEFINITIONS.split("late_order = Model(")
    return f"{head}{DEMANDED.replace('SINGLETON', singleton)}late_order = Model({model}"


@pytest.fixture(scope="module", params=["True", "False"])
def demanding(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Repository:
    """The shop with an on-demand view of rows, or of columns."""
    folder = tmp_path_factory.mktemp("demanding")
    return load_repository(shop.make_repository(folder, definitions(request.param)))


def run(repository: Repository, log: Path, out: Path, **given: Any) -> None:
    """Run to the end of the log."""
    settings = shop.settings(repository.directory, log, out, **given)
    run_flow(repository, settings, shop.places(out), until_end=True)


def letters(log: Path) -> Iterator[dict[str, Any]]:
    """What was set aside of the orders because of the on-demand view."""
    for line in (log / "orders.dlq" / "0.ndjson").read_text().splitlines():
        letter = json.loads(line)
        if "on-demand" in letter["reason"]:
            yield letter


def known(records: list[shop.Record]) -> dict[str, dict[str, Any]]:
    """Orders that are no bad records, by number."""
    return {r.fields["order_id"]: r.fields for r in records if r.topic == "orders" and r.fields}


def test_rows_that_fail_are_set_aside_once(
    demanding: Repository, records: list[shop.Record], new_log: Path, tmp_path: Path
) -> None:
    """Orders at which the function fails are dead letters with model, order, place and reason."""
    out = tmp_path / "out"
    run(demanding, new_log, out, workers=2, batch_bytes=7_000)
    orders = known(records)
    failing = {order for order, fields in orders.items() if fields["amount"] is None}
    assert failing
    found = list(letters(new_log))
    written = [json.loads(letter["record"]) for letter in found]
    assert sorted(one["order_id"] for one in written) == sorted(failing)
    assert {one["model"] for one in written} == {"late_order"}
    for letter, one in zip(found, written, strict=True):
        file = new_log / "orders" / f"{letter['partition']}.ndjson"
        record = file.read_bytes()[letter["offset"] :].split(b"\n", 1)[0]
        assert json.loads(record)["order_id"] == one["order_id"]
        assert letter["reason"].startswith(
            "model 'late_order': on-demand view 'compared': it raised TypeError unsupported operand"
        )
    files = out / "examples" / "late_order" / "examples" / "*.parquet"
    with closing(duckdb.connect()) as connection:
        vectors = connection.execute(
            "SELECT order_id, amount, user_orders__last, compared__ratio"
            f" FROM read_parquet('{files}')"
        ).fetchall()
    assert {order for order, *_ in vectors} == orders.keys() - failing
    for order, amount, last, ratio in vectors:
        assert ratio == amount / (1.0 + (last or 0.0)) + len(orders[order]["user"] or "")
    (out / "state").rename(tmp_path / "lost")
    # A store that another state has filled would be refused.
    (out / "online.db").unlink()
    run(demanding, new_log, out)
    assert list(letters(new_log)) == found


def test_too_many_failures_stop_the_run(
    demanding: Repository, new_log: Path, tmp_path: Path
) -> None:
    """A function that fails at more than the share stops the run, which names model and view."""
    with pytest.raises(TooManyBadRecordsError, match=r"of 50 predictions of model 'late_order'"):
        run(
            demanding,
            new_log,
            tmp_path / "out",
            bad_record_share_max=0.08,
            bad_record_window=50,
            batch_bytes=7_000,
        )


def test_other_code_is_other_definitions(
    demanding: Repository, new_log: Path, tmp_path: Path
) -> None:
    """State that was made with other code of a view is refused; comments make no difference."""
    out = tmp_path / "out"
    run(demanding, new_log, out)
    text = (demanding.directory / "definitions.py").read_text()
    same = text.replace("# Orders without", "# Those without")
    run(load_repository(shop.make_repository(tmp_path / "same", same)), new_log, out)
    other = text.replace("amount / (1.0", "amount / (2.0")
    changed = load_repository(shop.make_repository(tmp_path / "other", other))
    with pytest.raises(EngineError, match="definitions changed"):
        run(changed, new_log, out)
