"""Why the flow cannot run."""

from __future__ import annotations


class EngineError(Exception):
    """The flow cannot run; the message says what to do."""
