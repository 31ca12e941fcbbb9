"""The rules of the house that no linter knows: what may lie in the repository and what may import what."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from benchmarks.__main__ import MODULES

HOUSE = Path(__file__).parents[3]
PLUGINS = HOUSE / "plugins"

# Written in pieces, so that this file does not hold what it looks for.
MACHINE_PATH = re.compile(
    r"(?<![\w.:-])/(?:"
    + "|".join(["work", "root", "home", "Users", "tmp/w", "opt/pypi", "opt/wheels"])
    + r")/(?=\w|\.)"
)
DOWNLOAD_ADDRESS = re.compile(
    r"https?://\S+/(?:" + "|".join(["simple", "packages"]) + r")(?:/|\b)"
    r"|file:" + r"//"
    r"|\b(?:" + r"|".join([r"pypi\.org", r"pythonhosted\.org", r"ghcr\.io", r"quay\.io", r"docker\.io"]) + r")\b"
    r"|--(?:extra-)?index-url|--find-links"
)

# What costs a Dag file its seconds, at every parse and before every task.
HEAVY = (
    "pandas",
    "sklearn",
    "scipy",
    "mlflow",
    "great_expectations",
    "deltalake",
    "pyarrow",
    "skops",
    "matplotlib",
    "shap",
    "fairlearn",
    "model_signing",
    "cyclonedx",
    "openlineage",
)

# Libraries that the core may import only in the files that are their adapters, and how those files are named.
ADAPTERS = {
    "mlflow": ("mlflow_",),
    "great_expectations": ("great_expectations_", "gx_"),
    "deltalake": ("delta_",),
    "pyspark": ("spark_",),
}


def files_of_the_repository() -> list[Path]:
    """Return every file that is, or at the next commit would be, in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=HOUSE,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    paths = [HOUSE / name for name in listed.split("\0") if name]
    return [path for path in paths if path.is_file()]


def run_python(code: str, home: Path) -> str:
    """Run ``code`` in a fresh interpreter whose Airflow lives in ``home``; return what it printed."""
    environment = dict(os.environ) | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": os.pathsep.join([str(PLUGINS), str(HOUSE)]),
    }
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=HOUSE, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended.stdout


