"""On-demand views as both processes run them: what goes in, what comes out, and what fails."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.feature_schema import FeatureSchema, OnDemandView, Takes, VectorField
from contracts.manifest import Manifest, ManifestError
from contracts.on_demand import BrokenCodeError, Failure, OnDemandViews
from tests.scorer.shop import SCHEMA, manifest_for

_KEY: dict[str, Any] = {"join_keys": ("card",), "join_key_types": ("int64",)}
AMOUNT = VectorField("amount", "request", "float64", 0.5)
SPENT = VectorField("cards:spent", "feature", "float64", 9.0, "cards", "spent", **_KEY)
VISITS = VectorField("cards:visits", "feature", "int64", 9.0, "cards", "visits", **_KEY)
GIFT = VectorField("gift", "request", "bool", 0.0)
SHOP = VectorField("shop", "request", "string", 0.0)
MADE = VectorField("made:y", "derived", "float64", -1.0, "made", "y")
PLACES = ("amount", "made:y", "cards:spent", "cards:visits", "gift", "shop")


def schema_of(body: str, takes: Takes = "columns", dtype: Any = "float64") -> FeatureSchema:
    """A vector of an amount and of what a function with that body makes of everything."""
    view = OnDemandView(
        name="made",
        function="made",
        code=f"def made(inputs):\n    {body}\n",
        takes=takes,
        inputs=("amount", "cards:spent", "cards:visits", "gift", "shop"),
    )
    fields = (AMOUNT, replace(MADE, dtype=dtype))
    return FeatureSchema("p", fields, (SPENT, VISITS, GIFT, SHOP), (view,))


def ran(schema: FeatureSchema, *rows: Any) -> tuple[list[float], dict[int, Failure]]:
    """What is made of rows of (amount, spent, visits, gift, shop), and the failures."""
    views = OnDemandViews(schema)
    numbers = [
        [math.nan if row[place] is None else float(row[place]) for place in (0, 0, 1, 2, 3)]
        for row in rows
    ]
    values = np.array(numbers, dtype=np.float64).reshape(len(rows), 5)
    values = np.column_stack([values, np.full(len(rows), math.nan)])
    assert views.text_inputs == ("shop",)
    before = values.copy()
    failures = views.fill(values, {"shop": [row[4] for row in rows]})
    others = [place for place, name in enumerate(PLACES) if name != "made:y"]
    assert repr(values[:, others].tolist()) == repr(before[:, others].tolist())
    return values[:, 1].tolist(), failures


ROW = (2.5, 4.0, 3, True, "deli")
NULLS = (None, None, None, None, None)
SAID = "if repr(inputs) not in (%r, %r): raise ValueError(repr(inputs))\n    return {'y': %s}"


def test_rows_come_with_their_types_and_names() -> None:
    """A function of rows gets each value in its own type, features by both of Feast's names."""
    wanted = (
        "{'shop': 'deli', 'amount': 2.5, 'spent': 4.0, 'cards__spent': 4.0, 'visits': 3, "
        "'cards__visits': 3, 'gift': True}"
    )
    nothing = (
        "{'shop': None, 'amount': None, 'spent': None, 'cards__spent': None, 'visits': None, "
        "'cards__visits': None, 'gift': None}"
    )
    schema = schema_of(SAID % (wanted, nothing, "inputs['visits']"), "row")
    made, failures = ran(schema, ROW, NULLS)
    assert not failures
    assert repr(made) == "[3.0, nan]"


def test_columns_come_as_lists_of_all_rows() -> None:
    """A function of columns is called once for all rows, and not at all for none."""
    body = "return {'y': [float(len(inputs['gift']))] * len(inputs['cards__spent'])}"
    assert ran(schema_of(body), ROW, NULLS, ROW) == ([3.0, 3.0, 3.0], {})
    assert ran(schema_of(body)) == ([], {})
    assert ran(schema_of("exit('never called')", "row")) == ([], {})


@given(st.lists(st.sampled_from([1.0, 0.0, None, -7.0]), max_size=40), st.sampled_from([0, 1]))
def test_only_the_rows_at_fault_fail(amounts: list[float | None], way: int) -> None:
    """However many rows come in one call, those that cannot be computed are found, and no other."""
    columns = "return {'y': [1 / amount for amount in inputs['amount']]}"
    schema = schema_of(columns) if way else schema_of("return {'y': 1 / inputs['amount']}", "row")
    made, failures = ran(schema, *((amount, None, None, None, "x") for amount in amounts))
    for row, amount in enumerate(amounts):
        if amount:
            assert made[row] == 1 / amount
        else:
            kind = "TypeError" if amount is None else "ZeroDivisionError"
            assert failures.pop(row).reason == f"it raised {kind}"
            assert math.isnan(made[row])
    assert not failures


