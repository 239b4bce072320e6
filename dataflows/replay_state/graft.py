"""Makes one state folder of two: of one some views and models, of the other all else."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.durable_files import sync_folder
from contracts.plan import Plan
from contracts.settings import DataflowSettings
from dataflows.definitions.repository import Repository
from dataflows.erasure.tombstones import read_tombstones
from dataflows.flow.identity import check_identity
from dataflows.flow.recovery import Snapshot, write_recovery
from dataflows.replay.selection import Selection
from dataflows.replay_state import pieces
from dataflows.replay_state.fitting import check_in_common, check_kept, lacks
from dataflows.replay_state.pieces import PieceName, StoppedState, read_stopped
from dataflows.replay_state.positions import LOG_STEP, SHARDS_STEP
from dataflows.replay_state.shard_graft import MissingViewError, ShardGraft
from dataflows.sources.partition import Position
from dataflows.sources.plan_log import PlanLog
from dataflows.state_files import Handle, StateFiles, link_or_copy, link_state, read_state
from dataflows.stores.day_table import Handle as TableHandle


@dataclass(frozen=True)
class GraftFolders:
    """State folders, of which none is in use.

    Attributes:
        live: what is there.
        fresh: what a replay of the selection made, up to where ``live`` stands; None if nothing
            is selected, since views or models have only gone.
        out: the folder to be made.
    """

    live: Path
    fresh: Path | None
    out: Path


def graft(
    folders: GraftFolders,
    repository: Repository,
    selection: Selection,
    settings: DataflowSettings,
    log: PlanLog,
) -> None:
    """Make ``out``, from which a flow of ``repository`` goes on where the other two stand.

    It has the views and models of ``selection`` as they are in ``fresh``, and all others of the
    repository as they are in ``live``; what else ``live`` knows is left out. It is a generation of
    its own. ``live`` and ``fresh`` stay as they are. Who is killed meanwhile leaves no ``out``.

    Args:
        folders: of which it is made; ``out`` must not be there.
        repository: the whole new definitions.
        selection: what the replay was restricted to, closed.
        settings: of the run that is to go on.
        log: which it is to go on in.

    Raises:
        EngineError: the two do not stand at the same place or do not fit together.
        StateError: a file of state is damaged, or there is no room.
        TombstoneError: nobody can tell who was forgotten.
        FileExistsError: there is an ``out``.
        ValueError: the selection is not closed, or comes from nowhere.
    """
    plan = repository.plan
    pieces.check_closed(plan, selection)
    if folders.fresh is None and (selection.views or selection.models):
        raise ValueError("what is selected must come from somewhere")
    if folders.out.exists():
        raise FileExistsError(f"{folders.out} is there already")
    live = read_stopped(folders.live)
    fresh = live if folders.fresh is None else read_stopped(folders.fresh)
    check_in_common(live, fresh)
    new = folders.out.with_name(folders.out.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    tombstones = read_tombstones(settings.state_dir)
    shard_graft = ShardGraft(plan, len(log.partitions), selection.views, tombstones)
    making = _Making(plan, selection, live, fresh, shard_graft, new)
    write_recovery(new / "recovery", making.snapshots())
    check_identity(repository, settings, log, new)
    check_kept(live.folder, new)
    new.rename(folders.out)
    sync_folder(folders.out.parent)


class _Making:
    """One graft under way."""

    def __init__(
        self,
        plan: Plan,
        selection: Selection,
        live: StoppedState,
        fresh: StoppedState,
        shard_graft: ShardGraft,
        new: Path,
    ) -> None:
        self._plan = plan
        self._selection = selection
        self._live = live
        self._fresh = fresh
        self._shard_graft = shard_graft
        self._new = new

    def snapshots(self) -> Iterator[Snapshot]:
        """Put all files in their places, and say what is to be resumed from."""
        yield from self._positions()
        for name, snapshot in self._live.snapshots.items():
            if name[0] in pieces.FLOW_STEPS:
                yield snapshot
        yield from self._shards()
        for view in self._plan.views:
            side = self._side_of_view(view.name)
            for piece in pieces.pieces_of_view(self._plan, view.name):
                yield from self._piece(side, piece)
        for model in self._plan.models:
            side = self._side_of_model(model.name)
            if side.has_begun and pieces.model_step(model.name) not in side.snapshots:
                raise lacks(f"model {model.name!r}", side.folder)
            for piece in pieces.pieces_of_model(self._plan, model.name):
                yield from self._piece(side, piece)

    def _side_of_view(self, name: str) -> StoppedState:
        return self._fresh if name in self._selection.views else self._live

    def _side_of_model(self, name: str) -> StoppedState:
        return self._fresh if name in self._selection.models else self._live

    def _positions(self) -> Iterator[Snapshot]:
        """The offsets of both. Which records are good, and so the newest of them, may differ."""
        for name, position in self._live.positions.items():
            newest_us = max(position.newest_us, self._fresh.positions[name].newest_us)
            yield _snapshot((LOG_STEP, name), Position(position.offset, newest_us))

    def _shards(self) -> Iterator[Snapshot]:
        known = {*self._live.snapshots, *self._fresh.snapshots}
        for piece in sorted(name for name in known if name[0] == SHARDS_STEP):
            number = int(piece[1])
            if self._selection.views:
                files = StateFiles(self._new / _shard(number), None)
                yield _snapshot(piece, (number, files.write_base(self._shard(piece, number))))
            else:
                yield from self._linked(
                    self._live, piece, _shard(number), _files(self._live, piece)
                )

    def _shard(self, piece: PieceName, number: int) -> dict[str, Any]:
        sides = (self._live, self._fresh)
        live, fresh = (
            read_state(side.folder / _shard(number), _files(side, piece)) for side in sides
        )
        try:
            return self._shard_graft.joined(number, live, fresh)
        except MissingViewError as error:
            name = str(error)
            raise lacks(f"view {name!r}", self._side_of_view(name).folder) from error

    def _piece(self, side: StoppedState, piece: PieceName) -> Iterator[Snapshot]:
        """Take over one piece with its files, if there is such a piece yet."""
        content: Any = side.content(piece)
        if content is None:
            return
        step, name = piece
        if step == pieces.TABLES:
            _copy_table(side.folder / "tables" / name, content, self._new / "tables" / name)
            yield side.snapshots[piece]
        elif step == pieces.VERSIONS:
            yield side.snapshots[piece]
        else:
            yield from self._linked(side, piece, Path(_folder_of(piece)) / name, content)

    def _linked(
        self, side: StoppedState, piece: PieceName, folder: Path, handle: Handle
    ) -> Iterator[Snapshot]:
        link_state(side.folder / folder, handle, self._new / folder)
        yield side.snapshots[piece]


def _shard(number: int) -> Path:
    return Path("shards") / f"{number:04d}"


def _files(side: StoppedState, piece: PieceName) -> Handle:
    """The files of a shard; none if there is no such shard yet."""
    content: Any = side.content(piece)
    return () if content is None else content[1]


def _folder_of(piece: PieceName) -> str:
    step, name = piece
    if step == pieces.EVALUATION:
        return "evaluations"
    return "drift" if piece == pieces.drift_step(name) else "models"


def _copy_table(wal: Path, handle: TableHandle, into: Path) -> None:
    """What a table needs to go on at its handle: logs, which grow, and files it may put back."""
    into.mkdir(parents=True)
    for name, length in handle.logs.items():
        try:
            shutil.copyfile(wal / name, into / name)
        except FileNotFoundError as error:
            raise lacks(f"rows of an open day, {name}", wal) from error
        with (into / name).open("r+b") as file:
            file.truncate(length)
            os.fsync(file.fileno())
    for base in wal.glob("*.base"):
        link_or_copy(base, into / base.name)


def _snapshot(piece: PieceName, content: object) -> Snapshot:
    return Snapshot(*piece, pickle.dumps(content))
