"""What is said about drift: records of the topic ``headwater.drift``, and the report of a model."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Final, Literal

import msgspec

DRIFT_TOPIC: Final = "headwater.drift"
ALERTS_KEPT: Final = 20

DriftKind = Literal["psi", "ks", "missing", "score", "error"]
DriftState = Literal["begin", "end"]


class DriftAlert(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Drift began, or it is over. After a failure an alert may stand in the topic twice.

    Attributes:
        id: made of all that follows, so that readers can drop repeats.
        event_timestamp: event time of the row at which it was seen, RFC 3339, UTC.
        model: name.
        kind: ``psi`` and ``ks`` compare the values of a feature with the reference's, ``missing``
            how often it is missing, ``score`` (by KS) the scores, ``error`` the losses.
        feature: name of the vector's field; empty for ``score`` and ``error``.
        state: ``begin`` or ``end``; of one kind and feature they take turns.
        why: of an end: ``quiet`` if a whole window shows nothing any more, ``renewed`` if what
            came to be is the new reference.
        value: PSI; the KS distance; by how much the missing rate differs; the mean loss.
        threshold: that ``value`` must reach for drift to begin.
        p_value: bound on the probability of such a value without drift; of ``error`` ADWIN's delta.
        rows: in the window: present values, or all rows for ``missing``, or losses.
        window_from_us: event time of the window's first row (microseconds since 1970 UTC).
        window_until_us: of its last.
        reference_rows: as ``rows``, of the reference.
        reference_from_us: event time of the reference's first row.
        reference_until_us: of its last.
    """

    id: str = ""
    event_timestamp: str
    model: str
    kind: DriftKind
    feature: str
    state: DriftState
    why: str = ""
    value: float
    threshold: float
    p_value: float
    rows: int
    window_from_us: int
    window_until_us: int
    reference_rows: int
    reference_from_us: int
    reference_until_us: int

    def identified(self) -> DriftAlert:
        """The same with its id."""
        bare = msgspec.structs.replace(self, id="")
        digest = blake2b(msgspec.json.encode(bare), digest_size=12).hexdigest()
        return msgspec.structs.replace(bare, id=digest)


class DriftFigure(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Where one kind of drift of one feature stands; the names are those of ``DriftAlert``.

    Attributes:
        value: as of the last look; None before the first.
        since_us: since when there is drift; None if there is none.
    """

    kind: DriftKind
    feature: str
    value: float | None
    threshold: float
    p_value: float | None
    since_us: int | None


class DriftReport(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Where a model stands, as ``drift.json`` has it.

    Attributes:
        rows: predictions seen.
        rows_until_watched: how many more must come before features and scores are compared.
        labels: losses seen.
        labels_until_watched: how many more must come before errors are compared.
        looks: how often windows were compared.
        figures: of all kinds and features.
        alerts: the latest, oldest first.
    """

    model: str
    rows: int
    rows_until_watched: int
    labels: int
    labels_until_watched: int
    looks: int
    figures: tuple[DriftFigure, ...]
    alerts: tuple[DriftAlert, ...] = ()


class DriftReportError(Exception):
    """A report cannot be read; the message says what to do."""


def report_path(repository: Path, model: str) -> Path:
    """Where the report of a model lies below the root of the model repository."""
    return repository / model / "evaluation" / "drift.json"


def read_report(repository: Path, model: str) -> DriftReport | None:
    """The report of a model; None if there is none yet.

    Raises:
        DriftReportError: it is damaged or cannot be read.
    """
    path = report_path(repository, model)
    try:
        return msgspec.json.decode(path.read_bytes(), type=DriftReport)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DriftReportError(
            f"{path} cannot be read ({error}); a running dataflow writes it anew"
        ) from error
