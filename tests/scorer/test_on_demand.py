"""On-demand views over a real channel: derived fields in scores, and rows that they refuse."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.struct_pb2 import NullValue
from hypothesis import given
from hypothesis import strategies as st

from contracts.category import category_code
from contracts.feature_schema import FeatureSchema, OnDemandView, VectorField
from scorer.batcher import ScoredRows
from scorer.errors import ConfigurationError, InvalidRequestError
from scorer.model import LoadedModel
from scorer.on_demand import DerivedFields
from scorer.server import running
from scorer.v1 import scorer_pb2, scorer_pb2_grpc
from scorer.vector_plan import Scalar, check_rows, plan_vector
from tests.scorer.shop import MODEL, NOON_US, ROW, SCHEMA, Shop, linear_onnx, manifest_for
from tests.scorer.test_batcher import WatchedReader, batcher, checked

CODE = """
def per_item(inputs):
    lengths = [None if name is None else len(name) for name in inputs['shop']]
    pairs = zip(inputs['amount'], inputs['card_1h__visits'], strict=True)
    return {'rate': [a / v if v is not None else None for a, v in pairs], 'length': lengths}
"""
AMOUNT, SPENT, VISITS = SCHEMA.fields[0], SCHEMA.fields[3], SCHEMA.fields[4]
SHOP = VectorField("shop", "request", "string", 0.0)
DERIVED = (
    VectorField("per_item:length", "derived", "int64", -8.0, "per_item", "length"),
    VectorField("per_item:rate", "derived", "float64", -9.0, "per_item", "rate"),
)
PER_ITEM = OnDemandView(
    "per_item", "per_item", CODE, "columns", ("amount", "card_1h:visits", "shop")
)
# Visits and the shop's name are in no vector.
DEMANDED = FeatureSchema(
    "shop", (DERIVED[0], SPENT, AMOUNT, DERIVED[1]), (VISITS, SHOP), (PER_ITEM,)
)
INPUTS: dict[str, Scalar] = {"amount": 6.0, "card": 42, "shop": "deli"}
WEIGHTS = (1.0, 0.1, 0.01, 0.001)
Stub = Any


def publish(shop: Shop, version: str, schema: FeatureSchema = DEMANDED) -> None:
    """A version with this schema as champion; it scores a weighted sum."""
    data = linear_onnx(WEIGHTS, 0.0)
    shop.repository.publish(manifest_for(version, data, schema), data)
    shop.repository.set_channel(MODEL, "champion", version, "test", "test", 0)


def with_stub(shop: Shop, use: Callable[[Stub], Awaitable[None]]) -> None:
    """Run ``use`` with a stub of a running scorer."""

    async def run() -> None:
        async with (
            running(shop.settings(), shop.folder) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            await use(scorer_pb2_grpc.ScorerServiceStub(channel))

    asyncio.run(run())


def request(*rows: Mapping[str, Scalar]) -> scorer_pb2.ScoreRequest:
    """A request to score rows at noon, with their vectors."""
    message = scorer_pb2.ScoreRequest(model=MODEL, include_features=True)
    message.event_time.FromMicroseconds(NOON_US)
    for row in rows:
        inputs = message.rows.add().inputs
        for name, value in row.items():
            if value is None:
                inputs[name].null_value = NullValue.NULL_VALUE
            elif isinstance(value, str):
                inputs[name].string_value = value
            elif isinstance(value, bool):
                inputs[name].bool_value = value
            elif isinstance(value, int):
                inputs[name].int64_value = value
            else:
                inputs[name].double_value = value
    return message


def test_derived_fields_are_computed_before_the_score(scorer_shop: Shop) -> None:
    """The function gets stored, given and hidden values; what it makes is in the vector."""
    publish(scorer_shop, "2")

    async def use(stub: Stub) -> None:
        answer = await stub.Score(request(INPUTS, {**INPUTS, "shop": "", "amount": 2.0}))
        assert [list(row.features) for row in answer.scores] == [
            [4.0, 10.25, 6.0, 1.5],
            [0.0, 10.25, 2.0, 0.5],
        ]
        logits = [float(np.dot(row.features, WEIGHTS)) for row in answer.scores]
        scores = [row.score for row in answer.scores]
        assert scores == pytest.approx([1 / (1 + np.exp(-one)) for one in logits], abs=1e-15)
        assert list(answer.feature_names) == list(DEMANDED.names)
        described = await stub.GetModel(scorer_pb2.GetModelRequest(model=MODEL))
        assert {(one.name, one.type, one.entity_key) for one in described.inputs} == {
            ("amount", "float64", False),
            ("card", "int64", True),
            ("shop", "string", False),
        }

    with_stub(scorer_shop, use)


def test_nulls_go_in_and_come_out_as_nulls(scorer_shop: Shop) -> None:
    """A function sees None for what is missing; for the None it gives the default stands in."""
    publish(scorer_shop, "2")

    async def use(stub: Stub) -> None:
        answer = await stub.Score(request({**INPUTS, "card": 43, "shop": None}))
        (row,) = answer.scores
        assert list(row.features) == [-8.0, -1.0, 6.0, -9.0]
        assert [(one.name, one.reason, one.value) for one in row.stand_ins] == [
            ("per_item:length", 4, -8.0),
            ("card_1h:spent", 2, -1.0),
            ("per_item:rate", 4, -9.0),
        ]

    with_stub(scorer_shop, use)


def test_a_row_that_fails_is_the_callers_alone(scorer_shop: Shop) -> None:
    """Requests that share a batch with a row at which the function fails get their scores."""
    data = linear_onnx(WEIGHTS, 0.0)
    model = LoadedModel(manifest_for("2", data, DEMANDED), data)
    rows = [{**INPUTS, "shop": "x" * number, "amount": float(number)} for number in range(7)]
    bad = {**INPUTS, "amount": None}
    pieces = [[rows[0]], [rows[1], rows[2], bad, bad], rows[3:5], [bad], rows[5:]]

    async def run() -> None:
        reader = WatchedReader(scorer_shop)
        scoring = batcher(reader)
        answers = await asyncio.gather(
            *(scoring.score(model, checked(model, *piece), NOON_US) for piece in pieces),
            return_exceptions=True,
        )
        assert len(reader.reads) == 1
        told = [str(answer) for answer in answers if isinstance(answer, InvalidRequestError)]
        reason = "on-demand view 'per_item': it raised TypeError"
        assert told == [f"rows[2]: {reason}", f"rows[0]: {reason}"]
        scored = [answer.vectors for answer in answers if isinstance(answer, ScoredRows)]
        assert [vectors.values.tolist() for vectors in scored] == [
            [[float(number), 10.25, float(number), number / 4] for number in numbers]
            for numbers in ([0], [3, 4], [5, 6])
        ]
        await reader.close()

    asyncio.run(run())


def test_a_failing_row_keeps_its_number_in_a_long_request(scorer_shop: Shop) -> None:
    """However a request is cut into pieces, the row is named by its place in the request."""
    publish(scorer_shop, "2")

    async def use(stub: Stub) -> None:
        rows = [INPUTS] * 700
        with pytest.raises(grpc.aio.AioRpcError, match=r"rows\[650\]: on-demand view") as caught:
            await stub.Score(request(*rows[:650], {**INPUTS, "amount": None}, *rows[651:]))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    with_stub(scorer_shop, use)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"shop": 3}, "input 'shop' must be string, not int64"),
        ({"amount": "x"}, "input 'amount' must be float64, not string"),
        ({"more": 1.0}, "unknown input 'more'"),
        ({"shop": ...}, "request field 'shop' .string. is missing"),
    ],
)
def test_inputs_of_functions_are_checked(
    scorer_shop: Shop, change: dict[str, Any], named: str
) -> None:
    """Hidden request fields are inputs like all others."""
    publish(scorer_shop, "2")
    row = {name: value for name, value in {**INPUTS, **change}.items() if value is not ...}

    async def use(stub: Stub) -> None:
        with pytest.raises(grpc.aio.AioRpcError, match=named) as caught:
            await stub.Score(request(row))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    with_stub(scorer_shop, use)


def test_a_version_whose_code_does_not_load_is_refused(
    scorer_shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    """A version whose code cannot be loaded is refused, and the log says why."""
    broken = replace(PER_ITEM, code="import no_such_package")
    publish(scorer_shop, "2", replace(DEMANDED, on_demand=(broken,)))
    scorer_shop.repository.set_channel(MODEL, "champion", "1", "test", "test", 0)

    async def use(stub: Stub) -> None:
        pinned = request(INPUTS)
        pinned.version = "2"
        with pytest.raises(grpc.aio.AioRpcError, match="cannot be served") as caught:
            await stub.Score(pinned)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert (await stub.Score(request(ROW))).version == "1"

    with_stub(scorer_shop, use)
    assert "on-demand view 'per_item': its code cannot be loaded" in capsys.readouterr().out


def test_a_stored_string_for_a_view_is_refused() -> None:
    """Strings of requests may be inputs of views; stored ones may not, nor may a view make one."""
    name = VectorField("v:name", "feature", "string", 0.0, "v", "name", ("card",), ("int64",))
    view = replace(PER_ITEM, inputs=("amount", "card_1h:visits", "v:name"))
    with pytest.raises(ConfigurationError, match="takes 'v:name', a stored string"):
        plan_vector(replace(DEMANDED, hidden=(VISITS, name), on_demand=(view,)))
    fields = [
        replace(one, dtype="string") if one.kind == "derived" else one for one in DEMANDED.fields
    ]
    with pytest.raises(ConfigurationError, match="is a string; on-demand views make numbers"):
        plan_vector(replace(DEMANDED, fields=tuple(fields)))


def test_a_string_may_be_a_view_s_and_in_the_vector() -> None:
    """A view gets the text, and the vector has its code."""
    schema = replace(DEMANDED, fields=(*DEMANDED.fields, SHOP), hidden=(VISITS,))
    plan = plan_vector(schema)
    inputs = dict.fromkeys(plan.input_types)
    amount = {name: 2.0 for name in ("amount",) if name in inputs}
    checked = check_rows(plan, 0, [{**inputs, **amount, SHOP.name: "north"}])
    assert checked.texts == [["north"]]
    place = [field.name for _, field in plan.requests].index(SHOP.name)
    assert checked.given[0][place] == category_code("north")


@given(st.lists(st.tuples(st.none() | st.floats(-9, 9), st.none() | st.text(max_size=3))))
def test_vectors_are_cut_to_the_fields(rows: list[tuple[float | None, str | None]]) -> None:
    """What is hidden leaves the matrix, and each row keeps its own values."""
    derived = DerivedFields(DEMANDED)
    values = np.full((len(rows), 6), np.nan)
    values[:, 2] = [np.nan if amount is None else amount for amount, _ in rows]
    values[:, 4] = 4.0
    vectors, refused = derived.fill(values, [[shop] for _, shop in rows])
    assert vectors.shape == (len(rows), 4)
    assert vectors.flags.c_contiguous
    assert list(refused) == [row for row, (amount, _) in enumerate(rows) if amount is None]
    for row, (amount, shop) in enumerate(rows):
        if amount is not None:
            length = float("nan") if shop is None else float(len(shop))
            assert repr(vectors[row, [0, 3]].tolist()) == repr([length, amount / 4])


def test_predictions_are_logged_with_what_was_given(scorer_shop: Shop, tmp_path: Path) -> None:
    """The prediction log has the vector with its derived fields, and all inputs, strings too."""
    publish(scorer_shop, "2")

    async def use(stub: Stub) -> None:
        await stub.Score(request(INPUTS))

    with_stub(scorer_shop, use)
    (file,) = tmp_path.rglob("predictions/*.ndjson")
    record = json.loads(file.read_text())
    assert record["features"] == list(DEMANDED.names)
    (row,) = record["rows"]
    assert row["inputs"] == INPUTS
    assert row["vector"] == [4.0, 10.25, 6.0, 1.5]
