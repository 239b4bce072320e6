"""Which Feast repository a command works on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from cli.failures import CommandError

_FILE = "feature_store.yaml"
_USUAL = Path("feature_repo")

RepoOption = Annotated[
    Path | None,
    typer.Option(
        "--repo",
        metavar="DIR",
        help=f"Folder with {_FILE}.",
        exists=True,
        file_okay=False,
        show_default="./feature_repo if it is one, else .",
    ),
]


def repository_folder(given: Path | None) -> Path:
    """The folder to work on, absolute, whether or not it is a Feast repository."""
    if given is None:
        given = _USUAL if (_USUAL / _FILE).is_file() else Path()
    return given.resolve()


def require_repository(given: Path | None, unless_set: str | None = None) -> Path:
    """As ``repository_folder``, but raise CommandError where there is no ``feature_store.yaml``.

    ``unless_set`` names an environment variable that tells all that the command would look for in
    a repository; where it is set, any folder will do.
    """
    folder = repository_folder(given)
    if (folder / _FILE).is_file() or (unless_set is not None and os.environ.get(unless_set)):
        return folder
    raise CommandError(f"no {_FILE} in {folder}; name the folder of the repository with --repo")
