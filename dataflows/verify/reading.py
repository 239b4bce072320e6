"""How logs are read here: to where they ended at the beginning, with a bound to every wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from contracts.log import Chunk, LogError
from contracts.settings import DataflowSettings
from dataflows.sources.plan_log import PlanLog
from dataflows.sources.schema_registry import SchemaRegistry
from dataflows.watermark import NOT_YET

_PAUSE_SECONDS = 0.002


@dataclass(frozen=True)
class Progress:
    """How far a log was read: offsets that are done, of how many, records, and event time."""

    done: int
    total: int
    events: int
    watermark_us: int


Tell = Callable[[Progress], None]


def registry_of(settings: DataflowSettings) -> SchemaRegistry | None:
    """The schema registry that the settings name; None for none."""
    if not settings.schema_registry_url:
        return None

    def wait(seconds: float) -> bool:
        time.sleep(seconds)
        return False

    return SchemaRegistry(
        settings.schema_registry_url,
        patience_seconds=settings.outage_seconds,
        wait=wait,
        tell=lambda _: None,
    )


def chunks(log: PlanLog, settings: DataflowSettings, tell: Tell) -> Iterator[Chunk]:
    """All records of a log, partition by partition, as far as it reached at the beginning.

    Raises:
        LogError: it cannot be read.
    """
    ends = log.ends()
    readers = [(log.open(place, None), ends[place.number]) for place in log.partitions]
    begins = [reader.offset for reader, _ in readers]
    total = sum(end - begin for (_, end), begin in zip(readers, begins, strict=True))
    records = 0
    for reader, until in readers:
        waits_since: float | None = None
        while True:
            chunk = reader.read(settings.batch_bytes, until)
            if chunk is None:
                if reader.is_at_end(until):
                    break
                waits_since = wait_on(waits_since, settings)
                continue
            waits_since = None
            records += len(chunk.starts)
            yield chunk
            done = sum(one.offset - begin for (one, _), begin in zip(readers, begins, strict=True))
            tell(Progress(done, total, records, NOT_YET))
        reader.close()


def wait_on(since: float | None, settings: DataflowSettings) -> float:
    """Wait a moment for a log that gives nothing; since when it gives nothing.

    Raises:
        LogError: that was too long.
    """
    now = time.monotonic()
    since = now if since is None else since
    if now - since > settings.outage_seconds:
        raise LogError(
            f"the log {settings.log_url} gave nothing for {now - since:.0f} s "
            "(HEADWATER_OUTAGE_SECONDS); try again when it answers"
        )
    time.sleep(_PAUSE_SECONDS)
    return since
