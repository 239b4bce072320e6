"""Traces of calls, by a setting; OpenTelemetry is loaded only where they are wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlsplit

from contracts.scorer_settings import ScorerSettings
from scorer.calls import Call, Context
from scorer.errors import ConfigurationError

_SETTING = "HEADWATER_TRACES_ENDPOINT"
# Where collectors listen for OTLP over gRPC.
_DEFAULT_PORT = 4317


class Traces(Protocol):
    """A ``Witness`` that sends what it saw to a collector."""

    def begun(self, call: Call, context: Context) -> None:
        """A call has come."""
        ...

    def ended(self, call: Call) -> None:
        """It is over."""
        ...

    async def stop(self, timeout_seconds: float) -> None:
        """Send what is left, no longer than that."""
        ...


def open_traces(settings: ScorerSettings, dropped: Callable[[str, int], None]) -> Traces | None:
    """The traces that the settings ask for; None if they ask for none.

    The collector need not be there. Headers (for its token) and certificates come from
    OpenTelemetry's own variables, such as ``OTEL_EXPORTER_OTLP_HEADERS``.

    Args:
        settings: endpoint and share.
        dropped: called, from any thread, with the reason (``full``, ``collector`` or ``stopped``)
            and the number of spans that are lost.

    Raises:
        ConfigurationError: the extra is not installed, or the endpoint cannot be one.
    """
    if not settings.traces_endpoint:
        return None
    address, secure = _collector(settings.traces_endpoint)
    try:
        from scorer import spans
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("opentelemetry"):
            raise
        raise ConfigurationError(
            f"{_SETTING} is set, but OpenTelemetry is not installed: run"
            " pip install '.[traces]' in the repository of Headwater, or leave the setting empty"
        ) from error
    exporter = spans.secure_exporter if secure else spans.plain_exporter
    return spans.SpanTraces(exporter(address), settings.traces_share, dropped)


def _collector(endpoint: str) -> tuple[str, bool]:
    """Address (``host:port``) and whether it is to be called with TLS."""
    parts = urlsplit(endpoint)
    try:
        port = parts.port or _DEFAULT_PORT
    except ValueError:
        raise ConfigurationError(f"{_SETTING} has a port that cannot be; say 1 to 65535") from None
    # The text is not shown: what stands there is meant to be secret.
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(
            f"{_SETTING} names a user, which OTLP has no place for; give the collector's token in"
            " OTEL_EXPORTER_OTLP_HEADERS"
        )
    host = parts.hostname or ""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}", parts.scheme == "https"
