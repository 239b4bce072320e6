"""Messages of ``scorer.v1`` to plain values and back. Big requests give others their turn."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from contracts.feature_schema import ValueType
from scorer.errors import InvalidRequestError
from scorer.routing import CHALLENGER, CHAMPION
from scorer.scored import Answer, Scored, aligned
from scorer.scoring import PIECE_ROWS
from scorer.v1 import scorer_pb2
from scorer.vector import Missing
from scorer.vector_plan import GoodInputs, Scalar, VectorPlan

_SECONDS_MIN, _SECONDS_MAX = -62135596800, 253402300799
_TIMES_MAX = 65_536
# No model has so many; reading more at once would keep everybody else waiting.
_INPUTS_MAX = 10_000
_INPUTS_PER_TURN = 4_096


# ``ScoreResponse.scores`` and ``RowScore.score`` on the wire; a row without strings is short.
_ROW_TAG, _SCORE_TAG, _SCORE_BYTES = 0x22, 0x09, 9
_ROW = struct.Struct("<BBBd")
_BARE_ROWS_MIN = 4
_Getter = Callable[[scorer_pb2.Value], Any]
_KINDS: dict[ValueType, tuple[str, _Getter]] = {
    "float64": ("double_value", attrgetter("double_value")),
    "int64": ("int64_value", attrgetter("int64_value")),
    "bool": ("bool_value", attrgetter("bool_value")),
    "string": ("string_value", attrgetter("string_value")),
}


class Messages:
    """Writes answers. Keeps messages that recur."""

    def __init__(self) -> None:
        """Keep nothing yet."""
        self._times: dict[int, Timestamp] = {}

    async def response(
        self, request: scorer_pb2.ScoreRequest, answer: Answer
    ) -> scorer_pb2.ScoreResponse:
        """The answer to a request."""
        model = answer.parts[0].scored.model
        response = scorer_pb2.ScoreResponse(
            model=request.model,
            version=model.manifest.version,
            request_id=request.request_id,
        )
        include_features = request.include_features
        if include_features:
            response.feature_names.extend(model.manifest.schema.names)
        if model.is_multiclass:
            response.classes.extend(answer.classes)
        (_, rows, scored), *others = answer.parts
        if others:
            await self._add_parts(response, answer, request)
        elif model.is_multiclass or include_features or len(rows) > PIECE_ROWS:
            await self._add_part(response, scored, request)
        else:
            self._add(response, scored, rows)
        if answer.challenged:
            for row, is_challenged in zip(response.scores, answer.challenged, strict=True):
                row.channel = CHALLENGER if is_challenged else CHAMPION
        return response

    async def _add_parts(
        self,
        response: scorer_pb2.ScoreResponse,
        answer: Answer,
        request: scorer_pb2.ScoreRequest,
    ) -> None:
        """Add the rows of several versions, in their order."""
        rows: dict[int, scorer_pb2.RowScore] = {}
        for part in answer.parts:
            of_part = scorer_pb2.ScoreResponse(classes=response.classes)
            await self._add_part(of_part, part.scored, request)
            version = part.scored.model.manifest.version
            for number, row in zip(part.rows, of_part.scores, strict=True):
                rows[number] = row
                if version != response.version:
                    row.version = version
        response.scores.extend([rows[number] for number in range(len(rows))])

    async def _add_part(
        self,
        response: scorer_pb2.ScoreResponse,
        scored: Scored,
        request: scorer_pb2.ScoreRequest,
    ) -> None:
        for start in range(0, len(scored.scores), PIECE_ROWS):
            if start:
                await asyncio.sleep(0)
            self._add(response, scored, range(start, min(start + PIECE_ROWS, len(scored.scores))))
        if request.include_features:
            for row, vector in zip(response.scores, scored.vectors.values.tolist(), strict=True):
                row.features.extend(vector)
        if scored.probabilities is not None:
            _add_classes(response, scored)

    def time(self, time_us: int) -> Timestamp:
        """A moment, microseconds since 1970 UTC, as a message; not to be changed."""
        known = self._times.get(time_us)
        if known is None:
            # Rows of one moment share it, and making one takes longer than looking it up.
            if len(self._times) >= _TIMES_MAX:
                self._times.clear()
            seconds, micros = divmod(time_us, 1_000_000)
            known = self._times[time_us] = Timestamp(seconds=seconds, nanos=micros * 1000)
        return known

    def _add(self, response: scorer_pb2.ScoreResponse, scored: Scored, rows: Sequence[int]) -> None:
        vectors, at_us, plan = scored.vectors, scored.at_us, scored.model.plan
        if len(rows) >= _BARE_ROWS_MIN and not any(map(vectors.missing.__getitem__, rows)):
            self._add_bare(response, scored, rows)
            return
        add = response.scores.add
        for row in rows:
            oldest_us, newest_us = vectors.oldest_us[row], vectors.newest_us[row]
            if oldest_us is None or newest_us is None:
                message = add(score=scored.scores[row])
            else:
                message = add(
                    score=scored.scores[row],
                    oldest_feature_time=self.time(oldest_us),
                    newest_feature_time=self.time(newest_us),
                    oldest_feature_age_seconds=(at_us - oldest_us) / 1e6,
                    newest_feature_age_seconds=(at_us - newest_us) / 1e6,
                )
            if missing := vectors.missing[row]:
                names = plan.schema.names
                message.missing.extend([names[place.position] for place in missing])
                message.stand_ins.extend(stand_ins(plan, missing))

    def _add_bare(
        self, response: scorer_pb2.ScoreResponse, scored: Scored, rows: Sequence[int]
    ) -> None:
        """Add rows where nothing is missing as bytes: for many a quarter of what messages take."""
        vectors, at_us, scores = scored.vectors, scored.at_us, scored.scores
        known: dict[tuple[int | None, int | None], bytes] = {}
        parts: list[bytes] = []
        for row in rows:
            times = (vectors.oldest_us[row], vectors.newest_us[row])
            rest = known.get(times)
            if rest is None:
                rest = known[times] = self._rest(*times, at_us).SerializeToString()
            parts += (_ROW.pack(_ROW_TAG, _SCORE_BYTES + len(rest), _SCORE_TAG, scores[row]), rest)
        response.MergeFromString(b"".join(parts))

    def _rest(
        self, oldest_us: int | None, newest_us: int | None, at_us: int
    ) -> scorer_pb2.RowScore:
        """What the answer to a row says besides the score, where nothing is missing."""
        if oldest_us is None or newest_us is None:
            return scorer_pb2.RowScore()
        return scorer_pb2.RowScore(
            oldest_feature_time=self.time(oldest_us),
            newest_feature_time=self.time(newest_us),
            oldest_feature_age_seconds=(at_us - oldest_us) / 1e6,
            newest_feature_age_seconds=(at_us - newest_us) / 1e6,
        )


def _add_classes(response: scorer_pb2.ScoreResponse, scored: Scored) -> None:
    """Say which class each row is, and how likely each of ``response.classes``."""
    columns = zip(
        response.scores,
        scored.labels(),
        aligned(scored, response.classes).tolist(),
        strict=True,
    )
    for row, label, probabilities in columns:
        row.label = label
        row.probabilities.extend(probabilities)


def stand_ins(plan: VectorPlan, missing: Sequence[Missing]) -> list[scorer_pb2.StandIn]:
    """What stood in where a value was missing, and why."""
    fields = plan.schema.fields
    return [
        scorer_pb2.StandIn(
            name=fields[position].name,
            reason=int(reason),  # type: ignore[arg-type]
            value=fields[position].default,
        )
        for position, reason in missing
    ]


async def rows_of(
    rows: Sequence[scorer_pb2.Row], plan: VectorPlan | None = None
) -> list[dict[str, Scalar]]:
    """The inputs of rows, checked already where they are as ``plan`` wants them.

    Raises:
        InvalidRequestError: an input has no value, or there are far too many.
    """
    # An input of two types, a key and a number at once, is left to the long way.
    kinds = [(name, *_KINDS[types[0]]) for name, types in plan.input_types.items()] if plan else []
    if plan is not None and any(len(types) > 1 for types in plan.input_types.values()):
        kinds = []
    found: list[dict[str, Scalar]] = []
    size = max(1, _INPUTS_PER_TURN // max(1, len(kinds)))
    for start in range(0, len(rows), size):
        if start:
            await asyncio.sleep(0)
        piece = [row.inputs for row in rows[start : start + size]]
        good = _good_inputs(piece, kinds) if kinds else None
        if good is not None:
            found += good
            continue
        turn = _INPUTS_PER_TURN
        for number, inputs in enumerate(piece, start):
            turn -= len(inputs)
            if turn < 0:
                turn = _INPUTS_PER_TURN
                await asyncio.sleep(0)
            found.append(inputs_of(number, inputs))
    return found


def _good_inputs(
    rows: Sequence[Mapping[str, scorer_pb2.Value]], kinds: Sequence[tuple[str, str, _Getter]]
) -> list[GoodInputs] | None:
    """The inputs if each row has all of them, of their types, not null and finite; else None."""
    count = len(kinds)
    for inputs in rows:
        if len(inputs) != count:
            return None
    columns = []
    for name, kind, value_of in kinds:
        messages: list[Any] = [inputs.get(name) for inputs in rows]
        try:
            values = list(map(value_of, messages))
        except AttributeError:
            # None has no value: the input is not there.
            return None
        # What is not the type's zero is set; of a zero one has to ask.
        if not all(values) and any(
            not value and message.WhichOneof("kind") != kind
            for value, message in zip(values, messages, strict=True)
        ):
            return None
        if kind == "double_value" and not all(map(math.isfinite, values)):
            return None
        columns.append(values)
    names = [name for name, _, _ in kinds]
    return [GoodInputs(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def inputs_of(number: int, inputs: Mapping[str, scorer_pb2.Value]) -> dict[str, Scalar]:
    """The inputs of row ``number``. InvalidRequestError for too many, and one without value."""
    if len(inputs) > _INPUTS_MAX:
        raise InvalidRequestError(
            f"rows[{number}]: {len(inputs)} inputs, at most {_INPUTS_MAX}; give those of the model"
        )
    values: dict[str, Scalar] = {}
    for name, value in inputs.items():
        kind = value.WhichOneof("kind")
        if kind is None:
            raise InvalidRequestError(
                f"rows[{number}]: input {name!r:.100} has no value; set null_value if it is unknown"
            )
        values[name] = None if kind == "null_value" else getattr(value, kind)
    return values


def to_us(time: Timestamp) -> int:
    """Microseconds since 1970 UTC, rounded down. Raise InvalidRequestError for no valid time."""
    if not 0 <= time.nanos < 1_000_000_000 or not _SECONDS_MIN <= time.seconds <= _SECONDS_MAX:
        raise InvalidRequestError("event_time is not a valid Timestamp (years 1 to 9999)")
    return time.seconds * 1_000_000 + time.nanos // 1000
