"""How much of the log a replay has before it, for those who watch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dataflows.flow.target import Target, TargetOf
from dataflows.sources.plan_log import PlanLog


@dataclass(frozen=True)
class _Ahead:
    begins: dict[str, int]
    ends: dict[str, int]
    passes: int


class Stretch:
    """From where to where the pass under way reads; one thread replays, others may look."""

    def __init__(self) -> None:
        self._ahead = _Ahead({}, {}, 0)
        # Of who watches: where the pass was when it was first looked at.
        self._seen: dict[str, int] = {}
        self._seen_pass = 0

    def noting(self, target_of: TargetOf) -> TargetOf:
        """The same target, noted as what is ahead when a run asks for it."""

        def target(log: PlanLog) -> Target | None:
            found = target_of(log)
            if found is not None:
                begins = log.begins()
                self._ahead = _Ahead(
                    {one.name: begins[one.number] for one in log.partitions},
                    {one.name: found.offsets[one.number] for one in log.partitions},
                    self._ahead.passes + 1,
                )
            return found

        return target

    @property
    def passes(self) -> int:
        """How many passes have begun."""
        return self._ahead.passes

    def done(self, offsets: Mapping[str, int]) -> float | None:
        """Which share (0 to 1) of all there is to read lies before these offsets; None if unknown.

        It counts from the beginning of the log: a pass that goes on where another one ended, or a
        replay that was interrupted, begins with what was read then.
        """
        ahead = self._ahead
        return _share(ahead.begins, ahead.ends, offsets) if ahead.passes else None

    def share_of_pass(self, offsets: Mapping[str, int]) -> float:
        """The same of what this pass has to read, from where it was first seen; 0 if unknown."""
        ahead = self._ahead
        if not ahead.passes or not offsets:
            return 0.0
        if ahead.passes != self._seen_pass:
            self._seen_pass, self._seen = ahead.passes, dict(offsets)
        return _share(self._seen, ahead.ends, offsets)


def _share(begins: Mapping[str, int], ends: Mapping[str, int], at: Mapping[str, int]) -> float:
    total = sum(max(0, end - begins.get(name, end)) for name, end in ends.items())
    read = sum(
        max(0, min(at.get(name, 0), end) - begins.get(name, end)) for name, end in ends.items()
    )
    return read / total if total else 1.0
