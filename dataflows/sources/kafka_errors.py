"""What Kafka's errors mean to whoever runs the flow, and what is to be done."""

from __future__ import annotations

import kafka.errors

from contracts.kafka_client import connection_problem
from contracts.log import LogError
from contracts.settings import Settings

_LOGIN = (
    kafka.errors.SaslAuthenticationFailedError,
    kafka.errors.UnsupportedSaslMechanismError,
    kafka.errors.IllegalSaslStateError,
)


def is_passing(error: kafka.errors.KafkaError) -> bool:
    """Whether the same question may be answered later on."""
    if isinstance(error, (kafka.errors.UnknownBrokerIdError, kafka.errors.BrokerNotAvailableError)):
        # A leader that is not in the metadata yet, or no longer.
        return True
    if isinstance(error, kafka.errors.InvalidReplicationFactorError):
        return True  # said by a broker that has just come up and does not know the others yet
    return bool(error.retriable) and not isinstance(error, kafka.errors.AuthorizationError)


def explain(error: Exception, settings: Settings) -> LogError:
    """One line on an error that no waiting will mend."""
    where = f"Kafka at {settings.log.servers}"
    who = f"user {settings.kafka_sasl_username!r}" if settings.kafka_sasl_username else "we"
    if isinstance(error, _LOGIN):
        return LogError(connection_problem(settings, error))
    if isinstance(error, kafka.errors.AuthorizationError):
        return LogError(
            f"{where} does not allow it: {error}; {who} must be granted Read and Describe on the "
            "topics (and Create, to have missing ones made)"
        )
    return LogError(f"{where}: {type(error).__name__}: {error}")


def not_answering(settings: Settings, seconds: float, what: str = "") -> LogError:
    """Kafka, or what is named of it, has been gone for too long."""
    return LogError(
        f"Kafka at {settings.log.servers} has not answered {what and what + ' '}for "
        f"{seconds:.0f} s; nothing is lost: check HEADWATER_LOG_URL, that the brokers run, and "
        "that the addresses they advertise can be reached from here, then start again "
        "(HEADWATER_OUTAGE_SECONDS is how long to wait)"
    )


def out_of_range(name: str, offset: int, first: int, end: int) -> LogError:
    """A position that Kafka does not have, before ``first`` or behind ``end``."""
    if offset < first:
        return LogError(
            f"{name}: we have read to offset {offset}, but Kafka keeps only {first} to {end}: "
            f"{first - offset} records were lost; raise the topic's retention (retention.ms, "
            "retention.bytes) and rebuild with `headwater replay` from what is left"
        )
    return LogError(
        f"{name}: we have read to offset {offset}, but Kafka has only {first} to {end}: the topic "
        "was made anew or has lost its end; rebuild with `headwater replay`"
    )


def vanished(name: str) -> LogError:
    """A partition is no longer there."""
    return LogError(
        f"{name} is no longer there: the topic was deleted; make it again with its records and "
        "rebuild with `headwater replay`, or take it out of definitions.py and run "
        "`headwater apply`"
    )
