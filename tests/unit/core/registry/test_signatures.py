"""Signatures: a folder that was changed, or signed by an untrusted key, is refused with the names of its files."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.ports.signing_keys import (
    PRIVATE_KEY,
    KeyFolder,
    StaticKeys,
    derive_public_key,
    fingerprint,
    new_private_key,
)
from airflow_mlops.core.registry.sign_folder import (
    SIGNATURE_FILE,
    OtherKeyError,
    Signature,
    SignatureError,
    read_signature,
    sign_folder,
    verify_folder,
)

KEYS = StaticKeys(new_private_key())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model_folder = tmp_path / "model"
    (model_folder / "sub").mkdir(parents=True)
    (model_folder / "MLmodel").write_text("serialization_format: skops\n")
    (model_folder / "model.skops").write_bytes(b"\0" * 1000)
    (model_folder / "sub" / "requirements.txt").write_text("numpy==2.4.6\n")
    return model_folder


def test_a_folder_that_nobody_touched_is_verified_and_names_its_key(folder: Path) -> None:
    signature = sign_folder(folder, KEYS)
    verify_folder(folder, signature, KEYS)
    assert read_signature(folder, KEYS) == signature
    assert signature.key == fingerprint(derive_public_key(KEYS.private()))


def change_a_byte(folder: Path) -> None:
    (folder / "model.skops").write_bytes(b"\0" * 999 + b"\1")


def edit_to_cloudpickle(folder: Path) -> None:
    (folder / "MLmodel").write_text("serialization_format: cloudpickle\n")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (change_a_byte, "model.skops was changed after it was signed"),
        (edit_to_cloudpickle, "MLmodel was changed after it was signed"),
        (lambda folder: (folder / "MLmodel").unlink(), "MLmodel is missing"),
        (lambda folder: (folder / "evil.py").write_text("x"), "evil.py was added"),
        (lambda folder: (folder / ".gitignore").write_text("x"), ".gitignore was added"),
        (lambda folder: (folder / "sub" / "requirements.txt").rename(folder / "requirements.txt"), "is missing"),
        (lambda folder: (folder / SIGNATURE_FILE).unlink(), "its signature is missing"),
        (lambda folder: (folder / SIGNATURE_FILE).write_text("{}"), "its signature was replaced"),
    ],
)
def test_whatever_is_changed_is_named(folder: Path, spoil: object, words: str) -> None:
    signature = sign_folder(folder, KEYS)
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(SignatureError, match=words):
        verify_folder(folder, signature, KEYS)


def test_a_symbolic_link_is_refused_even_to_the_same_content(folder: Path, tmp_path: Path) -> None:
    signature = sign_folder(folder, KEYS)
    (folder / "MLmodel").rename(tmp_path / "elsewhere")
    (folder / "MLmodel").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SignatureError, match="symlink"):
        verify_folder(folder, signature, KEYS)


def test_another_key_signs_the_changed_folder_in_vain(folder: Path) -> None:
    first, others = sign_folder(folder, KEYS), StaticKeys(new_private_key())
    change_a_byte(folder)
    second = sign_folder(folder, others)
    with pytest.raises(SignatureError, match="its signature was replaced"):
        verify_folder(folder, first, KEYS)
    with pytest.raises(OtherKeyError, match=r"not trusted here; give the connection mlops_signing that public key"):
        verify_folder(folder, second, KEYS)
    with pytest.raises(OtherKeyError, match="by no key that is trusted here"):
        read_signature(folder, KEYS)
    with pytest.raises(SignatureError):
        verify_folder(folder, Signature(second.digest, first.key), KEYS)


def test_a_signature_that_is_no_signature_is_refused_in_words(folder: Path) -> None:
    key = sign_folder(folder, KEYS).key
    from airflow_mlops.core.registry.model_file import file_digest

    for nonsense in ("", "{}", "[]", '{"verificationMaterial": 1}', "\0" * 100):
        (folder / SIGNATURE_FILE).write_text(nonsense)
        recorded = Signature(file_digest(folder / SIGNATURE_FILE), key)
        with pytest.raises(SignatureError, match="its signature does not hold"):
            verify_folder(folder, recorded, KEYS)


def test_a_worker_with_the_public_key_alone_verifies_and_cannot_sign(folder: Path) -> None:
    signature, public = sign_folder(folder, KEYS), derive_public_key(KEYS.private())
    reader = StaticKeys(None, (public,))
    verify_folder(folder, signature, reader)
    with pytest.raises(DeclarationError, match="this worker has no key to sign a model with"):
        sign_folder(folder, reader)


def test_after_a_change_of_keys_old_versions_are_verified_by_the_old_public_key(folder: Path) -> None:
    old, new = StaticKeys(new_private_key()), new_private_key()
    signature = sign_folder(folder, old)
    verify_folder(folder, signature, StaticKeys(new, (derive_public_key(old.private()),)))
    with pytest.raises(OtherKeyError):
        verify_folder(folder, signature, StaticKeys(new))


def test_the_key_of_a_folder_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path, folder: Path) -> None:
    keys = KeyFolder(tmp_path / "keys")
    assert keys.trusted() == {}
    signature = sign_folder(folder, keys)
    path = tmp_path / "keys" / PRIVATE_KEY
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert list(path.parent.iterdir()) == [path]
    assert list(KeyFolder(tmp_path / "keys").trusted()) == [signature.key]
    path.chmod(0o644)
    with pytest.raises(DeclarationError, match=r"can be read by others.*chmod 600"):
        keys.private()


def test_of_many_that_make_the_key_at_once_all_get_the_same(tmp_path: Path) -> None:
    keys: list[str] = []
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait()
        keys.append(KeyFolder(tmp_path / "keys").private())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1


def test_a_public_key_put_beside_the_own_one_is_trusted(tmp_path: Path, folder: Path) -> None:
    signature = sign_folder(folder, KEYS)
    keys = KeyFolder(tmp_path / "keys")
    keys.private()
    with pytest.raises(OtherKeyError):
        verify_folder(folder, signature, keys)
    (tmp_path / "keys" / "colleague.pub.pem").write_text(derive_public_key(KEYS.private()))
    verify_folder(folder, signature, keys)


def pem(key: object) -> str:
    return key.private_bytes(  # type: ignore[attr-defined,no-any-return]
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.mark.parametrize(
    "key",
    ["secret-but-no-key", pem(ec.generate_private_key(ec.SECP256K1())), pem(rsa.generate_private_key(65537, 2048))],
    ids=["no key", "another curve", "rsa"],
)
def test_a_key_that_cannot_sign_is_refused_and_never_repeated(key: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        StaticKeys(key).private()
    assert key.splitlines()[-2 if "\n" in key else 0] not in str(caught.value)
    assert key not in repr(StaticKeys(key))


def test_model_signings_own_command_verifies_what_we_signed(folder: Path, tmp_path: Path) -> None:
    sign_folder(folder, KEYS)
    (tmp_path / "public.pem").write_text(derive_public_key(KEYS.private()))
    command = [
        *(sys.executable, "-m", "model_signing", "verify", "key", str(folder)),
        *("--signature", str(folder / SIGNATURE_FILE), "--public_key", str(tmp_path / "public.pem")),
        *("--ignore-paths", str(folder / SIGNATURE_FILE)),
    ]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
