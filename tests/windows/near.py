"""A number that is known to some error: it equals whatever is near enough."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, eq=False)
class Near:
    """Equals every number not farther than ``within`` from ``value``, and none below zero."""

    value: float
    within: float

    def __eq__(self, other: object) -> bool:
        """Whether ``other`` is near enough; with nothing allowed, whether it is the same."""
        if isinstance(other, int | float):
            return other >= 0 and abs(other - self.value) <= self.within
        return self is other

    __hash__ = None  # type: ignore[assignment]
