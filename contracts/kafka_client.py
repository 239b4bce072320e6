"""What every Kafka client of ours is told, how it is opened, and what its errors mean to people."""

from __future__ import annotations

import logging
import ssl
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import kafka.errors as kafka_errors
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

from contracts.log import LogError
from contracts.settings import PREFIX, Settings, SettingsError

# Trying these again changes nothing.
_HOPELESS = (
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.IllegalSaslStateError,
    ssl.SSLCertVerificationError,
)
_Client = TypeVar("_Client")

# Its lines repeat, many times over, what our errors say once; whoever sets logging up still gets
# them, but never the debug lines, which hold passwords.
logging.getLogger("kafka").addHandler(logging.NullHandler())
logging.getLogger("kafka").setLevel(logging.INFO)


class _Manager(KafkaConnectionManager):  # type: ignore[misc]
    """Remembers why a connection failed, and gives up at once where another try is in vain.

    kafka-python tries again until its time is up, whatever the cause, and then does not tell it.
    """

    last_failure: BaseException | None = None

    def update_backoff(self, node_id: Any) -> Any:
        """Called where a failed connection is handled."""
        failure = sys.exception()
        if failure is not None:
            self.last_failure = failure
            if isinstance(_root(failure), _HOPELESS):
                raise failure
        return super().update_backoff(node_id)


class _NetClient(KafkaNetClient):  # type: ignore[misc]
    """The client that all of kafka-python's are built on, with our manager in it."""

    def __init__(self, **options: Any) -> None:
        net = NetworkSelector(**options)
        super().__init__(net=net, manager=_Manager(net, **options), **options)


def connection_options(settings: Settings, client_id: str) -> dict[str, Any]:
    """Keyword arguments that all clients of kafka-python take.

    Raises:
        ValueError: the log is not Kafka.
        SettingsError: the settings contradict each other, or name a file that cannot be used.
    """
    if not settings.log.bootstrap_servers:
        raise ValueError(f"the log {settings.log_url} is not Kafka")
    if find_spec("crc32c") is None:
        warnings.warn(
            "crc32c is missing, so Kafka is six times slower: pip install 'kafka-python[crc32c]'",
            RuntimeWarning,
            stacklevel=2,
        )
    timeout_ms = int(settings.kafka_timeout_seconds * 1000)
    options: dict[str, Any] = {
        "bootstrap_servers": list(settings.log.bootstrap_servers),
        "client_id": client_id,
        "security_protocol": settings.kafka_security_protocol,
        "request_timeout_ms": timeout_ms,
        "bootstrap_timeout_ms": timeout_ms,
        "reconnect_backoff_ms": 50,
        "reconnect_backoff_max_ms": 1_000,
        "retry_backoff_ms": 100,
        "kafka_client": _NetClient,
    }
    if settings.kafka_security_protocol.endswith("SSL"):
        options["ssl_context"] = _ssl_context(settings)
    if settings.kafka_security_protocol.startswith("SASL"):
        options |= _sasl_options(settings)
    return options


def open_client(
    kind: Callable[..., _Client], settings: Settings, client_id: str, **options: Any
) -> _Client:
    """Make a client of kafka-python (``KafkaProducer``, ``KafkaConsumer``, ``KafkaAdminClient``).

    It is connected when it comes back. ``options`` go before those of ``connection_options``.

    Raises:
        LogError: no broker answered within the setting's time, or they refused us; nothing of
            the client is left then.
        SettingsError: see ``connection_options``.
    """
    made: list[_NetClient] = []

    def make(**given: Any) -> _NetClient:
        made.append(_NetClient(**given))
        return made[-1]

    together = connection_options(settings, client_id) | {"kafka_client": make} | options
    try:
        return kind(**together)
    except kafka_errors.KafkaError as error:
        cause = error
        for client in made:
            if isinstance(error, kafka_errors.KafkaTimeoutError):
                cause = client._manager.last_failure or error
            client.close()
        raise LogError(connection_problem(settings, cause)) from error


def create_topics(
    admin: Any, topics: Iterable[str], configs: Mapping[str, str] | None = None
) -> None:
    """Make topics with one partition and as many replicas as brokers make by default.

    One that is there already stays as it is. Not every broker knows the new ones at once.

    Raises:
        kafka.errors.KafkaError: one cannot be made.
    """
    one = {"num_partitions": 1, "replication_factor": -1, "configs": dict(configs or {})}
    wanted = dict.fromkeys(topics, one)
    for made in admin.create_topics(wanted, raise_errors=False)["topics"]:
        error = kafka_errors.for_code(made["error_code"])
        if error not in (kafka_errors.NoError, kafka_errors.TopicAlreadyExistsError):
            raise error(f"topic {made['name']} is not made: {made.get('error_message') or ''}")


