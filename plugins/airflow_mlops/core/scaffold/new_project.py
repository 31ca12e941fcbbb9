"""The files of a project without a model yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.scaffold.new_files import TEMPLATES, fill_template, write_new_files
from airflow_mlops.release import __version__

PACKAGES = {
    "include/__init__.py": '"""What the Dags of this project use."""\n',
    "include/training/__init__.py": '"""The training functions, one module for each model."""\n',
}
"""The packages of the training functions, whose text is too short for a template."""
TEMPLATE_OF = {
    "dags/.airflowignore": "airflowignore.txt",
    "include/loops/README.md": "loops.md",
    "tests/conftest.py": "conftest.py.txt",
    "tests/test_dags.py": "test_dags.py.txt",
    "README.md": "readme.md",
    ".gitignore": "gitignore.txt",
}
"""The templates by the paths of the files that are made from them."""
PIPELINES = {
    "github": (".github/workflows/loops.yaml", "github.yaml.txt"),
    "gitlab": (".gitlab-ci.yml", "gitlab.yaml.txt"),
}
"""The path of the pipeline's file and its template, by where the repository is."""


@dataclass(frozen=True)
class NewProject:
    """The paths of a project's files that were added and that were kept, and lines that its .gitignore lacks."""

    root: Path
    added: tuple[str, ...]
    kept: tuple[str, ...]
    not_ignored: tuple[str, ...]


def project_texts(root: Path, pipeline: str | None = None) -> dict[str, str]:
    """Return the texts of a project's files by their paths relative to it; one of :data:`PIPELINES` has its own."""
    texts = {path: fill_template(name, project=root.name) for path, name in TEMPLATE_OF.items()}
    if pipeline is not None:
        path, name = PIPELINES[pipeline]
        texts |= {path: fill_template(name), "requirements.txt": f"airflow-mlops[all]=={__version__}\npytest\n"}
    return {**PACKAGES, **texts}


def start_project(root: Path, pipeline: str | None = None) -> NewProject:
    """Write the files of a project that do not exist yet, and touch no other.

    Parameters
    ----------
    root : Path
        The project folder.
    pipeline : str, optional
        Whose pipeline tests each change, one of :data:`PIPELINES`; none if not given.

    Raises
    ------
    DeclarationError
        If the folder is a file, or cannot be written; nothing is written then but what stands in its place already.
    """
    if root.exists() and not root.is_dir():
        raise DeclarationError("is a file, and a project is a folder; name another folder", file=str(root))
    texts = project_texts(root, pipeline)
    added = write_new_files(root, texts)
    kept = [path for path in texts if path not in added]
    return NewProject(root, tuple(added), tuple(kept), tuple(missing_ignore_rules(root)))


def missing_ignore_rules(root: Path) -> list[str]:
    """Return the rules of a new project's .gitignore that that of a project in use lacks."""
    rules = [line for line in (TEMPLATES / "gitignore.txt").read_text(encoding="utf-8").splitlines() if line]
    present = set((root / ".gitignore").read_text(encoding="utf-8", errors="replace").splitlines())
    return [rule for rule in rules if not rule.startswith("#") and rule not in present]
