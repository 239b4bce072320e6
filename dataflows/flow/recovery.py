"""Bytewax's recovery store, kept free of what was never committed.

An execution that is killed leaves snapshots of epochs that it had not finished. The next one does
not load them, but neither does it remove them: whatever it does not snapshot anew in those epochs
comes back from the dead in the execution after it, with files that are long gone.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
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
