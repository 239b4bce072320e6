"""What the blocking client and the one of asyncio share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

from scorer.client_options import CLIENT_DEFAULTS, ClientOptions

if TYPE_CHECKING:
    from contracts.settings import ClientSettings

DEADLINE_SECONDS = 5.0


class ClientBase:
    """What both clients know."""

    def __init__(
        self,
        address: str,
        deadline_seconds: float = DEADLINE_SECONDS,
        *,
        options: ClientOptions = CLIENT_DEFAULTS,
    ) -> None:
        """Connects at the first call.

        Args:
            address: ``host:port``.
            deadline_seconds: longest that a call takes, with all its tries.
            options: retries, TLS, token.

        Raises:
            ValueError: the deadline is not above 0, or a token would go through the open.
        """
        if not deadline_seconds > 0:
            raise ValueError(f"deadline_seconds is {deadline_seconds}: give a number above 0")
        options.check(address)
        self.address = address
        self._deadline_seconds = deadline_seconds
        self._options = options
        self._process = os.getpid()

    @classmethod
    def from_settings(cls, settings: ClientSettings) -> Self:
        """As the environment says; ValueError as above, OSError if a file cannot be read."""
        return cls(
            settings.scorer_address,
            settings.client_deadline_seconds,
            options=ClientOptions.from_settings(settings),
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address!r}, {self._deadline_seconds})"

    def _check_process(self) -> None:
        # gRPC's threads do not come along into a fork, so that a call would never end.
        if os.getpid() != self._process:
            raise RuntimeError("this client was made before a fork: make one in each process")
