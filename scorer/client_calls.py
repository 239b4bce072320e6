"""The calls that both clients make: which method, with what, and how to read the answer."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import grpc
from google.protobuf.message import Message

from scorer.client_errors import ScorerCallError
from scorer.client_requests import (
    ExplainOptions,
    FeaturesOf,
    Row,
    Rows,
    ScoreItem,
    ScoreOptions,
    explain_request,
    features_request,
    score_request,
)
from scorer.client_results import (
    Explanation,
    Features,
    ModelInfo,
    Routes,
    Scored,
    channels,
    explanation,
    features,
    model_info,
    routes,
    scored,
    versions,
)
from scorer.v1 import scorer_pb2

Answer = TypeVar("Answer")
_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True)
class Ask(Generic[Answer]):
    """A call of one request and one answer.

    Attributes:
        method: its name in the stub.
        request: what is sent.
        read: makes the result of the answer.
    """

    method: str
    request: Message
    read: Callable[[Any], Answer]


def ask_score(model: str, rows: Row | Rows, options: ScoreOptions) -> Ask[Scored]:
    """``Score``."""
    return Ask("Score", score_request(model, rows, options), scored)


def ask_features(
    source: FeaturesOf, rows: Row | Rows, event_time_us: int | None, request_id: str
) -> Ask[Features]:
    """``GetFeatures``."""
    request = features_request(source, rows, event_time_us, request_id)
    return Ask("GetFeatures", request, features)


def ask_explain(model: str, row: Row, options: ExplainOptions) -> Ask[Explanation]:
    """``Explain``."""
    return Ask("Explain", explain_request(model, row, options), explanation)


def ask_models() -> Ask[dict[str, str]]:
    """``ListModels``, for the versions that serve."""
    return Ask("ListModels", scorer_pb2.ListModelsRequest(), versions)


def ask_channels() -> Ask[dict[str, dict[str, str]]]:
    """``ListModels``, for the versions of all channels."""
    return Ask("ListModels", scorer_pb2.ListModelsRequest(), channels)


def ask_routes() -> Ask[dict[str, Routes]]:
    """``ListModels``, for versions and shares."""
    return Ask("ListModels", scorer_pb2.ListModelsRequest(), routes)


def ask_model(model: str, version: str, channel: str) -> Ask[ModelInfo]:
    """``GetModel``."""
    request = scorer_pb2.GetModelRequest(model=model, version=version, channel=channel)
    return Ask("GetModel", request, model_info)


def outcome(response: scorer_pb2.ScoreStreamResponse) -> Scored | ScorerCallError:
    """One answer of a stream."""
    if response.HasField("response"):
        return scored(response.response)
    failure = response.failure
    code = _CODES.get(failure.code, grpc.StatusCode.UNKNOWN)
    return ScorerCallError.of(code, failure.message)


class Outgoing:
    """The messages of a stream. gRPC would log what goes wrong here, and tell the caller nothing.

    Attributes:
        error: what went wrong while the next request was made; None if nothing did.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None

    def messages(self, items: Iterable[ScoreItem]) -> Iterator[scorer_pb2.ScoreRequest]:
        """The messages of the items, up to the first that cannot be made."""
        try:
            for item in items:
                yield _message(item)
        except Exception as error:  # noqa: BLE001 - raised again where the caller sees it
            self.error = error

    async def awaited_messages(
        self, items: Iterable[ScoreItem] | AsyncIterable[ScoreItem]
    ) -> AsyncIterator[scorer_pb2.ScoreRequest]:
        """As ``messages``, also for items that are waited for."""
        try:
            if isinstance(items, AsyncIterable):
                async for item in items:
                    yield _message(item)
            else:
                for item in items:
                    yield _message(item)
        except Exception as error:  # noqa: BLE001 - raised again where the caller sees it
            self.error = error


def _message(item: ScoreItem) -> scorer_pb2.ScoreRequest:
    return score_request(item.model, item.rows, item.options)
