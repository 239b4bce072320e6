"""Room on the disk of the state folder.

Without any, Bytewax's recovery store panics, and Rust says so at length. So a run ends before, with
a line of its own, while what Bytewax writes at the end of an epoch still finds room.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from dataflows.flow.errors import EngineError

# What a run needs to begin at all.
START_BYTES_MIN = 1024 * 1024
# What Bytewax may need for an epoch: some pages, and a row for each handle.
_EPOCH_BYTES = 256 * 1024
_HANDLE_BYTES = 1024


def check_start(state: Path) -> None:
    """Raise EngineError if a run could not even begin."""
    _check(state, START_BYTES_MIN)


def check_epoch(state: Path, shards: int) -> None:
    """Raise EngineError if the epoch that ends now might not find room."""
    _check(state, _EPOCH_BYTES + shards * _HANDLE_BYTES)


def _check(state: Path, wanted_bytes: int) -> None:
    free_bytes = shutil.disk_usage(state).free
    if free_bytes < wanted_bytes:
        raise EngineError(
            f"state folder {state}: {free_bytes // 1024:,} KiB are free on its disk, a run needs "
            f"{wanted_bytes // 1024:,} at the least; make room and start again (nothing is lost)"
        )
