"""On-demand views give one value, whether dataflow, scorer or Feast's own SDK computes it."""

from __future__ import annotations

import asyncio
import math
import warnings
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pytest
from feast import FeatureStore
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.feast_bytes import encode_value
from contracts.feature_schema import FeatureSchema
from contracts.plan import View
from contracts.settings import DataflowSettings
from dataflows.batches import ModelInput, ShardOutput, SourceBatch, ranks_of
from dataflows.definitions.repository import Repository, load_repository
from dataflows.flow.engine import default_places, run_flow
from dataflows.learning.records import LearnerSpec
from dataflows.model_step import ModelStep
from dataflows.routing import ModelRouter
from dataflows.watermark import PartitionClock
from dataflows.windows.view_state import Reads
from scorer.online_store import Cells, open_online_store
from scorer.vector import VectorFiller
from scorer.vector_plan import check_rows, plan_vector
from tests.conformance import on_demand
from tests.integration.commands import Commands

# The repository is applied and run before the first test.
pytestmark = pytest.mark.timeout(200)
Vector = dict[str, float | None]


@dataclass(frozen=True)
class Ran:
    """A repository that was applied and run, and Feast's SDK on it.

    Attributes:
        vectors: payment -> feature by its name -> what the dataflow learned from.
    """

    repository: Repository
    feast: FeatureStore
    vectors: dict[str, Vector]

    @property
    def schema(self) -> FeatureSchema:
        """Of the one model."""
        return self.repository.plan.models[0].schema


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, commands: Commands) -> Ran:
    """The repository after a run to the end of its log."""
    folder = on_demand.make(tmp_path_factory.mktemp("on_demand"))
    commands.run(folder, "apply", seconds=100).check_returncode()
    on_demand.write_log(folder / "data" / "log")
    repository = load_repository(folder)
    options = DataflowSettings.for_repo(folder, shards=2)
    places = default_places(repository, options)
    run_flow(repository, options, places, until_end=True)
    files = places.examples / "risky" / "examples" / "*.parquet"
    with closing(duckdb.connect()) as connection:
        found = connection.execute(f"SELECT * FROM read_parquet('{files}')")
        names = [column[0] for column in found.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    fields = repository.plan.models[0].schema.names
    vectors = {
        row["payment"]: {name: row[name.replace(":", "__")] for name in fields} for row in rows
    }
    return Ran(repository, FeatureStore(repo_path=str(folder)), vectors)


def by_scorer(ran: Ran, rows: Sequence[dict[str, Any]]) -> list[Vector]:
    """What the scorer makes of rows with what the online store holds."""
    plan = plan_vector(ran.schema)
    checked = check_rows(plan, 0, rows)
    wanted = [one for asked in checked.wanted for one in asked if one is not None]

    async def read() -> list[Cells]:
        reader = open_online_store(ran.repository.directory)
        try:
            return await reader.read_cells(wanted)
        finally:
            await reader.close()

    found = dict(zip(wanted, asyncio.run(read()), strict=True))
    at_us = [2**52] * len(rows)
    vectors = VectorFiller().fill(plan, checked.given, checked.wanted, found, at_us, checked.texts)
    assert not vectors.refused
    answers: list[Vector] = [
        dict(zip(ran.schema.names, values, strict=True)) for values in vectors.values.tolist()
    ]
    for answer, missing in zip(answers, vectors.missing, strict=True):
        for one in missing:
            field = ran.schema.fields[one.position]
            assert answer[field.name] == field.default
            answer[field.name] = None
    return answers


def by_feast(ran: Ran, row: dict[str, Any]) -> Vector:
    """What Feast's ``get_online_features`` says of the service for a row."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        service = ran.feast.get_feature_service("service")
        found = ran.feast.get_online_features(service, [row]).to_dict()
    vector: Vector = {}
    for field in ran.schema.fields:
        value = found[field.feature][0] if field.view else row[field.name]
        vector[field.name] = None if value is None or math.isnan(value) else float(value)
    return vector


def test_one_value_wherever_it_is_computed(ran: Ran) -> None:
    """Each vector of the run is what scorer and Feast compute from the store, nulls included."""
    rows = on_demand.asked_rows()
    assert ran.vectors.keys() == rows.keys()
    scored = by_scorer(ran, list(rows.values()))
    for (payment, row), vector in zip(rows.items(), scored, strict=True):
        assert ran.vectors[payment] == vector, row
        # Feast takes no null for a key.
        if row["user"] is not None:
            assert by_feast(ran, row) == vector, row
    for name in ran.schema.names:
        values = {vector[name] for vector in scored}
        assert len(values) > 1, name
        assert None in values or name in ("shares:is_first", "room:rank")


_NUMBER = st.none() | st.integers(-(10**6), 10**6).map(lambda number: number / 7)
_WHOLE = st.none() | st.integers(-(2**53), 2**53)
_FLAG = st.none() | st.booleans()
_STORED = st.none() | st.tuples(_NUMBER, _WHOLE), st.none() | st.tuples(_NUMBER, _FLAG, _WHOLE)
_ROW = st.tuples(*_STORED, _NUMBER, _WHOLE, _FLAG, st.none() | st.text(max_size=5))
SPEND, STATE = ("total", "payments"), ("ceiling", "premium", "level")
TYPES: dict[str, Any] = {
    "total": "float64",
    "payments": "int64",
    "ceiling": "float64",
    "premium": "bool",
    "level": "int64",
}
REQUEST = ("amount", "items", "gift", "shop")


@settings(max_examples=60)
@given(drawn=st.lists(_ROW, min_size=1, max_size=6), cut=st.integers(0, 6))
def test_any_rows_are_computed_alike(ran: Ran, drawn: list[Any], cut: int) -> None:
    """However rows are put together, all three compute the same from the same inputs."""
    rows = [
        {
            "user": f"u{number}",
            **dict(zip(SPEND, spend or (None, None), strict=True)),
            **dict(zip(STATE, state or (None, None, None), strict=True)),
            **dict(zip(REQUEST, request, strict=True)),
        }
        for number, (spend, state, *request) in enumerate(drawn)
    ]
    flow = [*in_flow(ran, rows[:cut]), *in_flow(ran, rows[cut:])]
    scorer = in_scorer(ran, drawn, rows)
    assert repr(flow) == repr(scorer)
    assert repr(flow) == repr(in_feast(ran, rows))


def in_flow(ran: Ran, rows: list[dict[str, Any]]) -> list[list[float]]:
    """The vectors that a model's step hands to its learner, NaN for null."""
    if not rows:
        return []
    plan = ran.repository.plan
    (model,) = plan.models
    maker = ran.repository.models[model.name].learner
    spec = LearnerSpec(model.name, model.schema, maker, 10**9, 10**9)
    step = ModelStep(plan, model, spec, 1)
    count = len(rows)
    ranks, times = ranks_of(0, np.arange(count)), np.arange(count)
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in ("user", *REQUEST)}
    columns["payment"] = [f"p{number}" for number in range(count)]
    clock = PartitionClock(0, count, count, False)
    batch = SourceBatch(model.spine_topic, clock, ranks, times, times, columns)
    _, item = ModelRouter(plan, model).route(batch)
    reads = {name: Reads(ranks, _read(plan.view(name), rows)) for name in model.views}
    items: list[ModelInput | ShardOutput] = [item, ShardOutput(0, count, {}, reads, {})]
    done = step.on_batch(items)
    assert done is not None
    assert not done.unpredicted
    found: list[list[float]] = done.learned.predictions.features.tolist()
    return found


