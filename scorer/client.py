"""A small typed client, blocking and asyncio, for commands and the demo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import grpc
from google.protobuf.struct_pb2 import NULL_VALUE

from scorer.v1 import scorer_pb2, scorer_pb2_grpc
from scorer.vector import Scalar

Rows = Sequence[Mapping[str, Scalar]]


@dataclass(frozen=True)
class Scored:
    """An answer; lists have one entry for each row.

    Attributes:
        version: the version that scored.
        scores: probabilities of the positive class.
        missing: names of the fields for which the default stood in.
        features: the vectors as scored; empty lists unless asked for.
        feature_names: names of the vector's fields; empty unless asked for.
        oldest_us: event time of the oldest row used, microseconds; None if none was.
        newest_us: event time of the newest row used, microseconds; None if none was.
    """

    version: str
    scores: list[float]
    missing: list[list[str]]
    features: list[list[float]]
    feature_names: list[str]
    oldest_us: list[int | None]
    newest_us: list[int | None]


@dataclass(frozen=True)
class ScoreOptions:
    """What a request may say beside model and rows; see the proto for each.

    ``event_time_us`` None is the server's clock, ``version`` empty the champion.
    """

    version: str = ""
    request_id: str = ""
    event_time_us: int | None = None
    include_features: bool = False


_DEFAULTS = ScoreOptions()


class ScorerClient:
    """Blocking calls to a scorer. All methods raise ``grpc.RpcError`` with the scorer's status."""

    def __init__(self, address: str, deadline_seconds: float = 5.0) -> None:
        """Connects at the first call; ``deadline_seconds`` holds for each call."""
        self._channel = grpc.insecure_channel(address)
        self._stub = scorer_pb2_grpc.ScorerServiceStub(self._channel)
        self._deadline_seconds = deadline_seconds

    def score(self, model: str, rows: Rows, options: ScoreOptions = _DEFAULTS) -> Scored:
        """Score rows; TypeError for an input that is no number, text, bool or None."""
        request = score_request(model, rows, options)
        return scored(self._stub.Score(request, timeout=self._deadline_seconds))

    def models(self) -> dict[str, str]:
        """Model -> version that serves (empty if none does yet)."""
        request = scorer_pb2.ListModelsRequest()
        answer = self._stub.ListModels(request, timeout=self._deadline_seconds)
        return {one.model: one.version for one in answer.models}

    def model(self, model: str, version: str = "") -> scorer_pb2.GetModelResponse:
        """What a model needs, and what is known about that version."""
        request = scorer_pb2.GetModelRequest(model=model, version=version)
        return self._stub.GetModel(request, timeout=self._deadline_seconds)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        """For ``with``."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()


class AsyncScorerClient:
    """The same with asyncio, for many calls at once. Made and used inside one event loop."""

    def __init__(self, address: str, deadline_seconds: float = 5.0) -> None:
        """Connects at the first call; ``deadline_seconds`` holds for each call."""
        self._channel = grpc.aio.insecure_channel(address)
        self._stub = scorer_pb2_grpc.ScorerServiceStub(self._channel)
        self._deadline_seconds = deadline_seconds

    async def score(self, model: str, rows: Rows, options: ScoreOptions = _DEFAULTS) -> Scored:
        """As ``ScorerClient.score``."""
        request = score_request(model, rows, options)
        return scored(await self._stub.Score(request, timeout=self._deadline_seconds))

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        """For ``async with``."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        await self.close()


def score_request(
    model: str, rows: Rows, options: ScoreOptions = _DEFAULTS
) -> scorer_pb2.ScoreRequest:
    """The message for these rows; TypeError for an input of another type."""
    request = scorer_pb2.ScoreRequest(
        model=model,
        version=options.version,
        request_id=options.request_id,
        include_features=options.include_features,
    )
    if options.event_time_us is not None:
        request.event_time.FromMicroseconds(options.event_time_us)
    for row in rows:
        inputs = request.rows.add().inputs
        for name, value in row.items():
            _set(inputs[name], name, value)
    return request


def scored(response: scorer_pb2.ScoreResponse) -> Scored:
    """The answer as plain Python."""
    rows = response.scores
    return Scored(
        version=response.version,
        scores=[row.score for row in rows],
        missing=[list(row.missing) for row in rows],
        features=[list(row.features) for row in rows],
        feature_names=list(response.feature_names),
        oldest_us=[
            row.oldest_feature_time.ToMicroseconds()
            if row.HasField("oldest_feature_time")
            else None
            for row in rows
        ],
        newest_us=[
            row.newest_feature_time.ToMicroseconds()
            if row.HasField("newest_feature_time")
            else None
            for row in rows
        ],
    )


def _set(message: scorer_pb2.Value, name: str, value: Scalar) -> None:
    if value is None:
        message.null_value = NULL_VALUE
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, int):
        message.int64_value = value
    elif isinstance(value, float):
        message.double_value = value
    elif isinstance(value, str):
        message.string_value = value
    else:
        raise TypeError(f"input {name!r} is a {type(value).__name__}: give a number, text or None")