def connection_problem(settings: Settings, error: BaseException) -> str:
    """One line on why no connection came about, with what to do; holds no secret."""
    servers = settings.log.servers
    user = settings.kafka_sasl_username
    root, protocol = _root(error), settings.kafka_security_protocol
    if isinstance(root, kafka_errors.SaslAuthenticationFailedError):
        return (
            f"Kafka at {servers} refuses user {user!r}: check {PREFIX}KAFKA_SASL_USERNAME, "
            f"{PREFIX}KAFKA_SASL_PASSWORD and {PREFIX}KAFKA_SASL_MECHANISM "
            f"({settings.kafka_sasl_mechanism})"
        )
    if isinstance(root, ssl.SSLCertVerificationError):
        return (
            f"Kafka at {servers} has a certificate that cannot be trusted "
            f"({root.verify_message}): check {PREFIX}KAFKA_SSL_CA_FILE and the name in the address"
        )
    if isinstance(root, _HOPELESS):
        return (
            f"Kafka at {servers} does not speak {protocol} with {settings.kafka_sasl_mechanism}: "
            f"check {PREFIX}KAFKA_SECURITY_PROTOCOL and {PREFIX}KAFKA_SASL_MECHANISM"
        )
    waited = f"{settings.kafka_timeout_seconds:g} seconds"
    text = f"Kafka at {servers} did not answer within {waited} ({_short(root)}): is it running"
    garbled = isinstance(root, ssl.SSLError | kafka_errors.KafkaProtocolError)
    if garbled or "disconnected" in str(root):
        # A broker may hang up so fast that its refusal is lost.
        text += f", is {PREFIX}KAFKA_SECURITY_PROTOCOL={protocol} what it speaks there"
    if protocol.startswith("SASL"):
        text += f", and are user {user!r} and the password right"
    return f"{text}?"


def _ssl_context(settings: Settings) -> ssl.SSLContext:
    """Made here and not by kafka-python, which finds a bad file only when it connects."""
    ca_file, cert_file = settings.kafka_ssl_ca_file, settings.kafka_ssl_cert_file
    key_file = settings.kafka_ssl_key_file
    for name, file in (("CA", ca_file), ("CERT", cert_file), ("KEY", key_file)):
        if file and not Path(file).is_file():
            raise SettingsError(f"{PREFIX}KAFKA_SSL_{name}_FILE is {file!r}: there is no such file")
    if key_file and not cert_file:
        raise SettingsError(
            f"{PREFIX}KAFKA_SSL_KEY_FILE is set but {PREFIX}KAFKA_SSL_CERT_FILE is not: set both"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if ca_file:
            context.load_verify_locations(ca_file)
        else:
            context.load_default_certs()
    except OSError as error:
        raise SettingsError(
            f"{PREFIX}KAFKA_SSL_CA_FILE is {ca_file!r}: no certificates in PEM ({_short(error)})"
        ) from None
    if cert_file:
        # An empty password, unlike None, keeps OpenSSL from asking for one on the terminal.
        password = settings.kafka_ssl_key_password.get_secret_value()
        try:
            context.load_cert_chain(cert_file, key_file or None, password)
        except OSError as error:
            raise SettingsError(
                f"{PREFIX}KAFKA_SSL_CERT_FILE and _KEY_FILE ({cert_file!r}, {key_file!r}) are not "
                f"a certificate and its key in PEM, or {PREFIX}KAFKA_SSL_KEY_PASSWORD is wrong "
                f"({_short(error)})"
            ) from None
    return context


def _sasl_options(settings: Settings) -> dict[str, Any]:
    protocol = settings.kafka_security_protocol
    password = settings.kafka_sasl_password.get_secret_value()
    for name, value in (("USERNAME", settings.kafka_sasl_username), ("PASSWORD", password)):
        if not value:
            raise SettingsError(
                f"{PREFIX}KAFKA_SASL_{name} is not set: {PREFIX}KAFKA_SECURITY_PROTOCOL="
                f"{protocol} needs it"
            )
    return {
        "sasl_mechanism": settings.kafka_sasl_mechanism,
        "sasl_plain_username": settings.kafka_sasl_username,
        "sasl_plain_password": password,
    }


def _root(error: BaseException) -> BaseException:
    """What stands behind an error: kafka-python wraps failed handshakes in text."""
    known = error.__context__
    return known if isinstance(known, ssl.SSLError) else error


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
