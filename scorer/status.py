"""The one table from domain errors to gRPC status codes."""

from __future__ import annotations

import grpc

from scorer.errors import (
    DeadlineError,
    ForbiddenError,
    InvalidRequestError,
    ModelFaultError,
    ModelNotReadyError,
    OverloadedError,
    ScorerError,
    StoppingError,
    StoreUnavailableError,
    UnauthenticatedError,
    UnknownFeatureError,
    UnknownModelError,
    UnreadableEntityError,
)

STATUS: dict[type[ScorerError], grpc.StatusCode] = {
    InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    ForbiddenError: grpc.StatusCode.PERMISSION_DENIED,
    UnknownFeatureError: grpc.StatusCode.NOT_FOUND,
    UnknownModelError: grpc.StatusCode.NOT_FOUND,
    # Not UNAVAILABLE: clients retry that by themselves, and only learning or an operator helps.
    ModelNotReadyError: grpc.StatusCode.FAILED_PRECONDITION,
    StoreUnavailableError: grpc.StatusCode.UNAVAILABLE,
    UnreadableEntityError: grpc.StatusCode.UNAVAILABLE,
    StoppingError: grpc.StatusCode.UNAVAILABLE,
    OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineError: grpc.StatusCode.DEADLINE_EXCEEDED,
    ModelFaultError: grpc.StatusCode.INTERNAL,
}


def status_of(error: ScorerError) -> grpc.StatusCode:
    """The code of the error's class (KeyError for a class that is not in the table)."""
    return STATUS[type(error)]
