"""The watermark over all partitions, told one by one or many at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dataflows.watermark import NOT_YET, PartitionClock, WatermarkTable

PARTITIONS = 3
TIMES = st.one_of(st.just(NOT_YET), st.integers(0, 9))
CLOCKS = st.builds(PartitionClock, st.integers(0, PARTITIONS - 1), TIMES, TIMES, st.booleans())


def _watermark_us(newest: dict[int, PartitionClock]) -> int:
    busy = [clock.watermark_us for clock in newest.values() if not clock.is_idle]
    return min(busy) if busy else max(clock.newest_us for clock in newest.values())


@given(st.lists(st.lists(CLOCKS, max_size=6), max_size=4))
def test_many_clocks_at_once_are_as_many_one_by_one(batches: list[list[PartitionClock]]) -> None:
    """The watermark is the highest that the slowest busy partition ever stood at."""
    table = WatermarkTable(PARTITIONS)
    newest = {n: PartitionClock(n, NOT_YET, NOT_YET, False) for n in range(PARTITIONS)}
    watermark_us = NOT_YET
    for clocks in batches:
        for clock in clocks:
            newest[clock.partition] = clock
            watermark_us = max(watermark_us, _watermark_us(newest))
        table.update_all(clocks)
        assert table.watermark_us == watermark_us
