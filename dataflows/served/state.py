"""The evaluator's state: one file, replaced in one step, and the lock of who may write it."""

from __future__ import annotations

import fcntl
import pickle
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from contracts.durable_files import replace_file
from contracts.model_channels import AuditEntry, Decision

# A health check holds the lock for an instant.
_INSTANT_SECONDS = 0.3
_PAUSE_SECONDS = 0.01
_FORMAT = b"headwater evaluator 1\n"


class EvaluatorError(Exception):
    """The evaluator cannot run; the message says what to do."""


@dataclass
class EvaluatorState:
    """All that a run goes on from.

    Attributes:
        log: what the offsets are of: kind of the log, and topics' own ids.
        positions: partition -> where it was read to, see ``reading.Position``.
        models: model -> ``ServedModel.dump``.
        pending: model -> what was decided and is to be made, or was made just before the end.
        records: counts of the prediction log's records.
        seen: what tells the newest records of the prediction log apart.
    """

    log: dict[str, str] = field(default_factory=dict)
    positions: dict[str, tuple[int, int, bool]] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    pending: dict[str, Decision | AuditEntry] = field(default_factory=dict)
    records: dict[str, int] = field(default_factory=dict)
    seen: list[int] = field(default_factory=list)


def evaluator_folder(state_dir: Path) -> Path:
    """Where the evaluator keeps its state: beside the dataflow's, which a replay replaces."""
    return state_dir.with_name(state_dir.name + ".evaluate")


@contextmanager
def sole_evaluator(folder: Path) -> Iterator[None]:
    """Hold the folder for this process alone, making it; raise EvaluatorError if another has it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise EvaluatorError(f"{folder}: {error.strerror}") from error
    with lock:
        give_up_at = time.monotonic() + _INSTANT_SECONDS
        while not _is_taken(lock):
            if time.monotonic() > give_up_at:
                raise EvaluatorError(
                    f"another evaluator is running on {folder}; stop it first, or set "
                    "HEADWATER_STATE_DIR to another folder"
                )
            time.sleep(_PAUSE_SECONDS)
        yield


def _is_taken(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_evaluated(folder: Path) -> bool:
    """Whether a process holds the folder."""
    try:
        lock = (folder / "lock").open("r")
    except OSError:
        return False
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def read_state(folder: Path) -> EvaluatorState | None:
    """What ``write_state`` wrote last; None before the first time.

    Raises:
        EvaluatorError: it is no such file.
    """
    file = folder / "state"
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EvaluatorError(f"{file}: {error.strerror}") from error
    try:
        if not data.startswith(_FORMAT):
            raise ValueError("it has another format")
        # Only who may write our state could put anything else there.
        state = pickle.loads(data[len(_FORMAT) :])
        if not isinstance(state, EvaluatorState):
            raise ValueError("it holds something else")
    except Exception as error:
        raise EvaluatorError(
            f"{file} cannot be read ({error}); remove it, the evaluation then begins anew"
        ) from error
    return state


def write_state(folder: Path, state: EvaluatorState) -> None:
    """Replace the file: whoever reads it sees all of the old or all of the new state."""
    replace_file(folder / "state", _FORMAT + pickle.dumps(state, pickle.HIGHEST_PROTOCOL))
