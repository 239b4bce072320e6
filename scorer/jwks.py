"""Public keys of those who sign tokens, from a JWKS file (RFC 7517). Pure: from bytes to keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

# Type of a key -> the one algorithm it may be used with. Nothing else signs tokens here: no shared
# secrets, so that nobody who can check a token can make one.
ALGORITHMS = {"RSA": "RS256", "EC": "ES256"}
RSA_BITS_MIN = 2048
KEYS_MAX = 100
# Members that only private or shared keys have.
_SECRET = ("d", "p", "q", "dp", "dq", "qi", "oth", "k")


class JwksError(ValueError):
    """The file is no set of public keys that can be used; the text says why, without a key."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that checks signatures.

    Attributes:
        algorithm: the only one it is used with, ``RS256`` or ``ES256``.
        key: as PyJWT takes it.
    """

    algorithm: str
    key: RSAPublicKey | EllipticCurvePublicKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeySet:
    """What a JWKS file holds.

    Attributes:
        keys: those that can be used, by ``kid``.
        left_out: why each of the others cannot; they may be there for somebody else.
    """

    keys: Mapping[str, PublicKey]
    left_out: tuple[str, ...]


def read_jwks(content: bytes) -> KeySet:
    """The keys of a JWKS file.

    Raises:
        JwksError: it is no JWKS, holds a secret, two keys of one ``kid``, or none that can be used.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise JwksError("is not JSON") from error
    listed = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(listed, list):
        raise JwksError('is no JWKS: it must be {"keys": [...]}')
    if len(listed) > KEYS_MAX:
        raise JwksError(f"has {len(listed)} keys, at most {KEYS_MAX}")
    keys: dict[str, PublicKey] = {}
    left_out = []
    for position, one in enumerate(listed):
        if isinstance(one, dict) and any(member in one for member in _SECRET):
            raise JwksError(f"keys[{position}] holds a secret: put only public keys there")
        reason = _unfit(one)
        if reason:
            left_out.append(f"keys[{position}]: {reason}")
        elif one["kid"] in keys:
            raise JwksError(f"keys[{position}] has the kid of another key: give each its own")
        else:
            try:
                keys[one["kid"]] = _public_key(one)
            except JwksError as error:
                left_out.append(f"keys[{position}]: {error}")
    if not keys:
        reasons = "; ".join(left_out) or "it is empty"
        raise JwksError(f"has no key that can be used ({reasons:.500})")
    return KeySet(keys, tuple(left_out))


def _unfit(one: Any) -> str:
    """Why this is no key for RS256 or ES256 tokens, by what it says about itself; or nothing."""
    if not isinstance(one, dict):
        return "not an object"
    kind = one.get("kty")
    wanted = ALGORITHMS.get(kind) if isinstance(kind, str) else None
    if wanted is None:
        return "kty is neither RSA nor EC"
    name = one.get("kid")
    if not isinstance(name, str) or not name:
        return "has no kid"
    if one.get("alg", wanted) != wanted:
        return f"alg is not {wanted}"
    if one.get("use", "sig") != "sig":
        return "use is not sig"
    operations = one.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return "key_ops does not have verify"
    if kind == "EC" and one.get("crv") != "P-256":
        return "crv is not P-256"
    return ""


def _public_key(one: dict[str, Any]) -> PublicKey:
    algorithm = ALGORITHMS[one["kty"]]
    try:
        key = jwt.PyJWK(one, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError):
        # What they say holds the key itself.
        raise JwksError("its numbers are no key") from None
    if isinstance(key, RSAPublicKey):
        if key.key_size < RSA_BITS_MIN:
            raise JwksError(f"has {key.key_size} bits, at least {RSA_BITS_MIN}")
    elif not (isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)):
        raise JwksError("its numbers are no key")
    return PublicKey(algorithm, key)
