"""What the dataflow read is what Feast and DuckDB find when they join its Parquet by time."""

from __future__ import annotations

import warnings
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from shutil import copytree
from typing import Any

import dask
import duckdb
import pandas as pd
import pytest
from feast import FeatureStore

from contracts.plan import View
from dataflows.definitions.repository import Repository, load_repository
from dataflows.flow.engine import default_places, run_flow
from tests.flow import every_kind, shop
from tests.flow.log_oracle import ViewOracle, known_records
from tests.integration.commands import Commands

# The repository is applied, and run four times, before the first test.
pytestmark = pytest.mark.timeout(300)
ORDERS = 560
EPOCH = pd.Timestamp("1970-01-01", tz="UTC")
Asked = tuple[Any, ...]  # the parts of an entity key, and the time of the read


@dataclass(frozen=True)
class Ran:
    """A repository that was applied and run.

    Attributes:
        spine: order -> (time of the prediction, the order's fields).
        vectors: order -> feature by its full name -> what the model read.
    """

    repository: Repository
    records: list[shop.Record]
    offline: dict[str, Path]
    spine: dict[str, tuple[int, dict[str, Any]]]
    vectors: dict[str, dict[str, Any]]

    @cached_property
    def joined(self) -> dict[str, dict[Asked, list[Any]]]:
        """View -> what Feast's point-in-time join finds for it."""
        return {view.name: by_feast(self, view) for view in self.repository.plan.views}

    def asked(self, view: View) -> dict[str, Asked]:
        """What each order asks of a view, but those that lack a part of its key."""
        found = {}
        for order, (time_us, fields) in self.spine.items():
            parts = tuple(fields[name] for name in view.join_keys)
            if None not in parts:
                found[order] = (*parts, time_us)
        return found


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory, commands: Commands) -> Path:
    """A repository with every kind of view, applied and never run."""
    folder = tmp_path_factory.mktemp("applied")
    directory = shop.make_repository(folder / "repository", every_kind.DEFINITIONS)
    commands.run(directory, "apply", seconds=200).check_returncode()
    return directory


