"""A scorer as a process: its event loop, its memory, and what ends it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

import uvloop

from contracts.scorer_settings import ScorerSettings
from scorer.heartbeat import Heart
from scorer.server import Port, serve


def serve_alone(settings: ScorerSettings, repo_dir: Path, ready: Callable[[str], None]) -> None:
    """Serve on a port of its own until SIGTERM or SIGINT; see ``scorer.server.serve``."""
    with _beating(settings, None) as heart:
        uvloop.run(serve(settings, repo_dir, _settled(ready, heart), Port.ALONE))


def serve_sharing_port(
    settings: ScorerSettings, repo_dir: Path, ready: Callable[[str], None]
) -> None:
    """Serve beside others on one port, until a signal or the end of standard input.

    Whoever reads our standard output is told there that we are alive.
    """
    with _beating(settings, sys.stdout.fileno()) as heart:
        serving = serve(settings, repo_dir, _settled(ready, heart), Port.SHARED)
        uvloop.run(_while_input_lasts(serving))


def settle_memory() -> None:
    """What is there now stays: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()
    # Requests leave no cycles behind, and a large one has more new objects than the default.
    gc.set_threshold(50_000, 20, 50)


@contextlib.contextmanager
def _beating(settings: ScorerSettings, pipe: int | None) -> Iterator[Heart]:
    heart = Heart(settings.stuck_seconds, pipe)
    try:
        yield heart
    finally:
        heart.stop()


def _settled(ready: Callable[[str], None], heart: Heart) -> Callable[[str], None]:
    def call(address: str) -> None:
        settle_memory()
        ready(address)
        heart.start()

    return call


async def _while_input_lasts(serving: Coroutine[None, None, None]) -> None:
    """Whoever started us holds the other end: if that goes, so do we, gracefully."""
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(serving)

    def on_input() -> None:
        if not os.read(sys.stdin.fileno(), 1):
            loop.remove_reader(sys.stdin)
            os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(sys.stdin, on_input)
    try:
        await task
    finally:
        loop.remove_reader(sys.stdin)
