"""A partition that is read out of archive files first, and then out of Kafka."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from queue import SimpleQueue

from contracts.log import Chunk, LogError, PartitionReader
from dataflows.sources.chunks import cut_chunk, joined_chunks, room_for

# Pieces of a partition that are read before they are asked for.
PIECES_AHEAD = 2
# Most of it is waiting for a disk or a network.
THREADS = 2
_CLOSE_SECONDS_MAX = 5.0

Job = Callable[[], None]


class ReadingThreads:
    """Threads that read ahead for all partitions of a process; they begin with the first job."""

    def __init__(self, count: int = THREADS) -> None:
        self._count = count
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, job: Job) -> None:
        """Have one of them do it; a job must not raise anything."""
        self._jobs.put(job)
        if len(self._threads) < self._count:
            # A thread that hangs in a network must not hold up the end of the process.
            thread = threading.Thread(target=self._work, name="archive", daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """End them, in bounded time; jobs that wait are still done, or fail."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(_CLOSE_SECONDS_MAX)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


class ArchivedPartition:
    """Reads archived pieces, then another reader; implements ``PartitionReader``.

    The flow calls all methods from one thread; pieces come from ``ReadingThreads``.
    """

    def __init__(
        self,
        offset: int,
        pieces: Iterator[Chunk],
        piece_bytes: int,
        threads: ReadingThreads,
        open_rest: Callable[[], PartitionReader],
    ) -> None:
        """Begin to read ahead.

        Args:
            offset: where the first read begins.
            pieces: all that is archived from there on.
            piece_bytes: smaller pieces are put together up to this size.
            threads: that take the pieces.
            open_rest: gives the reader of what lies behind the archive.
        """
        self._offset = offset
        self._pieces = pieces
        self._piece_bytes = piece_bytes
        self._threads = threads
        self._open_rest = open_rest
        self._rest: PartitionReader | None = None
        self._ready: deque[Chunk] = deque()
        self._first = 0  # of the first chunk's records, which was not read yet
        self._failure: LogError | None = None
        self._is_running = self._is_over = self._is_closed = False
        self._lock = threading.Lock()
        self._read_ahead()

    @property
    def offset(self) -> int:
        """Where the next read begins."""
        return self._offset if self._rest is None else self._rest.offset

    def read(self, bytes_max: int, until: int | None = None) -> Chunk | None:
        """As ``PartitionReader``; what was read before a failure is given first."""
        if self._rest is not None:
            return self._rest.read(bytes_max, until)
        with self._lock:
            taken = self._take(bytes_max, until)
            failure = None if self._ready else self._failure
            is_through = self._is_over and not self._ready
        self._read_ahead()
        if taken is not None:
            self._offset = taken.next_offset
            return taken
        if failure is not None:
            raise LogError(str(failure)) from failure
        if not is_through:
            return None
        self._rest = self._open_rest()
        return self._rest.read(bytes_max, until)

    def has_news(self) -> bool:
        """Whether there is anything to be given or raised."""
        return self._rest is None or self._rest.has_news()

    def is_at_end(self, until: int | None = None) -> bool:
        """Whether all before ``until`` was read; an archive alone is never all."""
        if self._rest is not None:
            return self._rest.is_at_end(until)
        if until is None:
            return False
        with self._lock:
            position = self._offset
            if self._ready:
                position = int(self._ready[0].offsets[self._first])
        return position >= until

    def has_withheld(self) -> bool:
        """Nothing of an archive is."""
        return self._rest is not None and self._rest.has_withheld()

    def known_at(self, now: float) -> float:
        """Just now: whoever waits for the archive says so himself."""
        return now if self._rest is None else self._rest.known_at(now)

    def committed(self, offset: int) -> None:
        """Told to the log itself; nobody watches an archive."""
        if self._rest is not None:
            self._rest.committed(offset)

    def close(self) -> None:
        """Let go of the files, or have the thread do so that reads one."""
        if self._rest is not None:
            self._rest.close()
        with self._lock:
            self._is_closed = True
            self._ready.clear()
            is_running = self._is_running
        if not is_running:
            self._let_go()

    def _take(self, bytes_max: int, until: int | None) -> Chunk | None:
        if not self._ready:
            return None
        chunk, first = self._ready[0], self._first
        last = room_for(chunk, first, bytes_max, until)
        if last <= first:
            return None
        if last < len(chunk.starts):
            self._first = last
        else:
            self._ready.popleft()
            self._first = 0
        return cut_chunk(chunk, first, last)

    def _read_ahead(self) -> None:
        with self._lock:
            is_done = self._is_over or self._is_closed or self._failure is not None
            if is_done or self._is_running or len(self._ready) >= PIECES_AHEAD:
                return
            self._is_running = True
        self._threads.submit(self._read_piece)

    def _read_piece(self) -> None:
        """Put the next piece into the buffer; in a thread, one at a time."""
        piece, failure = None, None
        try:
            # Closed already, there is nothing more to be read; only files to be let go of.
            piece = None if self._is_closed else self._next_piece()
        except LogError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - whatever it is, the flow must hear of it
            failure = LogError(f"archive: {type(error).__name__}: {error}")
            failure.__cause__ = error
        with self._lock:
            self._is_running = False
            is_closed = self._is_closed
            self._failure = failure
            self._is_over = piece is None and failure is None
            if piece is not None and not is_closed:
                self._ready.append(piece)
        if is_closed:
            self._let_go()
        else:
            # While the flow works on one piece, the next one is read.
            self._read_ahead()

    def _next_piece(self) -> Chunk | None:
        """As much as fits into a piece; None at the end of the archive."""
        found: list[Chunk] = []
        size = 0
        while size < self._piece_bytes:
            chunk = next(self._pieces, None)
            if chunk is None:
                break
            found.append(chunk)
            size += len(chunk.records)
        return joined_chunks(found) if found else None

    def _let_go(self) -> None:
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()
