"""The shop of the flow's tests, and a prediction log of it made by the brute-force oracle."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from contracts.feature_schema import FeatureSchema
from contracts.file_log import FileLogWriter
from contracts.plan import Plan
from contracts.prediction_record import PredictionRecord, ScoredRow
from contracts.settings import DataflowSettings
from dataflows.definitions.repository import Repository
from dataflows.verify.report import Report
from dataflows.verify.verify import Terms, verify
from tests.flow import shop
from tests.flow.log_oracle import ViewOracle, known_records

MODEL = "late_order"
SECOND_US = shop.SECOND_US
_encode = msgspec.json.Encoder().encode

Inputs = dict[str, float | int | str | bool | None]


@dataclass(frozen=True)
class Request:
    """A request of one row, as it was served."""

    name: str
    at_us: int
    inputs: Inputs
    vector: list[float | None]
    more: dict[str, Any] = field(default_factory=dict)

    def record(self, schema: FeatureSchema) -> bytes:
        """What the scorer writes of it; ``more`` goes before."""
        row = ScoredRow(self.inputs, self.vector, self.more.get("missing", []), None, None, 0.5)
        record = PredictionRecord(
            request_id=self.name,
            event_timestamp="2013-01-01T00:00:00.000000Z",
            model=MODEL,
            version="1",
            fingerprint=schema.fingerprint,
            features=list(schema.names),
            at_us=self.at_us,
            latency_ms=0.0,
            rows=[row],
        )
        given = {name: value for name, value in self.more.items() if name != "missing"}
        return _encode(msgspec.structs.replace(record, **given))

    def with_value(self, place: int, value: float | None) -> Request:
        """The same, but for one value."""
        vector = list(self.vector)
        vector[place] = value
        return replace(self, vector=vector)


class Oracle:
    """What the scorer should serve at any moment, from scratch over all records of the log."""

    def __init__(self, plan: Plan, records: Sequence[shop.Record]) -> None:
        known = known_records(plan, records)
        self._plan = plan
        self.schema = plan.model(MODEL).schema
        self.last_us = max(record.fields["event_us"] for record in known)
        self._rows: dict[str, dict[tuple[Any, ...], list[tuple[int, list[Any]]]]] = {}
        for view in plan.views:
            own = self._rows[view.name] = {}
            for key, stamp_us, values in ViewOracle(view, known).rows(self.last_us + 1):
                own.setdefault(key, []).append((stamp_us, values))

    def request(self, name: str, at_us: int, inputs: Inputs) -> Request:
        """A request that was served what was current."""
        return Request(name, at_us, inputs, self.vector(at_us, inputs))

    def vector(self, at_us: int, inputs: Inputs, seen_us: int | None = None) -> list[float | None]:
        """The vector at a moment, by a store that had come to ``seen_us`` (to that moment)."""
        found: list[float | None] = []
        for one in self.schema.fields:
            if one.kind == "request":
                value = inputs[one.name]
                assert not isinstance(value, str)
                found.append(one.default if value is None else float(value))
                continue
            value = self._value(one.view, one.feature, inputs, at_us, seen_us)
            found.append(one.default if value is None else value)
        return found

    def _value(
        self, view: str, feature: str, inputs: Inputs, at_us: int, seen_us: int | None
    ) -> float | None:
        plan = self._plan.view(view)
        key = tuple(inputs[name] for name in plan.join_keys)
        if None in key:
            return None
        rows = self.rows(view, key, at_us if seen_us is None else seen_us)
        if not rows or 0 < plan.ttl_us < at_us - rows[-1][0]:
            return None
        place = [a.feature for a in plan.aggregates].index(feature)
        value: float | None = rows[-1][1][place]
        return value

    def rows(self, view: str, key: tuple[Any, ...], up_to_us: int) -> list[tuple[int, list[Any]]]:
        """(stamp, values) of an entity's rows that were in the store by then, in order."""
        rows = self._rows[view].get(key, [])
        return rows[: bisect_right(rows, up_to_us, key=lambda row: row[0])]


@dataclass
class World:
    """A log, and what is written to its prediction log."""

    repository: Repository
    log: Path
    settings: DataflowSettings

    @property
    def schema(self) -> FeatureSchema:
        """Of the model's vector."""
        return self.repository.plan.model(MODEL).schema

    def place(self, name: str) -> int:
        """Where a feature stands in the vector."""
        return self.schema.names.index(name)

    def serve(self, requests: Sequence[Request]) -> None:
        """Write them down."""
        self.write([(one.name, one.record(self.schema)) for one in requests])

    def write(self, records: Sequence[tuple[str, bytes]]) -> None:
        """Write records to the prediction log."""
        writer = FileLogWriter(self.log, self.settings.prediction_topic)
        writer.append(records)
        writer.close()

    def verify(self, **given: Any) -> Report:
        """The verdict."""
        repository = self.repository
        terms = Terms(**given)
        return verify(repository.plan, repository.transforms, self.settings, terms)


def counts(report: Report, feature: str) -> Mapping[str, int]:
    """compared, equal, stale and different of a feature."""
    found = report.models[MODEL].features[feature]
    return {
        "compared": found.compared,
        "equal": found.equal,
        "stale": found.stale,
        "different": found.different,
    }
