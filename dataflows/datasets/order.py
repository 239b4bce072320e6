"""What is ordered of the process that makes the rows of a data set, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from dataflows.datasets.manifest import Bounds, Figures, LogRange


class Order(msgspec.Struct, frozen=True):
    """What is to be made. It crosses from one process to another: definitions are modules.

    Attributes:
        definitions: folder of the Feast repository as it is to be loaded.
        repository: folder of the Feast repository that settings belong to.
        model: name of the model.
        bounds: when predictions were made.
        log: the range to read; None for all that there is now.
        work: folder that is used meanwhile.
        rows: folder that gets ``examples`` and ``outcomes``.
    """

    definitions: str
    repository: str
    model: str
    bounds: Bounds
    log: LogRange | None
    work: str
    rows: str


class Made(msgspec.Struct, frozen=True):
    """What came out.

    Attributes:
        definitions: digest of the model, its views, their code and the topics.
        fingerprint: of the model's vector.
        label: what comes true, as ``task: topic: expression``.
        spine_key: column that tells predictions apart.
        log: what was read.
        forgotten: number of the newest tombstone that was honoured; 0 for none.
        figures: of the rows.
    """

    definitions: str
    fingerprint: str
    label: str
    spine_key: str
    log: LogRange
    forgotten: int
    figures: Figures


Builder = Callable[[Order], Made]


def state_folder(work: Path) -> Path:
    """Where the run keeps its state and tells its progress."""
    return work / "state"
