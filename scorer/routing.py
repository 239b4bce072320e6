"""Which version answers which row while a model has more than one. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from contracts.assignment import is_challenged
from contracts.category import text_of
from scorer.model import LoadedModel
from scorer.vector_plan import Scalar

CHAMPION, CHALLENGER, SHADOW = "champion", "challenger", "shadow"


@dataclass(frozen=True)
class Rollout:
    """The versions of a model beside each other, and who goes where.

    Attributes:
        champion: answers what is not the challenger's.
        challenger: None if there is none, or while it cannot be served.
        shadow: scores what others answer; None if there is none, or while it cannot be served.
        share: of the rows that are the challenger's, 0 to 1; also while it cannot be served.
        salt: see ``contracts.assignment``.
    """

    champion: LoadedModel
    challenger: LoadedModel | None
    shadow: LoadedModel | None
    share: float
    salt: str

    @property
    def versions(self) -> list[tuple[str, LoadedModel]]:
        """(channel, version) of all that score each row, answering it or not; none twice."""
        found = [(CHAMPION, self.champion)]
        beside = ((CHALLENGER, self.challenger if self.share > 0 else None), (SHADOW, self.shadow))
        for channel, model in beside:
            if model is not None and all(model is not one for _, one in found):
                found.append((channel, model))
        return found

    def assigned(
        self, request_id: str, rows: Sequence[Mapping[str, Scalar]], keys: Sequence[str]
    ) -> list[bool]:
        """Of each row whether it is the challenger's.

        Args:
            request_id: stands in for a key; empty if the request has other rows besides.
            rows: input name -> value, not checked yet.
            keys: of the predictions; empty texts for those without.
        """
        if self.share <= 0:
            return [False] * len(rows)
        name = self.champion.manifest.assign_by
        if name in self.champion.plan.input_types:
            # An entity that is not there, and an input that is refused later, are the champion's.
            given = [row.get(name) for row in rows]
            return [value is not None and self._is_challenged(text_of(value)) for value in given]
        values = [key or request_id for key in keys]
        return [value != "" and self._is_challenged(value) for value in values]

    def _is_challenged(self, value: str) -> bool:
        return is_challenged(self.salt, value, self.share)


def inputs_for(model: LoadedModel, row: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Of a row those inputs that another version takes, to be checked as if they had just come."""
    return {name: row[name] for name in model.plan.input_types if name in row}
