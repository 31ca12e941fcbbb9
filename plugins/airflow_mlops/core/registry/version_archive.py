"""The archive in which a version travels to another environment: its files, their digests in a manifest, a signature.

Members are stored uncompressed, in the order of their names and without times, so the same version is the same bytes.
A reader takes nothing from an archive before the signature of the manifest holds, and no file that it does not name.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from airflow_mlops.core.errors import RegistryError
from airflow_mlops.core.lake import replace_file
from airflow_mlops.core.ledger.record import canonical_json
from airflow_mlops.core.ports.signing_keys import SigningKeys
from airflow_mlops.core.registry.archive_limits import MAX_BYTES
from airflow_mlops.core.registry.model_file import file_digest
from airflow_mlops.core.registry.sign_folder import SignatureError
from airflow_mlops.core.registry.sign_manifest import sign_manifest, verify_manifest

FORMAT = 1
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
RECORD = "record.json"
EVIDENCE, VERSION = "evidence", "version"
MAX_MEMBERS = 1_000
MAX_DOCUMENT = 256 * 1024**2
"""Most bytes of the manifest, of its signature, and of a JSON document."""
CHUNK = 1024**2
EXPORT_AGAIN = "export the version again, and copy the file as it is"
_NAME = re.compile(
    r"manifest\.json|manifest\.sig|record\.json|evidence/[a-z]+\.json|version/(?:[A-Za-z0-9_][A-Za-z0-9._-]*/){0,3}"
    r"[A-Za-z0-9_][A-Za-z0-9._-]*"
)


class ArchiveError(RegistryError):
    """A file is no archive of a version that may be adopted."""


@dataclass(frozen=True)
class Manifest:
    """The manifest of an archive: whose version it is, and the SHA-256 of each file.

    ``digest`` is the SHA-256 of the manifest and ``key`` the fingerprint of the key that signed it.
    """

    model: str
    version: str
    environment: str
    files: Mapping[str, str]
    digest: str
    key: str


def write_archive(
    file: Path, contents: Mapping[str, bytes | Path], keys: SigningKeys, *, model: str, version: str, environment: str
) -> None:
    """Write an archive with a signed manifest of its files.

    Parameters
    ----------
    contents : mapping of str to bytes or Path
        The files by their names in the archive.
    version, environment : str
        Number of the version and name of the environment that it is exported from.
    """
    digests = {name: _digest(content) for name, content in contents.items()}
    header = {"format": FORMAT, "model": model, "version": version, "environment": environment, "files": digests}
    manifest = canonical_json(header).encode()
    members = {**contents, MANIFEST: manifest, SIGNATURE: sign_manifest(manifest, keys)}
    for name in members:
        require_name(name, file.name)
    with replace_file(file) as part, zipfile.ZipFile(part, "w") as archive:
        for name in sorted(members):
            entry, content = zipfile.ZipInfo(name), members[name]
            entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            entry.file_size = content.stat().st_size if isinstance(content, Path) else len(content)
            with archive.open(entry, "w") as target, _opened(content) as source:
                shutil.copyfileobj(source, target, CHUNK)


def _opened(content: bytes | Path) -> IO[bytes]:
    return content.open("rb") if isinstance(content, Path) else io.BytesIO(content)


def _digest(content: bytes | Path) -> str:
    return file_digest(content) if isinstance(content, Path) else hashlib.sha256(content).hexdigest()


def read_archive(file: Path, into: Path, keys: SigningKeys) -> Manifest:
    """Extract a verified archive below ``into``, and return its manifest.

    Raises
    ------
    ArchiveError
        If it is no archive, is of another form, beyond the limits, or has a file that the manifest does not name.
    OtherKeyError
        If no key that is trusted here signed its manifest.
    SignatureError
        Naming the file that is missing or was changed.
    """
    if not file.is_file():
        raise ArchiveError(f"{file} is not there; name the file that airflow-mlops export wrote")
    if file.stat().st_size > MAX_BYTES:
        raise ArchiveError(f"{file.name} has {file.stat().st_size:,} bytes; at most {MAX_BYTES:,} are read")
    try:
        with zipfile.ZipFile(file) as archive:
            members = checked_members(archive, file)
            manifest = read_manifest(archive, members, file.name, keys)
            for name, digest in manifest.files.items():
                extract(archive, members[name], into / name, digest, file.name)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, UnicodeDecodeError) as error:
        raise ArchiveError(
            f"{file.name} cannot be read as an archive of a version: {type(error).__name__}: {error}; {EXPORT_AGAIN}"
        ) from error
    return manifest


def checked_members(archive: zipfile.ZipFile, file: Path) -> dict[str, zipfile.ZipInfo]:
    """Return the members of an archive by name; raises ArchiveError unless all are within the limits."""
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise ArchiveError(f"{file.name} has {len(members):,} members; at most {MAX_MEMBERS:,} are read")
    for member in members:
        check_member(member, file)
    names = {member.filename: member for member in members}
    if len(names) < len(members) or sum(member.file_size for member in members) > file.stat().st_size:
        raise ArchiveError(f"{file.name} has two members of one name or place; {EXPORT_AGAIN}")
    return names


def check_member(member: zipfile.ZipInfo, file: Path) -> None:
    """Raise ArchiveError unless a member is a plain file within the limits, with a name that an export gives."""
    size = file.stat().st_size
    require_name(member.filename, file.name)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise ArchiveError(f"{file.name}: {member.filename} is a link or a special file; {EXPORT_AGAIN}")
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 0x1:
        raise ArchiveError(f"{file.name}: {member.filename} is compressed or encrypted; {EXPORT_AGAIN}")
    if member.file_size != member.compress_size or member.file_size > size:
        raise ArchiveError(f"{file.name}: {member.filename} says that it has {member.file_size:,} bytes, and has not")
    if not 0 <= member.header_offset < size:
        raise ArchiveError(f"{file.name}: {member.filename} is at no place in the file; {EXPORT_AGAIN}")
    if not member.filename.startswith(f"{VERSION}/") and member.file_size > MAX_DOCUMENT:
        raise ArchiveError(f"{file.name}: {member.filename} has more than {MAX_DOCUMENT:,} bytes")


def require_name(name: str, archive: str) -> None:
    """Raise ArchiveError unless a member has a name that an export gives; none leads out of a folder."""
    if not _NAME.fullmatch(name):
        raise ArchiveError(f"{archive} has a member {name[:100]!r}, a name that no export gives; {EXPORT_AGAIN}")


def read_manifest(
    archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], name: str, keys: SigningKeys
) -> Manifest:
    """Return the manifest of an archive, its signature and its list of files verified."""
    for needed in (MANIFEST, SIGNATURE):
        if needed not in members:
            raise ArchiveError(f"{name} has no {needed}, so it is no archive of a version; {EXPORT_AGAIN}")
    content = archive.read(MANIFEST)
    try:
        values: dict[str, Any] = json.loads(content)
        form = values["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise SignatureError(
            f"{name}: {MANIFEST} was changed: {type(error).__name__}: {error}; {EXPORT_AGAIN}"
        ) from error
    if form != FORMAT:
        raise ArchiveError(
            f"{name} is of the form {form!r}, and this release reads {FORMAT}; export it with the release that is here"
        )
    try:
        key = verify_manifest(content, archive.read(SIGNATURE), keys)
    except SignatureError as error:
        raise type(error)(f"{name} is refused: {error}") from error
    files = dict(values["files"])
    missing, added = (
        sorted(files.keys() - members.keys()),
        sorted(members.keys() - files.keys() - {MANIFEST, SIGNATURE}),
    )
    if missing or added:
        words = [f"{each} is missing" for each in missing] + [f"{each} was added" for each in added]
        raise SignatureError(f"{name} is refused: {'; '.join(words)}; {EXPORT_AGAIN}")
    digest = hashlib.sha256(content).hexdigest()
    return Manifest(values["model"], values["version"], values["environment"], files, digest, key)


def extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, digest: str, name: str) -> None:
    """Write a member to a file; raises SignatureError unless it has the digest of the manifest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hashed = hashlib.sha256()
    try:
        with archive.open(member) as source, path.open("xb") as target:
            while chunk := source.read(CHUNK):
                hashed.update(chunk)
                target.write(chunk)
        unchanged = hashed.hexdigest() == digest
    except zipfile.BadZipFile:  # its own checksum tells, before ours can
        unchanged = False
    if not unchanged:
        raise SignatureError(f"{name} is refused: {member.filename} was changed after it was signed; {EXPORT_AGAIN}")
