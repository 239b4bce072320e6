"""What an earlier replay left half put in place: whoever comes next puts the rest in place."""

from __future__ import annotations

from contracts.settings import DataflowSettings
from dataflows.definitions.repository import Repository
from dataflows.flow.engine import default_places
from dataflows.flow.fence import fenced
from dataflows.flow.refilling import online_filler
from dataflows.stores.handover import finish_handover, journal_path


def finish_earlier(repository: Repository, settings: DataflowSettings) -> bool:
    """Do the rest of a handover that was killed, within ``rebuilding``; True if there was one.

    What a replay had built and its handover did not need goes with it: from a part of it, nobody
    could build on.

    Raises:
        EngineError: a dataflow that has just started does not end, or a store cannot be filled.
    """
    live = default_places(repository, settings)
    if not journal_path(live.state).exists():
        return False
    with fenced(live.state, "a replay", patience_seconds(settings)):
        return finish_handover(live.state, online_filler(repository, settings, live))


def patience_seconds(settings: DataflowSettings) -> float:
    """How long a dataflow may take to end: it may have just begun an epoch."""
    return settings.gather_seconds + 2 * settings.epoch_seconds
