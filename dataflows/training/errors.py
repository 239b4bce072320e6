"""The one error of batch training."""

from __future__ import annotations


class TrainingError(Exception):
    """No version can be made; the message says why and what to do."""
