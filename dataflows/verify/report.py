"""What a verification found: counts by feature, how stale, and examples; as JSON."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from statistics import median
from typing import Any

import numpy as np

from contracts.feature_schema import FeatureSchema
from dataflows.verify.judge import Judged
from dataflows.verify.served_rows import LogCounts, Scalar, ServedRow, Skipped
from dataflows.verify.vector_reads import VectorReads

_WORST_FIRST = ("different", "stale", "equal")


@dataclass(frozen=True)
class Example:
    """One served value that was not the current one.

    Attributes:
        verdict: ``stale``, ``different`` or ``ahead``.
        key: of the prediction; may be empty.
        inputs: entity keys and request values.
        served: None for what JSON cannot say, as ``current``.
        lag_seconds: see ``Judged.lag_us``.
    """

    verdict: str
    feature: str
    served: float | None
    current: float | None
    lag_seconds: float
    at: str
    request_id: str
    key: str
    version: str
    inputs: Mapping[str, Scalar]


@dataclass
class FeatureFound:
    """What was found of one feature.

    Attributes:
        compared: the sum of the three that follow.
        stale: an earlier value of the same entity.
        different: neither current nor earlier.
        ahead: of these, a later value.
        gone: not compared: the log no longer has what it takes.
        difference_max: the largest difference from what was current, of all that were not; None if
            there was none, and for texts.
        lags_us: of each stale one, for how long it had not been current any more.
    """

    compared: int = 0
    equal: int = 0
    stale: int = 0
    different: int = 0
    ahead: int = 0
    gone: int = 0
    difference_max: float | None = None
    lags_us: array[int] = field(default_factory=lambda: array("q"))

    @property
    def different_share(self) -> float:
        """Which part of what was compared is different; 0 of nothing."""
        return self.different / self.compared if self.compared else 0.0

    def add(self, judged: Judged, served: float, *, is_text: bool) -> None:
        """Count one value."""
        if judged.verdict == "gone":
            self.gone += 1
            return
        self.compared += 1
        if judged.verdict == "equal":
            self.equal += 1
            return
        if judged.verdict == "stale":
            self.stale += 1
            self.lags_us.append(judged.lag_us)
        else:
            self.different += 1
            self.ahead += judged.verdict == "ahead"
        difference = abs(served - judged.current)
        # NaN, which is no difference, is larger than nothing.
        if not is_text and difference > (self.difference_max or 0.0):
            self.difference_max = difference

    def to_json(self) -> dict[str, Any]:
        """Plain data; times in seconds of event time."""
        found = {name: value for name, value in asdict(self).items() if name != "lags_us"}
        lags = self.lags_us
        return {
            **found,
            "stale_seconds_p50": median(lags) / 1e6 if lags else None,
            "stale_seconds_max": max(lags) / 1e6 if lags else None,
        }


@dataclass
class RowsFound:
    """Rows by the worst of their values; ``compared`` is the sum of the three that follow.

    Attributes:
        not_yet_known: not compared: the log has not come to their moment.
        incomparable: not compared: of all of their values the log no longer has what it takes, or
            none of them comes from a store.
    """

    compared: int = 0
    equal: int = 0
    stale: int = 0
    different: int = 0
    not_yet_known: int = 0
    incomparable: int = 0


class ModelFound:
    """What was found of one model.

    Attributes:
        rows: counts.
        features: by name, in the order of the vector; request fields are left out.
        examples: the first ones by time, those that are different before those that are stale.
    """

    def __init__(self, schema: FeatureSchema, reads: VectorReads, examples_max: int) -> None:
        """Nothing found yet; of each kind of verdict so many examples are kept."""
        self._names = schema.names
        self._texts = {one.name for one in schema.fields if one.dtype == "string"}
        self._examples_max = examples_max
        self._examples: dict[str, list[Example]] = {"different": [], "stale": []}
        self.rows = RowsFound()
        self.features = {schema.names[place]: FeatureFound() for place in reads.compared}

    @property
    def examples(self) -> list[Example]:
        """See the class."""
        return [*self._examples["different"], *self._examples["stale"]]

    @property
    def different_share(self) -> float:
        """That of the feature that is worst."""
        return max((one.different_share for one in self.features.values()), default=0.0)

    def add(self, row: ServedRow, judged: Mapping[int, Judged]) -> str:
        """Count a row; its worst verdict, ``incomparable`` if nothing of it could be compared."""
        worst = "incomparable"
        for place, one in judged.items():
            name = self._names[place]
            served = float(row.vector[place])
            self.features[name].add(one, served, is_text=name in self._texts)
            if one.verdict == "gone":
                continue
            kind = "different" if one.verdict == "ahead" else one.verdict
            if worst == "incomparable" or _WORST_FIRST.index(kind) < _WORST_FIRST.index(worst):
                worst = kind
            if kind != "equal" and len(self._examples[kind]) < self._examples_max:
                self._examples[kind].append(_example(row, name, served, one))
        self.rows.compared += worst != "incomparable"
        setattr(self.rows, worst, getattr(self.rows, worst) + 1)
        return worst

    def to_json(self, served: int, skipped: Skipped) -> dict[str, Any]:
        """Plain data."""
        return {
            "rows": {"served": served, **asdict(self.rows)},
            "skipped": asdict(skipped),
            "different_share": self.different_share,
            "features": {name: one.to_json() for name, one in self.features.items()},
            "examples": [asdict(one) for one in self.examples],
        }


@dataclass(frozen=True)
class Report:
    """What a verification found.

    Attributes:
        models: by name.
        counts: what became of the prediction log.
        events: records of the log that were replayed.
        watermark_us: how far they reach; None if there were none.
        look_back_rows: among so many rows of an entity a stale value was looked for.
        different_max: bound of ``different_share``.
    """

    models: Mapping[str, ModelFound]
    counts: LogCounts
    events: int
    watermark_us: int | None
    look_back_rows: int
    different_max: float

    @property
    def compared(self) -> int:
        """How many rows were compared."""
        return sum(model.rows.compared for model in self.models.values())

    @property
    def different_share(self) -> float:
        """That of the feature that is worst."""
        return max((model.different_share for model in self.models.values()), default=0.0)

    @property
    def is_good(self) -> bool:
        """Whether something was compared, and not more of any feature differs than may."""
        return self.compared > 0 and self.different_share <= self.different_max

    def to_json(self) -> dict[str, Any]:
        """Plain data, without anything that depends on when or where it was made."""
        counts = self.counts
        return {
            "is_good": self.is_good,
            "different_share": self.different_share,
            "different_max": self.different_max,
            "events": self.events,
            "watermark": None if self.watermark_us is None else time_text(self.watermark_us),
            "look_back_rows": self.look_back_rows,
            "prediction_log": {
                "records": counts.records,
                "broken": counts.broken,
                "other_models": counts.other_models,
            },
            "models": {
                name: model.to_json(counts.rows[name], counts.skipped[name])
                for name, model in self.models.items()
            },
        }


def time_text(time_us: int) -> str:
    """RFC 3339 with microseconds; microseconds since 1970 for what no calendar has."""
    try:
        found = datetime.fromtimestamp(time_us // 1_000_000, UTC)
    except (OverflowError, ValueError, OSError):
        return str(time_us)
    return f"{found:%Y-%m-%dT%H:%M:%S}.{time_us % 1_000_000:06d}Z"


def _example(row: ServedRow, name: str, served: float, judged: Judged) -> Example:
    return Example(
        verdict=judged.verdict,
        feature=name,
        served=None if np.isnan(served) else served,
        current=None if np.isnan(judged.current) else judged.current,
        lag_seconds=judged.lag_us / 1e6,
        at=time_text(row.at_us),
        request_id=row.request_id,
        key=row.key,
        version=row.version,
        inputs=row.inputs,
    )
