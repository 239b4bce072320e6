"""When rows reach the online store, and what happens while it is gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from contracts.plan import View
from contracts.settings import DataflowSettings
from dataflows.batches import ShardOutput, ViewRows
from dataflows.definitions.repository import Repository
from dataflows.flow import delivery
from dataflows.flow.online_sink import OnlinePartition
from dataflows.flow.progress import read_progress
from dataflows.flow.run_context import RunContext
from dataflows.stores.online_writer import OnlineStoreGoneError
from dataflows.windows.view_state import Rows
from tests.flow import shop

# A shard's own lists: rows replace each other as long as these stay the same.
KEYS = [b"a", b"b", b"c"]
TEXTS: list[str] = []


class Store:
    """A store in memory, which can be gone for some commits."""

    def __init__(self) -> None:
        self.staged: dict[bytes, float] = {}
        self.rows: dict[bytes, float] = {}
        self.commits = 0
        self.gone_for = 0

    def ensure_table(self, view: View) -> None:
        """Nothing to make."""

    def write(
        self,
        view: View,
        keys: Sequence[bytes],
        stamps_us: npt.NDArray[np.int64],
        values: npt.NDArray[np.float64],
        texts: Sequence[str] = (),
    ) -> int:
        """Stage the first feature."""
        self.staged |= dict(zip(keys, values[:, 0].tolist(), strict=True))
        return len(keys)

    def commit(self) -> None:
        """Everything staged, unless the store is gone."""
        if self.gone_for:
            self.gone_for -= 1
            raise OnlineStoreGoneError("the store does not answer")
        self.commits += 1
        self.rows |= self.staged
        self.staged = {}

    def close(self) -> None:
        """Nothing to close."""


class LiveStore(Store):
    """A store that can be sent to before anybody waits for it, as Redis can."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[str, dict[bytes, float]]] = []

    def send(self) -> None:
        """Note who has sent what."""
        self.sent.append((threading.current_thread().name, dict(self.staged)))


@pytest.fixture
def context(repository: Repository, tmp_path: Path) -> RunContext:
    """A run whose clock moves on by a second whenever somebody looks at it."""
    settings: DataflowSettings = shop.settings(
        repository.directory, tmp_path / "log", tmp_path, outage_seconds=20.0
    )
    seconds = iter(range(10**9))
    return RunContext(
        settings, shop.places(tmp_path), None, threading.Event(), monotonic=lambda: next(seconds)
    )


def _partition(repository: Repository, context: RunContext, store: Store) -> OnlinePartition:
    return OnlinePartition(repository.plan, store, context, 0)


def _output(slots: list[int], first: float) -> ShardOutput:
    values = np.arange(first, first + len(slots))[:, None]
    stamps_us = np.arange(len(slots))
    rows = ViewRows(KEYS, Rows(np.array(slots, np.int64), stamps_us, values), TEXTS)
    return ShardOutput(0, 7, {"shop_orders": rows}, {}, {})


def _wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20.0
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_written_at_once_when_nothing_is_to_be_read(
    repository: Repository, context: RunContext
) -> None:
    """With no partition behind, rows come into the store without waiting for the epoch's end."""
    store = Store()
    partition = _partition(repository, context, store)
    partition.write_batch([_output([0, 1, 0], 1.0), _output([2], 9.0)])
    _wait_for(lambda: store.rows == {b"a": 3.0, b"b": 2.0, b"c": 9.0})
    assert store.commits == 1
    partition.close()


def test_gathered_while_catching_up(repository: Repository, context: RunContext) -> None:
    """Rows wait while there is more to read; at the end of the epoch all are in the store."""
    store = Store()
    partition = _partition(repository, context, store)
    context.backlog.add(3)
    for number in range(5):
        partition.write_batch([_output([0, 1], 10.0 * number)])
    assert store.rows == {}
    _wait_for(lambda: bool(read_progress(context.places.state)))
    (said,) = read_progress(context.places.state)
    assert said.online_watermark_us < 7  # the store does not have it yet
    partition.snapshot()
    assert store.rows == {b"a": 40.0, b"b": 41.0}
    assert store.commits == 1
    assert context.tally.online_rows == 2
    _wait_for(lambda: read_progress(context.places.state)[0].online_watermark_us == 7)
    partition.close()


