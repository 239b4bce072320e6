"""Definitions as they are in a folder, or were in a commit, compiled.

Definitions are Python modules. Those of a commit are compiled in a process of their own, so that
none of its modules comes from the working tree, or stays in this process:
``python -m dataflows.changes.compiled FOLDER FILE``.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from dataflows.changes.git_tree import ChangesError
from dataflows.changes.made_of import MadeOf, made_of
from dataflows.definitions.errors import DefinitionError

if TYPE_CHECKING:
    from dataflows.definitions.repository import Repository

# Importing Feast takes seconds; definitions may do some work of their own.
SECONDS_MAX: Final = 300
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Compiled:
    """Definitions, compiled.

    Attributes:
        made_of: what they come to.
        definitions: their digest, as in a state's identity.
    """

    made_of: MadeOf
    definitions: str


@dataclass(frozen=True)
class _Answer:
    """Of the process: one of the two is there."""

    compiled: Compiled | None = None
    refused: str = ""


def compiled(repository: Repository) -> Compiled:
    """A loaded repository."""
    from dataflows.flow.identity import definitions_of

    digest = hashlib.sha256(definitions_of(repository).encode()).hexdigest()
    return Compiled(made_of(repository), digest)


def compiled_elsewhere(folder: Path, answer: Path, shown: str) -> Compiled:
    """The repository in a folder, compiled by a process of its own.

    Args:
        folder: with ``feature_store.yaml`` and ``definitions.py``.
        answer: a file that the process may write.
        shown: what to call the folder in errors.

    Raises:
        ChangesError: it cannot be compiled.
    """
    paths = [str(_ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    command = [sys.executable, "-W", "ignore", "-m", __name__, str(folder), str(answer)]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ChangesError(
            f"{shown}: its definitions.py took more than {SECONDS_MAX} s; look at what it does"
        ) from error
    if done.returncode != 0:
        told = (done.stderr.strip() or "it said nothing").splitlines()[-1]
        raise ChangesError(f"{shown} could not be compiled: {told}")
    found = msgspec.json.decode(answer.read_bytes(), type=_Answer)
    if found.compiled is None:
        raise ChangesError(found.refused.replace(str(folder), shown))
    return found.compiled


def _main(folder: Path, answer: Path) -> None:
    from dataflows.definitions.repository import load_repository

    try:
        found = _Answer(compiled=compiled(load_repository(folder)))
    except DefinitionError as error:
        found = _Answer(refused=str(error))
    answer.write_bytes(msgspec.json.encode(found))


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]))
