"""The features of a view: functions, types of columns, windows; and what is refused by name."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from feast import Field
from feast.aggregation import Aggregation
from feast.types import Bool, Float32, Float64, Int32, Int64, String, UnixTimestamp

from contracts.plan import Aggregate, Plan
from contracts.plan_file import read_plan, write_plan
from dataflows.definitions.errors import DefinitionError
from tests.definitions.cards import HOUR, compiled, one_feature, plan_of, source, view

pytestmark = pytest.mark.filterwarnings("ignore:Stream feature views are experimental")

COLUMN_TYPES = {
    "amount": "float64",
    "items": "int64",
    "shop": "string",
    "abroad": "bool",
    "opened": "timestamp",
}
DTYPES = {"float64": Float64, "int64": Int64, "bool": Bool, "string": String}
NUMBERS = {"float64"}
WHOLE = {"float64", "int64"}
FLAGS = {"float64", "int64", "bool"}
# function of Feast -> ours, and what it may be declared as, by the type of its column.
KEPT = {"float64": NUMBERS, "int64": WHOLE, "bool": FLAGS, "string": {"string"}}
ORDERED = {"float64": NUMBERS, "int64": WHOLE, "bool": FLAGS}
SUMS = {"float64": NUMBERS, "int64": WHOLE, "bool": WHOLE}
MEANS = {"float64": NUMBERS, "int64": NUMBERS, "bool": NUMBERS}
COUNTS = dict.fromkeys(COLUMN_TYPES.values(), WHOLE)
FUNCTIONS: dict[str, tuple[str, dict[str, set[str]]]] = {
    "count": ("count", COUNTS),
    "count_distinct": ("count_distinct", COUNTS),
    "nunique": ("count_distinct", COUNTS),
    "sum": ("sum", SUMS),
    "mean": ("mean", MEANS),
    "avg": ("mean", MEANS),
    "var": ("var", MEANS),
    "variance": ("var", MEANS),
    "std": ("std", MEANS),
    "stddev": ("std", MEANS),
    "min": ("min", ORDERED),
    "max": ("max", ORDERED),
    "first": ("first", KEPT),
    "last": ("last", KEPT),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("column", COLUMN_TYPES)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_each_function_of_each_column_as_each_type(function: str, column: str, dtype: str) -> None:
    """A feature is compiled with its column's type, or refused with the name of what is wrong."""
    ours, by_column = FUNCTIONS[function]
    kind = COLUMN_TYPES[column]
    feast_view = one_feature(Aggregation(column, function, HOUR, name="f"), DTYPES[dtype])
    if dtype in by_column.get(kind, set()):
        (found,) = compiled(feast_view).aggregates
        assert (found.function, found.column, found.dtype) == (ours, column, dtype)
        assert found.column_type == kind
        return
    with pytest.raises(DefinitionError, match=r"'cards', aggregation 'f': ") as caught:
        plan_of(feast_view)
    told = str(caught.value)
    assert ours in told
    assert "\n" not in told
    assert "declared as" in told if kind in by_column else repr(column) in told


@pytest.mark.parametrize(
    ("column", "dtype", "is_possible"),
    [
        ("amount", Float64, True),
        ("amount", Int64, False),
        ("items", Int64, True),
        ("shop", String, True),
        ("shop", Float64, False),
        ("abroad", Bool, True),
        ("items", Bool, False),
        ("opened", Int64, False),
    ],
)
def test_rows_without_aggregation(column: str, dtype: Any, is_possible: bool) -> None:
    """A view without aggregations has the latest values of the columns that its schema names."""
    schema = [Field(name="card", dtype=String), Field(name=column, dtype=dtype)]
    feast_view = view(aggregations=[], schema=schema)
    if not is_possible:
        with pytest.raises(DefinitionError, match=f"feature '{column}'"):
            plan_of(feast_view)
        return
    (found,) = compiled(feast_view).aggregates
    kind: Any = COLUMN_TYPES[column]
    assert found == Aggregate(column, found.dtype, column, "latest", 0, 0, kind)
    assert DTYPES[found.dtype] == dtype


@pytest.mark.parametrize("dtype", [Float32, Int32, UnixTimestamp])
def test_other_types_of_features_are_refused(dtype: Any) -> None:
    """A type that is not stored as it is declared is named, with those that are."""
    with pytest.raises(DefinitionError, match=r"feature 'f' has type .*; use .*Int64"):
        plan_of(one_feature(Aggregation("items", "max", name="f"), dtype))


