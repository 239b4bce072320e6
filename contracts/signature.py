"""Ed25519 signatures of model versions: who may publish what a scorer loads.

What is signed is the manifest's bytes; the manifest holds the SHA-256 of the model's. Keys are PEM
files, as ``openssl genpkey -algorithm ed25519`` makes them.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Only who signs or checks waits for the library: a scorer without keys starts without it.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

# So that no signature made for anything else is ever one of a manifest.
_CONTEXT = b"headwater model manifest v1\0"
_PEM_END = b"-----END PUBLIC KEY-----"


class SignatureError(ValueError):
    """A key cannot be read, or a signature does not hold; the text says which and what to do."""


class Signer:
    """Signs manifests with one private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def from_file(cls, file: Path) -> Signer:
        """The key in a PEM file, not encrypted.

        Raises:
            SignatureError: the file cannot be read, or holds no such key.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        data = _read(file)
        try:
            key = load_pem_private_key(data, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise SignatureError(
                f"{file} holds no private key ({_first_line(error)}); make one, in a new file, "
                "with `openssl genpkey -algorithm ed25519 -out FILE`"
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise SignatureError(f"{file} holds a key of another kind; use an Ed25519 key")
        return cls(key)

    def sign(self, manifest: bytes) -> bytes:
        """The signature as a line of base64."""
        return base64.b64encode(self._key.sign(_CONTEXT + manifest)) + b"\n"


class Verifier:
    """Knows the public keys of all who may publish."""

    def __init__(self, keys: Sequence[Ed25519PublicKey]) -> None:
        """With no keys nothing holds."""
        self._keys = tuple(keys)

    @classmethod
    def from_file(cls, file: Path) -> Verifier:
        """The keys in a PEM file: one behind the other, so that an old and a new one can be there.

        Raises:
            SignatureError: the file cannot be read, holds no key, or one that is not Ed25519.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        keys: list[Ed25519PublicKey] = []
        for part in _read(file).split(_PEM_END)[:-1]:
            try:
                key = load_pem_public_key(part[part.find(b"-----BEGIN") :] + _PEM_END + b"\n")
            except (ValueError, UnsupportedAlgorithm) as error:
                raise SignatureError(
                    f"{file}: key {len(keys) + 1} cannot be read ({_first_line(error)})"
                ) from error
            if not isinstance(key, Ed25519PublicKey):
                raise SignatureError(f"{file}: key {len(keys) + 1} is not an Ed25519 key")
            keys.append(key)
        if not keys:
            raise SignatureError(
                f"{file} holds no public key; get it with `openssl pkey -in KEY -pubout`"
            )
        return cls(keys)

    def check(self, manifest: bytes, signature: bytes | None) -> None:
        """Do nothing if one of the keys made the signature.

        Raises:
            SignatureError: there is none, it cannot be read, or it is nobody's that we know.
        """
        from cryptography.exceptions import InvalidSignature

        if signature is None:
            raise SignatureError("it is not signed; publish it with HEADWATER_SIGNING_KEY_FILE set")
        try:
            raw = base64.b64decode(signature.strip(), validate=True)
        except binascii.Error as error:
            raise SignatureError("its signature is not base64") from error
        for key in self._keys:
            try:
                key.verify(raw, _CONTEXT + manifest)
            except InvalidSignature:
                continue
            return
        raise SignatureError(
            "its signature is by none of the keys in HEADWATER_VERIFY_KEYS_FILE, or its manifest "
            "was changed"
        )


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SignatureError(f"cannot read {file}: {error.strerror}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