@pytest.fixture(scope="module", params=[3, 4])
def ran(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, applied: Path
) -> Ran:
    """It, run over a log in four pieces, in different ways."""
    folder = tmp_path_factory.mktemp("ran")
    directory = copytree(applied, folder / "repository")
    repository = load_repository(directory)
    pieces = pieces_of(every_kind.make_records(request.param, ORDERS))
    records = [record for piece in pieces for record in piece]
    log = folder / "log"
    settings = partial(shop.settings, directory, log, folder)
    places = default_places(repository, settings())
    for number, piece in enumerate(pieces):
        shop.write_log(log, piece)
        given: dict[str, Any] = {"batch_bytes": 2_000 * 4**number, "workers": 1 + number % 3}
        run_flow(repository, settings(epoch_seconds=0.0, **given), places, until_end=True)
    orders = {r.fields["order_id"]: r.fields for r in records if r.topic == "orders" and r.fields}
    examples = places.examples / "late_order" / "examples" / "*.parquet"
    with closing(duckdb.connect()) as connection:
        cursor = connection.execute(
            f"SELECT epoch_us(event_timestamp) AS time_us, * FROM read_parquet('{examples}')"
        )
        names = [column[0] for column in cursor.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    spine = {row["order_id"]: (row["time_us"], orders[row["order_id"]]) for row in rows}
    assert len(spine) == len(rows) == len(orders) > ORDERS * 0.8
    offline = dict(places.offline)
    return Ran(repository, records, offline, spine, {row["order_id"]: row for row in rows})


def pieces_of(records: list[shop.Record]) -> list[list[shop.Record]]:
    """The log in four pieces, without what would be late only because a run ended before it."""
    pieces: list[list[shop.Record]] = []
    newest_us = 0
    for number in range(4):
        some = records[number * len(records) // 4 : (number + 1) * len(records) // 4]
        some = [r for r in some if r.fields is None or r.fields["event_us"] > newest_us]
        newest_us = max(r.fields["event_us"] for r in some if r.fields is not None)
        pieces.append(some)
    return pieces


def by_feast(ran: Ran, view: View) -> dict[Asked, list[Any]]:
    """Feast's point-in-time join; it leaves out what has no match, and repeated questions."""
    asked = pd.DataFrame(
        sorted(set(ran.asked(view).values())), columns=[*view.join_keys, "event_timestamp"]
    )
    asked["event_timestamp"] = pd.to_datetime(asked["event_timestamp"], unit="us", utc=True)
    names = [f"{view.name}:{a.feature}" for a in view.aggregates]
    # Threads take longer to hand over so few rows than one takes to join them.
    with warnings.catch_warnings(), dask.config.set(scheduler="synchronous"):
        warnings.simplefilter("ignore")
        store = FeatureStore(repo_path=str(ran.repository.directory))
        found = store.get_historical_features(asked, names).to_df()
    columns = [found[name] for name in (*view.join_keys, *(a.feature for a in view.aggregates))]
    rows = zip(found["event_timestamp"], *columns, strict=True)
    count = len(view.join_keys)
    return {
        (*parts[:count], (time - EPOCH) // pd.Timedelta(microseconds=1)): [
            None if pd.isna(cell) else cell for cell in parts[count:]
        ]
        for time, *parts in rows
    }


def by_duckdb(ran: Ran, view: View) -> dict[Asked, list[Any]]:
    """DuckDB's ASOF join of the same, within the view's ttl."""
    asked = pd.DataFrame(
        sorted(set(ran.asked(view).values())), columns=[*view.join_keys, "time_us"]
    )
    equal = " AND ".join(f'asked."{name}" = rows."{name}"' for name in view.join_keys)
    cells = ", ".join(f'rows."{a.feature}"' for a in view.aggregates)
    keys = ", ".join(f'asked."{name}"' for name in view.join_keys)
    stamp = "epoch_us(rows.event_timestamp)"
    with closing(duckdb.connect()) as connection:
        connection.register("asked", asked)
        found = connection.execute(
            f"SELECT {keys}, time_us, {cells}"
            f" FROM asked ASOF JOIN read_parquet('{ran.offline[view.name]}/*.parquet') AS rows"
            f" ON {equal} AND time_us >= {stamp}"
            f" WHERE {view.ttl_us} = 0 OR time_us - {stamp} <= {view.ttl_us}"
        ).fetchall()
    count = len(view.join_keys) + 1
    return {row[:count]: list(row[count:]) for row in found}


def test_joins_equal_the_examples_row_by_row(ran: Ran) -> None:
    """Each value of each vector is what both joins find at the prediction's time, or both miss."""
    compared = {"missing": 0, "known": 0}
    for view in ran.repository.plan.views:
        feast, duck = ran.joined[view.name], by_duckdb(ran, view)
        asked = ran.asked(view)
        for order, vector in ran.vectors.items():
            question = asked.get(order)
            nothing = [None] * len(view.aggregates)
            joined = nothing if question is None else feast.get(question, nothing)
            also = nothing if question is None else duck.get(question, nothing)
            for aggregate, cell, other in zip(view.aggregates, joined, also, strict=True):
                what = (order, view.name, aggregate.feature)
                assert cell == other, what
                assert type(cell) is type(other) or aggregate.dtype == "int64", what
                name = f"{view.name}__{aggregate.feature}"
                if name in vector:
                    assert vector[name] == cell, what
                    compared["missing" if cell is None else "known"] += 1
    assert min(compared.values()) > ORDERS


def test_strings_are_those_of_brute_force(ran: Ran) -> None:
    """What no vector can hold, strings, is in the join what the oracle reads at that time."""
    known = known_records(ran.repository.plan, ran.records)
    seen = set()
    for view in ran.repository.plan.views:
        texts = [i for i, a in enumerate(view.aggregates) if a.dtype == "string"]
        if not texts:
            continue
        oracle = ViewOracle(view, known)
        feast, asked = ran.joined[view.name], ran.asked(view)
        for record in known:
            if record.topic == "orders" and record.fields["order_id"] in asked:
                found = feast.get(asked[record.fields["order_id"]], [None] * len(view.aggregates))
                wanted = oracle.read(record)
                assert [found[i] for i in texts] == [wanted[i] for i in texts], record
                seen |= {found[i] for i in texts}
    assert seen >= {*every_kind.CHANNELS, "big", "small"}


def test_one_file_for_each_view_and_day(ran: Ran) -> None:
    """However many batches, epochs and runs made them, a view's rows of a day are one file."""
    for folder in ran.offline.values():
        names = sorted(path.name for path in folder.iterdir())
        assert names == ["2013-01-01.parquet", "2013-01-02.parquet"]
