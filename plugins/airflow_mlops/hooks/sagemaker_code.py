"""What a SageMaker training job runs: the user's modules and the core of this package, as one archive.

The image holds Python and the packages of ``requirements-step.lock``, and no code of anybody's: so the worker and the
job run the same lines, and a changed training function needs no new image.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
START = '''"""Unpack this archive and run the step in it."""
import sys, tempfile, zipfile
folder = tempfile.mkdtemp()
zipfile.ZipFile(sys.path[0]).extractall(folder)
sys.path[0] = folder
from airflow_mlops.step import main
sys.exit(main())
'''


def write_code(function: str, root: Path, path: Path) -> None:
    """Write the archive that runs the function of ``module:name``; the same files give the same bytes.

    Of the project, it holds the Python files of the top package that the function is in; where that is one module,
    the modules beside it. What is installed elsewhere must be in the image.
    """
    files = {"__main__.py": START.encode()}
    for file in [PACKAGE / "__init__.py", PACKAGE / "step.py", *sorted((PACKAGE / "core").rglob("*.py"))]:
        files[f"airflow_mlops/{file.relative_to(PACKAGE).as_posix()}"] = file.read_bytes()
    for file in modules_of(function, root):
        files[file.relative_to(root).as_posix()] = file.read_bytes()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)


def modules_of(function: str, root: Path) -> Iterator[Path]:
    """Yield the user's Python files that a function may import, those in hidden folders left out."""
    top = root / function.partition(":")[0].partition(".")[0]
    found = top.rglob("*.py") if top.is_dir() else root.glob("*.py") if top.with_suffix(".py").is_file() else ()
    for file in sorted(found):
        if not any(part.startswith(".") for part in file.relative_to(root).parts):
            yield file
