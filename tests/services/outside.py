"""Services that somebody else runs, named by KAFKA_BOOTSTRAP_SERVERS and REDIS_URL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class OutsideKafka:
    """Kafka that is there already: as much of KafkaBroker as a test of the shared one may use.

    Attributes:
        bootstrap_servers: ``host:port[,host:port]``.
    """

    bootstrap_servers: str

    @classmethod
    def named_in(cls, environment: Mapping[str, str]) -> OutsideKafka | None:
        """What KAFKA_BOOTSTRAP_SERVERS says; None if it says nothing."""
        servers = environment.get("KAFKA_BOOTSTRAP_SERVERS", "")
        return cls(servers) if servers else None


@dataclass(frozen=True)
class OutsideRedis:
    """Redis that is there already: as much of RedisServer as a test of the shared one may use.

    Attributes:
        host: where it listens.
        port: where it listens.
    """

    host: str
    port: int

    @classmethod
    def named_in(cls, environment: Mapping[str, str]) -> OutsideRedis | None:
        """What REDIS_URL says, ``redis://host[:port][/0]``; None if it says nothing.

        Raises:
            ValueError: it says something else.
        """
        url = environment.get("REDIS_URL", "")
        if not url:
            return None
        parts = urlsplit(url)
        plain = parts.scheme == "redis" and parts.hostname and parts.username is None
        if not plain or parts.password or parts.path not in ("", "/", "/0") or parts.query:
            raise ValueError("REDIS_URL must be redis://host:port, with no password and no number")
        return cls(str(parts.hostname), parts.port or 6379)

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """``redis://host:port/0``."""
        return f"redis://{self.address}/0"
