"""How the processes of one run find each other, and hear of each other: files they all see.

Process 0 begins a session, a new one each time it is started. The others join it; when all have,
process 0 makes the state ready and opens the session. What killed runs leave behind belongs to
other sessions and means nothing.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from contracts.durable_files import replace_file
from contracts.settings import DataflowSettings
from dataflows.flow.errors import EngineError
from dataflows.flow.state_lock import held_seats, is_seat_held, processes_folder

X = TypeVar("X")
Ends = dict[int, int]

_PAUSE_SECONDS = 0.02
_START_ALL = "start all again"


@dataclass(frozen=True)
class Seat:
    """Which process this is.

    Attributes:
        number: its place in ``addresses``.
        addresses: ``host:port`` of all processes of the run.
    """

    number: int
    addresses: tuple[str, ...]

    @property
    def others(self) -> list[int]:
        """Numbers of the other processes."""
        return [number for number in range(len(self.addresses)) if number != self.number]


@dataclass(frozen=True)
class _Session:
    id: str
    is_open: bool
    ends: Ends | None


@dataclass(frozen=True)
class _Joined:
    session: str
    terms: dict[str, str]


@dataclass(frozen=True)
class _Ended:
    session: str
    error: str


@dataclass(frozen=True)
class _Turn:
    session: str


@dataclass(frozen=True)
class _Stop:
    session: str


def seat_of(settings: DataflowSettings) -> Seat | None:
    """The process's seat; None if it runs alone; raise EngineError if it has none."""
    addresses = settings.process_addresses
    if not addresses:
        if settings.process:
            raise EngineError(
                f"HEADWATER_PROCESS is {settings.process}, but HEADWATER_ADDRESSES is empty: list "
                "the addresses of all processes there"
            )
        return None
    if settings.process >= len(addresses):
        raise EngineError(
            f"HEADWATER_PROCESS is {settings.process}, but HEADWATER_ADDRESSES has "
            f"{len(addresses)} addresses: the last process has number {len(addresses) - 1}"
        )
    return Seat(settings.process, addresses)


