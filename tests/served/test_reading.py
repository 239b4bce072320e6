"""Up to when labels are known, from partitions that are not equally far."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.file_log import ensure_topic
from dataflows.served.reading import Ahead, EvaluatorLog
from tests.served.world import BEGIN_US, BINARY, SECOND_US, World, label, plan_of

FAR = Ahead(10**15, 10**15)


@pytest.mark.parametrize(("idle_seconds", "known_us"), [(3_600.0, 10), (0.0, 100)])
def test_a_partition_that_lags_is_waited_for(
    tmp_path: Path, idle_seconds: float, known_us: int
) -> None:
    """At its end and not yet silent for long, it holds labels of later moments back."""
    world = World(tmp_path)
    settings = world.settings(idle_timeout_seconds=idle_seconds)
    folder = settings.log.folder
    assert folder is not None
    for topic in ("outcomes", "predictions"):
        ensure_topic(folder, topic)
    for partition, second in ((0, 100), (1, 10)):
        line = label(f"o{second}", 1.0, BEGIN_US + second * SECOND_US)
        (folder / "outcomes" / f"{partition}.ndjson").write_bytes(line + b"\n")
    reading = EvaluatorLog(settings, plan_of(BINARY), {}, FAR, lambda _: False, until_end=False)
    try:
        for _ in range(3):
            reading.read(100_000)
        assert reading.clock_us("outcomes") == BEGIN_US + known_us * SECOND_US
    finally:
        reading.close()
