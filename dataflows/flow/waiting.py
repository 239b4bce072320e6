"""Tells what the flow stands still for while nothing else in it moves."""

from __future__ import annotations

from collections.abc import Callable

from contracts.settings import DataflowSettings
from dataflows.flow.run_context import RunContext

# What takes less is not worth telling: brokers answer readers several times a second, and a
# transaction of most producers is a matter of milliseconds.
UNTOLD_SECONDS = 2.0


def teller(context: RunContext, who: str) -> Callable[[str], None]:
    """What ``who`` says what it waits for with, and that it is over by saying nothing.

    Every worker's progress is written at once: whoever waits may hold up whatever else would.
    """

    def tell(what: str) -> None:
        if context.waiting.get(who, "") == what:
            return
        if what:
            context.waiting[who] = what
        else:
            context.waiting.pop(who, None)
        for write in list(context.on_epoch):
            write()

    return tell


def kafka_to_answer(settings: DataflowSettings) -> str:
    """The brokers, as what is waited for; the same words for all who do."""
    return f"Kafka at {settings.log.servers} to answer"
