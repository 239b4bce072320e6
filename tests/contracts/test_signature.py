"""Ed25519 signatures of manifests, and openssl as the one who makes the keys."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from contracts.signature import SignatureError, Signer, Verifier


def key_pair(folder: Path, name: str = "key") -> tuple[Path, Path]:
    """Private and public key, as openssl writes them."""
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True, timeout=30
    )
    subprocess.run(
        ["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True, timeout=30
    )
    return private, public


def test_what_was_signed_holds_and_nothing_else(tmp_path: Path) -> None:
    """A signature holds for the very bytes and the very key."""
    private, public = key_pair(tmp_path)
    _, other = key_pair(tmp_path, "other")
    signature = Signer.from_file(private).sign(b"manifest")
    Verifier.from_file(public).check(b"manifest", signature)
    for manifest, given, keys in (
        (b"manifesto", signature, public),
        (b"manifest", signature, other),
        (b"manifest", None, public),
        (b"manifest", b"!", public),
        (b"manifest", b"", public),
    ):
        with pytest.raises(SignatureError):
            Verifier.from_file(keys).check(manifest, given)


def test_keys_can_be_changed(tmp_path: Path) -> None:
    """With both keys in the file, what the old and what the new one signed holds."""
    pairs = [key_pair(tmp_path, name) for name in ("old", "new")]
    both = tmp_path / "both.pub"
    both.write_bytes(b"# old\n" + b"\n# new\n".join(public.read_bytes() for _, public in pairs))
    for private, _ in pairs:
        Verifier.from_file(both).check(b"m", Signer.from_file(private).sign(b"m"))


def test_a_key_that_is_none_is_refused(tmp_path: Path) -> None:
    """The message names the file and says how to make a key."""
    private, public = key_pair(tmp_path)
    wrong = generate_private_key(SECP256R1())
    ec = tmp_path / "ec.pem"
    ec.write_bytes(wrong.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    ec_public = tmp_path / "ec.pub"
    ec_public.write_bytes(
        wrong.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(SignatureError, match="another kind"):
        Signer.from_file(ec)
    with pytest.raises(SignatureError, match="not an Ed25519 key"):
        Verifier.from_file(ec_public)
    with pytest.raises(SignatureError, match="holds no public key"):
        Verifier.from_file(private)
    with pytest.raises(SignatureError, match="openssl genpkey"):
        Signer.from_file(public)
    with pytest.raises(SignatureError, match="cannot read"):
        Signer.from_file(tmp_path / "none")
