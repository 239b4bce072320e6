"""Served vectors held against the dataflow's own for the same flights, and against the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from cli.demo.player import Served
from contracts.feature_schema import FeatureSchema, VectorField
from contracts.plan_file import plan_path, read_plan
from contracts.settings import DataflowSettings
from dataflows.verify.verify import Terms, verify


@dataclass
class Comparison:
    """How many served vectors were what.

    Attributes:
        equal: the same in every bit.
        stale: some view's values are an earlier row of the same entity: the read came first.
        different: neither; a defect.
        examples: a few of the different ones, in words.
    """

    compared: int = 0
    equal: int = 0
    stale: int = 0
    different: int = 0
    examples: list[str] = field(default_factory=list)


def compare(
    served: Sequence[Served], schema: FeatureSchema, examples: Path, offline: dict[str, Path]
) -> Comparison:
    """Compare every served vector.

    Args:
        served: what the client got.
        schema: of the model that served.
        examples: folder of the model's examples.
        offline: view -> folder of its rows.
    """
    vectors = _vectors(served, schema, examples)
    history = _History(schema, offline)
    result = Comparison()
    for one in served:
        expected = vectors.get(one.flight_id)
        if expected is None:
            continue
        result.compared += 1
        if one.features == expected:
            result.equal += 1
            continue
        wrong = history.unexplained(one, expected)
        if not wrong:
            result.stale += 1
            continue
        result.different += 1
        if len(result.examples) < 10:
            result.examples.append(f"{one.flight_id}: {', '.join(wrong)}")
    return result


def verify_served(repo: Path, settings: DataflowSettings) -> dict[str, int]:
    """What `headwater verify` finds of all that was served: by row, as ``Comparison`` counts.

    It knows nothing of examples and offline tables: it reads the log and the prediction log.
    """
    # No view of the demo has a function, so that Feast need not be imported.
    plan = read_plan(plan_path(repo)).plan
    report = verify(plan, {}, settings, Terms())
    rows = [model.rows for model in report.models.values()]
    return {
        name: sum(getattr(one, name) for one in rows)
        for name in ("compared", "equal", "stale", "different")
    }


_TIME = pa.timestamp("us", tz="UTC")


def _vectors(
    served: Sequence[Served], schema: FeatureSchema, examples: Path
) -> dict[str, tuple[float, ...]]:
    """Flight -> its vector as the dataflow made it, defaults filled in."""
    if not served:
        return {}
    times = [one.at_us for one in served]
    first, last = (pa.scalar(t, pa.int64()).cast(_TIME) for t in (min(times), max(times)))
    stamp = pc.field("event_timestamp")
    table = ds.dataset(examples).to_table(filter=(stamp >= first) & (stamp <= last))
    columns = [
        pc.fill_null(table[name.replace(":", "__")], default).to_pylist()
        for name, default in zip(schema.names, schema.defaults, strict=True)
    ]
    return dict(zip(table["flight_id"].to_pylist(), zip(*columns, strict=True), strict=True))


class _History:
    """Every row that an entity ever had, read when it is first asked for."""

    def __init__(self, schema: FeatureSchema, offline: dict[str, Path]) -> None:
        self._schema = schema
        self._offline = offline
        self._tables: dict[str, pa.Table] = {}
        self._rows: dict[tuple[str, str], list[tuple[int, tuple[float, ...]]]] = {}

    def unexplained(self, served: Served, expected: tuple[float, ...]) -> list[str]:
        """Names of what is neither as expected nor an earlier value of the same entity."""
        wrong = []
        by_view: dict[str, list[int]] = {}
        for place, field_ in enumerate(self._schema.fields):
            if field_.kind == "feature":
                by_view.setdefault(field_.view, []).append(place)
            elif served.features[place] != expected[place]:
                wrong.append(field_.name)
        for view, places in by_view.items():
            got = tuple(served.features[place] for place in places)
            if got == tuple(expected[place] for place in places):
                continue
            fields = [self._schema.fields[place] for place in places]
            if not self._was(fields, served, got):
                wrong.append(view)
        return wrong

    def _was(self, fields: list[VectorField], served: Served, got: tuple[float, ...]) -> bool:
        if got == tuple(field_.default for field_ in fields):
            return True
        key = served.inputs[fields[0].join_keys[0]]
        rows = self._of(fields, key)
        return any(stamp_us <= served.at_us and values == got for stamp_us, values in rows)

    def _table(self, view: str, columns: list[str]) -> pa.Table:
        """All rows of a view, read once: a folder has a file a day."""
        if view not in self._tables:
            names = [*columns, "event_timestamp"]
            self._tables[view] = ds.dataset(self._offline[view]).to_table(columns=names)
        return self._tables[view]

    def _of(self, fields: list[VectorField], key: str) -> list[tuple[int, tuple[float, ...]]]:
        view, join_key = fields[0].view, fields[0].join_keys[0]
        if (view, key) not in self._rows:
            table = self._table(view, [join_key, *(f.feature for f in fields)])
            table = table.filter(pc.equal(table[join_key], key))
            columns = [
                pc.fill_null(table[f.feature].cast(pa.float64()), f.default).to_pylist()
                for f in fields
            ]
            stamps = table["event_timestamp"].cast(pa.int64()).to_pylist()
            values = list(zip(*columns, strict=True))
            self._rows[view, key] = list(zip(stamps, values, strict=True))
        return self._rows[view, key]
