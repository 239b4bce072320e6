"""Bytewax's recovery store, kept free of what was never committed.

An execution that is killed leaves snapshots of epochs that it had not finished. The next one does
not load them, but neither does it remove them: whatever it does not snapshot anew in those epochs
comes back from the dead in the execution after it, with files that are long gone.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bytewax._bytewax import init_db_dir

# As Bytewax finds the epoch to resume from (0.21, pinned): of the latest execution, the slowest
# worker; one that never said anything stands where the execution began.
_RESUME_EPOCH = """
    WITH last AS (SELECT * FROM exs WHERE ex_num = (SELECT MAX(ex_num) FROM exs)),
    said AS (
        SELECT worker_index, worker_frontier FROM fronts
        WHERE ex_num = (SELECT ex_num FROM last)
    )
    SELECT CASE
        WHEN (SELECT COUNT(*) FROM said) < (SELECT worker_count FROM last)
        THEN MIN((SELECT resume_epoch FROM last),
                 COALESCE((SELECT MIN(worker_frontier) FROM said), 9223372036854775807))
        ELSE (SELECT MIN(worker_frontier) FROM said)
    END FROM last
"""

# One partition for each worker, none of which resumes anything. Those of a run with more workers
# than this one would be nobody's, at which Bytewax panics.
_PER_WORKER = "headwater.online_store"

# Of each piece of state the newest snapshot that counts; one without content says it is gone.
_COMMITTED = """
    SELECT step_id, state_key, ser_change, MAX(snap_epoch) FROM snaps
    WHERE snap_epoch < ? GROUP BY step_id, state_key
"""


@dataclass(frozen=True)
class Snapshot:
    """What one piece of a flow's state is resumed from.

    Attributes:
        step: id of the step, with the name of the flow before it.
        key: which of the step's pieces.
        content: pickled.
    """

    step: str
    key: str
    content: bytes


def open_recovery(folder: Path) -> None:
    """Make the recovery store if there is none, else remove what was never committed.

    To be called before Bytewax opens the files, since two SQLite libraries in one process take each
    other's locks away.

    Raises:
        sqlite3.Error: the files are damaged.
    """
    if not folder.exists():
        # Being killed in between must not leave a folder that nothing can resume from.
        new = folder.with_name(folder.name + ".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        init_db_dir(new, 1)
        new.rename(folder)
        return
    for path in folder.glob("part-*.sqlite3"):
        with closing(sqlite3.connect(path, timeout=5)) as store, store:
            found = store.execute(_RESUME_EPOCH).fetchone()
            if found is not None:
                store.execute("DELETE FROM snaps WHERE snap_epoch >= ?", found)
            store.execute("DELETE FROM snaps WHERE step_id = ?", (_PER_WORKER,))


def committed(folder: Path) -> list[Snapshot]:
    """What the next execution resumes from, while none runs; nothing if there was none.

    Raises:
        sqlite3.Error: the files are damaged.
    """
    found: list[Snapshot] = []
    for path in sorted(folder.glob("part-*.sqlite3")):
        address = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=5)) as store:
            epoch = store.execute(_RESUME_EPOCH).fetchone()
            if epoch is None:
                continue
            for step, key, content, _ in store.execute(_COMMITTED, epoch):
                if content is not None and step != _PER_WORKER:
                    found.append(Snapshot(step, key, content))
    return found


def write_recovery(folder: Path, snapshots: Iterable[Snapshot]) -> None:
    """Make a recovery store in a new folder from which an execution resumes just these.

    Raises:
        sqlite3.Error: it cannot be written.
    """
    folder.mkdir()
    init_db_dir(folder, 1)
    (path,) = folder.glob("part-*.sqlite3")
    rows = [(one.step, one.key, one.content) for one in snapshots]
    with closing(sqlite3.connect(path, timeout=5)) as store, store:
        # One execution of one worker, whose first epoch is over.
        store.execute("INSERT INTO exs (ex_num, worker_count, resume_epoch) VALUES (0, 1, 1)")
        store.execute("INSERT INTO fronts (ex_num, worker_index, worker_frontier) VALUES (0, 0, 2)")
        store.executemany(
            "INSERT INTO snaps (step_id, state_key, snap_epoch, ser_change) VALUES (?, ?, 1, ?)",
            rows,
        )
