"""Loads the Feast repository for a command."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataflows.definitions.repository import Repository


def load_quietly(folder: Path) -> Repository:
    """The compiled repository; raise DefinitionError.

    Importing Feast switches on warnings that are meant for developers of libraries; those who run a
    command can do nothing about them.
    """
    from dataflows.definitions.repository import load_repository

    repository = load_repository(folder)
    warnings.simplefilter("ignore", DeprecationWarning)
    return repository
