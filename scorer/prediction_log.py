"""The prediction log: what was scored, written by a thread so that no request ever waits for it."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec
import structlog

from contracts.file_log import FileLogWriter
from contracts.log import LogError, LogWriter, RecordTooLargeError
from contracts.prediction_record import PredictionRecord
from contracts.prediction_record import ScoredRow as RecordRow
from contracts.scorer_settings import ScorerSettings
from scorer.metrics import ScorerMetrics
from scorer.prediction_size import IDS_MAX, size_max
from scorer.scored import ScoredRequest, labels_of

# A broker takes a mebibyte by default, headers and all.
RECORD_BYTES_MAX = 1_000_000
# Requests of many rows take more room; a buffer full of them must not take all memory.
ROWS_PER_REQUEST = 16
# The same of requests with long texts: what their records take, or will take at most.
BYTES_MAX = 256 * 1024 * 1024
_REQUESTS_PER_WRITE = 500
# Writing what has gathered now and then costs requests less than waking a thread for each.
_PAUSE_SECONDS = 0.25
# A record of few rows is made in the loop, in some microseconds a row. Made by the thread it would
# cost more: while that holds the interpreter, requests wait for it, 5 ms at a time.
_ROWS_IN_LOOP = 128
# Records one after another take a third of the time that each takes between two answers, when the
# processor has to fetch everything that it needs for them again.
_GATHER_SECONDS = 0.02
_GATHER_ROWS = 64
_BACKOFF_SECONDS = (0.2, 5.0)
# A log that has just failed gets no more of the time for stopping than this.
_LAST_TRY_SECONDS = 0.5
_CLIENT_ID = "headwater-predictions"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_log = structlog.get_logger()
_encode = msgspec.json.Encoder().encode

_NAMES_MAX = 256
_names: dict[int, tuple[tuple[str, ...], msgspec.Raw]] = {}

Records = list[tuple[str, bytes]]
# ``call_later`` of the loop.
Later = Callable[[float, Callable[[], None]], object]


@dataclass(slots=True)
class _Batch:
    """What the thread has taken and not written yet: requests, with rows, bytes and records."""

    requests: int = 0
    rows: int = 0
    size: int = 0
    records: Records = field(default_factory=list)


class PredictionLog:
    """A bounded buffer and the thread that empties it into a log.

    While the log cannot be written, the buffer fills; then requests are dropped, and counted.
    """

    def __init__(
        self,
        open_writer: Callable[[], LogWriter],
        requests_max: int,
        metrics: ScorerMetrics,
    ) -> None:
        """``open_writer`` is called in the thread, as often as need be; it may raise LogError."""
        self._open_writer = open_writer
        self._requests_max = requests_max
        self._rows_max = requests_max * ROWS_PER_REQUEST
        self._metrics = metrics
        self._later: Later | None = None
        # Requests whose records are not made yet, and whether that is due: soon, or in a while.
        self._answered: list[ScoredRequest] = []
        self._answered_rows = 0
        self._is_due_soon = self._is_due = False
        # (rows, bytes, records), or the request itself where the thread makes the records.
        self._buffer: deque[tuple[int, int, Records | ScoredRequest]] = deque()
        # Each of these has one thread that changes it, so that nobody needs a lock.
        self._rows_put = self._rows_done = 0
        self._bytes_put = self._bytes_done = 0
        self._batch = _Batch()
        self._writer: LogWriter | None = None
        self._failures = 0
        self._given_up = False
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        metrics.predictions_waiting.set_function(self._waiting)

    @property
    def has_room(self) -> bool:
        """Whether there is room for what nobody waits for: half of it is for answers alone."""
        return self._waiting() <= self._requests_max // 2

    def start(self, later: Later | None = None) -> None:
        """Start the thread. ``later`` allows to make records of several requests at one time."""
        self._later = later
        self._thread.start()

    def takes(self, request_id: str, rows: int) -> bool:
        """Whether so many rows may go by that id; counts a request as dropped if not."""
        if len(request_id) * rows <= IDS_MAX:
            return True
        self._metrics.predictions_dropped.labels("too_large").inc()
        return False

    def put(self, request: ScoredRequest) -> None:
        """Leave a request to be written; from one thread only. Never waits, drops instead."""
        waiting = self._waiting()
        count = len(request.scores)
        rows = self._rows_put - self._rows_done + count
        if waiting >= self._requests_max or (waiting and rows > self._rows_max):
            self._metrics.predictions_dropped.labels("full").inc()
            return
        self._rows_put += count
        self._answered.append(request)
        self._answered_rows += count
        if self._later is None:
            self._add_answered()
        elif self._answered_rows >= _GATHER_ROWS and not self._is_due_soon:
            self._is_due_soon = True
            self._later(0.0, self._add_answered)
        elif not self._is_due:
            self._is_due = True
            self._later(_GATHER_SECONDS, self._add_in_time)

    def _add_in_time(self) -> None:
        self._is_due = False
        self._add_answered()

    def _add_answered(self) -> None:
        """Put the records of what was answered into the buffer."""
        answered, self._answered = self._answered, []
        self._answered_rows, self._is_due_soon = 0, False
        for request in answered:
            if not self._add(request):
                self._rows_put -= len(request.scores)

    def _add(self, request: ScoredRequest) -> bool:
        """Put one request into the buffer; False if it was dropped."""
        waiting, count = len(self._buffer) + self._batch.requests, len(request.scores)
        entry: Records | ScoredRequest = request
        if count <= _ROWS_IN_LOOP:
            try:
                entry = records_of(request)
            except Exception as error:  # noqa: BLE001 - the request is answered all the same
                self._dropped("error", error)
                return False
        size = size_max(entry, RECORD_BYTES_MAX)
        if waiting and self._bytes_put - self._bytes_done + size > BYTES_MAX:
            self._metrics.predictions_dropped.labels("full").inc()
            return False
        self._buffer.append((count, size, entry))
        self._bytes_put += size
        if waiting == self._requests_max // 2:
            self._wake.set()
        return True

    async def stop(self, timeout_seconds: float) -> None:
        """Write what is left, no longer than that, and count what could not be written."""
        self._add_answered()
        self._later = None
        self._stopping.set()
        self._wake.set()
        seconds = min(timeout_seconds, _LAST_TRY_SECONDS) if self._failures else timeout_seconds
        await asyncio.to_thread(self._thread.join, seconds)
        abort = getattr(self._writer, "abort", None)
        if self._thread.is_alive() and abort is not None:
            abort()
            await asyncio.to_thread(self._thread.join, _LAST_TRY_SECONDS)
        self._given_up = True
        if left := self._waiting():
            self._metrics.predictions_dropped.labels("stopped").inc(left)
            _log.warning("predictions_lost", requests=left)

    def _waiting(self) -> int:
        return len(self._answered) + len(self._buffer) + self._batch.requests

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._empty_buffer()
            if self._failures:
                first, longest = _BACKOFF_SECONDS
                self._stopping.wait(min(longest, first * 2 ** min(self._failures - 1, 16)))
            else:
                self._wake.wait(_PAUSE_SECONDS)
                self._wake.clear()
        self._empty_buffer()
        self._close()

    def _empty_buffer(self) -> None:
        """Write until nothing is left or the log fails; what could not be written stays first."""
        try:
            self._open()
            while (self._batch.rows or self._buffer) and not self._given_up:
                if not self._batch.rows:
                    self._take()
                self._append()
        except Exception as error:  # noqa: BLE001 - the scorer serves on without this log
            self._failures += 1
            if self._failures == 1:
                _log.warning("prediction_log_failed", error=str(error) or repr(error))
            self._close()
            return
        if self._failures:
            _log.info("prediction_log_back", failures=self._failures)
        self._failures = 0

    def _open(self) -> LogWriter:
        if self._writer is None:
            self._writer = self._open_writer()
        return self._writer

    def _take(self) -> None:
        """Turn some of the buffer into records. They stay the same however often they are tried."""
        batch = self._batch
        for _ in range(min(len(self._buffer), _REQUESTS_PER_WRITE)):
            rows, size, entry = self._buffer.popleft()
            batch.requests += 1
            batch.rows += rows
            batch.size += size
            try:
                batch.records += records_of(entry) if isinstance(entry, ScoredRequest) else entry
            except Exception as error:  # noqa: BLE001 - one bad request must not stop the rest
                self._drop_from_batch("error", error)

    def _append(self) -> None:
        """Append the batch, or drop its largest record where the log does not take it."""
        batch = self._batch
        try:
            if batch.records:
                self._open().append(batch.records)
        except RecordTooLargeError as error:
            self._close()
            batch.records.remove(max(batch.records, key=lambda record: len(record[1])))
            self._drop_from_batch("too_large", error)
            return
        self._metrics.predictions_written.inc(batch.requests)
        self._rows_done += batch.rows
        self._bytes_done += batch.size
        self._batch = _Batch()

    def _drop_from_batch(self, reason: str, error: Exception) -> None:
        self._batch.requests = max(0, self._batch.requests - 1)
        self._dropped(reason, error)

    def _dropped(self, reason: str, error: Exception) -> None:
        self._metrics.predictions_dropped.labels(reason).inc()
        _log.warning("prediction_dropped", reason=reason, error=str(error))

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(LogError, OSError):
                writer.close()


def open_prediction_log(settings: ScorerSettings, metrics: ScorerMetrics) -> PredictionLog | None:
    """The log that the settings ask for, not started yet; None if they ask for none.

    It need not be there: a log that cannot be written is tried again and again.

    Raises:
        SettingsError: the settings of Kafka cannot be used.
    """
    topic, folder = settings.prediction_topic, settings.log.folder
    if not topic:
        return None
    if folder is None and settings.kafka_security_protocol != "PLAINTEXT":
        from contracts.kafka_client import connection_options

        connection_options(settings, _CLIENT_ID)

    def open_writer() -> LogWriter:
        if folder is not None:
            return FileLogWriter(folder, topic)
        # It takes a third of a second to import, which is the thread's to wait.
        from contracts.kafka_producer import KafkaLogWriter

        return KafkaLogWriter(settings, topic, _CLIENT_ID)

    return PredictionLog(open_writer, settings.prediction_buffer_max, metrics)


def records_of(request: ScoredRequest) -> Records:
    """(key, record) of a request: one, or several where its rows do not fit into one.

    A row that alone is too large comes back as it is; the log has to refuse it.
    """
    manifest, names = request.manifest, request.manifest.schema.names
    seconds, micros = divmod(request.came_us, 1_000_000)
    record = PredictionRecord(
        request_id=request.request_id or new_request_id(),
        event_timestamp=f"{_second(seconds)}.{micros:06}Z",
        model=manifest.model,
        version=manifest.version,
        fingerprint=manifest.fingerprint,
        features=_encoded_names(names),  # type: ignore[arg-type]
        at_us=request.at_us,
        latency_ms=request.latency_seconds * 1000,
        rows=_rows(request),
        channel=request.channel,
        answered=request.answered,
        classes=list(manifest.classes) if manifest.classes else [],
    )
    return [(record.request_id, data) for data in _in_pieces(record)]


def new_request_id() -> str:
    """An id for a request that came without one."""
    # Nobody has to be kept from guessing it, and the system's own numbers take longer.
    return f"{random.getrandbits(128):032x}"


def _encoded_names(names: tuple[str, ...]) -> msgspec.Raw:
    """A schema's names as JSON: each of its records has them."""
    # By identity, for to compare two dozen texts takes as long as to write them.
    known = _names.get(id(names))
    if known is None or known[0] is not names:
        if len(_names) >= _NAMES_MAX:
            _names.clear()
        known = _names[id(names)] = (names, msgspec.Raw(_encode(names)))
    return known[1]


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat(timespec="seconds")[:-6]


