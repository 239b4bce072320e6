"""The served rows to be verified, out of the prediction log; what cannot be used is counted."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

import msgspec
import numpy as np
import numpy.typing as npt

from contracts.feature_schema import FeatureSchema
from contracts.log import Chunk

Scalar = float | int | str | bool | None
Floats = npt.NDArray[np.float64]

# Of a row that was asked for in the far future nobody can say anything.
_TIME_US_MAX = 2**62
# What an answer may take; a longer latency is a mistake of whoever wrote it.
_LATENCY_MS_MAX = 3_600_000.0
_encode = msgspec.json.Encoder(order="sorted").encode


class _Row(msgspec.Struct, gc=False):
    inputs: dict[str, float | int | str | bool | None]
    vector: list[float | None]
    missing: list[str] = []
    key: str = ""


class _Record(msgspec.Struct, gc=False):
    """What is read of a ``contracts.prediction_record.PredictionRecord``."""

    request_id: str
    model: str
    version: str
    fingerprint: str
    features: list[str]
    at_us: int
    latency_ms: float
    rows: list[_Row]
    answered: bool = True


@dataclass(frozen=True, slots=True)
class ServedRow:
    """One row as it was served.

    Attributes:
        at_us: event time as of which it was scored, microseconds since 1970 UTC.
        until_us: when its answer was ready, counted from there.
        inputs: entity keys and request values.
        vector: float64[W]; NaN for what JSON cannot say.
        missing: names of the features in whose place the default stands.
        key: of the prediction; may be empty.
    """

    model: str
    version: str
    request_id: str
    key: str
    at_us: int
    until_us: int
    inputs: Mapping[str, Scalar]
    vector: Floats
    missing: tuple[str, ...]


@dataclass
class Skipped:
    """Rows of the chosen models and times that cannot be compared, of one model.

    Attributes:
        other_schema: of a version whose vector is another than that of the definitions now.
        shadows: scores that nobody got, of rows whose vector stands with the answer.
        unlike: not as the model's schema has them.
        forgotten: of entities that were forgotten (``headwater forget``): replays pass over their
            records.
    """

    other_schema: int = 0
    shadows: int = 0
    unlike: int = 0
    forgotten: int = 0


@dataclass(frozen=True)
class Wanted:
    """Which rows are verified.

    Attributes:
        schemas: model -> its vector; records of other models are counted as such.
        from_us: rows before this moment are passed over; None for none.
        to_us: rows at or after this moment are.
        rows_max: of all that are left so many are chosen, by a hash of what they are.
    """

    schemas: Mapping[str, FeatureSchema]
    from_us: int | None = None
    to_us: int | None = None
    rows_max: int = 100_000

    def has(self, at_us: int) -> bool:
        """Whether that moment is one of those that were asked for."""
        return (self.from_us is None or at_us >= self.from_us) and (
            self.to_us is None or at_us < self.to_us
        )


@dataclass
class LogCounts:
    """What became of the prediction log.

    Attributes:
        records: that were read.
        broken: of these, not as the scorer writes them.
        other_models: of these, of models that are not verified.
        rows: model -> rows at the chosen times, shadows left out.
        skipped: model -> those that cannot be compared.
    """

    records: int = 0
    broken: int = 0
    other_models: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    skipped: dict[str, Skipped] = field(default_factory=dict)


class ServedRows:
    """Chooses rows out of the records of the prediction log. Not safe for threads.

    The choice does not depend on the order of the records, nor on one that stands there twice.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._decode = msgspec.json.Decoder(_Record).decode
        self._chosen: dict[int, ServedRow] = {}
        self._largest: list[int] = []  # a heap of the negative codes of what is chosen
        self.counts = LogCounts(skipped={name: Skipped() for name in wanted.schemas})

    def read(self, chunk: Chunk) -> None:
        """Look at the records of a chunk."""
        counts = self.counts
        for place in range(len(chunk.starts)):
            counts.records += 1
            try:
                record = self._decode(chunk.record(place))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                counts.broken += 1
                continue
            is_time = abs(record.at_us) < _TIME_US_MAX
            if not is_time or not 0.0 <= record.latency_ms <= _LATENCY_MS_MAX:
                counts.broken += 1
            elif record.model not in self._wanted.schemas:
                counts.other_models += 1
            elif self._wanted.has(record.at_us):
                self._take(record)

    def chosen(self) -> list[ServedRow]:
        """All that were chosen, by their moments."""
        codes = sorted(self._chosen, key=lambda code: (self._chosen[code].at_us, code))
        return [self._chosen[code] for code in codes]

    def _take(self, record: _Record) -> None:
        schema = self._wanted.schemas[record.model]
        skipped = self.counts.skipped[record.model]
        if not record.answered and not all(row.vector for row in record.rows):
            skipped.shadows += len(record.rows)
            return
        self.counts.rows[record.model] += len(record.rows)
        if record.fingerprint != schema.fingerprint:
            skipped.other_schema += len(record.rows)
            return
        until_us = record.at_us + int(record.latency_ms * 1000.0)
        for number, row in enumerate(record.rows):
            if tuple(record.features) != schema.names or len(row.vector) != len(schema.names):
                skipped.unlike += 1
                continue
            code = _code(record, number, row)
            if not self._has_room(code):
                continue
            self._put(
                code,
                ServedRow(
                    record.model,
                    record.version,
                    record.request_id,
                    row.key,
                    record.at_us,
                    until_us,
                    row.inputs,
                    np.array(row.vector, dtype=np.float64),
                    tuple(row.missing),
                ),
            )

    def _has_room(self, code: int) -> bool:
        if code in self._chosen:
            return False
        return len(self._chosen) < self._wanted.rows_max or code < -self._largest[0]

    def _put(self, code: int, row: ServedRow) -> None:
        self._chosen[code] = row
        if len(self._chosen) <= self._wanted.rows_max:
            heapq.heappush(self._largest, -code)
            return
        del self._chosen[-heapq.heapreplace(self._largest, -code)]


def by_model(rows: Iterable[ServedRow]) -> Counter[str]:
    """Model -> how many of the rows are its."""
    return Counter(row.model for row in rows)


def _code(record: _Record, number: int, row: _Row) -> int:
    """The same for all scores of one row of one request, whoever scored it."""
    # A row of a request that stands in several records has a key of its own.
    what = (record.model, record.request_id, record.at_us, row.key or number, row.inputs)
    return int.from_bytes(blake2b(_encode(what), digest_size=8).digest(), "big")
