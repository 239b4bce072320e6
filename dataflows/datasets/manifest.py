"""What a data set was made of, and what came out: all that it takes to make it again."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from dataflows.datasets.errors import DatasetError

FORMAT = 1
FILE = "manifest.json"
Table = Literal["examples", "outcomes"]
TABLES: tuple[Table, ...] = ("examples", "outcomes")


class PartitionRange(msgspec.Struct, frozen=True):
    """Records of one partition: offsets from ``first`` on and before ``end``."""

    topic: str
    partition: int
    first: int
    end: int

    @property
    def name(self) -> str:
        """``TOPIC/PARTITION``."""
        return f"{self.topic}/{self.partition}"


class LogRange(msgspec.Struct, frozen=True):
    """What was read of the log.

    Attributes:
        kind: ``file`` or ``kafka``: offsets of the one say nothing in the other.
        partitions: of all topics of the definitions, in order.
        topic_ids: topic -> what tells it from another one of the same name; where the log has it.
    """

    kind: str
    partitions: tuple[PartitionRange, ...]
    topic_ids: dict[str, str]


class Bounds(msgspec.Struct, frozen=True):
    """Predictions made in ``[from_us, to_us)``, microseconds since 1970 UTC; None is no bound."""

    from_us: int | None = None
    to_us: int | None = None


class Day(msgspec.Struct, frozen=True):
    """The rows of one file: a table's day (of predictions, or of labels, UTC)."""

    table: Table
    day: str
    rows: int
    digest: str


class Figures(msgspec.Struct, frozen=True):
    """What came out.

    Attributes:
        rows: predictions.
        labelled: how many of them have a label.
        first_us: time of the first prediction, microseconds since 1970 UTC; None if there is none.
        last_us: of the last one.
        days: of both tables, in order.
        digest: SHA-256 (hex) of the rows of both tables: how they lie in files does not count.
    """

    rows: int
    labelled: int
    first_us: int | None
    last_us: int | None
    days: tuple[Day, ...]
    digest: str


class Origin(msgspec.Struct, frozen=True):
    """Where the definitions are from.

    Attributes:
        commit: of the Git repository; empty if there was none.
        folder: of the Feast repository in it; empty for its root.
        has_changes: whether there were changes that are in no commit; the digest says which
            definitions they made.
        definitions: digest of the model, its views, their code and the topics.
        fingerprint: of the model's vector.
        label: what comes true, as ``task: topic: expression``.
    """

    commit: str
    folder: str
    has_changes: bool
    definitions: str = ""
    fingerprint: str = ""
    label: str = ""


class DatasetManifest(msgspec.Struct, frozen=True):
    """A data set: its origin, its range of the log, its model, and what came out.

    Attributes:
        name: of the data set.
        model: of the definitions.
        created: when (ISO 8601, UTC) and by whom; for people.
        versions: package -> version that made it.
        forgotten: number of the newest tombstone of `headwater forget` that was honoured.
    """

    name: str
    model: str
    origin: Origin
    log: LogRange
    bounds: Bounds
    figures: Figures
    created: str
    created_by: str
    versions: dict[str, str]
    forgotten: int = 0
    format: int = FORMAT


def encode(manifest: DatasetManifest) -> bytes:
    """As the file has it."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def read_manifest(folder: Path) -> DatasetManifest:
    """The manifest of the data set in a folder; raise DatasetError."""
    path = folder / FILE
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=DatasetManifest)
    except FileNotFoundError:
        raise DatasetError(
            f"there is no data set {folder.name!r} in {folder.parent}; "
            "`headwater dataset list` names those there are"
        ) from None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"{path} cannot be read ({error}); put it back, or remove the folder and build the "
            "data set anew with `headwater dataset build`"
        ) from error
    if manifest.format != FORMAT:
        raise DatasetError(
            f"{path} was written by another version of Headwater; use that one, or build the data "
            "set anew"
        )
    return manifest
