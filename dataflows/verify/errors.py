"""Why there is no verdict."""

from __future__ import annotations


class VerifyError(Exception):
    """What was served cannot be verified; the message says why and what to do."""
