"""A fence: whom it makes end, and whom not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dataflows.flow.fence import FencedError, check_fence, fenced, rebuilding

ROOT = Path(__file__).parents[2]
_HOLDER = """
import sys
from pathlib import Path
from dataflows.flow.fence import fenced, rebuilding

state = Path(sys.argv[1])
with rebuilding(state), fenced(state, "a replay", 5.0):
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_who_fences_is_told_by_more_than_a_process_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In two containers that share a folder, dataflow and replay may have the same process id."""
    state = tmp_path / "state"
    with _fenced_elsewhere(state) as pid:
        monkeypatch.setattr(os, "getpid", lambda: pid)
        with pytest.raises(FencedError, match="a replay takes over"):
            check_fence(state)
    check_fence(state)


def test_who_fences_is_not_fenced(tmp_path: Path) -> None:
    """The last pass of a replay runs behind its own fence."""
    state = tmp_path / "state"
    with rebuilding(state), fenced(state, "a replay", 5.0):
        check_fence(state)


@contextmanager
def _fenced_elsewhere(state: Path) -> Iterator[int]:
    """Another process fences the folder; its id."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(state)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process.pid
        process.communicate("")