def test_a_full_outbox_is_written(
    repository: Repository, context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the epoch, what waits is bounded."""
    monkeypatch.setattr(delivery, "ROWS_MAX", 4)
    store = Store()
    partition = _partition(repository, context, store)
    context.backlog.add(3)
    partition.write_batch([_output([0, 1, 2], 0.0)])
    assert store.commits == 0
    partition.write_batch([_output([0, 1, 2], 5.0)])
    _wait_for(lambda: store.rows == {b"a": 5.0, b"b": 6.0, b"c": 7.0})
    assert store.commits == 1
    partition.close()


def test_no_more_is_taken_in_than_there_is_room_for(
    repository: Repository, context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the store takes its time, a full outbox holds up the flow until it is emptied."""
    monkeypatch.setattr(delivery, "ROWS_MAX", 2)
    store = Store()
    taking, go_on = threading.Event(), threading.Event()
    commit = store.commit

    def slowly() -> None:
        taking.set()
        assert go_on.wait(20.0)
        commit()

    store.commit = slowly  # type: ignore[method-assign]
    partition = _partition(repository, context, store)
    partition.write_batch([_output([0, 1], 0.0)])
    assert taking.wait(20.0)
    flow = threading.Thread(target=partition.write_batch, args=([_output([0, 1, 2], 5.0)],))
    flow.start()
    assert flow.is_alive()
    go_on.set()
    flow.join(20.0)
    assert not flow.is_alive()
    partition.snapshot()
    assert store.rows == {b"a": 5.0, b"b": 6.0, b"c": 7.0}
    partition.close()


def test_live_rows_are_sent_by_the_flow_itself(
    repository: Repository, context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for another thread: it waits for the store's answers, and takes what is much."""
    monkeypatch.setattr(delivery, "_LIVE_ROWS_MAX", 2)
    store = LiveStore()
    flow = threading.current_thread().name
    partition = _partition(repository, context, store)
    partition.write_batch([_output([0, 1], 1.0)])
    assert store.sent == [(flow, {b"a": 1.0, b"b": 2.0})]
    partition.snapshot()
    assert store.rows == {b"a": 1.0, b"b": 2.0}
    partition.write_batch([_output([0, 1, 2], 5.0)])
    partition.snapshot()
    assert store.rows == {b"a": 5.0, b"b": 6.0, b"c": 7.0}
    assert len(store.sent) == 1
    assert context.tally.online_rows == 5
    partition.close()


def test_what_comes_while_the_store_is_at_work_waits(
    repository: Repository, context: RunContext
) -> None:
    """While answers are waited for nothing else is sent; then all goes that has come meanwhile."""
    store = LiveStore()
    go_on = threading.Event()
    commit = store.commit

    def slowly() -> None:
        assert go_on.wait(20.0)
        commit()

    store.commit = slowly  # type: ignore[method-assign]
    partition = _partition(repository, context, store)
    for first in (1.0, 5.0, 8.0):
        partition.write_batch([_output([0, 1], first)])
    assert [rows for _, rows in store.sent] == [{b"a": 1.0, b"b": 2.0}]
    assert store.staged == {b"a": 1.0, b"b": 2.0}
    go_on.set()
    partition.snapshot()
    assert store.rows == {b"a": 8.0, b"b": 9.0}
    assert store.commits == 2
    partition.close()


def test_rows_that_cannot_be_sent_end_the_flow(repository: Repository, context: RunContext) -> None:
    """An error is raised where it happens, and by what is called next: nothing waits for ever."""
    store = LiveStore()

    def refuse() -> None:
        raise ValueError("a value does not fit")

    store.send = refuse  # type: ignore[method-assign]
    partition = _partition(repository, context, store)
    for call in (lambda: partition.write_batch([_output([0], 1.0)]), partition.snapshot):
        with pytest.raises(ValueError, match="does not fit"):
            call()
    assert store.commits == 0
    partition.close()


@pytest.mark.parametrize("kind", [Store, LiveStore])
def test_a_store_that_comes_back(
    repository: Repository, context: RunContext, kind: type[Store]
) -> None:
    """While the store is gone the flow waits and says for what; nothing is lost."""
    store = kind()
    store.gone_for = 3
    partition = _partition(repository, context, store)
    said: list[str] = []
    wait = context.stop.wait

    def look(timeout: float | None = None) -> bool:
        (progress,) = read_progress(context.places.state)
        said.append(progress.waiting_for)
        return wait(0)

    context.stop.wait = look  # type: ignore[method-assign]
    partition.write_batch([_output([0], 1.0)])
    partition.snapshot()
    assert said == ["the store does not answer"] * 3
    assert store.rows == {b"a": 1.0}
    (progress,) = read_progress(context.places.state)
    assert progress.waiting_for == ""


def test_a_store_that_stays_away(repository: Repository, context: RunContext) -> None:
    """After the time of the setting, or when the flow is told to stop, the error ends it."""
    store = Store()
    store.gone_for = 10**6
    partition = _partition(repository, context, store)
    partition.write_batch([_output([0], 1.0)])
    with pytest.raises(OnlineStoreGoneError):
        partition.snapshot()
    assert 10**6 - 100 < store.gone_for < 10**6 - 2
    with pytest.raises(OnlineStoreGoneError):
        partition.write_batch([_output([0], 1.0)])
    partition.close()


def test_told_to_stop_while_the_store_is_gone(repository: Repository, context: RunContext) -> None:
    """Somebody who wants the flow to end does not have to wait for the store."""
    store = Store()
    store.gone_for = 10**6
    context.stop.set()
    partition = _partition(repository, context, store)
    partition.write_batch([_output([0], 1.0)])
    with pytest.raises(OnlineStoreGoneError):
        partition.snapshot()
    assert store.gone_for == 10**6 - 1
    partition.close()


def test_what_one_worker_waits_for_is_not_cleared_by_another(
    repository: Repository, context: RunContext
) -> None:
    """As long as one worker waits all of them say so, also one that has just written."""
    stores = [Store(), Store()]
    stores[0].gone_for = 2
    partitions = [
        OnlinePartition(repository.plan, store, context, number)
        for number, store in enumerate(stores)
    ]
    said: list[list[str]] = []
    wait = context.stop.wait

    def write_elsewhere(timeout: float | None = None) -> bool:
        partitions[1].write_batch([_output([0], 1.0)])
        partitions[1].snapshot()
        _wait_for(lambda: len(read_progress(context.places.state)) == 2)
        said.append([worker.waiting_for for worker in read_progress(context.places.state)])
        return wait(0)

    context.stop.wait = write_elsewhere  # type: ignore[method-assign]
    partitions[0].write_batch([_output([0], 1.0)])
    partitions[0].snapshot()
    assert said == [["the store does not answer"] * 2] * 2
    assert context.waiting_for == ""


def test_all_that_is_waited_for_is_shown_once(context: RunContext) -> None:
    """Several may wait, some of them for the same."""
    context.waiting |= {"online store 0": "Redis", "online store 1": "Redis", "log": "Kafka"}
    assert context.waiting_for == "Redis; Kafka"


def test_progress_that_cannot_be_written_ends_the_flow(
    repository: Repository, context: RunContext
) -> None:
    """A full disk is told by one of the next calls, whichever thread has met it."""
    partition = _partition(repository, context, Store())
    folder = context.places.state / "progress"
    partition.write_batch([_output([0], 1.0)])
    _wait_for(lambda: bool(read_progress(context.places.state)))
    folder.rename(folder.with_name("gone"))
    with pytest.raises(FileNotFoundError):
        _wait_for(lambda: partition.snapshot() != 0)
    partition.close()
    assert [type(error) for error in context.failures] == [FileNotFoundError]
