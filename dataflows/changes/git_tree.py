"""A folder of a Git repository as it was in a commit."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path
from typing import Final

_SECONDS_MAX: Final = 120


class ChangesError(Exception):
    """What was asked to be compared cannot be had; the message says why and what to do."""


def find_commit(folder: Path, revision: str) -> str:
    """The full name of a commit; raise ChangesError if there is none of that name."""
    if revision.startswith("-"):
        raise ChangesError(f"{revision!r} is no commit; name one as Git does: HEAD~1, main, 1a2b3c")
    found = _git(folder, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if found.returncode != 0:
        what = _said(found) or f"{revision!r} is no commit of the repository with {folder}"
        raise ChangesError(f"{what}; name one as Git does: HEAD~1, main, 1a2b3c")
    return found.stdout.decode().strip()


def extract_folder(folder: Path, commit: str, target: Path) -> None:
    """Write the files that ``folder`` had in a commit into ``target``; raise ChangesError.

    Files that Git does not know are not there, such as data.
    """
    top = _asked(folder, "rev-parse", "--show-toplevel")
    prefix = _asked(folder, "rev-parse", "--show-prefix").rstrip("/")
    made = _git(Path(top), "archive", "--format=tar", f"{commit}:{prefix}")
    if made.returncode != 0:
        raise ChangesError(
            f"commit {commit[:12]} has no folder {prefix or '.'} ({_said(made)}); name another "
            "commit, or another folder with --repo"
        )
    try:
        with tarfile.open(fileobj=io.BytesIO(made.stdout)) as archive:
            archive.extractall(target, filter="data")
    except tarfile.TarError as error:
        raise ChangesError(
            f"commit {commit[:12]} cannot be taken out of Git ({error}); check it out and leave "
            "the commit away"
        ) from error


def _asked(folder: Path, *words: str) -> str:
    found = _git(folder, *words)
    if found.returncode != 0:
        raise ChangesError(f"{folder} is in no Git repository ({_said(found)}); leave REV away")
    return found.stdout.decode().rstrip("\n")


def _said(found: subprocess.CompletedProcess[bytes]) -> str:
    lines = found.stderr.decode(errors="replace").strip().splitlines()
    return lines[0] if lines else ""


def _git(folder: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    command = ["git", "-C", str(folder), *words]
    try:
        return subprocess.run(command, capture_output=True, timeout=_SECONDS_MAX, check=False)
    except FileNotFoundError as error:
        raise ChangesError("Git is not installed; install it, or leave REV away") from error
    except subprocess.TimeoutExpired as error:
        raise ChangesError(
            f"Git took more than {_SECONDS_MAX} s; check the commit out and leave REV away"
        ) from error
