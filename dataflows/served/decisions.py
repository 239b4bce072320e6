"""Decisions on their way into the model repository; each is made once, whoever dies meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from contracts.model_channels import AuditEntry, Channels, Decision
from contracts.model_errors import (
    CorruptChannelsError,
    ModelNotFoundError,
    ModelRepositoryError,
    VersionNotFoundError,
)
from contracts.model_repository import ModelRepository
from dataflows.served.model import ServedModel
from dataflows.served.rollout import Situation

Tell = Callable[[str], None]


class DecisionMaker:
    """Asks models what is to be done, and does it once the state that led to it is saved.

    Attributes:
        pending: model -> what was decided and perhaps not done yet.
        made: (model, action) -> how many were made since the start.
    """

    def __init__(self, repository: ModelRepository, wall_us: Callable[[], int], tell: Tell) -> None:
        """``tell`` gets a line for people about each decision."""
        self._repository = repository
        self._wall_us = wall_us
        self._tell = tell
        self._trouble: dict[str, str] = {}
        self.pending: dict[str, Decision | AuditEntry] = {}
        self.made: dict[tuple[str, str], int] = {}

    def situation(self, model: str) -> Situation | None:
        """What the repository says of a model; None if nothing, or nothing that can be read."""
        channels = self.channels(model)
        if channels is None:
            return None
        return Situation(channels, self._repository.versions(model), self._repository.audit(model))

    def channels(self, model: str) -> Channels | None:
        """A model's channels alone; None as ``situation``. The audit file may be a long one."""
        try:
            return self._repository.channels(model)
        except ModelNotFoundError:
            return None
        except CorruptChannelsError as error:
            self._complain(model, error)
            return None

    def look(self, served: ServedModel) -> None:
        """Ask one model; what it says is pending from then on."""
        name = served.plan.name
        if name in self.pending:
            return
        if served.policy is None and not self._has_challenger(name):
            # Nothing of ours can be left there, and an audit file may be long.
            return
        now = self.situation(name)
        found = None if now is None else served.look(now, self._wall_us())
        if found is not None:
            self.pending[name] = found

    def _has_challenger(self, model: str) -> bool:
        channels = self.channels(model)
        return channels is not None and channels.challenger is not None

    def carry_out(self, served: ServedModel) -> None:
        """Do what is pending of a model; what cannot be done now stays pending."""
        name = served.plan.name
        what = self.pending.get(name)
        if what is None:
            return
        try:
            if isinstance(what, AuditEntry):
                self._repository.remark(name, what)
                self._done(name, what)
            elif self._is_made(name, what):
                self._done(name, what.entry)
            else:
                now = self.situation(name)
                remark = None if now is None else served.give_way(now, self._wall_us(), what)
                del self.pending[name]
                if remark is not None:
                    self._repository.remark(name, remark)
                    self._tell(f"{name}: {remark.reason}")
        except ModelRepositoryError as error:
            self._complain(name, error)

    def _is_made(self, model: str, decision: Decision) -> bool:
        try:
            return self._repository.decide(model, decision)
        except VersionNotFoundError:
            # The dataflow has taken it back, to learn it again.
            return False

    def _done(self, model: str, entry: AuditEntry) -> None:
        del self.pending[model]
        self._trouble.pop(model, None)
        self.made[model, entry.action] = self.made.get((model, entry.action), 0) + 1
        self._tell(f"{model}: {entry.action}: {entry.reason}")

    def _complain(self, model: str, error: ModelRepositoryError) -> None:
        """Once for each trouble, not at each look."""
        if self._trouble.get(model) != str(error):
            self._trouble[model] = str(error)
            self._tell(f"{model}: {error}")