@pytest.mark.parametrize(
    ("dtype", "given", "taken"),
    [
        ("float64", "None", "nan"),
        ("float64", "float('nan')", "nan"),
        ("float64", "True", "1.0"),
        ("float64", "7", "7.0"),
        ("float64", "__import__('numpy').float32(0.5)", "0.5"),
        ("float64", "float('-inf')", "it gave infinity for 'y'"),
        ("float64", "10 ** 400", "it gave infinity for 'y'"),
        ("float64", "'secret'", "it gave a str for 'y', which is float64"),
        ("float64", "[1.0]", "it gave a list for 'y', which is float64"),
        ("int64", "3.0", "3.0"),
        ("int64", "float('nan')", "nan"),
        ("int64", "3.5", "it gave a fraction for 'y', which is int64"),
        ("int64", "__import__('numpy').int8(-3)", "-3.0"),
        ("bool", "__import__('numpy').bool_(True)", "1.0"),
        ("bool", "None", "nan"),
        ("bool", "1", "it gave a int for 'y', which is bool"),
    ],
)
def test_what_a_function_may_give(dtype: Any, given: str, taken: str) -> None:
    """Numbers of Python and numpy are taken, None and NaN are null; anything else fails the row."""
    for schema in (
        schema_of(f"return {{'y': {given}}}", "row", dtype),
        schema_of(f"return {{'y': [{given}]}}", "columns", dtype),
    ):
        (made,), failures = ran(schema, ROW)
        found = failures[0].reason if failures else repr(made)
        assert found == taken


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return [1.0]", "it gave a value of type list, not a dict"),
        ("return {'z': [1.0]}", "it gave no 'y'"),
        ("return {'y': 1.0}", "it gave a float for 'y', not a list"),
        ("return {'y': [1.0, 2.0]}", "it gave 2 values of 'y' for 1 rows"),
        ("raise RuntimeError('secret')", "it raised RuntimeError"),
        ("exit('secret')", "it raised SystemExit"),
        ("return made(inputs)", "it raised RecursionError"),
        ("return {'y': [len(inputs['shop'][0]) / 0]}", "it raised ZeroDivisionError"),
    ],
)
def test_a_failure_says_nothing_out_of_the_row(body: str, reason: str) -> None:
    """What callers are told names the view and the reason, never what the function said."""
    (made,), failures = ran(schema_of(body), ROW)
    assert math.isnan(made)
    assert str(failures[0]) == f"on-demand view 'made': {reason}"


def test_a_function_may_write_into_what_it_gets() -> None:
    """As in Feast, what stands in the given dict counts; other views and rows do not see it."""
    body = "inputs['y'] = [amount * 2 for amount in inputs['amount']]; inputs['amount'][0] = None"
    schema = schema_of(f"{body}; return {{}}")
    again = replace(schema.on_demand[0], name="again")
    other = VectorField("again:y", "derived", "float64", 0.0, "again", "y")
    both = replace(schema, fields=(*schema.fields, other), on_demand=(*schema.on_demand, again))
    values = np.array([[2.5, math.nan, math.nan, 4.0, 3.0, 1.0, math.nan]])
    assert OnDemandViews(both).fill(values, {"shop": ["deli"]}) == {}
    assert values[0, :3].tolist() == [2.5, 5.0, 5.0]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def made(:", "SyntaxError"),
        ("import no_such_package", "ModuleNotFoundError"),
        ("exit()", "SystemExit"),
        ("made = 3", "has no function 'made'"),
    ],
)
def test_code_that_cannot_be_loaded_is_named(code: str, reason: str) -> None:
    """A schema whose code does not load is refused, with the view's name."""
    schema = schema_of("pass")
    schema = replace(schema, on_demand=(replace(schema.on_demand[0], code=code),))
    with pytest.raises(BrokenCodeError, match=f"on-demand view 'made'.*{reason}"):
        OnDemandViews(schema)


def test_a_manifest_brings_the_code_and_its_fingerprint_covers_it() -> None:
    """A manifest with on-demand views reads as it was written; other code is another schema."""
    schema = schema_of("return inputs")
    manifest = manifest_for("1", b"", schema)
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert manifest.schema == schema
    assert schema_of("return dict(inputs)").fingerprint != schema.fingerprint
    assert replace(schema, hidden=schema.hidden[::-1]).fingerprint != schema.fingerprint


def test_schemas_without_views_are_written_as_before() -> None:
    """What there was before on-demand views keeps its JSON, so its fingerprint too."""
    assert SCHEMA.to_json().keys() == {"project", "fields"}
    assert SCHEMA.fingerprint == (
        "7e72f9b4ab2b9c355bdd5303a712ea99cd83f15598e187f5bb2fe10c62747c4a"
    )
    assert FeatureSchema.from_json(SCHEMA.to_json()) == SCHEMA
    assert "on_demand" not in repr(SCHEMA)


def _changed(**change: Any) -> str:
    data = json.loads(manifest_for("1", b"", schema_of("return inputs")).to_json())
    view = data["schema"]["on_demand"][0]
    for name, value in change.items():
        if name in view:
            view[name] = value
        else:
            data["schema"][name] = value
    return json.dumps(data)


_JSON_FIELD = {
    **schema_of("pass").to_json()["hidden"][0],
    "name": "unused",
    "kind": "request",
}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"takes": "frames"}, "'made' is malformed"),
        ({"code": 3}, "'made' is malformed"),
        ({"inputs": ["nothing"]}, "takes 'nothing', which is no input"),
        ({"inputs": ["made:y"]}, "takes 'made:y', which is no input"),
        ({"name": "other"}, "'made:y' is of an on-demand view that is not there"),
        ({"on_demand": []}, "'made:y' is of an on-demand view that is not there"),
        ({"hidden": [_JSON_FIELD]}, "takes 'cards:spent', which is no input"),
    ],
)
def test_manifests_that_do_not_fit_together_are_refused(
    change: dict[str, Any], reason: str
) -> None:
    """A manifest whose views, fields and inputs do not fit is refused by name."""
    with pytest.raises(ManifestError, match=reason):
        Manifest.from_json(_changed(**change))
