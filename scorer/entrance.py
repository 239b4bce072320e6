"""Who may come in, and how: what the settings say about TLS and callers, put together."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from contracts.scorer_settings import ScorerSettings
from contracts.settings import split_address
from scorer.callers import Callers, OpenDoor
from scorer.errors import ConfigurationError
from scorer.reloading import NamedFile, Reloaded, keep_looking

if TYPE_CHECKING:
    import grpc

    from scorer.jwks import KeySet

_log = structlog.get_logger()


@dataclass(frozen=True)
class Entrance:
    """What a server needs to let callers in.

    Attributes:
        callers: finds out who calls.
        credentials: for TLS; None to listen without.
        sources: files that are looked at while it runs.
    """

    callers: Callers
    credentials: grpc.ServerCredentials | None
    sources: tuple[Reloaded[object], ...]

    async def watch(self) -> None:
        """Follow the files of keys and certificates, until cancelled."""
        await keep_looking(self.sources)


def open_entrance(
    settings: ScorerSettings,
    clock: Callable[[], float] = time.time,
    refused: Callable[[str], None] = lambda reason: None,
) -> Entrance:
    """The entrance that the settings describe.

    What is not configured is not imported either: it would make every start slower.

    Args:
        settings: TLS, tokens, and where the scorer listens.
        clock: seconds since 1970, by which tokens expire.
        refused: is told a word for each call that is refused for want of a good token.

    Raises:
        ConfigurationError: settings do not fit together, a file cannot be used, or the scorer
            would be open to others without protection.
    """
    _check_together(settings)
    check_exposure(settings)
    callers: Callers = OpenDoor()
    credentials = None
    sources: list[Reloaded[object]] = []
    if settings.tls_cert_file:
        from scorer.tls import CertificateCallers, server_tls

        tls = server_tls(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)
        credentials = tls.credentials
        sources.append(tls.source)
        if settings.tls_client_ca_file:
            callers = CertificateCallers()
    if settings.jwks_file:
        from scorer.tokens import TokenCallers

        keys = _keys(settings.jwks_file)
        sources.append(keys)
        callers = TokenCallers(keys, settings.jwt_issuer, settings.jwt_audience, clock, refused)
    return Entrance(callers, credentials, tuple(sources))


def check_exposure(settings: ScorerSettings) -> None:
    """Raise ConfigurationError if others could reach the scorer without TLS or without a name."""
    encrypted = bool(settings.tls_cert_file)
    asks_who = bool(settings.jwks_file or settings.tls_client_ca_file)
    if is_loopback(settings.scorer_address) or (encrypted and asks_who):
        return
    if settings.insecure:
        _log.warning(
            "open_to_others", address=settings.scorer_address, tls=encrypted, asks_who=asks_who
        )
        return
    missing = []
    if not encrypted:
        missing.append("HEADWATER_TLS_CERT_FILE and HEADWATER_TLS_KEY_FILE")
    if not asks_who:
        missing.append("HEADWATER_JWKS_FILE or HEADWATER_TLS_CLIENT_CA_FILE")
    raise ConfigurationError(
        f"HEADWATER_SCORER_ADDRESS={settings.scorer_address} can be reached from other machines: "
        f"set {', and '.join(missing)}; or HEADWATER_INSECURE=true in a closed network"
    )


def is_loopback(address: str) -> bool:
    """Whether ``host:port`` can only be reached from this machine, as far as its text tells."""
    host, _ = split_address(address)
    if host.lower() == "localhost":
        return True
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        # What a name stands for may change while the scorer runs.
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped.is_loopback
    return found.is_loopback


def _check_together(settings: ScorerSettings) -> None:
    """Raise ConfigurationError for a setting that does nothing without another one."""
    for given, value, needed in (
        ("TLS_KEY_FILE", settings.tls_key_file, ("tls_cert_file",)),
        ("TLS_CERT_FILE", settings.tls_cert_file, ("tls_key_file",)),
        ("TLS_CLIENT_CA_FILE", settings.tls_client_ca_file, ("tls_cert_file", "tls_key_file")),
        ("JWKS_FILE", settings.jwks_file, ("jwt_issuer", "jwt_audience")),
        ("JWT_ISSUER", settings.jwt_issuer, ("jwks_file",)),
        ("JWT_AUDIENCE", settings.jwt_audience, ("jwks_file",)),
    ):
        missing = [name for name in needed if value and not getattr(settings, name)]
        if missing:
            names = " and ".join(f"HEADWATER_{name.upper()}" for name in missing)
            raise ConfigurationError(f"HEADWATER_{given} is set, but not {names}: set both")


def _keys(jwks_file: str) -> Reloaded[KeySet]:
    from scorer.jwks import JwksError, read_jwks

    file = NamedFile("HEADWATER_JWKS_FILE", Path(jwks_file))

    def made(contents: Sequence[bytes]) -> KeySet:
        try:
            keys = read_jwks(contents[0])
        except JwksError as error:
            raise ConfigurationError(f"{file.setting}={file.path}: {error}") from None
        if keys.left_out:
            _log.warning("jwks_keys_left_out", reasons=keys.left_out)
        return keys

    return Reloaded([file], made)