def test_exact_windows_move_by_the_microsecond() -> None:
    """The tag makes the hop of all windows a microsecond, and bounds the moments of each."""
    aggregations = [
        Aggregation("amount", "sum", timedelta(days=30), name="spent"),
        Aggregation("amount", "last", name="last"),
    ]
    schema = [
        Field(name="card", dtype=String),
        Field(name="spent", dtype=Float64),
        Field(name="last", dtype=Float64),
    ]
    tags = {"headwater.windows": "exact"}
    found = compiled(view(aggregations=aggregations, schema=schema, tags=tags))
    day_us = 86_400_000_000
    assert [(a.window_us, a.hop_us) for a in found.aggregates] == [(30 * day_us, 1), (0, 0)]
    assert found.exact_tiles_max == 1024
    assert compiled(view(tags={**tags, "headwater.exact_tiles": "50"})).exact_tiles_max == 50
    hopping = compiled(view(tags={"headwater.windows": "hopping"}))
    assert (hopping.exact_tiles_max, hopping.aggregates[0].hop_us) == (0, 3_600_000_000)


def test_a_view_without_windows_has_none_to_be_exact() -> None:
    """The whole history is exact anyway."""
    feast_view = one_feature(Aggregation("amount", "sum"), Float64)
    feast_view.tags["headwater.windows"] = "exact"
    assert compiled(feast_view).exact_tiles_max == 0


def test_registers_of_distinct_counts() -> None:
    """A tag says how many bits choose the register of a distinct count."""
    feast_view = one_feature(Aggregation("shop", "count_distinct", HOUR, name="f"), Int64)
    assert compiled(feast_view).distinct_bits == 8
    feast_view.tags["headwater.distinct_bits"] = "14"
    assert compiled(feast_view).distinct_bits == 14


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        ({"mean": Float64}, "float64"),
        ({"sum": Int64, "mean": Float64}, "int64"),
        ({"last": String, "count_distinct": Int64}, "string"),
        ({"last": Bool, "sum": Int64}, "bool"),
    ],
)
def test_what_a_transformation_gives_is_known_by_its_features(
    dtypes: dict[str, Any], expected: str
) -> None:
    """A column that the topic does not have holds what its features are declared to keep of it."""
    aggregations = [Aggregation("new", function, HOUR, name=function) for function in dtypes]
    schema = [Field(name=name, dtype=dtype) for name, dtype in dtypes.items()]
    feast_view = view(
        aggregations=aggregations,
        schema=[Field(name="card", dtype=String), *schema],
        udf=lambda rows: {**rows, "new": rows["shop"]},
        udf_string="",
    )
    assert {a.column_type for a in compiled(feast_view).aggregates} == {expected}


@pytest.mark.parametrize("kind", ["string", "int64", "float64", "bool", "timestamp"])
def test_a_tag_says_what_is_only_counted(kind: str) -> None:
    """Counts alone do not tell what a transformation's column holds; a tag of the field does."""
    tags = {"headwater.column_type": kind}
    (found,) = compiled(
        one_feature(
            Aggregation("new", "count_distinct", HOUR, name="f"),
            Int64,
            {"tags": tags},
            udf=lambda rows: {**rows, "new": rows["shop"]},
            udf_string="",
        )
    ).aggregates
    assert found.column_type == kind


def test_the_plan_file_keeps_everything(tmp_path: Any) -> None:
    """What is compiled is read back from the plan file as it was."""
    mapped = source(field_mapping={"amount": "value"})
    feast_view = one_feature(
        Aggregation("value", "stddev", HOUR, name="f"),
        Float64,
        source=mapped,
        tags={"headwater.windows": "exact", "headwater.distinct_bits": "6"},
        udf=lambda rows: rows,
        udf_string="",
    )
    plan: Plan = plan_of(feast_view)
    path = tmp_path / "data" / "headwater.json"
    write_plan(path, plan, {})
    assert read_plan(path).plan == plan
    (found,) = plan.views
    assert (found.exact_tiles_max, found.distinct_bits, found.transform) == (1024, 6, "python")
    assert plan.topics[0].field_mapping == (("amount", "value"),)
