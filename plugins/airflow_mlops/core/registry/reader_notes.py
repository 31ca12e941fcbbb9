"""The note that MLflow leaves in the folder of a version when its own tools read it.

``mlflow.pyfunc.load_model("models:/bakery@champion")`` writes name and number of the version into a file beside the
model. Where artefacts lie on a disk that the reader can write to, that is the registry's own folder. The note is no
part of what was signed and is never read here, so a folder with it is still the signed one; in any other form it is an
added file like any other.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path

READER_NOTE = "registered_model_meta"
_NOTE = re.compile(rb"model_name: '?[a-z0-9][a-z0-9_-]{0,62}'?\nmodel_version: '?[1-9][0-9]{0,17}'?\n?")
_MAX_BYTES = 256


def reader_notes(folder: Path) -> tuple[str, ...]:
    """Return the names of the notes of MLflow in the folder of a version: none, or the one that it writes.

    A note is a regular file with the name and the number of a version and nothing else, or empty while it is written.
    """
    file = folder / READER_NOTE
    try:
        status = file.lstat()
    except OSError:
        return ()
    if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_BYTES:
        return ()
    content = file.read_bytes()
    return (READER_NOTE,) if not content or _NOTE.fullmatch(content) else ()
