"""Bearer tokens: which ones hold, which do not, and that nothing of them is told."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from scorer.callers import Caller, Metadata
from scorer.errors import ForbiddenError, UnauthenticatedError
from scorer.jwks import KeySet, read_jwks
from scorer.tokens import CLOCK_AHEAD_SECONDS_MAX, REMEMBERED_MAX, TOKEN_BYTES_MAX, TokenCallers
from tests.scorer.credentials import (
    AUDIENCE,
    ISSUER,
    Key,
    claims,
    ec_key,
    jwk,
    jwks,
    raw_token,
    rsa_key,
    token,
)

NOW = 1_700_000_000.0
RSA, EC, STRANGER = rsa_key(), ec_key(), ec_key()


@dataclass
class Held:
    """Keys that a test may exchange."""

    value: KeySet


class World:
    """Callers by token, with a clock that stands still until it is moved."""

    def __init__(self) -> None:
        """Knows an RSA key ``r`` and an EC key ``e``."""
        self.now = NOW
        self.reasons: list[str] = []
        self.held = Held(read_jwks(jwks(jwk(RSA, "r"), jwk(EC, "e"))))
        self.callers = TokenCallers(
            self.held, ISSUER, AUDIENCE, lambda: self.now, self.reasons.append
        )

    def caller(self, *values: str) -> Caller:
        """Who sends these authorization headers."""
        metadata: Metadata = [("user-agent", "test"), *(("authorization", one) for one in values)]
        return self.callers.identify(metadata, _nobody)

    def refusal(self, *values: str) -> str:
        """The word for why these headers are refused."""
        with pytest.raises(UnauthenticatedError) as caught:
            self.caller(*values)
        assert "\n" not in str(caught.value)
        for value in values:
            for part in value.removeprefix("Bearer ").split("."):
                assert len(part) < 7 or part not in str(caught.value)
        assert len(self.reasons) == 1
        return self.reasons.pop()


def _nobody() -> Mapping[str, list[bytes]]:
    return {}


def bearer(key: Key, kid: str, **change: object) -> str:
    """A header with a token that holds, but for what is changed."""
    return "Bearer " + token(key, kid, claims(NOW, **change))


@pytest.mark.parametrize(("key", "kid"), [(RSA, "r"), (EC, "e")])
def test_a_good_token_names_its_caller(key: Key, kid: str) -> None:
    """The subject is the name, and the claim has the models; a second time it is remembered."""
    world = World()
    header = bearer(key, kid)
    caller = world.caller(header)
    assert caller == Caller("ann", frozenset({"fraud"}))
    assert world.caller(header) is caller
    assert world.caller(header.replace("Bearer", "bearer")) is caller
    caller.check("fraud")
    with pytest.raises(ForbiddenError, match="late_arrival"):
        caller.check("late_arrival")


@pytest.mark.parametrize(
    ("claim", "models"),
    [(None, frozenset()), ([], frozenset()), (["a", "*"], None), (["a"], frozenset({"a"}))],
)
def test_models_are_those_of_the_claim(
    claim: list[str] | None, models: frozenset[str] | None
) -> None:
    """No claim is no model, a star is all of them."""
    assert World().caller(bearer(EC, "e", headwater_models=claim)).models == models


def _confused(key: Key, form: str) -> str:
    """An HS256 token whose secret is the public key, as a careless server would accept it."""
    public = key.public_key()
    secret = {
        "pem": lambda: public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        "der": lambda: public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        "jwk": lambda: json.dumps(jwk(key, "r")).encode(),
    }[form]()
    unsigned = raw_token({"alg": "HS256", "typ": "JWT", "kid": "r"}, claims(NOW)).rsplit(".", 1)[0]
    digest = hmac.new(secret, unsigned.encode(), hashlib.sha256).digest()
    return unsigned + "." + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _signed(key: Key, algorithm: str, **header: object) -> str:
    return jwt.encode(claims(NOW), key, algorithm, headers=header)


def _changed(part: int, good: str) -> str:
    parts = good.split(".")
    payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=="))
    if part == 1:
        payload["headwater_models"] = ["*"]
        parts[1] = base64.urlsafe_b64encode(json.dumps(payload).encode()).rstrip(b"=").decode()
    else:
        parts[2] = ("B" if parts[2][0] != "B" else "C") + parts[2][1:]
    return ".".join(parts)


FORGED: dict[str, tuple[str, str]] = {
    "none without a signature": (raw_token({"alg": "none"}, claims(NOW), b""), "malformed"),
    "none with the name of a key": (
        raw_token({"alg": "none", "kid": "r"}, claims(NOW)),
        "algorithm",
    ),
    "None in other letters": (raw_token({"alg": "nOnE", "kid": "e"}, claims(NOW)), "algorithm"),
    "public key as secret, PEM": (_confused(RSA, "pem"), "algorithm"),
    "public key as secret, DER": (_confused(RSA, "der"), "algorithm"),
    "public key as secret, JWK": (_confused(RSA, "jwk"), "algorithm"),
    "RSA with another hash": (_signed(RSA, "RS512", kid="r"), "algorithm"),
    "RSA with another padding": (_signed(RSA, "PS256", kid="r"), "algorithm"),
    "EC token that names the RSA key": (_signed(EC, "ES256", kid="r"), "algorithm"),
    "RSA token that names the EC key": (_signed(RSA, "RS256", kid="e"), "algorithm"),
    "a signature of nobody": (
        raw_token({"alg": "RS256", "kid": "r"}, claims(NOW), b"x" * 256),
        "signature",
    ),
    "a signature of no length": (raw_token({"alg": "ES256", "kid": "e"}, claims(NOW)), "signature"),
    "a signature of zeros": (
        raw_token({"alg": "ES256", "kid": "e"}, claims(NOW), bytes(64)),
        "signature",
    ),
    "another one's key under a known name": (_signed(STRANGER, "ES256", kid="e"), "signature"),
    "key brought along": (
        _signed(STRANGER, "ES256", kid="e", jwk=jwk(STRANGER, "e")),
        "signature",
    ),
    "address of a key brought along": (
        _signed(STRANGER, "ES256", kid="x", jku="https://evil.test/jwks"),
        "unknown_key",
    ),
    "unknown kid": (_signed(EC, "ES256", kid="other"), "unknown_key"),
    "no kid": (_signed(EC, "ES256"), "unknown_key"),
    "kid that is a path": (_signed(EC, "ES256", kid="../../dev/null"), "unknown_key"),
    "kid that is a number": (raw_token({"alg": "ES256", "kid": 1}, claims(NOW)), "malformed"),
    "kid that is a list": (raw_token({"alg": "ES256", "kid": ["e"]}, claims(NOW)), "malformed"),
    "claims changed": (_changed(1, token(EC, "e", claims(NOW))), "signature"),
    "signature changed": (_changed(2, token(RSA, "r", claims(NOW))), "signature"),
    "extension that must be understood": (
        _signed(EC, "ES256", kid="e", crit=["exp"], exp=1),
        "malformed",
    ),
    "header is a list": (raw_token([], claims(NOW)), "malformed"),
    "header is a number": (raw_token(1, claims(NOW)), "malformed"),
    "header is not JSON": (raw_token(b"{", claims(NOW)), "malformed"),
    "header is no text": (raw_token(b"\xff\xfe", claims(NOW)), "malformed"),
    "header is too deep": (raw_token(b"[" * 3_000, {}), "malformed"),
    "header has a huge number": (raw_token(b'{"x":' + b"9" * 4_400 + b"}", {}), "malformed"),
    "two parts": ("aaaa.bbbb", "malformed"),
    "five parts, encrypted": ("aaaa.bbbb.cccc.dddd.eeee", "malformed"),
    "blanks around it": (" " + token(EC, "e", claims(NOW)), "malformed"),
    "two in one": (token(EC, "e", claims(NOW)) + ", Bearer x", "malformed"),
    "a line break after it": (token(EC, "e", claims(NOW)) + "\n", "malformed"),
    "nothing": ("", "malformed"),
    "too long": ("a" * TOKEN_BYTES_MAX + ".b.c", "too_long"),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_tokens_are_refused(name: str) -> None:
    """No token that is not signed as its key demands gets in, and each is told why."""
    forged, reason = FORGED[name]
    assert World().refusal(f"Bearer {forged}") == reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"exp": NOW}, "expired"),
        ({"exp": NOW - 3600}, "expired"),
        ({"exp": 0}, "expired"),
        ({"exp": -1}, "expired"),
        ({"exp": None}, "claims"),
        ({"exp": "2999999999"}, "claims"),
        ({"exp": True}, "claims"),
        ({"exp": float("inf")}, "claims"),
        ({"exp": float("nan")}, "claims"),
        ({"exp": 10**400}, "claims"),
        ({"nbf": -(10**400)}, "claims"),
        ({"nbf": NOW + CLOCK_AHEAD_SECONDS_MAX + 1}, "not_yet"),
        ({"nbf": "soon"}, "claims"),
        ({"nbf": float("nan")}, "claims"),
        ({"iss": "https://evil.test"}, "issuer"),
        ({"iss": None}, "claims"),
        ({"iss": [ISSUER]}, "issuer"),
        ({"aud": "another"}, "audience"),
        ({"aud": []}, "claims"),
        ({"aud": None}, "claims"),
        ({"aud": {AUDIENCE: 1}}, "audience"),
        ({"aud": 7}, "audience"),
        ({"sub": 7}, "claims"),
        ({"headwater_models": "fraud"}, "claims"),
        ({"headwater_models": "*"}, "claims"),
        ({"headwater_models": {"*": True}}, "claims"),
        ({"headwater_models": ["fraud", 7]}, "claims"),
        ({"headwater_models": [["*"]]}, "claims"),
    ],
)
def test_claims_that_do_not_hold_are_refused(change: dict[str, Any], reason: str) -> None:
    """A well signed token still has to be of now, from the issuer, for us, and well formed."""
    assert World().refusal(_unchecked(EC, "e", change)) == reason


def _unchecked(key: ec.EllipticCurvePrivateKey, kid: str, change: dict[str, Any]) -> str:
    """PyJWT would not put some of these claims into a token, others can."""
    content = json.dumps(claims(NOW, **change)).encode()
    return "Bearer " + jwt.api_jws.encode(content, key, "ES256", {"kid": kid})


@pytest.mark.parametrize(
    "content", [b"[" * 3_000, b"7", b"[]", b"null", b"\xff", b"", b'{"exp":' + b"9" * 4_000 + b"}"]
)
def test_signed_nonsense_is_refused(content: bytes) -> None:
    """Even who has a key cannot make the check stumble."""
    signed = jwt.api_jws.encode(content, EC, "ES256", {"kid": "e"})
    assert World().refusal(f"Bearer {signed}") in ("claims", "malformed")


def test_headers_that_are_no_bearer_token_are_refused() -> None:
    """No header, two of them, and other schemes are each named."""
    world = World()
    good = bearer(EC, "e")
    assert world.refusal() == "missing"
    assert world.refusal(good, good) == "several"
    assert world.refusal("Basic YW5uOnNlY3JldA==") == "malformed"
    assert world.refusal("Bearer") == "malformed"
    assert world.refusal(good.removeprefix("Bearer ")) == "malformed"
    assert world.refusal("Bearer  " + good.removeprefix("Bearer ")) == "malformed"
    assert world.refusal("Bearer aäa.bbb.ccc") == "malformed"


def test_an_audience_may_be_one_of_several() -> None:
    """A token for us and others is for us."""
    assert World().caller(bearer(EC, "e", aud=["another", AUDIENCE])).name == "ann"


def test_a_remembered_token_expires() -> None:
    """A token that was good is refused from the second of its expiry on."""
    world = World()
    header = bearer(RSA, "r", exp=NOW + 10)
    world.caller(header)
    world.now = NOW + 9.9
    world.caller(header)
    world.now = NOW + 10
    assert world.refusal(header) == "expired"
    assert world.refusal(header) == "expired"


def test_a_token_is_valid_from_its_beginning() -> None:
    """The issuer's clock may be a little ahead, no more."""
    world = World()
    header = bearer(EC, "e", nbf=NOW + CLOCK_AHEAD_SECONDS_MAX + 1)
    assert world.refusal(header) == "not_yet"
    world.now += 1
    world.caller(header)


