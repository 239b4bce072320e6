"""Where records of the prediction log are made: small ones at once, large ones by the thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.prediction_record import PredictionRecord
from scorer import prediction_log
from scorer.metrics import ScorerMetrics
from scorer.prediction_log import PredictionLog, records_of
from scorer.prediction_size import size_max
from scorer.scored import ScoredRequest
from scorer.vector import Missing, MissingReason, Vectors
from tests.scorer.shop import manifest_for


class Log:
    """A log in memory."""

    def __init__(self) -> None:
        self.records: list[tuple[str, bytes]] = []

    def append(self, records: Iterable[tuple[str, bytes]]) -> int:
        """Keep them."""
        records = list(records)
        self.records += records
        return len(records)

    def close(self) -> None:
        """Nothing to do."""


def scored(request_id: str, rows: int, scores: int) -> ScoredRequest:
    """A request of so many rows; it can be no record if there are not as many scores."""
    vectors = Vectors(np.ones((rows, 2)), [()] * rows, [None] * rows, [None] * rows)
    manifest = manifest_for("1", b"")
    return ScoredRequest(request_id, manifest, [{}] * rows, [0.5] * scores, vectors, 1, 1, 0.1)


@pytest.mark.parametrize("rows", [2, 1_000])
def test_a_request_that_is_no_record_is_counted_and_the_rest_written(rows: int) -> None:
    """One bad request is dropped as an error; those before and after it arrive in order."""
    log, metrics = Log(), ScorerMetrics()
    predictions = PredictionLog(lambda: log, 1_000, metrics)
    predictions.put(scored("before", 1, 1))
    predictions.put(scored("bad", rows, rows - 1))
    predictions.put(scored("after", 1_000, 1_000))
    predictions.put(scored("last", 1, 1))
    predictions.start()
    asyncio.run(predictions.stop(10.0))
    assert list(dict.fromkeys(key for key, _ in log.records)) == ["before", "after", "last"]
    dropped = "headwater_scorer_predictions_dropped_total"
    assert metrics.registry.get_sample_value(dropped, {"reason": "error"}) == 1
    assert metrics.registry.get_sample_value("headwater_scorer_predictions_written_total") == 3


def test_bytes_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long texts must not take all memory while the log cannot be written; later there is room."""
    monkeypatch.setattr(prediction_log, "BYTES_MAX", 100_000)
    log, metrics = Log(), ScorerMetrics()
    predictions = PredictionLog(lambda: log, 1_000, metrics)
    texts = [letter * 60_000 for letter in "abc"]
    for text in texts[:2]:
        predictions.put(scored(text, 1, 1))
    dropped = "headwater_scorer_predictions_dropped_total"
    assert metrics.registry.get_sample_value(dropped, {"reason": "full"}) == 1
    predictions.put(scored("small", 1, 1))
    predictions.start()
    deadline = time.monotonic() + 10.0
    waiting = "headwater_scorer_predictions_waiting"
    while metrics.registry.get_sample_value(waiting) != 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    predictions.put(scored(texts[2], 1, 1))
    asyncio.run(predictions.stop(10.0))
    assert [key for key, _ in log.records] == [texts[0], "small", texts[2]]


TEXTS, INT64 = st.text(max_size=30), st.integers(-(2**63), 2**63 - 1)


