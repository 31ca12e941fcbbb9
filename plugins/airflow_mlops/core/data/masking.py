"""Mask personal values: each becomes a keyed hash before anything is written.

Equal values have equal hashes under one key, so rows can still be identified and joined. Without the key the likely
values cannot be hashed and compared. The key is a secret of the deployment, kept apart from the data.
"""

from __future__ import annotations

import hashlib

import pyarrow as pa

from airflow_mlops.core.errors import DeclarationError

KEY_BYTES = 16


def keyed_hash(text: str, key: bytes) -> str:
    """Return the keyed BLAKE2b hash of ``text`` as 32 hexadecimal digits."""
    return hashlib.blake2b(text.encode(), key=key, digest_size=16).hexdigest()


def mask_column(column: pa.Array, key: bytes) -> pa.Array:
    """Return a column of text with every value replaced by its keyed hash; null stays null."""
    encoded = column.cast(pa.string()).dictionary_encode()
    hashes = pa.array([keyed_hash(text, key) for text in encoded.dictionary.to_pylist()], pa.string())
    return pa.DictionaryArray.from_arrays(encoded.indices, hashes).cast(pa.string())


def mask_key(secret: str | None, column: str) -> bytes:
    """Return the key that masks ``column``, 32 bytes derived from the secret.

    Raises
    ------
    DeclarationError
        If there is no secret, or it has fewer than ``KEY_BYTES`` bytes.
    """
    if not secret:
        raise DeclarationError(
            f"column {column!r} is to be masked, and there is no key: give the connection mlops_privacy a password"
        )
    if len(secret.encode()) < KEY_BYTES:
        raise DeclarationError(
            f"the key that masks {column!r} has {len(secret.encode())} bytes; it needs at least {KEY_BYTES}"
        )
    return hashlib.blake2b(secret.encode(), digest_size=32).digest()


def fingerprint(key: bytes) -> str:
    """Return 16 hexadecimal digits that identify a key without revealing it."""
    return keyed_hash("the key of airflow-mlops", key)[:16]


def refuse_other_key(key: bytes, recorded: str | None) -> None:
    """Raise DeclarationError unless ``key`` has the fingerprint ``recorded``, that of the key used so far.

    Under another key the same person has another hash: masked columns would no longer join, and rows of erased
    people would be accepted again.

    Raises
    ------
    DeclarationError
        If the fingerprints differ.
    """
    current = fingerprint(key)
    if recorded is not None and current != recorded:
        raise DeclarationError(
            f"the key in the connection mlops_privacy (fingerprint {current}) is not the one that this loop was masked "
            f"with ({recorded}); put the old key back: under another one nobody who was forgotten would be recognised"
        )
