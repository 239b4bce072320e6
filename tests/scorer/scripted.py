"""A real gRPC server of ``scorer.v1`` that answers as a test tells it, and callers of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import grpc

from scorer.client import AsyncScorerClient, ClientOptions, ScorerClient
from scorer.v1 import scorer_pb2, scorer_pb2_grpc

WAIT_SECONDS_MAX = 20.0


@dataclass(frozen=True)
class Came:
    """A try as the server saw it.

    Attributes:
        left_seconds: what its ``grpc-timeout`` said; None without one.
        metadata: headers.
        request: the message.
    """

    left_seconds: float | None
    metadata: dict[str, str | bytes]
    request: Any


@dataclass
class Script(scorer_pb2_grpc.ScorerServiceServicer):
    """Fails as long as there are failures left, then answers.

    Attributes:
        failures: codes of the tries to come; None is a try that never gets an answer.
        answers: method -> message.
        came: all tries so far.
        gone: set when the client has left a call that got no answer, or a stream.
        waits: set when a call has come that gets no answer.
    """

    failures: list[grpc.StatusCode | None] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)
    came: list[Came] = field(default_factory=list)
    gone: Event = field(default_factory=Event)
    waits: Event = field(default_factory=Event)

    def Score(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 - gRPC's
        """As told; without an answer the request's id comes back and one score for each row."""
        scores = [scorer_pb2.RowScore(score=0.5) for _ in request.rows]
        fallback = scorer_pb2.ScoreResponse(
            version="1", request_id=request.request_id, scores=scores
        )
        return self._answer("Score", request, context, fallback)

    def GetFeatures(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """As told."""
        return self._answer("GetFeatures", request, context, None)

    def Explain(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """As told."""
        return self._answer("Explain", request, context, None)

    def ListModels(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """As told."""
        return self._answer("ListModels", request, context, None)

    def GetModel(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """As told."""
        return self._answer("GetModel", request, context, None)

    def ScoreStream(  # noqa: N802
        self, request_iterator: Iterator[Any], context: grpc.ServicerContext
    ) -> Iterator[Any]:
        """Answers each; a request for model ``wrong`` fails, one for ``end`` ends the call."""
        context.add_callback(self.gone.set)
        for request in request_iterator:
            self._note(request, context)
            if request.model == "end":
                context.abort(grpc.StatusCode.UNAVAILABLE, "the scorer is stopping; try again")
            answer = scorer_pb2.ScoreStreamResponse(request_id=request.request_id)
            if request.model == "wrong":
                answer.failure.code, answer.failure.message = 3, "no rows"
            else:
                answer.response.request_id = request.request_id
            yield answer

    def _note(self, request: Any, context: grpc.ServicerContext) -> None:
        metadata = dict(tuple(context.invocation_metadata()))
        self.came.append(Came(context.time_remaining(), metadata, request))

    def _answer(
        self, method: str, request: Any, context: grpc.ServicerContext, fallback: Any
    ) -> Any:
        self._note(request, context)
        if self.failures:
            code = self.failures.pop(0)
            if code is None:
                context.add_callback(self.gone.set)
                self.waits.set()
                self.gone.wait(WAIT_SECONDS_MAX)
            else:
                context.abort(code, f"failure {len(self.came)}")
        return self.answers.get(method, fallback)


@contextmanager
def scripted(
    script: Script,
    credentials: grpc.ServerCredentials | None = None,
    options: Sequence[tuple[str, Any]] = (),
) -> Iterator[str]:
    """A server as long as the context; gives its address."""
    with ThreadPoolExecutor(8) as threads:
        server = grpc.server(threads, options=[*options, ("grpc.so_reuseport", 0)])
        scorer_pb2_grpc.add_ScorerServiceServicer_to_server(script, server)
        if credentials is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            script.gone.set()
            server.stop(None).wait(WAIT_SECONDS_MAX)


def blocking(address: str, method: str, *given: Any, options: Any = None, **named: Any) -> Any:
    """The result of a method of the blocking client."""
    with ScorerClient(address, 10.0, options=options or ClientOptions()) as client:
        result = getattr(client, method)(*given, **named)
        return list(result) if isinstance(result, Iterator) else result


def awaited(address: str, method: str, *given: Any, options: Any = None, **named: Any) -> Any:
    """The result of a method of asyncio's client."""

    async def run() -> Any:
        async with AsyncScorerClient(address, 10.0, options=options or ClientOptions()) as client:
            result = getattr(client, method)(*given, **named)
            if isinstance(result, AsyncIterator):
                return [one async for one in result]
            return await result

    return asyncio.run(run())
