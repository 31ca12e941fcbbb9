"""Sign the manifest of an archive, and verify it: the same bytes and the same key give the same signature."""

from __future__ import annotations

import json

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from airflow_mlops.core.ports.signing_keys import SigningKeys, derive_public_key, fingerprint
from airflow_mlops.core.registry.sign_folder import OtherKeyError, SignatureError


def sign_manifest(manifest: bytes, keys: SigningKeys) -> bytes:
    """Return the signature of a manifest as JSON: the fingerprint of the key, and the signature in hexadecimal.

    The nonce follows from key and content (RFC 6979), so that a version is exported as the same bytes again.
    """
    private = keys.private()
    key = serialization.load_pem_private_key(private.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # `SigningKeys.private` lets no other kind pass
    signature = key.sign(manifest, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    document = {"key": fingerprint(derive_public_key(private)), "signature": signature.hex()}
    return (json.dumps(document, sort_keys=True) + "\n").encode()


def verify_manifest(manifest: bytes, signature: bytes, keys: SigningKeys) -> str:
    """Return the fingerprint of the trusted key that signed a manifest.

    Raises
    ------
    OtherKeyError
        If the key is not trusted here.
    SignatureError
        If the manifest was changed after it was signed, or the signature cannot be read.
    """
    try:
        document = json.loads(signature)
        name, value = str(document["key"]), bytes.fromhex(document["signature"])
    except (ValueError, KeyError, TypeError) as error:
        raise SignatureError(
            f"the signature of the manifest cannot be read: {type(error).__name__}: {error}"
        ) from error
    public = keys.trusted().get(name)
    if public is None:
        raise OtherKeyError(
            f"the manifest was signed by the key {name[:12]}…, which is not trusted here; give the connection "
            "mlops_signing the public key of that environment"
        )
    key = serialization.load_pem_public_key(public.encode())
    assert isinstance(key, ec.EllipticCurvePublicKey)  # `SigningKeys.trusted` lets no other kind pass
    try:
        key.verify(value, manifest, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise SignatureError("the manifest was changed after it was signed") from None
    return name
