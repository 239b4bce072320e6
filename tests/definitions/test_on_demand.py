"""On-demand views of models: what is compiled of them, and what is refused by name."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from feast import Field, OnDemandFeatureView, RequestSource
from feast.aggregation import Aggregation
from feast.feature_view_projection import FeatureViewProjection
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Bool, Float32, Float64, String, UnixTimestamp

from contracts.feature_schema import FeatureSchema
from contracts.on_demand import OnDemandViews
from dataflows.definitions.errors import DefinitionError
from dataflows.definitions.repository import Compiled, compile_plan
from tests.definitions.cards import CARD, HOUR, model, service, view

pytestmark = [
    pytest.mark.filterwarnings("ignore:Stream feature views are experimental"),
    pytest.mark.filterwarnings("ignore:On demand feature view"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:feast"),
]

ASKED = RequestSource(
    name="asked", schema=[Field(name="amount", dtype=Float64), Field(name="shop", dtype=String)]
)
RATE = 0.5


def ratio(inputs: dict[str, Any]) -> dict[str, Any]:
    """What a payment is to those of the hour before."""
    # A comment.
    pairs = zip(inputs["amount"], inputs["spent"], strict=True)
    return {
        "ratio": [a / s if a and s else None for a, s in pairs],
        "flag": [False for _ in inputs["amount"]],
    }


def one_ratio(inputs: dict[str, Any]) -> dict[str, Any]:
    """The same of one row."""
    return {"ratio": inputs["amount"] / inputs["cards__spent"], "flag": True}


def on_demand(**more: Any) -> Any:
    """An on-demand view of ``ratio`` and ``flag``, or what ``more`` makes of it."""
    function = more.pop("function", ratio)
    given: dict[str, Any] = {
        "name": "made",
        "sources": [view(), ASKED],
        "schema": [Field(name="ratio", dtype=Float64), Field(name="flag", dtype=Bool)],
        "mode": "python",
        "udf": function,
        "udf_string": "",
        **more,
    }
    return OnDemandFeatureView(**given)


def compiled(demanded: Any, *features: Any, **more: Any) -> Compiled:
    """The plan of a model that reads an on-demand view."""
    read = service(*(features or (demanded,)))
    return compile_plan(Path("/r"), "cards", [CARD, view(), demanded, read, model(**more)])


def schema(demanded: Any, *features: Any, **more: Any) -> FeatureSchema:
    """Of the model's vector."""
    return compiled(demanded, *features, **more).plan.models[0].schema


def test_what_the_vector_has_and_what_is_hidden() -> None:
    """Derived fields stand where the service has them; inputs that no one asked for are hidden."""
    demanded = on_demand()
    found = schema(demanded, demanded[["flag"]], view(), defaults={"made:flag": 1.0})
    assert [(f.name, f.kind, f.dtype, f.default) for f in found.fields] == [
        ("made:flag", "derived", "bool", 1.0),
        ("cards:spent", "feature", "float64", 0.0),
    ]
    assert [(f.name, f.kind, f.dtype) for f in found.hidden] == [
        ("amount", "request", "float64"),
        ("shop", "request", "string"),
    ]
    found = schema(demanded, request=["amount", "items"])
    assert found.names == ("amount", "items", "made:ratio", "made:flag")
    assert [f.name for f in found.hidden] == ["cards:spent", "shop"]
    assert found.hidden[0].join_keys == ("card",)
    assert found.on_demand[0].inputs == ("cards:spent", "amount", "shop")


def test_views_that_only_functions_read_are_read() -> None:
    """A view of which the vector has nothing is read for the on-demand view all the same."""
    assert compiled(on_demand()).plan.models[0].views == ("cards",)


