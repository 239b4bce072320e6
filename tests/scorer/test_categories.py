"""Texts in vectors: a text is its code, from requests and from both online stores."""

from __future__ import annotations

import asyncio
import json
import struct
from dataclasses import replace

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.category import category_code
from contracts.feature_schema import FeatureSchema, VectorField
from scorer.errors import StoreUnavailableError
from scorer.model import LoadedModel
from scorer.online_store import Cells, wanted
from scorer.vector import MissingReason, VectorFiller
from scorer.vector_plan import Scalar, check_rows, plan_vector
from tests.scorer.graphs import graph, node
from tests.scorer.rollout_shop import AT_NOON, records
from tests.scorer.shop import MODEL, NOON_US, Shop, feast_key, manifest_for

TOWN = VectorField("town:name", "feature", "string", -7.0, "town", "name", ("card",), ("int64",))
SIZE = VectorField("town:size", "feature", "int64", -1.0, "town", "size", ("card",), ("int64",))
COLOUR = VectorField("colour", "request", "string", category_code("none"))
AMOUNT = VectorField("amount", "request", "float64", 0.5)
SCHEMA = FeatureSchema("shop", (COLOUR, SIZE, TOWN, AMOUNT))
ROW: dict[str, Scalar] = {"card": 42, "colour": "red", "amount": 2.5}
# 1 where the colour is red and the town Zürich.
CODES = np.array([category_code("red"), category_code("Zürich")])


def is_known() -> bytes:
    """How many of colour and town are those of ``CODES``."""
    return graph(
        4,
        [
            node("Gather", "features places", "texts", axis=1),
            node("Equal", "texts codes", "equal"),
            node("Cast", "equal", "ones", to=11),
            node("ReduceSum", "ones axis", "score", keepdims=1),
        ],
        {"places": np.array([0, 2]), "codes": CODES, "axis": np.array([1])},
    )


def text(value: str) -> bytes:
    """Feast's bytes of a string shorter than 128 bytes."""
    data = value.encode()
    return b"\x12" + bytes([len(data)]) + data


def put_town(shop: Shop, card: int, name: bytes | None) -> None:
    """Write a row of the view whose name is these bytes."""
    import sqlite3
    from contextlib import closing

    shop.write("town", feast_key({"card": card}), {"size": 3, "name": None})
    with closing(sqlite3.connect(shop.online_path)) as db, db:
        db.execute(
            "UPDATE shop_town SET value = ? WHERE entity_key = ? AND feature_name = 'name'",
            (name, feast_key({"card": card})),
        )


def test_texts_of_requests_and_of_the_store_are_codes(scorer_shop: Shop) -> None:
    """The model sees codes, the caller and the log the text; what is missing is the default."""
    data = is_known()
    manifest = replace(manifest_for("2", data, SCHEMA), task="regression")
    scorer_shop.repository.publish(manifest, data)
    scorer_shop.repository.promote(MODEL, "2", "test", "test", 0)
    put_town(scorer_shop, 42, text("Zürich"))
    put_town(scorer_shop, 43, text("Bern"))
    put_town(scorer_shop, 44, b"")
    rows: list[dict[str, Scalar]] = [
        ROW,
        {**ROW, "colour": "blue", "card": 43},
        {**ROW, "colour": None, "card": 44},
        {**ROW, "colour": ""},
    ]

    async def run() -> None:
        async with scorer_shop.client() as client:
            options = replace(AT_NOON, include_features=True)
            answer = await client.score(MODEL, rows, options)
            assert answer.scores == [2.0, 0.0, 0.0, 1.0]
            assert answer.features == [
                [category_code("red"), 3.0, category_code("Zürich"), 2.5],
                [category_code("blue"), 3.0, category_code("Bern"), 2.5],
                [category_code("none"), 3.0, -7.0, 2.5],
                [category_code(""), 3.0, category_code("Zürich"), 2.5],
            ]
            assert answer.missing[2] == ["colour", "town:name"]
            inputs = {one.name: one.type for one in (await client.model(MODEL)).inputs}
            assert inputs == {"card": "int64", "colour": "string", "amount": "float64"}
            with pytest.raises(grpc.aio.AioRpcError, match="'colour' must be string"):
                await client.score(MODEL, {**ROW, "colour": 3}, AT_NOON)

    asyncio.run(run())
    (record,) = records(scorer_shop)
    assert [row.inputs for row in record.rows] == rows
    assert record.rows[0].vector == [category_code("red"), 3.0, category_code("Zürich"), 2.5]
    # Codes are whole numbers that JSON keeps.
    assert json.loads(json.dumps(record.rows[0].vector[0])) == category_code("red")