def test_a_key_that_is_taken_out_ends_its_tokens() -> None:
    """New keys hold at once, also for tokens that were verified before."""
    world = World()
    header = bearer(EC, "e")
    world.caller(header)
    world.held.value = read_jwks(jwks(jwk(RSA, "r")))
    assert world.refusal(header) == "unknown_key"
    world.held.value = read_jwks(jwks(jwk(STRANGER, "e")))
    assert world.refusal(header) == "signature"
    world.caller(bearer(STRANGER, "e"))


def test_memory_of_tokens_is_bounded_and_holds_none() -> None:
    """Past the bound the oldest is forgotten, and no token is kept as it came."""
    world = World()
    header = bearer(EC, "e")
    first = world.caller(header)
    known = world.callers._known
    entry = next(iter(known.values()))
    assert header.removeprefix("Bearer ") not in repr(vars(world.callers))
    for number in range(REMEMBERED_MAX - 1):
        known[number.to_bytes(4)] = entry
    assert world.caller(header) is first
    world.caller(bearer(RSA, "r"))
    assert len(known) == REMEMBERED_MAX
    assert world.caller(header) is not first
    assert len(known) == REMEMBERED_MAX


@given(st.text(max_size=200))
def test_any_text_is_refused_in_order(text: str) -> None:
    """Whatever stands in the header, the answer is UNAUTHENTICATED."""
    with pytest.raises(UnauthenticatedError):
        World().caller(text)
    with pytest.raises(UnauthenticatedError):
        World().caller(f"Bearer {text}")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=8,
)
_CLAIMS = ["exp", "nbf", "iat", "iss", "aud", "sub", "jti", "headwater_models"]


@given(st.dictionaries(st.sampled_from(_CLAIMS), _JSON, max_size=4))
def test_any_signed_claims_are_accepted_or_refused(change: dict[str, Any]) -> None:
    """Claims of any type end in a caller with checked fields, or in UNAUTHENTICATED."""
    try:
        caller = World().caller(_unchecked(EC, "e", change))
    except UnauthenticatedError:
        return
    assert isinstance(caller.name, str)
    assert caller.models is None or all(isinstance(one, str) for one in caller.models)


@given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "b64", "crit", "jwk"]), _JSON))
def test_any_header_is_refused_without_its_key(header: dict[str, Any]) -> None:
    """A header of any content with a signature of nobody never gets in."""
    with pytest.raises(UnauthenticatedError):
        World().caller("Bearer " + raw_token({"alg": "ES256", "kid": "e", **header}, claims(NOW)))
