"""The rules of waiting predictions row by row, with nothing but lists."""

from __future__ import annotations

from dataclasses import dataclass, field

CLASSES_MAX = 3
Happened = tuple[str, str, int]


@dataclass(frozen=True)
class Row:
    """A prediction (without a class) or a label of a key at a time."""

    time_us: int
    key: str
    label: int | None = None


@dataclass
class Entry:
    """A prediction of the oracle; the states are those of the store's description."""

    key: str
    time_us: int
    state: str = "waiting"


@dataclass
class Oracle:
    """The rules row by row, with nothing but lists."""

    timeout_us: int
    every_us: int
    remembered_max: int
    learns_at: int
    given: int = -1
    entries: list[Entry] = field(default_factory=list)
    events: list[Happened] = field(default_factory=list)
    fates: list[str] = field(default_factory=list)
    classes: set[int] = field(default_factory=set)
    boundary_us: int | None = None
    forgotten: int = 0
    early: dict[str, int] = field(default_factory=dict)
    early_us: int = -1

    def _learn(self, time_us: int) -> None:
        if self.boundary_us is None:
            self.boundary_us = (time_us // self.every_us + 1) * self.every_us

    def waiting(self, key: str) -> Entry | None:
        """The prediction of a key that waits."""
        found = [e for e in self.entries if e.key == key and e.state == "waiting"]
        return found[0] if found else None

    def pass_time(self, time_us: int) -> None:
        """Everything before has happened."""
        for entry in self.entries:
            deadline_us = entry.time_us + self.timeout_us
            if entry.state == "waiting" and deadline_us < time_us:
                self._boundary(deadline_us)
                entry.state = "late"
                if self.given >= 0:
                    self.classes.add(self.given)
                if self.learns_at > 1:
                    self._learn(deadline_us)
                self.events.append(("expired", entry.key, deadline_us))
                self._forget_passed(entry)
        self._boundary(time_us)
        while self.forgotten < len(self.entries):
            entry = self.entries[self.forgotten]
            kept = [e for e in self.entries if e.state in ("repeated", "late")]
            is_old = time_us - entry.time_us > 2 * self.timeout_us
            if len(kept) <= self.remembered_max and not is_old:
                break
            self.forgotten += 1
            self._forget_passed(entry)

    def _forget_passed(self, entry: Entry) -> None:
        place = next(i for i, e in enumerate(self.entries) if e is entry)
        if place < self.forgotten and entry.state != "waiting":
            entry.state = "forgotten"

    def _boundary(self, time_us: int) -> None:
        if self.boundary_us is not None and time_us >= self.boundary_us:
            self.events.append(("boundary", "", self.boundary_us))
            self.boundary_us = None

    def predict(self, row: Row) -> None:
        """A prediction."""
        self.pass_time(row.time_us)
        if self.learns_at == 0:
            self._learn(row.time_us)
        if self.waiting(row.key):
            self.events.append(("repeated", row.key, row.time_us))
            return
        self.entries.append(Entry(row.key, row.time_us))
        self.events.append(("predicted", row.key, row.time_us))
        if row.time_us == self.early_us and row.key in self.early:
            number = self.early.pop(row.key)
            self.fates[number] = "matched"
            self._match(row.key, row.time_us, self._labels[number])

    def label(self, row: Row) -> None:
        """A label."""
        assert row.label is not None
        self.pass_time(row.time_us)
        self._labels.append(row.label)
        if row.label < 0 or (row.label not in self.classes and len(self.classes) >= CLASSES_MAX):
            self.fates.append("ignored")
            return
        if self.waiting(row.key):
            self.fates.append("matched")
            self._match(row.key, row.time_us, row.label)
            return
        known = [e.state for e in self.entries if e.key == row.key and e.state != "forgotten"]
        self.fates.append(known[-1] if known else "unmatched")
        if row.time_us != self.early_us:
            self.early, self.early_us = {}, row.time_us
        self.early.setdefault(row.key, len(self.fates) - 1)

    def _match(self, key: str, time_us: int, label: int) -> None:
        entry = self.waiting(key)
        assert entry is not None
        entry.state = "repeated"
        self._forget_passed(entry)
        self.classes.add(label)
        if self.learns_at > 0:
            self._learn(time_us)
        self.events.append((f"labelled {label}", key, time_us))

    _labels: list[int] = field(default_factory=list)
