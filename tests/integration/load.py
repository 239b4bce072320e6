"""Records written to Kafka at a steady pace, through whatever happens to the brokers."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from kafka import KafkaProducer
from kafka.errors import KafkaError

from tests.flow import shop
from tests.integration.real_shop import PATIENCE_SECONDS, RealShop

_PACE_SECONDS = 0.02


class Load:
    """Writes records from a thread, each once and in order; for use with ``with``.

    Attributes:
        sent: how many were handed over so far.
    """

    def __init__(
        self, made: RealShop, records: list[shop.Record], seconds: float, begin: int = 0
    ) -> None:
        """Spread ``records`` evenly over ``seconds``; the first ``begin`` at once.

        With these the others wait for ``go``, so that however long a command takes to start, it
        has nearly all of the load before it.
        """
        self.sent = 0
        self._begin = begin
        self._going = threading.Event()
        self._made = made
        self._records = records
        self._seconds = seconds
        self._futures: list[Any] = []
        self._is_over = False
        self._producer: Any = KafkaProducer(
            bootstrap_servers=made.servers,
            linger_ms=5,
            # Partitions must not stay silent after an outage because nobody looks for the broker.
            reconnect_backoff_max_ms=100,
            retry_backoff_ms=50,
        )
        self._thread = threading.Thread(target=self._write, daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End early; without an error ``join`` was called before."""
        self._is_over = True
        self._going.set()
        self._thread.join(PATIENCE_SECONDS)
        with suppress(KafkaError):
            self._producer.close(timeout=1)

    def go(self) -> None:
        """Go on after the first records."""
        self._going.set()

    def join(self) -> None:
        """Wait until all records are acknowledged."""
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()
        self._producer.flush(PATIENCE_SECONDS)
        assert len(self._futures) == len(self._records)
        assert all(future.succeeded() for future in self._futures)

    def _write(self) -> None:
        self._send(self._begin)
        if self._begin:
            self._going.wait(PATIENCE_SECONDS)
        began = time.monotonic()
        while self.sent < len(self._records) and not self._is_over:
            share = min(1.0, (time.monotonic() - began) / self._seconds)
            self._send(self._begin + int(share * (len(self._records) - self._begin)))
            time.sleep(_PACE_SECONDS)

    def _send(self, due: int) -> None:
        for one in self._records[self.sent : due]:
            self._futures.append(
                self._producer.send(self._made.topic(one.topic), one.line, partition=one.partition)
            )
            self.sent += 1