@given(
    rows=st.integers(1, 40),
    inputs=st.dictionaries(
        st.text(max_size=5), st.integers() | st.floats() | st.text(), max_size=4
    ),
    # Some letters take six bytes in JSON.
    request_id=st.builds(
        lambda one, times: one * times, TEXTS | st.just("\1"), st.integers(1, 500)
    ),
    key=TEXTS,
    missing=st.lists(st.sampled_from([(), (Missing(1, MissingReason.NO_ROW),)]), min_size=40),
    limit=st.integers(10, 20_000),
)
def test_a_size_is_known_before_the_records(
    rows: int,
    inputs: dict[str, float | int | str],
    request_id: str,
    key: str,
    missing: list[tuple[Missing, ...]],
    limit: int,
) -> None:
    """No request's records, however they are cut, take more than was said before they were made."""
    request = scored(request_id, rows, rows)
    request.vectors.missing[:] = missing[:rows]
    request = request._replace(inputs=[inputs] * rows, keys=[key, *[""] * (rows - 1)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prediction_log, "RECORD_BYTES_MAX", limit)
        assert size_max(request, limit) >= sum(len(data) for _, data in records_of(request))


def test_bytes_of_large_requests_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long texts of a request whose records the thread makes count before they are made."""
    monkeypatch.setattr(prediction_log, "BYTES_MAX", 2_000_000)
    log, metrics = Log(), ScorerMetrics()
    predictions = PredictionLog(lambda: log, 1_000, metrics)
    for name in "ab":
        request = scored(name, 200, 200)
        predictions.put(request._replace(inputs=[{"shop": "x" * 1_000}] * 200))
    dropped = "headwater_scorer_predictions_dropped_total"
    assert metrics.registry.get_sample_value(dropped, {"reason": "full"}) == 1
    predictions.start()
    asyncio.run(predictions.stop(10.0))
    assert {key for key, _ in log.records} == {"a"}


def test_a_long_id_for_many_rows_is_dropped() -> None:
    """An id that would stand in thousands of records, and name their rows, is not written."""
    metrics = ScorerMetrics()
    predictions = PredictionLog(Log, 1_000, metrics)
    assert predictions.takes("x" * 1_000_000, 16)
    assert not predictions.takes("x" * 1_000_000, 17)
    dropped = "headwater_scorer_predictions_dropped_total"
    assert metrics.registry.get_sample_value(dropped, {"reason": "too_large"}) == 1


def test_requests_without_an_id_get_different_ones() -> None:
    """Records of requests that brought no id can be told apart."""
    log = Log()
    predictions = PredictionLog(lambda: log, 100, ScorerMetrics())
    for _ in range(50):
        predictions.put(scored("", 1, 1))
    predictions.start()
    asyncio.run(predictions.stop(10.0))
    keys = {key for key, _ in log.records}
    assert len(keys) == 50
    assert all(len(key) == 32 for key in keys)


def test_no_row_seems_to_be_alone_that_was_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut into records of one row, a request's rows have no key by which a label finds them."""
    whole = records_of(scored("r", 2, 2))
    monkeypatch.setattr(prediction_log, "RECORD_BYTES_MAX", 10)
    cut = records_of(scored("r", 2, 2))
    keys = [
        [row.key for row in msgspec.json.decode(data, type=PredictionRecord).rows]
        for _, data in (*whole, *cut)
    ]
    assert keys == [["", ""], ["r#0"], ["r#1"]]


def test_records_of_several_requests_are_made_at_one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are made later, together and in order: at once where there are many, and at the end.

    Until then their requests wait as others do, and count as such.
    """
    made: list[str] = []

    def watched(request: ScoredRequest) -> list[tuple[str, bytes]]:
        made.append(request.request_id)
        return records_of(request)

    monkeypatch.setattr(prediction_log, "records_of", watched)
    later: list[tuple[float, Callable[[], None]]] = []
    log, metrics = Log(), ScorerMetrics()
    predictions = PredictionLog(lambda: log, 10, metrics)
    predictions.start(lambda seconds, work: later.append((seconds, work)))
    for request_id in ("a", "b"):
        predictions.put(scored(request_id, 1, 1))
    waiting = "headwater_scorer_predictions_waiting"
    assert metrics.registry.get_sample_value(waiting) == 2
    assert not made
    ((seconds, in_time),) = later
    assert seconds > 0
    predictions.put(scored("c", 100, 100))
    (soon,) = [work for seconds, work in later if not seconds]
    soon()
    assert made == ["a", "b", "c"]
    predictions.put(scored("d", 1, 1))
    in_time()
    assert made == ["a", "b", "c", "d"]
    predictions.put(scored("e", 1, 1))
    assert len(later) == 3
    asyncio.run(predictions.stop(10.0))
    assert [key for key, _ in log.records] == ["a", "b", "c", "d", "e"]


def test_what_is_to_be_made_counts_as_waiting() -> None:
    """Requests whose records are not made yet take room: beyond it they are dropped at once."""
    log, metrics = Log(), ScorerMetrics()
    predictions = PredictionLog(lambda: log, 3, metrics)
    predictions.start(lambda seconds, work: None)
    for number in range(5):
        predictions.put(scored(f"{number}", 1, 1))
    dropped = "headwater_scorer_predictions_dropped_total"
    assert metrics.registry.get_sample_value(dropped, {"reason": "full"}) == 2
    asyncio.run(predictions.stop(10.0))
    assert [key for key, _ in log.records] == ["0", "1", "2"]
