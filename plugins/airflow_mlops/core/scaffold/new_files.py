"""Fill templates, and write files where nothing stands yet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import Template

from airflow_mlops.core.errors import DeclarationError

TEMPLATES = Path(__file__).parent / "templates"


def fill_template(template: str, /, **values: str) -> str:
    """Return the text of a template of this package with ``$name`` replaced by its value; a missing one is an error."""
    return Template((TEMPLATES / template).read_text(encoding="utf-8")).substitute(values)


def write_new_files(root: Path, texts: Mapping[str, str]) -> list[str]:
    """Write those of some files that do not exist yet, with their folders; return their paths.

    Parameters
    ----------
    root : Path
        Project folder.
    texts : mapping of str to str
        Texts by their paths relative to it.

    Raises
    ------
    DeclarationError
        If a file cannot be written; names it and the cause. The files before it are written.
    """
    written = []
    for name, text in texts.items():
        file = root / name
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            # Exclusive: a file that another process has just made is kept, too.
            with file.open("x", encoding="utf-8") as new:
                new.write(text)
        except FileExistsError:
            if not file.exists():  # a file stands where a folder is needed
                raise DeclarationError("cannot be written: a folder above it is a file", file=str(file)) from None
            continue
        except OSError as error:
            raise DeclarationError(f"cannot be written: {error.strerror}", file=str(file)) from None
        written.append(name)
    return written
