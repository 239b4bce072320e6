"""A stretch of event time takes rows out of batches, and nothing else."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dataflows.batches import SourceBatch
from dataflows.sources.span import Span
from dataflows.watermark import PartitionClock

times = st.lists(st.integers(0, 20), max_size=12)


@given(event_us=times, from_us=st.integers(0, 20), length_us=st.integers(0, 20))
def test_rows_inside_stay(event_us: list[int], from_us: int, length_us: int) -> None:
    """They keep their order, effective times and columns of all kinds; the clock goes on."""
    to_us = from_us + length_us
    count = len(event_us)
    clock = PartitionClock(0, 17, 21, is_idle=False)
    batch = SourceBatch(
        "topic",
        clock,
        ranks=np.arange(count),
        event_us=np.array(event_us, np.int64),
        effective_us=np.array(event_us, np.int64) + 100,
        columns={"text": [f"t{i}" for i in range(count)], "number": np.arange(count) * 1.0},
        derived={"view": {"made": list(range(count))}},
    )
    found = Span(from_us, to_us).of(batch)
    kept = [i for i, at in enumerate(event_us) if from_us <= at < to_us]
    assert found.ranks.tolist() == kept
    assert found.event_us.tolist() == [event_us[i] for i in kept]
    assert found.effective_us.tolist() == [event_us[i] + 100 for i in kept]
    assert list(found.columns["text"]) == [f"t{i}" for i in kept]
    assert found.columns["number"].tolist() == [float(i) for i in kept]
    assert list(found.derived["view"]["made"]) == kept
    assert found.clock == clock
