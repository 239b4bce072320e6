"""Keys, certificates and tokens that a test makes for itself."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc
import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

ISSUER = "https://issuer.test"
AUDIENCE = "headwater-scorer"
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Identity:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        """As it stands in a file."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """As it stands in a file."""
        return key_pem(self.key)

    def write(self, folder: Path, name: str) -> tuple[str, str]:
        """Write both; gives the paths of certificate and key."""
        paths = folder / f"{name}.pem", folder / f"{name}.key"
        paths[0].write_bytes(self.certificate_pem)
        paths[1].write_bytes(self.key_pem)
        return str(paths[0]), str(paths[1])

    def signs(self, name: str, *others: str) -> Identity:
        """A certificate for ``name``, valid for these other names and addresses too."""
        return _identity(name, others, self)

    def channel(self, root: Identity) -> grpc.ChannelCredentials:
        """Credentials of a client that shows this certificate and trusts ``root``."""
        return grpc.ssl_channel_credentials(
            root.certificate_pem, self.key_pem, self.certificate_pem
        )


def authority(name: str = "root") -> Identity:
    """Somebody who signs certificates."""
    return _identity(name, (), None)


def key_pem(key: Key) -> bytes:
    """A private key as it stands in a file."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def ec_key() -> ec.EllipticCurvePrivateKey:
    """A new key for ES256."""
    return ec.generate_private_key(ec.SECP256R1())


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """A new key for RS256."""
    return rsa.generate_private_key(65537, bits)


def jwk(key: Key, kid: str, **change: object) -> dict[str, Any]:
    """The public half as an entry of a JWKS file."""
    kind: Any = jwt.algorithms.ECAlgorithm if _is_ec(key) else jwt.algorithms.RSAAlgorithm
    found: dict[str, Any] = kind.to_jwk(key.public_key(), as_dict=True)
    return {**found, "kid": kid, **change}


def jwks(*keys: dict[str, Any]) -> bytes:
    """A JWKS file."""
    return json.dumps({"keys": keys}).encode()


def claims(now: float, **change: object) -> dict[str, Any]:
    """Claims that hold at ``now``; a changed one that is None is left out."""
    whole = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ann",
        "iat": int(now),
        "exp": int(now) + 60,
        "headwater_models": ["fraud"],
        **change,
    }
    return {name: value for name, value in whole.items() if value is not None}


def token(key: Key, kid: str, content: dict[str, Any], **header: object) -> str:
    """A token that is signed as the key is for."""
    algorithm = "ES256" if _is_ec(key) else "RS256"
    return jwt.encode(content, key, algorithm, {"kid": kid, **header})


def raw_token(header: object, payload: object, signature: bytes = b"x") -> str:
    """Anything in the form of a token; bytes are taken as they are."""
    parts = [
        one if isinstance(one, bytes) else json.dumps(one).encode() for one in (header, payload)
    ]
    return ".".join(urlsafe_b64encode(one).rstrip(b"=").decode() for one in (*parts, signature))


def _is_ec(key: Key) -> bool:
    return isinstance(key, ec.EllipticCurvePrivateKey)


def _identity(name: str, others: Sequence[str], signer: Identity | None) -> Identity:
    key = ec_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer.certificate.subject if signer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
    )
    if others:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_general_name(one) for one in others]), critical=False
        )
    return Identity(builder.sign(signer.key if signer else key, hashes.SHA256()), key)


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)
