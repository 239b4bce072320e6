"""Records of the prediction log as rows to be joined; what cannot be used is counted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import msgspec

from contracts.category import text_of
from contracts.log import Chunk
from contracts.manifest import VERSION

_TEXT_BYTES = 8


class _Row(msgspec.Struct, gc=False):
    inputs: dict[str, float | int | str | bool | None]
    score: float | None
    key: str = ""
    channel: str = ""
    label: str = ""
    probabilities: list[float | None] = []


class Record(msgspec.Struct, gc=False):
    """What is read of a ``contracts.prediction_record.PredictionRecord``."""

    request_id: str
    model: str
    version: str
    fingerprint: str
    at_us: int
    rows: list[_Row]
    answered: bool = True
    classes: list[str] = []


@dataclass(frozen=True)
class ServedRow:
    """A scored row.

    Attributes:
        key: by which a label finds it, as ``text_code`` has it.
        pair: the same for all scores of one row of one request.
        at_us: moment of prediction, event time.
        score: NaN for one that is no number.
        version: that scored it.
        assigned: channel that the row is assigned to; empty for none.
        is_answer: whether the caller got this score.
        unit: a 32-bit number for what decided about the assignment.
        segments: values of the model's segments, None for a missing one.
        predicted: with many classes, the most probable one.
        classes: with many classes, all of them.
        probabilities: theirs.
    """

    key: int
    pair: int
    at_us: int
    score: float
    version: str
    assigned: str
    is_answer: bool
    unit: int = 0
    segments: tuple[str | None, ...] = ()
    predicted: str = ""
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()


@dataclass
class RecordCounts:
    """What became of the records of the prediction log.

    Attributes:
        records: looked at.
        broken: of these, not as the scorer writes them.
        repeated: of these, seen before, byte for byte.
        unknown: of these, of models that are not in the repository.
    """

    records: int = 0
    broken: int = 0
    repeated: int = 0
    unknown: int = 0


class Remembered:
    """The newest of some numbers: whether one was among them."""

    def __init__(self, numbers_max: int) -> None:
        self._numbers_max = numbers_max
        # The first of a plain dict is found past all that were taken out before it.
        self._numbers: OrderedDict[int, None] = OrderedDict()

    def is_new(self, number: int) -> bool:
        """Whether it was not met yet; from now on it was."""
        if number in self._numbers:
            return False
        if len(self._numbers) >= self._numbers_max:
            self._numbers.popitem(last=False)
        self._numbers[number] = None
        return True

    def dump(self) -> list[int]:
        """All of them, oldest first; ``load`` is its inverse."""
        return list(self._numbers)

    def load(self, numbers: Iterable[int]) -> None:
        """Remember these and no others."""
        self._numbers = OrderedDict.fromkeys(numbers)


class RecordReader:
    """Decodes the prediction log for some models."""

    def __init__(self, is_model: Callable[[str], bool], seen: Remembered) -> None:
        """``seen`` holds what tells records apart, so that a repeated one is known."""
        self._is_model = is_model
        self._seen = seen
        self._decode = msgspec.json.Decoder(Record).decode
        self.counts = RecordCounts()

    def read(self, chunk: Chunk) -> list[Record]:
        """The good records of a chunk, in order."""
        found = []
        for place in range(len(chunk.starts)):
            data = chunk.record(place)
            self.counts.records += 1
            try:
                record = self._decode(data)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                self.counts.broken += 1
                continue
            if not VERSION.fullmatch(record.version) or abs(record.at_us) >= 2**62:
                self.counts.broken += 1
            elif not self._seen.is_new(bytes_code(data)):
                self.counts.repeated += 1
            elif not self._is_model(record.model):
                self.counts.unknown += 1
            else:
                found.append(record)
        return found


def served_rows(record: Record, segments: Sequence[str], assign_by: str = "") -> list[ServedRow]:
    """The rows of a record that a label can find: with a key, or alone in their request.

    ``segments`` and ``assign_by`` are names of inputs; see ``ModelPlan``.
    """
    found = []
    classes = tuple(record.classes)
    for row in record.rows:
        name = row.key or (record.request_id if len(record.rows) == 1 else "")
        if not name:
            continue
        values = (row.inputs.get(segment) for segment in segments)
        given = row.inputs.get(assign_by)
        found.append(
            ServedRow(
                key=text_code(name),
                pair=text_code(f"{record.request_id}\n{name}"),
                at_us=record.at_us,
                score=float("nan") if row.score is None else row.score,
                version=record.version,
                assigned=row.channel if row.channel in ("champion", "challenger") else "",
                is_answer=record.answered,
                unit=text_code(name if given is None else text_of(given)) >> 32,
                segments=tuple(None if value is None else text_of(value) for value in values),
                predicted=row.label,
                classes=classes,
                probabilities=tuple(p or 0.0 for p in row.probabilities),
            )
        )
    return found


def text_code(text: str) -> int:
    """A 64-bit number for a text; of a million texts two have the same once in 37 million times."""
    return bytes_code(text.encode("utf-8", "surrogatepass"))


def bytes_code(data: bytes) -> int:
    """The same for bytes."""
    digest = blake2b(data, digest_size=_TEXT_BYTES).digest()
    return int.from_bytes(digest, "big", signed=True)