def _read(view: View, rows: list[dict[str, Any]]) -> Any:
    """float64[n, F]: what reads of the view see; of strings, which no model reads, nothing."""
    values = [[row.get(one.feature) for one in view.aggregates] for row in rows]
    return np.array(values, dtype=np.float64).reshape(len(rows), -1)


def in_scorer(ran: Ran, drawn: list[Any], rows: list[dict[str, Any]]) -> list[list[float]]:
    """The vectors of the scorer for stored bytes, NaN where a default stands in."""
    plan = plan_vector(ran.schema)
    asked = [{name: row[name] for name in ("user", *REQUEST)} for row in rows]
    checked = check_rows(plan, 0, asked)
    found = {}
    for wanted in checked.wanted:
        for one, row, (spend, state, *_) in zip(wanted, rows, drawn, strict=True):
            assert one is not None
            cells = [encode_value(TYPES[name], row[name]) for name in one.features]
            is_there = (spend if one.view == "spend" else state) is not None
            found[one] = Cells(0, cells) if is_there else Cells(None, [None] * len(cells))
    vectors = VectorFiller().fill(
        plan, checked.given, checked.wanted, found, [0] * len(rows), checked.texts
    )
    assert not vectors.refused
    for number, places in enumerate(vectors.missing):
        for place in places:
            vectors.values[number, place.position] = math.nan
    found_rows: list[list[float]] = vectors.values.tolist()
    return found_rows


def in_feast(ran: Ran, rows: list[dict[str, Any]]) -> list[list[float]]:
    """The vectors of Feast's own way to run the views, NaN for null."""
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
    shares = ran.feast.get_on_demand_feature_view("shares").transform_dict(columns)
    room = ran.feast.get_on_demand_feature_view("room")
    rooms = [room.transform_dict({name: [value] for name, value in row.items()}) for row in rows]
    vectors = []
    for number, row in enumerate(rows):
        made = {name: shares[name][number] for name in shares}
        every = {**row, **made, **rooms[number]}
        values = [every[field.feature or field.name] for field in ran.schema.fields]
        vectors.append([math.nan if value is None else float(value) for value in values])
    return vectors
