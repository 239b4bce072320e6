"""Why a repository cannot be run."""

from __future__ import annotations


class DefinitionError(Exception):
    """``definitions.py`` asks for what cannot be run; the message names the object and reason."""
