"""The engines of the comparison, in the order of the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarks.peers.workload import EVENTS, EVENTS_OF_SLOW

# Whose Python: ours (.venv), or the one into which only peers are installed.
Environment = Literal["ours", "peers"]


@dataclass(frozen=True)
class Engine:
    """One line of the table.

    Attributes:
        title: for people.
        module: in ``benchmarks.peers``.
        kinds: what it keeps with ``--keep``, each a name in ``check.KINDS``; all are checked.
        options: further arguments.
        environment: whose Python runs it.
        events: the first so many of the workload.
        rounds: how often it runs. What runs once only keeps its results while it is measured.
        seconds_max: longest that one run may take.
    """

    title: str
    module: str
    kinds: tuple[str, ...]
    options: tuple[str, ...] = ()
    environment: Environment = "ours"
    events: int = EVENTS
    rounds: int = 3
    seconds_max: float = 600.0

    @property
    def name(self) -> str:
        """Module and options: unlike any other's."""
        return " ".join((self.module, *self.options))


ENGINES = (Engine("Python loop, tiles in dicts", "python_loop", ("each_event_hops",)),)
_ = EVENTS_OF_SLOW
