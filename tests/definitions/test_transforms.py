"""Functions of rows that views bring along: which are run, and how they are handed on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from feast.aggregation import Aggregation
from feast.stream_feature_view import stream_feature_view
from feast.transformation.base import Transformation, transformation
from feast.transformation.mode import TransformationMode
from feast.transformation.pandas_transformation import PandasTransformation
from feast.transformation.python_transformation import PythonTransformation
from feast.types import Float64

from dataflows.definitions.errors import DefinitionError
from dataflows.definitions.repository import Compiled, compile_plan, load_repository
from tests.cli.rides import Rides
from tests.definitions.cards import CARD, HOUR, one_feature, view
from tests.definitions.functions import REPOSITORY
from tests.integration.commands import Commands

pytestmark = pytest.mark.filterwarnings("ignore:Stream feature views are experimental")

SUM = Aggregation("doubled", "sum", HOUR, name="f")


def doubled(rows: Any) -> Any:
    """Every amount twice, of a dict of lists."""
    return {**rows, "doubled": [2.0 * (amount or 0.0) for amount in rows["amount"]]}


def doubled_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Every amount twice, of a data frame."""
    return frame.assign(doubled=2.0 * frame["amount"])


# Feast asks for types of functions that Python's type checkers do not give them.
ROWS: Any = doubled
FRAME: Any = doubled_frame


def _compiled(**more: Any) -> Compiled:
    feast_view = one_feature(SUM, Float64, **more)
    return compile_plan(Path("/repository"), "cards", [CARD, feast_view])


def _decorated() -> tuple[Any, Any]:
    plain = one_feature(SUM, Float64)
    given: dict[str, Any] = {
        "entities": [CARD],
        "source": plain.stream_source,
        "timestamp_field": "at",
    }
    decorate = stream_feature_view(
        **given, schema=plain.schema, aggregations=[SUM], mode="python", ttl=timedelta(0)
    )

    def cards(rows: Any) -> Any:
        return doubled(rows)

    return decorate(cards), cards


@pytest.mark.parametrize(
    ("given", "mode", "function"),
    [
        ({"udf": doubled, "mode": "python"}, "python", doubled),
        ({"udf": doubled, "mode": TransformationMode.PYTHON}, "python", doubled),
        ({"udf": doubled_frame, "mode": "pandas"}, "pandas", doubled_frame),
        ({"feature_transformation": PythonTransformation(ROWS, "")}, "python", doubled),
        # The transformation's own mode counts, not that of the view, as in Feast.
        (
            {"feature_transformation": PandasTransformation(FRAME, ""), "mode": "python"},
            "pandas",
            doubled_frame,
        ),
        (
            {"feature_transformation": Transformation(mode="python", udf=ROWS, udf_string="")},
            "python",
            doubled,
        ),
    ],
)
def test_the_ways_to_give_a_function(given: dict[str, Any], mode: str, function: Any) -> None:
    """A udf and a feature_transformation are kept with their mode, beside the plan."""
    compiled = _compiled(**given)
    assert compiled.transforms == {"cards": function}
    assert compiled.plan.view("cards").transform == mode


def test_feasts_decorators_make_views_too() -> None:
    """A decorated function is a view of its name, or the transformation of one."""
    decorated, function = _decorated()
    compiled = compile_plan(Path("/repository"), "cards", [CARD, decorated])
    assert compiled.transforms == {"cards": function}
    given = transformation(mode="pandas")(doubled_frame)
    assert _compiled(feature_transformation=given).transforms == {"cards": doubled_frame}


def test_a_view_without_a_function_has_none() -> None:
    """Most views take the rows as they are, whichever of the two modes they name."""
    for mode in ("python", "pandas"):
        compiled = compile_plan(Path("/repository"), "cards", [CARD, view(mode=mode)])
        assert compiled.transforms == {}
        assert compiled.plan.view("cards").transform == "none"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"mode": "spark"}, "mode 'spark' cannot be executed; use mode='python' or mode='pandas'"),
        ({"udf": doubled, "mode": "flink"}, "mode 'flink'"),
        ({"mode": TransformationMode.SPARK_SQL}, "mode 'spark_sql'"),
        (
            {"udf": doubled, "feature_transformation": PythonTransformation(FRAME, "")},
            "leave one of them out",
        ),
        ({"feature_transformation": PythonTransformation(ROWS, "", True)}, "singleton"),
        ({"udf": lambda rows: None}, "gave a value of type NoneType, not a dict"),
        ({"udf": lambda rows: [rows]}, "gave a value of type list, not a dict"),
        ({"udf": lambda frame: frame["amount"], "mode": "pandas"}, "not a DataFrame"),
        ({"udf": lambda rows: {**rows, "duobled": []}}, "gave no column 'doubled', only card"),
        ({"udf": lambda rows: {"doubled": []}}, "gave no column 'card'"),
    ],
)
def test_what_cannot_be_run_is_refused(given: dict[str, Any], reason: str) -> None:
    """Other modes and functions that give no batch are refused at apply, by the view's name."""
    with pytest.raises(DefinitionError, match=reason) as caught:
        _compiled(**given)
    assert "'cards'" in str(caught.value)
    assert "\n" not in str(caught.value)


