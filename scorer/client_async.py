"""The client of asyncio."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from types import TracebackType
from typing import Self

import grpc

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
from scorer.client_errors import ScorerCallError
from scorer.client_options import CLIENT_DEFAULTS, ClientOptions, Metadata, bearer
from scorer.client_requests import (
    EXPLAIN_DEFAULTS,
    SCORE_DEFAULTS,
    ExplainOptions,
    FeaturesOf,
    Row,
    Rows,
    ScoreItem,
    ScoreOptions,
)
from scorer.client_results import Explanation, Features, ModelInfo, Routes, Scored
from scorer.client_retries import Tries, call_error
from scorer.v1 import scorer_pb2_grpc


class AsyncScorerClient(ClientBase):
    """The same with asyncio, for many calls at once. Made and used inside one event loop."""

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
            self._channel = grpc.aio.insecure_channel(address, told)
        else:
            self._channel = grpc.aio.secure_channel(address, credentials, told)
        self._stub = scorer_pb2_grpc.ScorerServiceStub(self._channel)

    async def score(
        self, model: str, rows: Row | Rows, options: ScoreOptions = SCORE_DEFAULTS
    ) -> Scored:
        """As ``ScorerClient.score``."""
        return await self._answer(ask_score(model, rows, options))

    async def score_stream(
        self,
        items: Iterable[ScoreItem] | AsyncIterable[ScoreItem],
        deadline_seconds: float | None = None,
    ) -> AsyncGenerator[Scored | ScorerCallError, None]:
        """As ``ScorerClient.score_stream``; items are taken by a task."""
        self._check_process()
        outgoing = Outgoing()
        call = self._stub.ScoreStream(
            outgoing.awaited_messages(items),
            timeout=deadline_seconds,
            metadata=await self._metadata(),
        )
        try:
            async for response in call:
                yield outcome(response)
        except grpc.RpcError as error:
            raise call_error(error) from error
        finally:
            call.cancel()
        if outgoing.error is not None:
            raise outgoing.error

    async def features(
        self,
        source: FeaturesOf,
        rows: Row | Rows,
        *,
        event_time_us: int | None = None,
        request_id: str = "",
    ) -> Features:
        """As ``ScorerClient.features``."""
        return await self._answer(ask_features(source, rows, event_time_us, request_id))

    async def explain(
        self, model: str, row: Row, options: ExplainOptions = EXPLAIN_DEFAULTS
    ) -> Explanation:
        """As ``ScorerClient.explain``."""
        return await self._answer(ask_explain(model, row, options))

    async def models(self) -> dict[str, str]:
        """As ``ScorerClient.models``."""
        return await self._answer(ask_models())

    async def channels(self) -> dict[str, dict[str, str]]:
        """As ``ScorerClient.channels``."""
        return await self._answer(ask_channels())

    async def routes(self) -> dict[str, Routes]:
        """As ``ScorerClient.routes``."""
        return await self._answer(ask_routes())

    async def model(self, model: str, version: str = "", channel: str = "") -> ModelInfo:
        """As ``ScorerClient.model``."""
        return await self._answer(ask_model(model, version, channel))

    async def close(self) -> None:
        """Close the connection; calls under way end."""
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

    async def _answer(self, ask: Ask[Answer]) -> Answer:
        self._check_process()
        method = getattr(self._stub, ask.method)
        tries = Tries(self._options.retries, self._deadline_seconds)
        while True:
            metadata = await self._metadata()
            try:
                timeout = tries.left_seconds()
                response = await method(ask.request, timeout=timeout, metadata=metadata)
            except grpc.RpcError as error:
                pause_seconds = tries.failed(error)
            else:
                return ask.read(response)
            await asyncio.sleep(pause_seconds)

    async def _metadata(self) -> Metadata:
        token = self._options.token
        if token is None:
            return ()
        given = token if isinstance(token, str) else token()
        return bearer(await given if inspect.isawaitable(given) else given)
