"""How calls of the client fail.

ScorerCallError            any call that has no answer; a ``grpc.RpcError``
├── WrongRequestError      INVALID_ARGUMENT: the caller must change the request
├── NotAllowedError        UNAUTHENTICATED, PERMISSION_DENIED: a token, or another one, is needed
├── NotFoundError          NOT_FOUND: no such model, version, feature service or feature
├── NotReadyError          FAILED_PRECONDITION: the model has no version that can be served yet
├── UnavailableError       UNAVAILABLE, RESOURCE_EXHAUSTED: all tries failed; later may help
└── OutOfTimeError         DEADLINE_EXCEEDED: the deadline passed
"""

from __future__ import annotations

from typing import Self

import grpc
from grpc.aio import AioRpcError, Metadata


class ScorerCallError(AioRpcError):
    """A call that has no answer, whichever client made it.

    ``code()`` and ``details()`` are what the last try that tells something ended with.

    Attributes:
        attempts: how many tries there were.
    """

    def __init__(self, code: grpc.StatusCode, details: str, attempts: int = 1) -> None:
        super().__init__(code, Metadata(), Metadata(), details)
        self.attempts = attempts

    @classmethod
    def of(cls, code: grpc.StatusCode, details: str, attempts: int = 1) -> ScorerCallError:
        """The error of the class that belongs to the code."""
        return _CLASSES.get(code, ScorerCallError)(code, details, attempts)

    @property
    def message(self) -> str:
        """What is wrong, in the scorer's words."""
        return self.details() or ""

    def __str__(self) -> str:
        tries = f" (after {self.attempts} tries)" if self.attempts > 1 else ""
        return f"{self.code().name}: {self.message}{tries}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...]]:
        return type(self), (self.code(), self.message, self.attempts)


class WrongRequestError(ScorerCallError):
    """The request is wrong in itself; the message names the input and the reason."""


class NotAllowedError(ScorerCallError):
    """The scorer does not know the caller, or the caller may not use this model."""


class NotFoundError(ScorerCallError):
    """The scorer has no such model, version, feature service or feature."""


class NotReadyError(ScorerCallError):
    """The model is known, but the version that was asked for cannot be served."""


class UnavailableError(ScorerCallError):
    """No scorer was reached, or it could not answer, at every try; later may help."""


class OutOfTimeError(ScorerCallError):
    """The deadline passed before there was an answer."""


_CLASSES: dict[grpc.StatusCode, type[ScorerCallError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: WrongRequestError,
    grpc.StatusCode.UNAUTHENTICATED: NotAllowedError,
    grpc.StatusCode.PERMISSION_DENIED: NotAllowedError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.FAILED_PRECONDITION: NotReadyError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: OutOfTimeError,
}