def _raises(rows: Any) -> Any:
    rows["another"] = []
    raise IndexError("no rows")


@pytest.mark.parametrize("function", [_raises, lambda rows: rows, lambda rows: {}])
def test_a_function_need_not_take_an_empty_batch(function: Callable[[Any], Any]) -> None:
    """The try at apply has no rows; a function that does nothing with them is not refused."""
    assert _compiled(udf=function).transforms == {"cards": function}


def test_what_a_function_raises_without_rows_is_told() -> None:
    """Most often it is a misspelt column, which each record would find out for itself."""
    (note,) = _compiled(udf=lambda rows: {**rows, "doubled": rows["amuont"]}).notes
    assert "'cards'" in note
    assert "raised KeyError: 'amuont'" in note
    assert "dead letter" in note
    assert _compiled(udf=doubled).notes == ()


READ = """
import sys
import pandas as pd
from feast import FeatureStore

store = FeatureStore(sys.argv[1])
assert "definitions" not in sys.modules
for view in sorted(store.list_stream_feature_views(), key=lambda view: view.name):
    rows = {"card": ["a", "b"], "amount": [1.25, 10.0]}
    given = pd.DataFrame(rows) if view.mode == "pandas" else rows
    print(view.name, view.mode, list(view.feature_transformation.udf(given)["big"]))
"""


@pytest.mark.timeout(300)
def test_feast_reads_and_runs_the_functions_elsewhere(tmp_path: Path, commands: Commands) -> None:
    """After apply, Feast in a process that cannot import the definitions has all the functions."""
    cards = Rides(tmp_path / "feature_repo")
    for text, told in (
        (REPOSITORY, "created stream feature view plain"),
        (REPOSITORY, "nothing changed"),
        (REPOSITORY.replace("FACTOR = 2.0", "FACTOR = 3.0"), "updated stream feature view plain"),
    ):
        cards.create(text)
        result = cards.forked(commands, "apply")
        assert result.returncode == 0, result.stderr
        assert told in result.stdout
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    ran = subprocess.run(
        [sys.executable, "-c", READ, str(cards.folder)],
        cwd=elsewhere,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout.splitlines() == [
        "decorated python [3, 30]",
        "direct pandas [3.75, 30.0]",
        "plain python [3, 30]",
    ], ran.stderr


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            (("FACTOR = 2.0", "FACTOR = (number for number in ())"),),
            "'plain': its udf cannot be stored",
        ),
        ((('mode="python", **given("dec', '**given("dec'),), r"line \d+: .*use mode='python'"),
        (
            (("FACTOR = 2.0", "import hw_beside"), ("* FACTOR", "* hw_beside.FACTOR")),
            "'plain': its udf could not be read where this folder is not .*hw_beside.*; import",
        ),
    ],
)
def test_what_feast_could_not_keep_is_refused(
    tmp_path: Path, change: tuple[tuple[str, str], ...], reason: str
) -> None:
    """A function that needs what only this process, this folder or Spark has is refused."""
    text = REPOSITORY
    for old, new in change:
        text = text.replace(old, new)
    Rides(tmp_path).create(text)
    (tmp_path / "hw_beside.py").write_text("FACTOR = 2.0\n")
    path = list(sys.path)
    try:
        with pytest.raises(DefinitionError, match=reason) as caught:
            load_repository(tmp_path)
    finally:
        sys.path[:] = path
    assert "\n" not in str(caught.value)


def test_views_in_another_file_are_not_forgotten(tmp_path: Path, commands: Commands) -> None:
    """Feast looks into all files; a view that the dataflow would not run is refused by apply."""
    cards = Rides(tmp_path / "feature_repo")
    cards.create(REPOSITORY)
    more = REPOSITORY.replace('"plain"', '"more"').partition("direct =")[0]
    (cards.folder / "more_views.py").write_text(more)
    result = cards.forked(commands, "apply")
    assert result.returncode == 1
    assert "'more' stands in another file than definitions.py" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (cards.folder / "data" / "headwater.json").exists()
