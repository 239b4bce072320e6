"""JWKS files: which keys are taken, which are left out, which files are refused."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from scorer.jwks import JwksError, read_jwks
from tests.scorer.credentials import ec_key, jwk, jwks, rsa_key

RSA, EC = rsa_key(), ec_key()


def test_keys_that_do_not_fit_are_left_out() -> None:
    """A JWKS file may hold keys for other uses; tokens cannot be signed with those."""
    p384 = ec.generate_private_key(ec.SECP384R1())
    found = read_jwks(
        jwks(
            jwk(RSA, "good"),
            jwk(RSA, "good", use="enc"),
            jwk(RSA, "another algorithm", alg="RSA-OAEP"),
            jwk(RSA, "weaker", alg="RS384"),
            jwk(RSA, "EC's algorithm", alg="ES256"),
            jwk(EC, "RSA's algorithm", alg="RS256"),
            jwk(EC, "secret's algorithm", alg="HS256"),
            jwk(EC, "type of the other", kty="RSA"),
            jwk(EC, "wraps", key_ops=["wrapKey"]),
            jwk(EC, "odd operations", key_ops="verify"),
            jwk(EC, "curve that it is not on", crv="P-384"),
            jwk(EC, "off its curve", x=jwk(EC, "")["y"]),
            jwk(EC, "no numbers", x=7),
            jwk(p384, "longer curve"),
            jwk(p384, "longer curve, misnamed", crv="P-256"),
            jwk(rsa_key(1024), "short"),
            jwk(RSA, ""),
            {**jwk(RSA, "x"), "kid": 7},
            {"kty": "OKP", "kid": "edwards", "crv": "Ed25519", "x": "AAAA"},
        )
    )
    assert found.keys.keys() == {"good"}
    assert len(found.left_out) == 18
    assert {"use is not sig", "crv is not P-256", "has 1024 bits, at least 2048"} <= {
        reason.partition(": ")[2] for reason in found.left_out
    }
    assert not any(jwk(RSA, "")["n"][:20] in reason for reason in found.left_out)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "no JWKS"),
        (b"{}", "no JWKS"),
        (b'{"keys": {}}', "no JWKS"),
        (b'{"keys": []}', "no key that can be used"),
        (b'{"keys": [1, null, "x", []]}', "not an object"),
        (jwks(jwk(EC, "e", use="enc")), "use is not sig"),
        (jwks(jwk(EC, "e"), jwk(RSA, "e")), "kid of another"),
        (jwks(jwk(EC, "e"), jwk(RSA, "r", d="AQAB")), "secret"),
        (jwks(jwk(EC, "e"), {"kty": "oct", "kid": "s", "k": "c2VjcmV0"}), "secret"),
        (jwks(*[jwk(EC, str(number)) for number in range(101)]), "at most 100"),
    ],
)
def test_files_that_are_no_key_sets_are_refused(content: bytes, reason: str) -> None:
    """What is no set of public keys is refused with the reason, and never shown."""
    with pytest.raises(JwksError, match=reason) as caught:
        read_jwks(content)
    assert "AQAB" not in str(caught.value)
    assert "c2VjcmV0" not in str(caught.value)


def test_keys_are_not_shown() -> None:
    """The text form of a key set says which algorithm, and no number of a key."""
    shown = repr(read_jwks(jwks(jwk(RSA, "r"), jwk(EC, "e"))))
    assert "RS256" in shown
    assert "PublicKey object" not in shown
