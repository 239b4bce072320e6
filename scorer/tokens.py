"""Callers who show a bearer token: a JWT that somebody whose public key we have has signed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jwt

from scorer.callers import Caller, Metadata, Peer
from scorer.errors import UnauthenticatedError
from scorer.jwks import KeySet, PublicKey

# Below the 8 KiB at which gRPC begins to refuse a call's metadata by itself.
TOKEN_BYTES_MAX = 6 * 1024
# Verified tokens that are remembered; the oldest goes first.
REMEMBERED_MAX = 10_000
# How far ahead of ours the issuer's clock may be.
CLOCK_AHEAD_SECONDS_MAX = 5.0
MODELS_CLAIM = "headwater_models"
ALL_MODELS = "*"
_NAME_CHARACTERS_MAX = 200
# Year 9999. JSON may have infinities, and whole numbers of any size.
_SECONDS_MAX = 253_402_300_799
_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
# Times are compared with our own clock, which is the one that is passed in.
_OPTIONS: Any = {
    "require": ["exp", "iss", "aud"],
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
}
# Reason (a word for metrics) -> what the caller is told. Nothing of a token is ever repeated.
_TEXTS = {
    "missing": "this scorer asks who calls: send one `authorization: Bearer TOKEN` with each call",
    "several": "more than one authorization header: send one",
    "malformed": "the authorization header is not `Bearer` and a JWT: look at how it is made",
    "too_long": f"the token has more than {TOKEN_BYTES_MAX} bytes: get one with fewer claims",
    "unknown_key": "the token names no key (kid) that this scorer has: get a new token",
    "algorithm": "the token is not signed with RS256 or ES256 as its key is for: get another",
    "signature": "the token's signature does not fit its key: get a new token",
    "expired": "the token has expired: get a new one",
    "not_yet": "the token is not valid yet: wait, or look at the clocks",
    "issuer": "the token's issuer (iss) is not the one that this scorer trusts: get another",
    "audience": "the token is not meant for this scorer (aud): get one that is",
    "claims": "the token needs exp, iss and aud, and claims of the right types: get another",
}

_REASONS = (
    (jwt.InvalidSignatureError, "signature"),
    (jwt.InvalidIssuerError, "issuer"),
    (jwt.InvalidAudienceError, "audience"),
    (jwt.InvalidAlgorithmError, "algorithm"),
)


class Keys(Protocol):
    """Where the public keys of this moment are."""

    @property
    def value(self) -> KeySet:
        """All of them; another object when they have changed."""
        ...


class _Known(NamedTuple):
    caller: Caller
    expires: float


class TokenCallers:
    """``Callers`` who are known by their tokens.

    A token that was verified once is known until it expires or the keys change: verifying takes
    longer than the rest of the check together.
    """

    def __init__(
        self,
        keys: Keys,
        issuer: str,
        audience: str,
        clock: Callable[[], float],
        refused: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """Accept tokens of one issuer, for one audience.

        Args:
            keys: of those who sign.
            issuer: what ``iss`` must be.
            audience: what ``aud`` must be, or hold.
            clock: seconds since 1970.
            refused: is told the reason (a word) of each refusal; must not raise.
        """
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._refused = refused
        self._known: dict[bytes, _Known] = {}
        self._known_with: KeySet | None = None

    def identify(self, metadata: Metadata, peer: Peer) -> Caller:
        """Who the token says it is, with the models that it names.

        Raises:
            UnauthenticatedError: there is no token, more than one, or one that does not hold.
        """
        token = self._token(metadata)
        keys = self._keys.value
        if keys is not self._known_with:
            # A key that was taken out must not live on in what it has signed.
            self._known.clear()
            self._known_with = keys
        # Tokens are secrets: not even memory keeps them.
        mark = hashlib.sha256(token.encode()).digest()
        known = self._known.get(mark)
        now = self._clock()
        if known is None:
            known = self._verified(token, keys, now)
            if len(self._known) >= REMEMBERED_MAX:
                del self._known[next(iter(self._known))]
            self._known[mark] = known
        elif now >= known.expires:
            del self._known[mark]
            raise self._refusal("expired")
        return known.caller

    def _token(self, metadata: Metadata) -> str:
        found = [value for name, value in metadata if name == "authorization"]
        if not found:
            raise self._refusal("missing")
        if len(found) > 1:
            raise self._refusal("several")
        scheme, _, token = str(found[0]).partition(" ")
        if scheme.lower() != "bearer":
            raise self._refusal("malformed")
        if len(token) > TOKEN_BYTES_MAX:
            raise self._refusal("too_long")
        if not _JWT.fullmatch(token):
            raise self._refusal("malformed")
        return token

    def _verified(self, token: str, keys: KeySet, now: float) -> _Known:
        key = self._key(token, keys)
        claims = self._claims(token, key)
        expires, begins = claims["exp"], claims.get("nbf", 0)
        models = claims.get(MODELS_CLAIM, [])
        if not (_is_time(expires) and _is_time(begins)):
            raise self._refusal("claims")
        if not (isinstance(models, list) and all(isinstance(one, str) for one in models)):
            raise self._refusal("claims")
        if now >= expires:
            raise self._refusal("expired")
        if now < begins - CLOCK_AHEAD_SECONDS_MAX:
            raise self._refusal("not_yet")
        name = str(claims.get("sub", ""))[:_NAME_CHARACTERS_MAX]
        allowed = None if ALL_MODELS in models else frozenset(models)
        return _Known(Caller(name, allowed), expires)

    def _key(self, token: str, keys: KeySet) -> PublicKey:
        """The key that the token names, if the token uses it as it is to be used."""
        try:
            header: Mapping[str, Any] = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise self._refusal("malformed") from None
        name = header.get("kid")
        key = keys.keys.get(name) if isinstance(name, str) else None
        if key is None:
            raise self._refusal("unknown_key")
        # PyJWT is told the same below. Taking one kind of key for another is the classic way in.
        if header.get("alg") != key.algorithm:
            raise self._refusal("algorithm")
        return key

    def _claims(self, token: str, key: PublicKey) -> dict[str, Any]:
        """What the token says, if it is signed with that key, and meant for us."""
        try:
            return jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm],
                issuer=self._issuer,
                audience=self._audience,
                options=_OPTIONS,
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            reasons = [reason for kind, reason in _REASONS if isinstance(error, kind)]
            # The cause would show the token in a traceback.
            raise self._refusal(reasons[0] if reasons else "claims") from None

    def _refusal(self, reason: str) -> UnauthenticatedError:
        self._refused(reason)
        return UnauthenticatedError(_TEXTS[reason])


def _is_time(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= _SECONDS_MAX
