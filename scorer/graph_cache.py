"""Optimised graphs kept in a folder, so that a version is optimised once and not at each load.

A graph is kept with the scores that it gave for some rows when it was made, and is only used as
long as it still gives the very same. It holds for one runtime on one kind of processor: both are
part of its name. Several processes may share the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import structlog

from contracts.durable_files import read_regular
from contracts.manifest import sha256_hex

FILES_MAX = 128
_SUFFIX = ".graph"
_DRAFT = ".draft-"
# Whoever left a draft for so long has died.
_DRAFT_SECONDS_MAX = 3_600.0
_log = structlog.get_logger()


@dataclass(frozen=True)
class KeptGraph:
    """An optimised graph, and the scores it gave when it was made, each as ``float.hex``."""

    graph: bytes
    scores: tuple[str, ...]


class GraphCache:
    """A bounded number of graphs in a folder; those used longest ago go first.

    Nothing here raises for what is on the disk: without a kept graph a version is optimised anew.
    """

    def __init__(self, folder: Path, files_max: int = FILES_MAX) -> None:
        """Make the folder if need be.

        Raises:
            OSError: it cannot be made or written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._files_max = files_max
        self.draft().unlink()

    def name(self, sha256: str, runtime: Sequence[str]) -> str:
        """What a graph is kept under: by model, runtime and processor."""
        parts = json.dumps([sha256, list(runtime), processor()])
        return hashlib.sha256(parts.encode()).hexdigest()

    def get(self, name: str) -> KeptGraph | None:
        """What is kept, if it is whole."""
        file = self._file(name)
        try:
            head, _, graph = read_regular(file).partition(b"\n")
            about = json.loads(head)
            kept = KeptGraph(graph, tuple(map(str, about["scores"])))
            whole = about["sha256"] == sha256_hex(graph)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            self.drop(name, f"cannot be read: {error}")
            return None
        if not whole:
            self.drop(name, "is damaged")
            return None
        try:
            os.utime(file)
        except OSError:
            # A folder that may only be read serves too; what is used longest ago is then unknown.
            return kept
        return kept

    def put(self, name: str, kept: KeptGraph) -> None:
        """Keep a graph; what was used longest ago makes room."""
        head = {"sha256": sha256_hex(kept.graph), "scores": kept.scores}
        try:
            # Not synced: what a crash tears is seen by its SHA-256, and made anew.
            draft = self.draft()
            draft.write_bytes(json.dumps(head).encode() + b"\n" + kept.graph)
            draft.replace(self._file(name))
            self._make_room()
        except OSError as error:
            _log.warning("onnx_graph_not_kept", reason=str(error))

    def drop(self, name: str, reason: str) -> None:
        """Forget a graph that is of no use."""
        _log.warning("onnx_graph_dropped", graph=name, reason=reason)
        try:
            self._file(name).unlink(missing_ok=True)
        except OSError as error:
            _log.warning("onnx_graph_not_dropped", graph=name, reason=str(error))

    def draft(self) -> Path:
        """A new empty file for ONNX Runtime to write to; the caller deletes it.

        Raises:
            OSError: the folder cannot be written.
        """
        handle, name = tempfile.mkstemp(prefix=_DRAFT, dir=self._folder)
        os.close(handle)
        return Path(name)

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}{_SUFFIX}"

    def _make_room(self) -> None:
        used = {one: _used(one) for one in self._folder.glob(f"*{_SUFFIX}")}
        for file in sorted(used, key=used.__getitem__)[: max(0, len(used) - self._files_max)]:
            file.unlink(missing_ok=True)
        for draft in self._folder.glob(f"{_DRAFT}*"):
            if time.time() - _used(draft) > _DRAFT_SECONDS_MAX:
                draft.unlink(missing_ok=True)


def _used(file: Path) -> float:
    """When a file was last used; another process may have deleted it."""
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return time.time()


@cache
def processor() -> str:
    """What kind of processor this is: an optimised graph may use what another does not have."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    kinds = ("model name", "flags", "Features", "CPU implementer", "CPU part")
    told = {line for line in lines if line.partition(":")[0].strip() in kinds}
    return f"{platform.machine()} {sorted(told)}"
