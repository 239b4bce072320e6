"""Streams of requests: each is answered in its turn, and an error of one is its answer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

from scorer.calls import Call, Calls, Context
from scorer.v1 import scorer_pb2

Score = Callable[[scorer_pb2.ScoreRequest, Call], Awaitable[scorer_pb2.ScoreResponse]]
_Answer = asyncio.Task[scorer_pb2.ScoreStreamResponse]


class Streams:
    """Answers streams, each with a bounded number of requests under way."""

    def __init__(self, calls: Calls, in_flight_max: int) -> None:
        """``in_flight_max`` requests of a stream are read before the first is answered."""
        self._calls = calls
        self._in_flight_max = in_flight_max

    async def answer(
        self,
        method: str,
        score: Score,
        requests: AsyncIterator[scorer_pb2.ScoreRequest],
        context: Context,
    ) -> AsyncIterator[scorer_pb2.ScoreStreamResponse]:
        """Answers in the order of the requests, until these end."""
        async with self._calls.stream(method, context) as stream:
            under_way: deque[_Answer] = deque()
            room = asyncio.Semaphore(self._in_flight_max)
            more = asyncio.Event()

            async def one(request: scorer_pb2.ScoreRequest) -> scorer_pb2.ScoreStreamResponse:
                response, failure = await stream.answer(score, request)
                if failure is None:
                    return scorer_pb2.ScoreStreamResponse(
                        request_id=request.request_id, response=response
                    )
                code, text = failure
                return scorer_pb2.ScoreStreamResponse(
                    request_id=request.request_id,
                    failure=scorer_pb2.Failure(code=code.value[0], message=text),
                )

            async def read() -> None:
                try:
                    async for request in requests:
                        await room.acquire()
                        under_way.append(asyncio.create_task(one(request)))
                        more.set()
                finally:
                    more.set()

            reader = asyncio.create_task(read())
            try:
                while under_way or not reader.done():
                    if not under_way:
                        more.clear()
                        if not under_way and not reader.done():
                            await more.wait()
                        continue
                    yield await under_way[0]
                    under_way.popleft()
                    room.release()
                await reader
            finally:
                reader.cancel()
                for task in under_way:
                    task.cancel()
                await asyncio.gather(reader, *under_way, return_exceptions=True)
