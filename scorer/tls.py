"""TLS for the scorer: our certificate, and callers who show one of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from scorer.callers import Caller, Metadata, Peer
from scorer.errors import ConfigurationError, UnauthenticatedError
from scorer.reloading import NamedFile, Reloaded

_log = structlog.get_logger()
_NAME_CHARACTERS_MAX = 200
_RSA_BITS_MIN = 2048
# With others gRPC starts, and then fails each handshake without a word.
_CURVES = (ec.SECP256R1, ec.SECP384R1)
_Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class TlsFiles:
    """Where certificates and keys are (PEM), each with the setting that names it.

    Attributes:
        certificate: ours, and those between it and its root.
        key: its private key.
        client_ca: who signs callers' certificates; None for callers without.
    """

    certificate: NamedFile
    key: NamedFile
    client_ca: NamedFile | None


@dataclass(frozen=True, eq=False)
class Certificates:
    """Contents of the files, which fit together. Compared by identity.

    Attributes:
        chain: our certificate and those above it, PEM.
        key: private key, PEM.
        client_ca: who signs callers' certificates, PEM; None for callers without.
    """

    chain: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None


class ServerTls:
    """Credentials of a server, which follow their files: new connections get what is new."""

    def __init__(self, files: TlsFiles) -> None:
        """Read the files; ConfigurationError names the setting of the one that cannot be used."""
        self._files = files
        listed = [files.certificate, files.key]
        if files.client_ca is not None:
            listed.append(files.client_ca)
        self.source: Reloaded[Certificates] = Reloaded(listed, self._made)
        self._given = self.source.value
        self.credentials: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
            _configuration(self._given),
            self._changed,  # type: ignore[arg-type] # they forget None, which is no change
            require_client_authentication=files.client_ca is not None,
        )

    def _made(self, contents: Sequence[bytes]) -> Certificates:
        chain = _certificates(self._files.certificate, contents[0])
        key = _private_key(self._files.key, contents[1])
        certificate = self._files.certificate
        if _public(chain[0]) != _public(key):
            raise ConfigurationError(
                f"{self._files.key.setting}={self._files.key.path}: is not the key of the "
                f"certificate in {certificate.setting}={certificate.path}: name the one that is"
            )
        client_ca = None
        if self._files.client_ca is not None:
            client_ca = contents[2]
            _certificates(self._files.client_ca, client_ca)
        _log.info("tls_certificate", expires=chain[0].not_valid_after_utc.isoformat())
        return Certificates(contents[0], contents[1], client_ca)

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """For gRPC, which asks before each handshake: what is new, or None."""
        current = self.source.value
        if current is self._given:
            return None
        self._given = current
        return _configuration(current)


class CertificateCallers:
    """``Callers`` who are known by the certificate of their connection, and may use everything."""

    def identify(self, metadata: Metadata, peer: Peer) -> Caller:
        """Who the certificate says it is: its common name, or else its first other name.

        Raises:
            UnauthenticatedError: the connection came without a certificate.
        """
        known = peer()
        for kind in ("x509_common_name", "x509_subject_alternative_name"):
            for name in filter(None, known.get(kind, ())):
                return Caller(name.decode(errors="replace")[:_NAME_CHARACTERS_MAX], None)
        if not any(True for _ in known.get("x509_pem_cert", ())):
            raise UnauthenticatedError("this scorer asks for a certificate: connect with one")
        return Caller("", None)


def server_tls(certificate: str, key: str, client_ca: str) -> ServerTls:
    """TLS by the settings of these names; ConfigurationError if a file cannot be used."""
    return ServerTls(
        TlsFiles(
            NamedFile("HEADWATER_TLS_CERT_FILE", Path(certificate)),
            NamedFile("HEADWATER_TLS_KEY_FILE", Path(key)),
            NamedFile("HEADWATER_TLS_CLIENT_CA_FILE", Path(client_ca)) if client_ca else None,
        )
    )


def name_in(file: NamedFile, content: bytes) -> str:
    """A name under which the certificate in the file is valid; ConfigurationError without one."""
    certificate = _certificates(file, content)[0]
    names: list[str] = []
    with contextlib.suppress(x509.ExtensionNotFound):
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names += found.get_values_for_type(x509.DNSName)
        names += [str(one) for one in found.get_values_for_type(x509.IPAddress)]
    common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    names += [str(one.value) for one in common]
    if not names:
        raise ConfigurationError(f"{file.setting}={file.path}: the certificate names no host")
    return names[0]


def _configuration(certificates: Certificates) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(certificates.key, certificates.chain)], certificates.client_ca
    )


def _certificates(file: NamedFile, content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except (ValueError, UnsupportedAlgorithm):
        reason = "holds no certificate in PEM: name a file that does"
    raise ConfigurationError(f"{file.setting}={file.path}: {reason}")


def _private_key(file: NamedFile, content: bytes) -> _Key:
    reason = "gRPC serves only RSA from 2048 bits on, and EC on P-256 or P-384: make such a key"
    try:
        key = serialization.load_pem_private_key(content, None)
        if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _RSA_BITS_MIN:
            return key
        if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, _CURVES):
            return key
    except TypeError:
        reason = "is locked with a password: give the key without one"
    except (ValueError, UnsupportedAlgorithm):
        reason = "holds no private key in PEM: name a file that does"
    raise ConfigurationError(f"{file.setting}={file.path}: {reason}")


def _public(holder: x509.Certificate | _Key) -> bytes:
    """The public key, in a form in which keys can be compared; empty for one that is not known."""
    try:
        return holder.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    except (ValueError, UnsupportedAlgorithm):
        return b""
