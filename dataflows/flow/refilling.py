"""Puts the online values of a replay in place, patiently: the store may be away for a while."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from contracts.settings import DataflowSettings
from dataflows.definitions.repository import Repository
from dataflows.flow.errors import EngineError
from dataflows.flow.patience import patiently
from dataflows.flow.progress import ProgressFile, begin_progress, read_progress
from dataflows.flow.run_context import Places, RunContext
from dataflows.stores import refill
from dataflows.stores.handover import Values
from dataflows.stores.online_writer import OnlineStoreError
from dataflows.stores.store_mark import write_mark
from dataflows.watermark import NOT_YET

_WHO = "online store"


def online_filler(
    repository: Repository,
    settings: DataflowSettings,
    live: Places,
    stop: threading.Event | None = None,
) -> Callable[[Values], None]:
    """A function that makes the live online store hold what a replay has gathered.

    It waits for a server that is gone, and raises EngineError, which says how to go on, if the
    store cannot be filled. Doing it again, also after a part of it, gives the same. ``stop`` ends
    the waiting: then it raises OnlineStoreGoneError.
    """
    told_to_stop = stop or threading.Event()

    def fill(values: Values) -> None:
        online, project = live.online, repository.store.project
        views = [view for view in repository.plan.views if view.name in values.views]

        def put_in_place() -> None:
            gathered = None if values.gathered is None else Path(values.gathered)
            if gathered is not None and values.manner == "replace":
                refill.replace_values(gathered, project, views, online, values.mark, values.gone)
                return
            refill.remove_views(project, values.gone, online)
            if gathered is None:
                write_mark(online, project, values.mark)
            else:
                refill.add_values(gathered, project, views, online, values.mark)

        context = RunContext(settings, live, None, told_to_stop)
        try:
            patiently(put_in_place, context, _WHO, _teller(context))
        except OnlineStoreError as error:
            if told_to_stop.is_set():
                raise
            raise EngineError(
                f"{error}. The rest of the replay is done by the next `headwater run` or "
                "`headwater replay`"
            ) from error

    return fill


def _teller(context: RunContext) -> Callable[[], None]:
    """What writes the progress down while Redis is waited for at the end of a replay."""
    state = context.places.state
    if any(said.pid != os.getpid() for said in read_progress(state)):
        # We finish what another process began, and was killed at.
        return begin_progress(context)
    file = ProgressFile(state, 0, context)
    return lambda: file.write(0, NOT_YET)
