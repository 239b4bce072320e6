"""How the scorer logs: one JSON object a line on stderr, readable lines on a terminal."""

from __future__ import annotations

import select
import sys
from typing import Any

import structlog


def configure_logs() -> None:
    """Set structlog up for this process."""
    last: Any = structlog.processors.JSONRenderer()
    if sys.stderr.isatty():
        last = structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.MaybeTimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            last,
        ],
        # Looked up anew for every line: whoever replaces stderr may close what it was.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


def stderr_takes_more(timeout_seconds: float) -> bool:
    """Whether stderr takes a line now, or does within that time.

    False for a pipe that is full because its reader hangs: writing would wait for as long.
    """
    try:
        file = sys.stderr.fileno()
    except (OSError, ValueError):
        # No file at all: whoever writes to it finds out.
        return True
    return bool(select.select([], [file], [], timeout_seconds)[1])