def _rows(request: ScoredRequest) -> list[RecordRow]:
    names, vectors = request.manifest.schema.names, request.vectors
    nothing = [""] * len(request.scores)
    rows = [
        # In the order of the fields: names would take as long as all the rest.
        RecordRow(
            given,
            vector,
            [names[place.position] for place in places] if places else [],
            oldest_us,
            newest_us,
            score,
            key,
            channel,
        )
        for given, vector, places, oldest_us, newest_us, score, key, channel in zip(
            request.inputs,
            vectors.values.tolist() if request.has_vectors else [[]] * len(request.scores),
            vectors.missing,
            vectors.oldest_us,
            vectors.newest_us,
            request.scores,
            request.keys or nothing,
            request.assigned or nothing,
            strict=True,
        )
    ]
    if request.probabilities is None:
        return rows
    return [
        msgspec.structs.replace(row, label=label, probabilities=probabilities)
        for row, label, probabilities in zip(
            rows,
            labels_of(request.manifest.classes, request.probabilities),
            request.probabilities.tolist(),
            strict=True,
        )
    ]


def _in_pieces(record: PredictionRecord) -> Iterator[bytes]:
    data, rows = _encode(record), record.rows
    if len(data) <= RECORD_BYTES_MAX or len(rows) == 1:
        yield data
        return
    if not all(row.key for row in rows):
        # A record of one row would seem to be that of a request of one.
        rows = [
            row if row.key else msgspec.structs.replace(row, key=f"{record.request_id}#{number}")
            for number, row in enumerate(rows)
        ]
    for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
        yield from _in_pieces(msgspec.structs.replace(record, rows=half))
