"""The keys that sign models: elliptic-curve keys as PEM texts, in a folder of this machine or given to it.

Signing needs the private key. Loading needs the public ones: the current one, and earlier ones whose versions are still
in use.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.fault_point import external_write

PRIVATE_KEY = "signing-key.pem"
CURVES = ("secp256r1", "secp384r1", "secp521r1")


class SigningKeys(Protocol):
    """A source of keys."""

    def private(self) -> str:
        """Return the private key that signs, as PEM.

        Raises
        ------
        DeclarationError
            If there is none here.
        """

    def trusted(self) -> dict[str, str]:
        """Return the public keys whose signatures count, as PEM by their fingerprints."""


@dataclass(frozen=True)
class StaticKeys:
    """Keys that a connection holds.

    Parameters
    ----------
    private_key : str, optional
        PEM of the key that signs; a worker that only loads models needs none.
    public_keys : tuple of str
        PEMs of further keys whose signatures count.
    """

    private_key: str | None = field(default=None, repr=False)
    public_keys: tuple[str, ...] = ()

    def private(self) -> str:
        """Return the private key; see :meth:`SigningKeys.private`."""
        if self.private_key is None:
            raise DeclarationError(
                "this worker has no key to sign a model with: the connection mlops_signing holds a public key only; "
                "its password must be the private key (PEM) where models are registered"
            )
        derive_public_key(self.private_key)
        return self.private_key

    def trusted(self) -> dict[str, str]:
        """Return the public keys by their fingerprints."""
        own = [] if self.private_key is None else [derive_public_key(self.private_key)]
        return {fingerprint(key): key for key in [*own, *map(parse_public_key, self.public_keys)]}


class KeyFolder:
    """Keys in a folder of this machine; the private one is generated at its first use.

    ``signing-key.pem`` signs and only its owner can read it. Every ``*.pub.pem`` beside it is trusted.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def private(self) -> str:
        """Return the private key; see :meth:`SigningKeys.private`. Of two concurrent first calls, one wins."""
        path = self._folder / PRIVATE_KEY
        if not path.exists():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            part = self._folder / f".{secrets.token_hex(8)}.part"
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(new_private_key())
            # If another process was quicker, its key is used.
            with external_write("keys.create"), suppress(FileExistsError):
                os.link(part, path)
            part.unlink()
        if path.stat().st_mode & 0o077:
            raise DeclarationError(
                f"{path} can be read by others than its owner; run chmod 600 on it, "
                "or keep the key in the connection mlops_signing"
            )
        return path.read_text()

    def trusted(self) -> dict[str, str]:
        """Return the public keys by their fingerprints."""
        own = [derive_public_key(self.private())] if (self._folder / PRIVATE_KEY).exists() else []
        others = [parse_public_key(path.read_text()) for path in sorted(self._folder.glob("*.pub.pem"))]
        return {fingerprint(key): key for key in [*own, *others]}


def new_private_key() -> str:
    """Return a new private key on the curve P-256, as PEM."""
    form, unlocked = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(serialization.Encoding.PEM, form, unlocked).decode()


def derive_public_key(private_key: str) -> str:
    """Return the public key, as PEM, of a private one.

    Raises
    ------
    DeclarationError
        If it is no private key in PEM, or not on an allowed curve. The message leaves the key out.
    """
    try:
        key = serialization.load_pem_private_key(private_key.encode(), None)
    except (ValueError, TypeError) as error:
        raise DeclarationError(
            f"the key that signs models is no private key in PEM without a passphrase: {type(error).__name__}"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in CURVES:
        raise DeclarationError(f"the key that signs models must be on one of the curves {', '.join(CURVES)}")
    return to_pem(key.public_key())


def parse_public_key(public_key: str) -> str:
    """Return a public key as PEM in its canonical form.

    Raises
    ------
    DeclarationError
        If it is no public key in PEM, or not on an allowed curve.
    """
    try:
        key = serialization.load_pem_public_key(public_key.encode())
    except (ValueError, TypeError) as error:
        raise DeclarationError(f"a key that models are verified with is no public key in PEM: {error}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in CURVES:
        raise DeclarationError(f"a key that models are verified with must be on one of the curves {', '.join(CURVES)}")
    return to_pem(key)


def to_pem(key: ec.EllipticCurvePublicKey) -> str:
    """Return a public key as PEM."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def fingerprint(public_key: str) -> str:
    """Return the SHA-256 of a public key in PEM, as model-signing writes it into a signature."""
    return hashlib.sha256(public_key.encode()).hexdigest()


@contextmanager
def pipe_path(text: str) -> Iterator[str]:
    """Yield a path from which ``text`` can be read once, through a pipe, so that no key is written to a disk."""
    reading, writing = os.pipe()
    try:
        with os.fdopen(writing, "w") as file:
            file.write(text)
        yield f"/dev/fd/{reading}"
    finally:
        os.close(reading)
