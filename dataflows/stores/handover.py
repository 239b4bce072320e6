"""Puts what a replay has built in the place of what is there, all or nothing.

A journal beside the state folder names what is to be done; whoever comes after a crash does the
rest. Every step may be done twice. Folders are renamed; online values are put in place by a
function that is given, since what is open elsewhere goes on to be read.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from contracts.durable_files import replace_file
from contracts.plan import View
from dataflows.stores.keeping import KeptModel, keeping
from dataflows.stores.sqlite_file import remove_file


class HandoverError(Exception):
    """What was begun cannot be ended; the message says what to do."""


@dataclass(frozen=True)
class Values:
    """Online values that are to be put in place.

    Attributes:
        gathered: SQLite file that holds them; None if there are none, and only ``gone`` go.
        views: names of those whose they are.
        gone: views that are no more, as they were: their values go.
        manner: ``replace`` makes the store hold exactly these, ``add`` leaves entities that the
            file does not have.
        mark: the generation that the store belongs to from then on.
    """

    gathered: str | None
    views: tuple[str, ...]
    gone: tuple[View, ...]
    manner: Literal["replace", "add"]
    mark: str


@dataclass(frozen=True)
class Handover:
    """What is to be put in place.

    Attributes:
        folders: (new, live), in the order in which they are exchanged. Online values come before
            those that readers look at next.
        values: None to leave the online store as it is.
        later: as ``folders``, exchanged after the online values.
        leftovers: files and folders that go in the end: what was built and is not exchanged. From
            a part of it nobody could build on.
        models: of which what people decided stays, among those that are exchanged ``later``.
    """

    folders: tuple[tuple[str, str], ...]
    values: Values | None
    later: tuple[tuple[str, str], ...] = ()
    leftovers: tuple[str, ...] = ()
    models: tuple[KeptModel, ...] = ()


def journal_path(state: Path) -> Path:
    """Where an unfinished handover is written down."""
    return state.with_name(state.name + ".handover.json")


def hand_over(handover: Handover, state: Path, fill: Callable[[Values], None]) -> None:
    """Do all of it; after a crash ``finish_handover`` does what is left. ``fill`` as there."""
    journal_path(state).parent.mkdir(parents=True, exist_ok=True)
    replace_file(journal_path(state), msgspec.json.encode(handover))
    finish_handover(state, fill)


def finish_handover(state: Path, fill: Callable[[Values], None]) -> bool:
    """Do what the journal says, if there is one; True if there was. Doing it twice is harmless.

    ``fill`` makes the live online store hold what the file has.

    Raises:
        HandoverError: the journal cannot be read.
    """
    journal = journal_path(state)
    try:
        handover = msgspec.json.decode(journal.read_bytes(), type=Handover)
    except FileNotFoundError:
        return False
    except msgspec.DecodeError as error:
        raise HandoverError(
            f"{journal} is damaged ({error}), so nobody knows what of a replay is in place: remove "
            "it, then rebuild everything with `headwater replay`"
        ) from error
    for new, live in handover.folders:
        _exchange(Path(new), Path(live))
    values = handover.values
    gathered = None if values is None or values.gathered is None else Path(values.gathered)
    # A file that is gone says that its values are in their place.
    if values is not None and (gathered is None or gathered.exists()):
        fill(values)
    if gathered is not None:
        remove_file(gathered)
    with keeping(handover.models):
        for new, live in handover.later:
            _exchange(Path(new), Path(live))
    for _, live in (*handover.folders, *handover.later):
        shutil.rmtree(_old(Path(live)), ignore_errors=True)
    remove_all(map(Path, handover.leftovers))
    journal.unlink()
    return True


def remove_all(paths: Iterable[Path]) -> None:
    """Remove files and folders, those of them that are there."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _old(live: Path) -> Path:
    return live.with_name(live.name + ".old")


def _exchange(new: Path, live: Path) -> None:
    if not new.exists():
        return
    if live.exists():
        shutil.rmtree(_old(live), ignore_errors=True)
        live.rename(_old(live))
    live.parent.mkdir(parents=True, exist_ok=True)
    new.rename(live)
