"""What can go wrong while scoring, in words of the domain.

ScorerError
├── InvalidRequestError        the caller must change the request
├── UnauthenticatedError       the call does not say who calls, or not so that we believe it
├── ForbiddenError             the caller may not use this model
├── UnknownModelError          no such model, or no such version of it
├── UnknownFeatureError        no such feature service, view or feature
├── ModelNotReadyError         the model is known, but the version wanted cannot be served
├── StoreUnavailableError      the online store did not answer
│   └── UnreadableEntityError  it answered, but what it has of one entity cannot be read
├── OverloadedError            too many requests in flight
├── StoppingError              the scorer is shutting down
├── DeadlineError              the answer was not ready in time
└── ModelFaultError            the model itself failed on a valid vector
ConfigurationError             the process cannot start as it is set up

None of them knows about transport: ``scorer.status`` maps them to gRPC codes. Their texts go to
the caller as they are, so they name what is wrong and what to do, and nothing else.
"""

from __future__ import annotations


class ScorerError(Exception):
    """Base of everything that a request can end in besides a score."""


class InvalidRequestError(ScorerError):
    """The request is wrong in itself; the text names the input and the reason."""


class UnauthenticatedError(ScorerError):
    """A token is asked for, and there is none that holds; the text never repeats it."""


class ForbiddenError(ScorerError):
    """The caller is known and may not do this."""


class UnknownFeatureError(ScorerError):
    """What was applied has no such feature service, view or feature."""


class UnknownModelError(ScorerError):
    """The repository holds no such model, or no such version of the model."""


class ModelNotReadyError(ScorerError):
    """The model exists, but has no champion yet, or the version asked for is corrupt."""


class StoreUnavailableError(ScorerError):
    """The online store did not answer, or not readably; trying later may help."""


class UnreadableEntityError(StoreUnavailableError):
    """Of some entities the store has what nobody can read; of others it has answered."""


class OverloadedError(ScorerError):
    """A bound on the work in flight is reached; trying later helps."""


class StoppingError(ScorerError):
    """The scorer is shutting down; another one, or this one restarted, will answer."""


class DeadlineError(ScorerError):
    """The answer was not ready within the request's deadline or the server's own."""


class ModelFaultError(ScorerError):
    """The model failed, or gave no finite score, on a valid vector: a defect of the version."""


class ConfigurationError(Exception):
    """The scorer cannot start with this configuration; the text says what to change."""
