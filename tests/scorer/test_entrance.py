"""What the settings of the entrance must be, and what is said where they are not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from structlog.testing import capture_logs

from scorer.entrance import is_loopback, open_entrance
from scorer.errors import ConfigurationError
from tests.scorer.credentials import jwks, key_pem, rsa_key
from tests.scorer.secured import CA
from tests.scorer.shop import Shop

P521 = ec.generate_private_key(ec.SECP521R1())
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1:1", True),
        ("127.8.9.10:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("[::ffff:127.0.0.1]:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("[::ffff:0.0.0.0]:1", False),
        ("10.1.2.3:1", False),
        ("scorer.internal:1", False),
        ("127.1:1", False),
        ("localhost.evil.test:1", False),
    ],
)
def test_loopback_is_told_by_its_address(address: str, loopback: bool) -> None:
    """Only addresses that no other machine can reach count as our own."""
    assert is_loopback(address) is loopback


def test_open_to_others_only_when_protected(
    scorer_shop: Shop, mutual: dict[str, str], tokens: dict[str, str]
) -> None:
    """Beyond loopback the scorer wants TLS and callers with names, or HEADWATER_INSECURE."""
    ca = {"tls_client_ca_file": mutual["tls_client_ca_file"]}
    tls = {name: value for name, value in mutual.items() if name not in ca}
    everywhere = {"scorer_address": "0.0.0.0:50051"}

    def starts(**given: object) -> None:
        open_entrance(scorer_shop.settings(**everywhere, **given))

    starts(**mutual)
    starts(**tls, **tokens)
    starts(**mutual, **tokens)
    for given, named, not_named in (
        ({}, ["TLS_CERT_FILE", "JWKS_FILE", "TLS_CLIENT_CA_FILE", "INSECURE=true"], []),
        (tls, ["JWKS_FILE", "TLS_CLIENT_CA_FILE", "INSECURE=true"], ["TLS_CERT_FILE"]),
        (tokens, ["TLS_CERT_FILE", "TLS_KEY_FILE", "INSECURE=true"], ["JWKS_FILE"]),
    ):
        with pytest.raises(ConfigurationError, match=r"0\.0\.0\.0:50051") as caught:
            starts(**given)
        assert all(f"HEADWATER_{name}" in str(caught.value) for name in named)
        assert not any(f"HEADWATER_{name}" in str(caught.value) for name in not_named)
        with capture_logs() as logs:
            starts(**given, insecure=True)
        assert [one["event"] for one in logs if one["log_level"] == "warning"] == ["open_to_others"]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"tls_cert_file": "a"}, "TLS_KEY_FILE"),
        ({"tls_key_file": "a"}, "TLS_CERT_FILE"),
        ({"tls_client_ca_file": "a"}, "TLS_CERT_FILE and HEADWATER_TLS_KEY_FILE"),
        ({"jwks_file": "a"}, "JWT_ISSUER and HEADWATER_JWT_AUDIENCE"),
        ({"jwks_file": "a", "jwt_issuer": "i"}, "JWT_AUDIENCE"),
        ({"jwt_issuer": "i"}, "JWKS_FILE"),
        ({"jwt_audience": "i"}, "JWKS_FILE"),
    ],
)
def test_settings_that_need_another_say_so(
    scorer_shop: Shop, given: dict[str, str], named: str
) -> None:
    """A setting that would do nothing alone is refused, and names what is missing."""
    with pytest.raises(ConfigurationError, match=f"but not HEADWATER_{named}: set both"):
        open_entrance(scorer_shop.settings(**given))


WRONG: list[tuple[str, Callable[[Path], object], str]] = [
    ("tls_cert_file", Path.unlink, "cannot be read: No such file"),
    ("tls_cert_file", lambda file: file.write_bytes(b""), "no certificate in PEM"),
    ("tls_cert_file", lambda file: file.write_bytes(b"x" * 2_000_000), "more than"),
    ("tls_key_file", lambda file: file.write_bytes(CA.certificate_pem), "no private key in PEM"),
    ("tls_key_file", lambda file: file.write_bytes(CA.key_pem), "is not the key of"),
    ("tls_key_file", lambda file: file.write_bytes(key_pem(rsa_key(1024))), "gRPC serves only"),
    ("tls_key_file", lambda file: file.write_bytes(key_pem(P521)), "gRPC serves only"),
    ("tls_client_ca_file", lambda file: file.write_bytes(CA.key_pem), "no certificate in PEM"),
    ("jwks_file", Path.unlink, "cannot be read"),
    ("jwks_file", lambda file: file.write_bytes(b"\xff"), "not JSON"),
    ("jwks_file", lambda file: file.write_bytes(jwks()), "no key that can be used"),
]


@pytest.mark.parametrize(("setting", "spoil", "reason"), WRONG)
def test_a_wrong_file_is_named_with_its_setting(
    scorer_shop: Shop,
    mutual: dict[str, str],
    tokens: dict[str, str],
    setting: str,
    spoil: Callable[[Path], object],
    reason: str,
) -> None:
    """The error says which setting, which file and what is wrong, and shows nothing of it."""
    given = {**mutual, **tokens}
    spoil(Path(given[setting]))
    with pytest.raises(ConfigurationError, match=reason) as caught:
        open_entrance(scorer_shop.settings(**given))
    text = str(caught.value)
    assert text.startswith(f"HEADWATER_{setting.upper()}={given[setting]}: ")
    assert "\n" not in text
    assert "PRIVATE" not in text


def test_a_key_with_a_password_is_refused(scorer_shop: Shop, tls: dict[str, str]) -> None:
    """There is nobody who could type its password."""
    Path(tls["tls_key_file"]).write_bytes(
        CA.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ConfigurationError, match="locked with a password"):
        open_entrance(scorer_shop.settings(**tls))


def test_what_is_not_configured_is_not_loaded(scorer_shop: Shop) -> None:
    """A scorer without TLS and tokens starts without the libraries for them."""
    code = (
        "import sys; from pathlib import Path;"
        "import scorer.server; from scorer.entrance import open_entrance;"
        "from contracts.scorer_settings import ScorerSettings;"
        f"open_entrance(ScorerSettings.for_repo(Path({str(scorer_shop.folder)!r})));"
        "print({'jwt', 'cryptography'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout.strip(), done.returncode) == ("set()", 0)