def test_the_ways_to_call_a_function() -> None:
    """``singleton`` takes rows, else columns; the text does the same as the function."""
    for function, takes in ((ratio, "columns"), (one_ratio, "row")):
        found = schema(on_demand(function=function, singleton=takes == "row"))
        assert found.on_demand[0].takes == takes
        values = np.array([[math.nan, math.nan, 8.0, 2.0, math.nan]])
        assert OnDemandViews(found).fill(values, {"shop": ["deli"]}) == {}
        assert values[0, :2].tolist() == [0.25, takes == "row"]


def test_feasts_decorator_makes_the_same_text() -> None:
    """A decorated function has the text of the bare one, without hints, comments and docstring."""
    decorate = on_demand_feature_view(
        sources=[view(), ASKED], schema=on_demand().features, mode="python", name="made"
    )

    @decorate
    def ratio(inputs):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        pairs = zip(inputs["amount"], inputs["spent"], strict=True)
        return {
            "ratio": [a / s if a and s else None for a, s in pairs],
            "flag": [False for _ in inputs["amount"]],
        }

    bare = schema(on_demand())
    assert schema(ratio) == bare
    assert "Any" not in bare.on_demand[0].code
    assert "comment" not in bare.on_demand[0].code


def test_what_fails_at_nulls_is_noted() -> None:
    """A function that cannot do without values is taken, and people are told."""
    assert compiled(on_demand()).notes == ()
    (note,) = compiled(on_demand(function=one_ratio, singleton=True)).notes
    assert note.startswith(
        "model 'abroad': on-demand view 'made': it raised TypeError, called with one row of nulls"
    )


def test_views_that_no_model_reads_are_feasts() -> None:
    """What Feast alone serves may be of any mode."""
    demanded = on_demand(mode="pandas", function=_frame)
    plan = compile_plan(Path("/r"), "cards", [CARD, view(), demanded, service(view()), model()])
    assert plan.plan.models[0].schema.on_demand == ()


def _uses_a_constant(inputs: Any) -> Any:
    return {"ratio": [RATE for _ in inputs["amount"]], "flag": [True]}


def _uses_a_module(inputs: Any) -> Any:
    return {"ratio": [math.pi for _ in inputs["amount"]], "flag": [True]}


def _uses_a_default(inputs: Any, rate: float = RATE) -> Any:
    return {"ratio": [rate for _ in inputs["amount"]], "flag": [True]}


def _imports_pandas(inputs: Any) -> Any:
    import pandas

    return {"ratio": pandas.Series(inputs["amount"]).tolist(), "flag": [True]}


def _uses_numpy(inputs: Any) -> Any:
    return {"ratio": np.array(inputs["amount"]).tolist(), "flag": [True]}


def _raises(inputs: Any) -> Any:
    raise RuntimeError(f"no {len(inputs)}")


def _forgets(inputs: Any) -> Any:
    return {"ratio": inputs["amount"]}


def _frame(frame: pd.DataFrame) -> pd.DataFrame:
    return frame


def _wrapping(function: Callable[[Any], Any]) -> Any:
    @functools.wraps(function)
    def wrapped(inputs: Any) -> Any:
        return function(inputs)

    return wrapped


async def _waits(inputs: Any) -> Any:
    return inputs


def test_numpy_may_be_used_as_feast_has_it() -> None:
    """``np`` is there, as it is where Feast runs the function."""
    assert (
        schema(on_demand(function=_uses_numpy)).on_demand[0].code.startswith("import numpy as np")
    )


def _asked(name: str, dtype: Any) -> RequestSource:
    return RequestSource(name="odd", schema=[Field(name=name, dtype=dtype)])


def _outputs(dtype: Any) -> list[Field]:
    return [Field(name="ratio", dtype=dtype), Field(name="flag", dtype=Bool)]


def _chained() -> Any:
    return FeatureViewProjection.from_definition(on_demand(name="first"))


def _of_string() -> Any:
    return view(
        aggregations=[Aggregation("shop", "last", HOUR, timedelta(minutes=1), name="where")],
        schema=[Field(name="card", dtype=String), Field(name="where", dtype=String)],
    )


