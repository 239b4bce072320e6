"""`headwater serve`: the scorer."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer

from cli.repository_option import RepoOption, require_repository


def serve(repo: RepoOption = None) -> None:
    """Serve scores over gRPC at HEADWATER_SCORER_ADDRESS.

    Says "serving on HOST:PORT" when calls are answered. New model versions are picked up while it
    runs. SIGTERM and Ctrl-C end it gracefully: calls under way are finished.
    """
    import asyncio

    # gRPC's core writes lines of its own; what matters of them is in our errors.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")

    import structlog

    from contracts.settings import ScorerSettings
    from scorer.server import serve as serve_scores

    last: Any = structlog.processors.JSONRenderer()
    if sys.stderr.isatty():
        last = structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            last,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    folder = require_repository(repo)
    settings = ScorerSettings.for_repo(folder)
    asyncio.run(serve_scores(settings, folder, _announce))


def _announce(address: str) -> None:
    typer.echo(f"serving on {address}")
    sys.stdout.flush()
