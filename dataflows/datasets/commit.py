"""The commit that definitions are from, and definitions as they were at a commit."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dataflows.datasets.errors import DatasetError

_SECONDS_MAX = 10.0
_CHECKOUT_SECONDS_MAX = 600.0
_SHOWN_MAX = 3
_CONFIG = "feature_store.yaml"
_IGNORED = "!! "
# What a run writes beside the definitions is none of them.
_NOT_DEFINITIONS = (":(exclude)data", ":(exclude,glob)**/__pycache__/**")


@dataclass(frozen=True)
class Commit:
    """What a folder has checked out.

    Attributes:
        sha: empty if the folder is in no Git repository, or nothing was committed there.
        folder: the folder's place in the Git repository; empty for its root.
        changes: files of the folder that are not as in the commit, new ones too.
        ignored: files and folders that Git was told to ignore.
    """

    sha: str
    folder: str
    changes: tuple[str, ...]
    ignored: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Whether the commit says all about the folder."""
        return bool(self.sha) and not self.changes

    @property
    def shown(self) -> str:
        """Why it is not clean, for people."""
        if not self.sha:
            return "is in no commit of a Git repository"
        more = len(self.changes) - _SHOWN_MAX
        listed = ", ".join(self.changes[:_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")
        return f"has changes that are in no commit ({listed})"


def commit_of(folder: Path) -> Commit:
    """What the folder of a Feast repository has checked out."""
    if not _succeeds(folder, "rev-parse", "--verify", "--quiet", "HEAD^{commit}"):
        return Commit("", "", ())
    sha, place = _git(folder, "rev-parse", "HEAD", "--show-prefix").split("\n")[:2]
    command = ("status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames")
    also = "--ignored=matching"
    lines = _git(folder, *command, also, "--", ".", *_NOT_DEFINITIONS).split("\0")
    # Paths are those in the Git repository, behind two letters and a space.
    ignored = tuple(line[3:].removeprefix(place) for line in lines if line.startswith(_IGNORED))
    changes = tuple(
        line[3:].removeprefix(place) for line in lines if line and not line.startswith(_IGNORED)
    )
    if not _succeeds(folder, "cat-file", "-e", f"HEAD:./{_CONFIG}"):
        # Where Git ignores the folder as a whole it lists none of its files.
        changes = tuple(dict.fromkeys((*changes, _CONFIG)))
    return Commit(sha, place.rstrip("/"), changes, ignored)


def check_out(folder: Path, sha: str, target: Path) -> None:
    """Write all files of a commit below ``target``, with nothing changed in the Git repository.

    Args:
        folder: somewhere in the Git repository.
        sha: the commit.
        target: a folder that does not exist yet.

    Raises:
        DatasetError: the commit is not there, or cannot be written.
    """
    if not _succeeds(folder, "cat-file", "-e", f"{sha}^{{commit}}"):
        raise DatasetError(
            f"commit {sha[:12]} is not in the Git repository of {folder}; fetch it and try again"
        )
    top = Path(_git(folder, "rev-parse", "--show-toplevel").rstrip("\n"))
    # An index of our own: that of the repository and its working tree stay as they are.
    index = target.with_name(f"{target.name}.index").absolute()
    own = {"GIT_INDEX_FILE": str(index)}
    _git(top, "read-tree", sha, seconds=_CHECKOUT_SECONDS_MAX, more=own)
    prefix = f"--prefix={target.absolute()}/"
    _git(top, "checkout-index", "--all", prefix, seconds=_CHECKOUT_SECONDS_MAX, more=own)


def _git(
    folder: Path, *words: str, seconds: float = _SECONDS_MAX, more: Mapping[str, str] | None = None
) -> str:
    found = _run(folder, words, seconds, more or {})
    if found.returncode != 0:
        said = " ".join(found.stderr.split()) or f"exit {found.returncode}"
        raise DatasetError(f"`git {words[0]}` in {folder} failed: {said}")
    return found.stdout


def _succeeds(folder: Path, *words: str) -> bool:
    return _run(folder, words, _SECONDS_MAX, {}).returncode == 0


def _run(
    folder: Path, words: tuple[str, ...], seconds: float, more: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    # Within a hook of Git these name another repository or index.
    clean = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}
    try:
        return subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env={**clean, **more},
        )
    except FileNotFoundError:
        raise DatasetError("data sets are made of commits, but git is not installed") from None
    except subprocess.TimeoutExpired:
        raise DatasetError(
            f"`git {words[0]}` in {folder} has not ended after {seconds:.0f} s"
        ) from None
