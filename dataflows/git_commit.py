"""Which commit definitions are from."""

from __future__ import annotations

import subprocess
from pathlib import Path

_SECONDS_MAX = 5


def git_commit(directory: Path) -> str:
    """The commit that the folder has checked out; empty if that cannot be known."""
    command = ["git", "-C", str(directory), "rev-parse", "HEAD"]
    try:
        found = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS_MAX, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
