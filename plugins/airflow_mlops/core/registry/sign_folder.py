"""Sign the folder of a version when it is registered, and verify it before every load.

The signature is a Sigstore bundle by model-signing: it lists the digest of every file, and lies in the folder itself as
``model.sig``. Verification finds a file that was changed, added or removed, and a replaced signature, since its digest
is in the ledger. The note that MLflow leaves when it reads a version is no such file; see
:mod:`airflow_mlops.core.registry.reader_notes`. There is no signing service: the key is the project's own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.core.errors import RegistryError
from airflow_mlops.core.ledger.training_details import Signature
from airflow_mlops.core.ports.signing_keys import SigningKeys, derive_public_key, fingerprint, pipe_path
from airflow_mlops.core.ports.spans import span
from airflow_mlops.core.registry.model_file import file_digest
from airflow_mlops.core.registry.reader_notes import reader_notes

if TYPE_CHECKING:
    from model_signing import hashing

SIGNATURE_FILE = "model.sig"
MAX_SIGNATURE_BYTES = 64 * 1024**2


class SignatureError(RegistryError):
    """A version differs from the one that was signed when it was registered."""


@span("sign")
def sign_folder(folder: Path, keys: SigningKeys) -> Signature:
    """Sign every file in a folder; return the digest of the signature and the fingerprint of the key."""
    from model_signing import signing

    private = keys.private()
    with pipe_path(private) as path:
        config = signing.Config().use_elliptic_key_signer(private_key=path)
    config.set_hashing_config(hashing_config()).sign(folder, folder / SIGNATURE_FILE)
    return Signature(file_digest(folder / SIGNATURE_FILE), fingerprint(derive_public_key(private)))


def read_signature(folder: Path, keys: SigningKeys) -> Signature:
    """Return the signature in a folder, verified with the keys of this worker.

    Raises
    ------
    SignatureError
        If there is none, the folder was changed, or no trusted key has signed it.
    """
    file = folder / SIGNATURE_FILE
    if not file.is_file() or file.stat().st_size > MAX_SIGNATURE_BYTES:
        raise SignatureError(f"there is no {SIGNATURE_FILE} among its files: somebody else than the loop made it")
    digest = file_digest(file)
    for key in keys.trusted():
        try:
            verify_folder(folder, Signature(digest, key), keys)
        except OtherKeyError:
            continue
        return Signature(digest, key)
    raise OtherKeyError(f"its signature is by no key that is trusted here ({len(keys.trusted())} are)")


def verify_folder(folder: Path, recorded: Signature, keys: SigningKeys) -> None:
    """Raise SignatureError unless every file of a folder is as it was signed.

    Parameters
    ----------
    recorded : Signature
        The signature as the ledger has it.

    Raises
    ------
    SignatureError
        Naming the files that were changed, or the key that is not trusted here.
    """
    from model_signing import verifying

    file = folder / SIGNATURE_FILE
    if not file.is_file():
        raise SignatureError(f"its signature is missing: there is no {SIGNATURE_FILE} among its files")
    actual = file_digest(file)
    if actual != recorded.digest:
        raise SignatureError(
            f"its signature was replaced: the digest is {actual[:12]}…, the ledger says {recorded.digest[:12]}…"
        )
    public = keys.trusted().get(recorded.key)
    if public is None:
        raise OtherKeyError(
            f"it was signed by the key {recorded.key[:12]}…, which is not trusted here; "
            "give the connection mlops_signing that public key"
        )
    with pipe_path(public) as path:
        config = verifying.Config().use_elliptic_key_verifier(public_key=path)
    try:
        config.set_hashing_config(hashing_config(reader_notes(folder))).verify(folder, file)
    except Exception as error:  # a signature is input: what parsing a forged one raises is not for us to list
        raise (OtherKeyError if "Key mismatch" in str(error) else SignatureError)(describe_error(error)) from error


class OtherKeyError(SignatureError):
    """The signature is by a key that is not trusted here; no other copy would help."""


def hashing_config(notes: Sequence[str] = ()) -> hashing.Config:
    """Return the hashing configuration: every file, git's too, but not the signature; symbolic links are refused.

    Parameters
    ----------
    notes : sequence of str
        Names of further files at the top of the folder that are not hashed.
    """
    from model_signing import hashing

    return (
        hashing.Config()
        .use_file_serialization(hashing_algorithm="sha256", allow_symlinks=False)
        .set_ignored_paths(paths=[SIGNATURE_FILE, *notes], ignore_git_paths=False)
        .set_allow_symlinks(False)
    )


def describe_error(error: Exception) -> str:
    """Return a message about a verification error that names the files."""
    text = str(error).replace("\\", "")  # a list of sentences, as Python shows one
    changed = re.findall(r"Hash mismatch for '([^']{1,200})'", text)
    messages = [f"{name} was changed after it was signed" for name in changed]
    for kind, names in re.findall(r"(Extra files found|Missing files) in model '[^']*': ([^\"\]]{1,300})", text):
        messages.append(f"{names.strip(chr(39))} {'was added' if kind.startswith('Extra') else 'is missing'}")
    return "; ".join(messages) or f"its signature does not hold: {type(error).__name__}: {text[:300]}"