REFUSED: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "pandas": (
        lambda: {"mode": "pandas", "function": _frame},
        "mode 'pandas' cannot be executed; use mode='python'",
    ),
    "write_to_online_store": (
        lambda: {"write_to_online_store": True, "entities": [CARD]},
        "write_to_online_store cannot be executed",
    ),
    "aggregations": (
        lambda: {"aggregations": [Aggregation("amount", "sum", HOUR)]},
        "aggregations cannot be executed",
    ),
    "input_schema": (
        lambda: {"sources": [view()], "input_schema": [Field(name="amount", dtype=Float64)]},
        "input_schema cannot be executed; use a RequestSource",
    ),
    "no function": (lambda: {"udf": None, "aggregations": []}, "has no function"),
    "disabled": (lambda: {"enabled": False}, "enabled=False cannot be executed"),
    "a version": (lambda: {"version": "v1"}, "version 'v1' cannot be executed"),
    "a tag of ours": (lambda: {"tags": {"headwater.key": "x"}}, "tag 'headwater.key' is unknown"),
    "a chain": (
        lambda: {"sources": [_chained()]},
        "takes features of 'first', which is not a stream",
    ),
    "an alias": (
        lambda: {"sources": [view().with_name("c"), ASKED]},
        "with_name and with_join_key_map",
    ),
    "no such column": (
        lambda: {"sources": [view(), _asked("x", Float64)]},
        "field 'x' must be a float64",
    ),
    "another type": (
        lambda: {"sources": [view(), _asked("items", Float64)]},
        "must be a float64 column",
    ),
    "a time": (
        lambda: {"sources": [view(), _asked("opened", UnixTimestamp)]},
        "use Float64, Int64, Bool",
    ),
    "one name for two": (
        lambda: {"schema": [Field(name="spent", dtype=Float64)]},
        "two of its inputs and features are called 'spent'",
    ),
    "a text": (
        lambda: {"schema": _outputs(String)},
        "feature 'ratio' is String, and a vector holds",
    ),
    "32 bits": (
        lambda: {"schema": _outputs(Float32)},
        "feature 'ratio' is Float32, and a vector holds",
    ),
    "a constant": (lambda: {"function": _uses_a_constant}, "uses 'RATE' from outside of it"),
    "a module": (lambda: {"function": _uses_a_module}, "uses 'math' from outside of it"),
    "a default": (lambda: {"function": _uses_a_default}, "uses 'RATE' from outside of it"),
    "pandas inside": (
        lambda: {"function": _imports_pandas},
        "imports 'pandas', which the scorer does not",
    ),
    "a wrapper": (lambda: {"function": _wrapping(ratio)}, "uses 'function' from outside of it"),
    "a lambda": (lambda: {"function": lambda inputs: inputs}, "must be a plain `def`"),
    "a coroutine": (lambda: {"function": _waits}, "must be a plain `def`"),
    "an error": (lambda: {"function": _raises}, "it raised RuntimeError no 4, called with one row"),
    "a column less": (lambda: {"function": _forgets}, "it gave no 'flag', called with one row"),
    "rows for columns": (lambda: {"function": one_ratio}, "it raised TypeError"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_executed_is_refused_by_name(what: str) -> None:
    """One line names model, view and reason."""
    given, reason = REFUSED[what]
    with pytest.raises(DefinitionError) as caught:
        compiled(on_demand(**given()))
    text = str(caught.value)
    assert reason in text
    assert text.startswith("model 'abroad': on-demand view 'made'")
    assert "\n" not in text


def test_strings_of_views_are_refused_as_inputs() -> None:
    """A view's String feature is no input; the others can be named."""
    demanded = on_demand(sources=[_of_string(), ASKED])
    with pytest.raises(DefinitionError, match=r"takes 'cards:where', a String.*cards\[\["):
        compile_plan(
            Path("/r"), "cards", [CARD, _of_string(), demanded, service(demanded), model()]
        )
