"""How a client connects: TLS, token, and what gRPC's channel is told."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from scorer.client_retries import SOME_TRIES, Retries

if TYPE_CHECKING:
    from contracts.settings import ClientSettings

Token = str | Callable[[], str | Awaitable[str]]
Metadata = tuple[tuple[str, str], ...]

# What a header may hold. gRPC would refuse others with an error that repeats them.
_TOKEN = re.compile(r"[\x21-\x7e]+")
_HOST = re.compile(r"(?:\[(?P<ip6>[^\]]*)\]|(?P<host>[^:]*)):[0-9]+")

CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    # A scorer that restarts is back in a second; gRPC alone would wait up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.min_reconnect_backoff_ms", 3_000),
    # A peer that vanished without a word is noticed by calls that wait long, such as streams.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Where a name stands for several scorers, all of them are used.
    ("grpc.lb_policy_name", "round_robin"),
    # gRPC would give all clients of a process one connection, and so one process of the scorer.
    ("grpc.use_local_subchannel_pool", 1),
    # The caller decides how many rows it asks for; its own answer should not be refused.
    ("grpc.max_receive_message_length", 1024 * 1024 * 1024),
    ("grpc.primary_user_agent", "headwater"),
)


@dataclass(frozen=True)
class Tls:
    """Whom to trust, and who we are; PEM all of it.

    Attributes:
        ca_pem: certificates of those who sign the scorer's; None for the system's own.
        cert_pem: our certificate and those between it and its root; None for none.
        key_pem: its private key.
        server_name: name that the scorer's certificate must have; empty for that of the address.
    """

    ca_pem: bytes | None = None
    cert_pem: bytes | None = field(default=None, repr=False)
    key_pem: bytes | None = field(default=None, repr=False)
    server_name: str = ""

    def __post_init__(self) -> None:
        """A certificate and its key come together."""
        if (self.cert_pem is None) != (self.key_pem is None):
            raise ValueError(
                "a client certificate needs its private key, and the key it: give both"
            )

    @classmethod
    def from_files(
        cls, ca_file: str = "", cert_file: str = "", key_file: str = "", server_name: str = ""
    ) -> Tls:
        """From files, each empty for none; OSError if one cannot be read."""
        ca, cert, key = (
            Path(file).read_bytes() if file else None for file in (ca_file, cert_file, key_file)
        )
        return cls(ca, cert, key, server_name)


@dataclass(frozen=True)
class ClientOptions:
    """What a client may be told beside the address and the deadline.

    Attributes:
        retries: when a call is tried again.
        tls: None for a connection that anybody on the way can read.
        token: bearer token that goes with each try: text, or a function that is asked for it at
            each try. It must be quick: keep the token while it holds. Clients of asyncio also take
            functions whose result is awaited. None for none.
    """

    retries: Retries = SOME_TRIES
    tls: Tls | None = None
    token: Token | None = field(default=None, repr=False)

    @classmethod
    def from_settings(cls, settings: ClientSettings) -> ClientOptions:
        """As the environment says; OSError if a file cannot be read."""
        files = (settings.scorer_ca_file, settings.scorer_cert_file, settings.scorer_key_file)
        tls = Tls.from_files(*files) if settings.scorer_tls or any(files) else None
        return cls(tls=tls, token=settings.scorer_token.get_secret_value() or None)

    def check(self, address: str) -> None:
        """Raise ValueError if these options must not be used with that address."""
        if isinstance(self.token, str):
            bearer(self.token)
        if self.token is not None and self.tls is None and not _stays_here(address):
            raise ValueError(
                f"no token goes to {address} without TLS, which everybody on the way could use: "
                "give tls=Tls(), or set HEADWATER_SCORER_TLS=true"
            )

    def channel_options(self) -> tuple[tuple[str, int | str], ...]:
        """What gRPC's channel is told."""
        if self.tls is None or not self.tls.server_name:
            return CHANNEL_OPTIONS
        return (*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", self.tls.server_name))

    def credentials(self) -> grpc.ChannelCredentials | None:
        """For a channel with TLS; None for one without."""
        if self.tls is None:
            return None
        return grpc.ssl_channel_credentials(self.tls.ca_pem, self.tls.key_pem, self.tls.cert_pem)


CLIENT_DEFAULTS = ClientOptions()


def bearer(token: str) -> Metadata:
    """The header for a token; ValueError, without the token, for one that cannot be sent."""
    if not _TOKEN.fullmatch(token):
        raise ValueError("the token is empty, or has characters that no header may have")
    return (("authorization", f"Bearer {token}"),)


def _stays_here(address: str) -> bool:
    """Whether what is sent to the address does not leave this machine."""
    if address.startswith("unix:"):
        return True
    found = _HOST.fullmatch(address)
    if found is None:
        return False
    host = found["ip6"] or found["host"] or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