def test_a_store_that_holds_something_else_is_told(scorer_shop: Shop) -> None:
    """A number where the model wants a text is a fault of the store, by name."""
    data = is_known()
    scorer_shop.repository.publish(manifest_for("2", data, SCHEMA), data)
    scorer_shop.repository.promote(MODEL, "2", "test", "test", 0)
    put_town(scorer_shop, 42, b"\x20\x05")

    async def run() -> None:
        async with scorer_shop.client() as client:
            with pytest.raises(grpc.aio.AioRpcError, match="town:name holds a number") as caught:
                await client.score(MODEL, ROW, AT_NOON)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    asyncio.run(run())


TEXTS = st.none() | st.text(max_size=20)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1))
def test_any_text_is_its_code(pairs: list[tuple[str | None, str | None]]) -> None:
    """Vectors of any texts, stored and given, are the codes by the contract."""
    plan = plan_vector(SCHEMA)
    rows: list[dict[str, Scalar]] = [
        {**ROW, "card": n, "colour": colour} for n, (colour, _) in enumerate(pairs)
    ]
    checked = check_rows(plan, 0, rows)
    found = {}
    for asked, (_, town) in zip(checked.wanted[0], pairs, strict=True):
        assert asked is not None
        cell = None if town is None else text(town)
        found[asked] = Cells(NOON_US, [b"\x20\x03", cell])
    vectors = VectorFiller().fill(
        plan, checked.given, checked.wanted, found, [NOON_US] * len(rows), checked.texts
    )
    for row, (colour, town) in enumerate(pairs):
        expected_colour = COLOUR.default if colour is None else category_code(colour)
        expected_town = TOWN.default if town is None else category_code(town)
        assert vectors.values[row].tolist() == [expected_colour, 3.0, expected_town, 2.5]
        reasons = {one.position: one.reason for one in vectors.missing[row]}
        assert reasons == {
            **({0: MissingReason.NULL_INPUT} if colour is None else {}),
            **({2: MissingReason.NULL_VALUE} if town is None else {}),
        }


def test_the_same_bytes_may_be_text_here_and_a_number_there() -> None:
    """A text is refused where a model wants a number, also after another one took it as text."""
    filler = VectorFiller()
    numbers = replace(TOWN, dtype="float64")
    for field in (TOWN, numbers, TOWN):
        plan = plan_vector(FeatureSchema("shop", (field,)))
        checked = check_rows(plan, 0, [{"card": 1}])
        (asked,) = checked.wanted[0]
        assert asked == wanted("town", ("name",), asked.entity_key)  # type: ignore[union-attr]
        found = {asked: Cells(NOON_US, [text("Bern")])}
        given = (plan, checked.given, checked.wanted, found, [NOON_US])
        if field is numbers:
            with pytest.raises(StoreUnavailableError, match="holds text"):
                filler.fill(*given)
        else:
            values = filler.fill(*given).values
            assert values.tolist() == [[category_code("Bern")]]


def test_a_number_that_was_read_before_is_still_no_text() -> None:
    """Cells that are known as numbers are refused where a model wants a text."""
    filler = VectorFiller()
    for field in (replace(TOWN, dtype="int64"), TOWN):
        plan = plan_vector(FeatureSchema("shop", (field,)))
        checked = check_rows(plan, 0, [{"card": 1}])
        (asked,) = checked.wanted[0]
        assert asked is not None
        found = {asked: Cells(NOON_US, [b"\x20\x05"])}
        given = (plan, checked.given, checked.wanted, found, [NOON_US])
        if field is TOWN:
            with pytest.raises(StoreUnavailableError, match="holds a number"):
                filler.fill(*given)
        else:
            assert filler.fill(*given).values.tolist() == [[5.0]]


def test_a_code_is_no_other_number() -> None:
    """Codes are whole, exact, and larger than any number that is not one."""
    codes = [category_code(str(number)) for number in range(10_000)]
    assert len(set(codes)) == 10_000
    assert all(2**52 <= code < 2**53 and code == int(code) for code in codes)
    packed = struct.pack("<d", codes[0])
    assert struct.unpack("<d", packed)[0] == codes[0]
    assert LoadedModel(manifest_for("1", is_known(), SCHEMA), is_known()).width == 4
