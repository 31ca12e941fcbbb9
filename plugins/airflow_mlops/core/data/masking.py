"""Masking: a personal value becomes a keyed hash before anything is written.

The same value under the same key is the same hash, so rows can still be told apart and joined; without
the key nobody can go through the likely values and compare. The key is a secret of its own, not of the data.
"""

from __future__ import annotations

import hashlib

import pyarrow as pa

from airflow_mlops.core.errors import DeclarationError

KEY_BYTES = 16


def keyed_hash(text: str, key: bytes) -> str:
    """Return the keyed BLAKE2b hash of ``text``, 32 hexadecimal digits."""
    return hashlib.blake2b(text.encode(), key=key, digest_size=16).hexdigest()


def masked(column: pa.Array, key: bytes) -> pa.Array:
    """Return a column of text with every value hashed; null stays null."""
    encoded = column.cast(pa.string()).dictionary_encode()
    hashes = pa.array([keyed_hash(text, key) for text in encoded.dictionary.to_pylist()], pa.string())
    return pa.DictionaryArray.from_arrays(encoded.indices, hashes).cast(pa.string())


def mask_key(secret: str | None, column: str) -> bytes:
    """Return the key that masks ``column``.

    Raises
    ------
    DeclarationError
        If there is none, or it is too short to keep anything secret.
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
    """Return what tells this key from another without giving it away, 16 hexadecimal digits."""
    return keyed_hash("the key of airflow-mlops", key)[:16]


def refuse_other_key(key: bytes, known: str | None) -> None:
    """Refuse a key that is not the one that masked, or hid the forgotten, before.

    Raises
    ------
    DeclarationError
        Under another key the same person is another hash: masked columns would no longer match, and the
        forgotten would come back.
    """
    found = fingerprint(key)
    if known is not None and found != known:
        raise DeclarationError(
            f"the key in the connection mlops_privacy (fingerprint {found}) is not the one that this loop was masked "
            f"with ({known}); put the old key back: under another one nobody who was forgotten would be recognised"
        )
