"""Who calls, and which models they may use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from scorer.errors import ForbiddenError

Metadata = Sequence[tuple[str, str | bytes]]
# What the transport knows about the other end: of TLS, the names in its certificate. Asked for
# only where it is needed, because it costs.
Peer = Callable[[], Mapping[str, Iterable[bytes]]]


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever made a call.

    Attributes:
        name: for logs; empty where nobody is asked.
        models: models that the caller may use; None for all.
    """

    name: str
    models: frozenset[str] | None

    def may_use(self, model: str) -> bool:
        """Whether the caller may use that model."""
        return self.models is None or model in self.models

    def check(self, model: str) -> None:
        """Raise ForbiddenError if the caller may not use that model."""
        if not self.may_use(model):
            raise ForbiddenError(f"you may not use model {model!r:.120}; ask for it in your token")


class Callers(Protocol):
    """Finds out who calls."""

    def identify(self, metadata: Metadata, peer: Peer) -> Caller:
        """The caller, by what came with the call and by what the transport knows.

        Raises:
            UnauthenticatedError: it is nobody whom we know.
        """
        ...


ANYBODY = Caller("", None)


class OpenDoor:
    """``Callers`` where nobody is asked."""

    def identify(self, metadata: Metadata, peer: Peer) -> Caller:
        """Anybody, who may use everything."""
        return ANYBODY
