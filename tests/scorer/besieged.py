"""A scorer in a process of its own that anybody may send anything, while others use it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from contracts.settings import PREFIX
from scorer.client import ScoreItem, ScoreOptions, ScorerClient
from scorer.client_retries import call_error
from scorer.v1 import scorer_pb2
from tests.scorer.feature_shop import FeatureShop
from tests.scorer.shop import MODEL, NOON_US, ROW, VECTOR, bias_of, feast_key, linear_score

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 30.0
CARDS = range(100, 120)
STATUS = {code.value[0]: code for code in grpc.StatusCode}


@dataclass
class Neighbour:
    """A caller of its own card, whose answers must be those of that card, whatever others send."""

    address: str
    card: int
    answers: int = 0
    wrong: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def has_more_than(self, answers: int) -> bool:
        """Whether it has got more answers, or a wrong one."""
        return self.answers > answers or bool(self.wrong)

    def run(self) -> None:
        """Score one at a time, and over a stream, until told to stop."""
        vector = [*VECTOR[:3], float(self.card), *VECTOR[4:]]
        expected = linear_score(vector, bias_of("1"))
        row = {**ROW, "card": self.card}
        with ScorerClient(self.address, DEADLINE_SECONDS) as client:
            while not self.stop.is_set() and not self.wrong:
                ids = [f"{self.card}-{self.answers + number}" for number in range(8)]
                options = [ScoreOptions(request_id=one, event_time_us=NOON_US) for one in ids]
                answers = [client.score(MODEL, row, one) for one in options[:4]]
                items = [ScoreItem(MODEL, row, one) for one in options[4:]]
                answers += client.score_stream(items, DEADLINE_SECONDS)  # type: ignore[arg-type]
                for one, answer in zip(ids, answers, strict=True):
                    if answer.request_id != one or abs(answer.score - expected) > 1e-12:
                        self.wrong.append(f"{one} (score {expected}) got {answer}")
                self.answers += len(ids)
                # The scorer and hypothesis want the processor, too.
                self.stop.wait(0.02)


@dataclass(frozen=True)
class Server:
    """A scorer in a process of its own, while two neighbours of the fuzz use it.

    ``send`` gives the status of a request in bytes, and the bytes of the answer.
    """

    address: str
    process: subprocess.Popen[bytes]
    log: Path
    channel: grpc.Channel
    neighbours: list[Neighbour]

    def send(self, method: str, request: bytes) -> tuple[grpc.StatusCode, bytes]:
        """What comes of one request."""
        try:
            if method.endswith("/ScoreStream"):
                stream: Any = self.channel.stream_stream(f"/{method}")
                (answer,) = stream(iter([request]), timeout=DEADLINE_SECONDS)
                one = scorer_pb2.ScoreStreamResponse.FromString(answer)
                if one.HasField("failure"):
                    return STATUS[one.failure.code], answer
            else:
                unary: Any = self.channel.unary_unary(f"/{method}")
                answer = unary(request, timeout=DEADLINE_SECONDS)
        except grpc.RpcError as error:
            told = call_error(error)
            return told.code(), told.message.encode()
        return grpc.StatusCode.OK, answer

    def check(self) -> None:
        """It runs, and no neighbour got another's answer."""
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        assert [one.wrong for one in self.neighbours] == [[], []]

    def check_all(self) -> None:
        """Neighbours get their answers after all that came, and nothing broke on the way."""
        for one in self.neighbours:
            _wait_until(partial(one.has_more_than, one.answers))
        self.check()
        text = self.log.read_text(errors="replace")
        for sign in ("Traceback", "request_failed", '"level": "error"'):
            assert sign not in text, text[text.index(sign) - 1000 :][:3000]


def _wait_until(is_so: Callable[[], object]) -> None:
    event = threading.Event()
    for _ in range(int(DEADLINE_SECONDS / 0.01)):
        if is_so():
            return
        event.wait(0.01)
    raise AssertionError("waited in vain")


@contextmanager
def _neighbours(address: str) -> Iterator[list[Neighbour]]:
    all_ = [Neighbour(address, card) for card in (CARDS[0], CARDS[-1])]
    threads = [threading.Thread(target=one.run) for one in all_]
    for thread in threads:
        thread.start()
    try:
        yield all_
    finally:
        for one in all_:
            one.stop.set()
        for thread in threads:
            thread.join(DEADLINE_SECONDS)


@contextmanager
def besieged(folder: Path) -> Iterator[Server]:
    """A scorer that logs every request, as long as the context; at its end nothing is broken."""
    shop = FeatureShop(folder)
    shop.create()
    shop.apply()
    for card in CARDS:
        shop.write("card_1h", feast_key({"card": card}), {"spent": float(card), "visits": 4})
    environment = {name: text for name, text in os.environ.items() if not name.startswith(PREFIX)}
    environment[f"{PREFIX}SCORER_ADDRESS"] = "127.0.0.1:0"
    environment[f"{PREFIX}REQUEST_LOG_SHARE"] = "1"
    environment[f"{PREFIX}DEFAULT_DEADLINE_SECONDS"] = "30"
    log = shop.folder / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "scorer", str(shop.folder)],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_until(lambda: "serving on " in log.read_text() or process.poll() is not None)
        (line,) = [one for one in log.read_text().splitlines() if one.startswith("serving on ")]
        address = line.removeprefix("serving on ")
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(address, options) as channel, _neighbours(address) as neighbours:
            running = Server(address, process, log, channel, neighbours)
            yield running
            running.check_all()
    finally:
        process.terminate()
        assert process.wait(DEADLINE_SECONDS) == 0