def modules_below(folder: Path) -> list[str]:
    """Return the dotted names of all modules below a folder of the package."""
    names = []
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(PLUGINS).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def imports_of(path: Path) -> set[str]:
    """Return the top-level names that a file imports anywhere, in its functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


def found_in_texts(pattern: re.Pattern[str]) -> list[str]:
    """Return ``file:line: match`` of every match in the texts of the repository, this file left out."""
    modules = []
    for path in files_of_the_repository():
        if path == Path(__file__):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            match = pattern.search(line)
            if match:
                modules.append(f"{path.relative_to(HOUSE)}:{number}: {match.group()}")
    return modules


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (MACHINE_PATH, 'open("/ho' + 'me/ann/x.csv")'),
        (MACHINE_PATH, "uri: /ro" + "ot/data"),
        (DOWNLOAD_ADDRESS, "--ind" + "ex-url=x"),
        (DOWNLOAD_ADDRESS, "https://mirror.example/sim" + "ple/"),
        (DOWNLOAD_ADDRESS, "x @ fi" + "le:///wheels/x.whl"),
    ],
)
def test_the_patterns_find_what_they_are_for(pattern: re.Pattern[str], text: str) -> None:
    assert pattern.search(text)


def test_no_file_holds_a_path_of_somebodys_machine() -> None:
    assert found_in_texts(MACHINE_PATH) == []


def test_no_file_holds_a_download_address() -> None:
    assert found_in_texts(DOWNLOAD_ADDRESS) == []


def test_every_requirement_is_pinned_and_hashed() -> None:
    for lock in sorted(HOUSE.glob("requirements*.lock")):
        entries = lock.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
        loose = [
            entry for entry in entries if not re.match(r"^[a-z0-9._\[\]-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", entry)
        ]
        assert loose == [], lock.name


def test_the_runtime_lock_is_cut_from_the_development_lock() -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^\S+==\S+", (HOUSE / name).read_text(encoding="utf-8"), flags=re.MULTILINE))

    assert pins("requirements.lock") <= pins("requirements-dev.lock")


def test_no_folder_is_empty() -> None:
    held = {parent for path in files_of_the_repository() for parent in path.parents}
    below = [
        folder
        for top in ("plugins", "dags", "include", "tests", "docs", "docker", "benchmarks", ".ci")
        for folder in [HOUSE / top, *(HOUSE / top).rglob("*/")]
        if "__pycache__" not in folder.parts and not folder.is_relative_to(HOUSE / "include" / "data")
    ]
    assert [str(folder.relative_to(HOUSE)) for folder in below if folder not in held] == []


def test_no_package_holds_nothing_but_its_docstring() -> None:
    package = HOUSE / "plugins" / "airflow_mlops"
    bare = [
        str(file.parent.relative_to(HOUSE))
        for file in package.rglob("__init__.py")
        if not any(other for other in file.parent.rglob("*.py") if other.name != "__init__.py")
    ]
    assert bare == []


def test_no_module_below_plugins_shadows_an_installed_module() -> None:
    # Airflow imports every file below plugins/ by its bare stem wherever .airflowignore is not read.
    installed = {name for name in importlib.metadata.packages_distributions() if name != "airflow_mlops"}
    taken = installed | set(sys.stdlib_module_names)
    stems = {path.stem: path for path in PLUGINS.rglob("*.py") if path.stem not in {"__init__", "__main__"}}
    stems.pop("register_airflow_mlops", None)
    assert sorted(str(path.relative_to(HOUSE)) for stem, path in stems.items() if stem in taken) == []


def test_airflow_passes_over_the_package_in_the_plugins_folder(tmp_path: Path) -> None:
    code = (
        "from airflow._shared.module_loading import find_path_from_directory as find\n"
        f"print(*sorted(p.rpartition('/')[2] for p in find({str(PLUGINS)!r}, '.airflowignore', 'glob') "
        "if p.endswith('.py')))"
    )
    assert run_python(code, tmp_path).splitlines()[-1] == "register_airflow_mlops.py"


def test_the_core_runs_where_airflow_is_never_imported(tmp_path: Path) -> None:
    names = modules_below(PLUGINS / "airflow_mlops" / "core")
    names.remove("airflow_mlops.core.ledger.migrations.env")  # Alembic runs it, when a ledger is opened
    code = (
        f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
        "from airflow_mlops.core.ledger.sql_ledger import SqlLedger\n"
        f"SqlLedger({f'sqlite:///{tmp_path}/ledger.db'!r}, 'toy').head()\n"
        "print('airflow' in sys.modules)"
    )
    assert run_python(code, tmp_path).strip() == "False"


def test_no_import_changes_the_environment(tmp_path: Path) -> None:
    # A number of threads that an import leaves behind is inherited by the fits that follow, and changes their bytes.
    names = [name for room in ("core", "gateway") for name in modules_below(PLUGINS / "airflow_mlops" / room)]
    names.remove("airflow_mlops.core.ledger.migrations.env")
    code = (
        f"import importlib, os, sys\nbefore = dict(os.environ)\nfor name in {names!r}: importlib.import_module(name)\n"
        "of_openmp = ('KMP_INIT_AT_FORK', 'KMP_DUPLICATE_LIB_OK')  # scikit-learn's, and they leave results alone\n"
        "print([n for n in {**before, **os.environ} if before.get(n) != os.environ.get(n) and n not in of_openmp])"
    )
    assert run_python(code, tmp_path).strip().splitlines()[-1] == "[]"


def test_the_core_touches_a_backend_only_in_the_files_named_after_it() -> None:
    misplaced = [
        f"{path.relative_to(HOUSE)} imports {library}"
        for path in sorted((PLUGINS / "airflow_mlops" / "core").rglob("*.py"))
        for library in imports_of(path) & ADAPTERS.keys()
        if not path.stem.startswith(ADAPTERS[library])
    ]
    assert misplaced == []


def test_reading_a_dag_file_imports_nothing_heavy(tmp_path: Path) -> None:
    files = sorted((HOUSE / "dags").glob("*.py"))
    assert files, "dags/ holds no Dag file"
    code = (
        "import runpy, sys\n"
        f"for path in {[str(path) for path in files]!r}: runpy.run_path(path)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert run_python(code, tmp_path).strip().splitlines()[-1] == "[]"


def test_a_score_run_before_a_champion_imports_nothing_of_data_or_models(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "import airflow_mlops.core.open_workspace, airflow_mlops.core.ledger.sql_ledger\n"
        "import airflow_mlops.core.rollout.serving_state\n"
        "heavy = ('pandas', 'sklearn', 'skops', 'scipy', 'mlflow', 'deltalake')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    assert run_python(code, tmp_path).strip().splitlines()[-1] == "[]"


def test_the_public_names_import_without_airflow(tmp_path: Path) -> None:
    assert run_python("import airflow_mlops, sys; print('airflow' in sys.modules)", tmp_path).strip() == "False"


def test_every_benchmark_stands_in_its_module() -> None:
    for name, module in MODULES.items():
        text = (HOUSE / "benchmarks" / f"{module}.py").read_text(encoding="utf-8")
        assert f"\ndef {name}(" in text, f"benchmarks/{module}.py has no benchmark {name}"


def test_the_extra_all_has_every_extra_but_feast_and_the_demo() -> None:
    extras = tomllib.loads((HOUSE / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (line,) = extras["all"]
    assert sorted(line.removeprefix("airflow-mlops[").partition("]")[0].split(",")) == sorted(
        set(extras) - {"all", "feast", "demo"}
    )


def test_every_dependency_is_bounded_on_both_sides_and_says_why_it_is_here() -> None:
    project = tomllib.loads((HOUSE / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"] | project["dependency-groups"]
    wanted = [*project["project"]["dependencies"], *(dependency for extra in extras.values() for dependency in extra)]
    explained = (HOUSE / "docs" / "dependencies.md").read_text(encoding="utf-8")
    for requirement in wanted:
        name = re.split(r"[><=\[]", requirement)[0]
        if name == project["project"]["name"]:
            continue  # the package itself, at the version that asks for it
        assert ">=" in requirement, f"{requirement} has no lower bound"
        assert "<" in requirement, f"{requirement} has no upper bound"
        assert re.search(rf"[ ,]{re.escape(name)}[ ,\[]", explained), f"docs/dependencies.md is silent on {name}"
