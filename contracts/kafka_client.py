"""What every Kafka client of ours is told: brokers, encryption, who we are, and limits."""

from __future__ import annotations

from typing import Any

from contracts.settings import Settings


def connection_options(settings: Settings, client_id: str) -> dict[str, Any]:
    """Keyword arguments that all clients of kafka-python take.

    Raises:
        ValueError: the log is not Kafka.
    """
    if not settings.log.bootstrap_servers:
        raise ValueError(f"the log {settings.log_url} is not Kafka")
    timeout_ms = int(settings.kafka_timeout_seconds * 1000)
    options: dict[str, Any] = {
        "bootstrap_servers": list(settings.log.bootstrap_servers),
        "client_id": client_id,
        "security_protocol": settings.kafka_security_protocol,
        "request_timeout_ms": timeout_ms,
        "reconnect_backoff_ms": 50,
        "reconnect_backoff_max_ms": 1_000,
        "retry_backoff_ms": 100,
    }
    if "SSL" in settings.kafka_security_protocol.split("_"):
        options |= {
            "ssl_cafile": settings.kafka_ssl_ca_file or None,
            "ssl_certfile": settings.kafka_ssl_cert_file or None,
            "ssl_keyfile": settings.kafka_ssl_key_file or None,
            "ssl_password": settings.kafka_ssl_key_password.get_secret_value() or None,
        }
    if settings.kafka_security_protocol.startswith("SASL"):
        options |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_sasl_username,
            "sasl_plain_password": settings.kafka_sasl_password.get_secret_value(),
        }
    return options
