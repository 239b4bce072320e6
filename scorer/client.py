"""The client: typed, blocking or with asyncio, with retries, TLS and tokens."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from types import TracebackType
from typing import Self

import grpc

from scorer.client_async import AsyncScorerClient
from scorer.client_base import DEADLINE_SECONDS, ClientBase
from scorer.client_calls import (
    Answer,
    Ask,
    Outgoing,
    ask_channels,
    ask_explain,
    ask_features,
    ask_model,
    ask_models,
    ask_routes,
    ask_score,
    outcome,
)
from scorer.client_errors import (
    NotAllowedError,
    NotFoundError,
    NotReadyError,
    OutOfTimeError,
    ScorerCallError,
    UnavailableError,
    WrongRequestError,
)
from scorer.client_options import CLIENT_DEFAULTS, ClientOptions, Metadata, Tls, bearer
from scorer.client_requests import (
    EXPLAIN_DEFAULTS,
    SCORE_DEFAULTS,
    ExplainOptions,
    FeaturesOf,
    Row,
    Rows,
    Scalar,
    ScoreItem,
    ScoreOptions,
    score_request,
)
from scorer.client_results import (
    Contribution,
    Explanation,
    Features,
    ModelInfo,
    ModelInput,
    Routes,
    Scored,
    StandIn,
)
from scorer.client_retries import ONE_TRY, Retries, Tries, call_error
from scorer.v1 import scorer_pb2_grpc

__all__ = [
    "ONE_TRY",
    "AsyncScorerClient",
    "ClientOptions",
    "Contribution",
    "ExplainOptions",
    "Explanation",
    "Features",
    "FeaturesOf",
    "ModelInfo",
    "ModelInput",
    "NotAllowedError",
    "NotFoundError",
    "NotReadyError",
    "OutOfTimeError",
    "Retries",
    "Routes",
    "Row",
    "Rows",
    "Scalar",
    "ScoreItem",
    "ScoreOptions",
    "Scored",
    "ScorerCallError",
    "ScorerClient",
    "StandIn",
    "Tls",
    "UnavailableError",
    "WrongRequestError",
    "score_request",
]


class ScorerClient(ClientBase):
    """Blocking calls to a scorer; threads may share it. All methods raise ScorerCallError."""

    def __init__(
        self,
        address: str,
        deadline_seconds: float = DEADLINE_SECONDS,
        *,
        options: ClientOptions = CLIENT_DEFAULTS,
    ) -> None:
        """As ``ClientBase``."""
        super().__init__(address, deadline_seconds, options=options)
        credentials, told = options.credentials(), options.channel_options()
        if credentials is None:
            self._channel = grpc.insecure_channel(address, told)
        else:
            self._channel = grpc.secure_channel(address, credentials, told)
        self._stub = scorer_pb2_grpc.ScorerServiceStub(self._channel)

    def score(self, model: str, rows: Row | Rows, options: ScoreOptions = SCORE_DEFAULTS) -> Scored:
        """Score one row or several; TypeError, ValueError for inputs that cannot be sent."""
        return self._answer(ask_score(model, rows, options))

    def score_stream(
        self, items: Iterable[ScoreItem], deadline_seconds: float | None = None
    ) -> Generator[Scored | ScorerCallError, None, None]:
        """Score requests over one call, as they come; one answer for each, in their order.

        An error of one request is its answer. Items are taken by a thread of gRPC's. Nothing is
        tried again. The deadline is for the whole call; None for none.

        Raises:
            ScorerCallError: the call as a whole failed.
            Exception: what ``items`` raised, or TypeError and ValueError for inputs that cannot be
                sent; after the answers to those before.
        """
        self._check_process()
        outgoing = Outgoing()
        call = self._stub.ScoreStream(
            outgoing.messages(items), timeout=deadline_seconds, metadata=self._metadata()
        )
        try:
            for response in call:
                yield outcome(response)
        except grpc.RpcError as error:
            raise call_error(error) from error
        finally:
            call.cancel()
        if outgoing.error is not None:
            raise outgoing.error

    def features(
        self,
        source: FeaturesOf,
        rows: Row | Rows,
        *,
        event_time_us: int | None = None,
        request_id: str = "",
    ) -> Features:
        """Stored features of the entities with these keys; None is the scorer's clock."""
        return self._answer(ask_features(source, rows, event_time_us, request_id))

    def explain(
        self, model: str, row: Row, options: ExplainOptions = EXPLAIN_DEFAULTS
    ) -> Explanation:
        """How much each field moved the score of a row away from a baseline's."""
        return self._answer(ask_explain(model, row, options))

    def models(self) -> dict[str, str]:
        """Model -> version that serves (empty if none does yet)."""
        return self._answer(ask_models())

    def channels(self) -> dict[str, dict[str, str]]:
        """Model -> channel -> version."""
        return self._answer(ask_channels())

    def routes(self) -> dict[str, Routes]:
        """Model -> versions by channel, and how rows are shared between them."""
        return self._answer(ask_routes())

    def model(self, model: str, version: str = "", channel: str = "") -> ModelInfo:
        """What a model needs, and what is known about that version."""
        return self._answer(ask_model(model, version, channel))

    def close(self) -> None:
        """Close the connection; calls under way end."""
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

    def _answer(self, ask: Ask[Answer]) -> Answer:
        self._check_process()
        method = getattr(self._stub, ask.method)
        tries = Tries(self._options.retries, self._deadline_seconds)
        while True:
            metadata = self._metadata()
            try:
                response = method(ask.request, timeout=tries.left_seconds(), metadata=metadata)
            except grpc.RpcError as error:
                pause_seconds = tries.failed(error)
            else:
                return ask.read(response)
            time.sleep(pause_seconds)

    def _metadata(self) -> Metadata:
        token = self._options.token
        if token is None:
            return ()
        given = token if isinstance(token, str) else token()
        if not isinstance(given, str):
            raise TypeError("the token's function gives no text: only asyncio's client can wait")
        return bearer(given)