class Session:
    """One run as one of its processes sees it. All waits are bounded.

    Attributes:
        seat: which process this is.
    """

    def __init__(
        self,
        state: Path,
        settings: DataflowSettings,
        seat: Seat,
        monotonic: Callable[[], float] = time.monotonic,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """To be made by who holds the seat; process 0 begins the session with it.

        ``check`` is called again and again while others are waited for; what it raises ends that.
        """
        self.seat = seat
        self._state = state
        self._folder = processes_folder(state)
        self._monotonic = monotonic
        self._check = check
        self._absent_seconds_max = settings.gather_seconds
        # One that runs may wait for brokers or Redis for as long as it is allowed to.
        self._busy_seconds_max = settings.gather_seconds + 2 * settings.outage_seconds
        self._id = ""
        if seat.number == 0:
            self._id = secrets.token_hex(8)
            self._write("session", _Session(self._id, is_open=False, ends=None))

    def __enter__(self) -> Session:
        """The session; its end is told when the context ends."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        """Tell the others that this process ends, and why if not in good order."""
        text = " ".join(str(error).split()) or type(error).__name__
        with suppress(EngineError):
            self._write(f"ended-{self.seat.number}", _Ended(self._id, text if error else ""))

    def gather(self, terms: Mapping[str, str], tell: Callable[[str], None]) -> None:
        """Wait, as process 0, until all others have joined.

        Args:
            terms: name of a setting -> what all must have in common.
            tell: called with who is waited for, and with nothing when that is over.

        Raises:
            EngineError: one has other terms, did not come in time, or should not be there.
        """
        begun_at = self._monotonic()
        while True:
            self._check()
            late = self._not_here(terms)
            strangers = [n for n in held_seats(self._state) if n >= len(self.seat.addresses)]
            if not late and not strangers:
                tell("")
                return
            waited_seconds = self._monotonic() - begun_at
            absent = [n for n in late if not is_seat_held(self._state, n)]
            allowed_seconds = self._absent_seconds_max if absent else self._busy_seconds_max
            if waited_seconds > allowed_seconds and late:
                raise EngineError(
                    f"process {(absent or late)[0]} has not come within {waited_seconds:.0f} s "
                    "(HEADWATER_GATHER_SECONDS): start one for each of HEADWATER_ADDRESSES, all "
                    "on the same state folder"
                )
            if waited_seconds > self._absent_seconds_max and strangers:
                raise EngineError(
                    f"process {strangers[0]} still runs on {self._state}, but HEADWATER_ADDRESSES "
                    "has no such process: stop it first"
                )
            tell(f"process {(late or strangers)[0]} to {'start' if late else 'end'}")
            time.sleep(_PAUSE_SECONDS)

    def open(self, ends: Ends | None) -> None:
        """Let all others go on; ``ends`` is where the log ends for all, None for never."""
        self._write("session", _Session(self._id, is_open=True, ends=ends))

    def join(self, terms: Mapping[str, str]) -> Ends | None:
        """Wait, as another than process 0, until the session is open; the log's ends.

        Raises:
            EngineError: process 0 did not come in time, or ended.
        """
        joined, waits_since = "", self._monotonic()
        while True:
            self._check()
            is_there = is_seat_held(self._state, 0)
            session = self._read("session", _Session)
            if is_there and session is not None:
                if session.is_open and session.id == joined:
                    self._id = joined
                    return session.ends
                if not session.is_open and session.id != joined:
                    joined, waits_since = session.id, self._monotonic()
                    self._write(f"joined-{self.seat.number}", _Joined(joined, dict(terms)))
            ended = self._read("ended-0", _Ended)
            if ended is not None and joined and ended.session == joined:
                raise EngineError(_gone(0, ended.error))
            waited_seconds = self._monotonic() - waits_since
            is_busy = is_there and joined
            if waited_seconds > (self._busy_seconds_max if is_busy else self._absent_seconds_max):
                raise EngineError(
                    f"process 0 has not begun within {waited_seconds:.0f} s "
                    "(HEADWATER_GATHER_SECONDS): start one for each of HEADWATER_ADDRESSES, all "
                    "on the same state folder, after those of the last run have ended"
                )
            time.sleep(_PAUSE_SECONDS)

    def take_turn(self) -> None:
        """Wait until the processes of lower numbers listen, which is when this one may connect.

        Raises:
            EngineError: one of them is gone, or does not come to it.
        """
        begun_at = self._monotonic()
        for number in range(self.seat.number):
            while (turn := self._read(f"turn-{number}", _Turn)) is None or turn.session != self._id:
                gone = self.gone()
                waited_seconds = self._monotonic() - begun_at
                if gone or waited_seconds > self._absent_seconds_max:
                    raise EngineError(gone or _gone(number, f"silent for {waited_seconds:.0f} s"))
                time.sleep(_PAUSE_SECONDS)
        if self.seat.number:
            # It says so a moment before. Who comes too early has to wait for a second.
            time.sleep(2 * _PAUSE_SECONDS)
        self._write(f"turn-{self.seat.number}", _Turn(self._id))

    def gone(self) -> str | None:
        """Who ended before all was done, in words; None if nobody did."""
        for number in self.seat.others:
            is_there = is_seat_held(self._state, number)
            ended = self._read(f"ended-{number}", _Ended)
            if ended is not None and ended.session == self._id:
                if ended.error:
                    return _gone(number, ended.error)
            elif not is_there:
                return _gone(number, "")
        return None

    def ask_to_stop(self) -> None:
        """Tell the others that all are to stop in good order."""
        self._write("stop", _Stop(self._id))

    def is_to_stop(self) -> bool:
        """Whether any process has asked to stop."""
        stop = self._read("stop", _Stop)
        return stop is not None and stop.session == self._id

    def _not_here(self, terms: Mapping[str, str]) -> list[int]:
        late = []
        for number in self.seat.others:
            joined = self._read(f"joined-{number}", _Joined)
            if (
                joined is None
                or joined.session != self._id
                or not is_seat_held(self._state, number)
            ):
                late.append(number)
                continue
            other = [name for name in terms if joined.terms.get(name) != terms[name]]
            if other:
                raise EngineError(
                    f"process {number} has other {' and '.join(other)} than process 0: all "
                    "processes of a run need the same"
                )
        return late

    def _write(self, name: str, content: object) -> None:
        try:
            replace_file(self._folder / f"{name}.json", msgspec.json.encode(content))
        except OSError as error:
            raise EngineError(f"{self._folder}: {error.strerror}; make room there") from error

    def _read(self, name: str, kind: type[X]) -> X | None:
        try:
            return msgspec.json.decode((self._folder / f"{name}.json").read_bytes(), type=kind)
        except (FileNotFoundError, msgspec.DecodeError):
            return None


def _gone(number: int, error: str) -> str:
    if error.endswith(_START_ALL):
        # It only followed the one that was gone first.
        return error
    return f"process {number} is gone{f' ({error})' if error else ''}; {_START_ALL}"
