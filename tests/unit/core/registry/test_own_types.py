"""A loop whose model holds the user's own classes: declared, pinned by the digest of their code, and held to it."""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.check_declaration import check_functions
from airflow_mlops.core.declaration.own_types import own_code
from airflow_mlops.core.errors import DeclarationError, RegistryError, ReproductionError, RolloutError, TrainingError
from airflow_mlops.core.governance.reproduce_version import reproduce_version
from airflow_mlops.core.registry.load import load_version, verified_folder
from airflow_mlops.core.registry.own_code import OwnCodeError, read_own_code, verified_own_types
from airflow_mlops.core.rollout.manual_rollback import roll_back_now
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import go_live, ingest, toy_loop, toy_rows, train, week

STEPS = """
import os
from os import path as place

from sklearn.base import BaseEstimator, RegressorMixin, TransformerMixin

from .shared.factors import FACTOR


class Scaled(TransformerMixin, BaseEstimator):
    def __init__(self, column="x"):
        self.column = column

    def fit(self, X, y=None):
        self.mean_ = float(X[self.column].abs().mean())
        return self

    def transform(self, X):
        return X[[self.column]].to_numpy() * FACTOR / self.mean_


def doubled(values):
    return 2 * values


class Slope(RegressorMixin, BaseEstimator):
    def fit(self, X, y):
        self.slope_ = float((X[:, 0] * y).sum() / (X[:, 0] ** 2).sum())
        return self

    def predict(self, X):
        return self.slope_ * X[:, 0]
"""
MODELS = """
from sklearn.linear_model import LinearRegression
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from {package}.steps import Scaled, Slope, doubled


def candidates(seed):
    return {{"own": make_pipeline(Scaled(), FunctionTransformer(doubled), Slope())}}


def plain(seed):
    return {{"line": make_pipeline(make_column_transformer(("passthrough", ["x"])), LinearRegression())}}
"""


class Project:
    """A folder with a package of its own name, so that no test sees what another has imported."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.package = folder, f"own_{folder.name}"
        self.types = [f"{self.package}.steps:{name}" for name in ("Scaled", "Slope", "doubled")]
        self.write("__init__", "")
        self.write("steps", STEPS)
        self.write("shared/factors", "FACTOR = 3.0\n")
        self.write("models", MODELS.format(package=self.package))

    def write(self, name: str, code: str) -> Path:
        """Write a module of the package."""
        file = self.folder / self.package / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(code)
        importlib.invalidate_caches()
        return file

    def fields(self, function: str = "candidates", **changes: Any) -> dict[str, Any]:
        """Return the section train."""
        return {"function": f"{self.package}.models:{function}", "window": 2, "own_types": self.types, **changes}

    def loop(self, **changes: Any) -> Workspace:
        """Return a loop of four weeks."""
        stages, retrain = {"stages": [{"live": 100}]}, {"confidence": "none"}
        loop = toy_loop(train=self.fields(**changes), rollout=stages, retrain=retrain)
        rows = {week(number): toy_rows(number) for number in range(4)}
        made = in_memory_workspace(loop, rows, scratch=self.folder / "scratch", root=self.folder)
        for number in range(4):
            ingest(made, week(number))
        return made

    def again(self, workspace: Workspace, **changes: Any) -> Workspace:
        """Return a loop under another declaration."""
        loop = workspace.loop.model_copy(update={"train": toy_loop(train=self.fields(**changes)).train})
        return Workspace(loop, workspace.root, workspace.scratch, workspace.ports, "test")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_a_model_of_own_types_goes_through_the_loop_with_the_digests_of_all_code_below_the_project(
    project: Project,
) -> None:
    made = project.loop()
    go_live(made, week(2))
    version = made.state().versions["1"]
    files = {"": "__init__", ".steps": "steps", ".shared.factors": "shared/factors"}
    digests = {
        f"{project.package}{module}": hashlib.sha256(
            (project.folder / project.package / f"{file}.py").read_bytes()
        ).hexdigest()
        for module, file in files.items()
    }
    assert version.details.own_code == digests
    assert read_own_code(verified_folder(made, version)) == digests
    assert made.evidence.get(str(version.details.report))["request"]["own_code"] == digests
    assert score_partition(made, week(3)).served == {"1": 120}
    reproduction = reproduce_version(made, "1")
    assert (reproduction.verdict, reproduction.same_file) == ("identical", True)


def test_a_fit_in_another_process_gives_the_same_file(project: Project) -> None:
    here, there = project.loop(), project.loop(limits={"minutes": 5})
    for made in (here, there):
        train(made, week(2))
    assert here.state().versions["1"].details.artefact == there.state().versions["1"].details.artefact


@pytest.mark.parametrize("module", ["steps", "shared/factors", "__init__"])
def test_other_code_is_refused_by_name_wherever_the_version_is_loaded(module: str, project: Project) -> None:
    made = project.loop()
    go_live(made, week(2))
    file = project.folder / project.package / f"{module}.py"
    code = file.read_text()
    file.write_text(f"{code}# changed\n")
    name = f"{project.package}.{module}".removesuffix(".__init__").replace("/", ".")
    words = rf"version 1 of toy was fitted with the module '{name}' of the digest .* put that code back, or .*own_types"
    with pytest.raises(OwnCodeError, match=words):
        score_partition(made, week(3))
    with pytest.raises(ReproductionError, match=f"the module '{name}' of the digest"):
        reproduce_version(made, "1")
    file.write_text(code)
    assert score_partition(made, week(3)).served == {"1": 120}
    file.unlink()
    with pytest.raises(OwnCodeError, match="and the project has none; put that code back"):
        load_version(made, made.state().versions["1"])


def test_a_champion_of_other_code_does_not_keep_a_new_version_from_being_trained(project: Project) -> None:
    made = project.loop()
    go_live(made, week(2))
    project.write("steps", STEPS.replace("2 * values", "3 * values"))
    now = project.again(made, function="plain", own_types=[])
    assert train(now, week(3)) == "2"
    report = now.evidence.get(str(now.state().versions["2"].details.report))
    assert f"version 1 of toy was fitted with the module '{project.package}.steps'" in str(report)


def test_a_version_of_other_code_is_not_gone_back_to(project: Project) -> None:
    made = project.loop()
    go_live(made, week(2))
    now = project.again(made, function="plain")
    go_live(now, week(3))
    assert now.state().versions["2"].details.own_code is None
    project.write("steps", f"{STEPS}# changed\n")
    with pytest.raises(RolloutError, match=r"version 1 cannot serve: version 1 of toy was fitted with the module"):
        roll_back_now(now, reason="complaints")
    champion = now.state().champion
    assert champion is not None
    assert champion.number == "2"
    load_version(now, champion)  # it holds none of the types


def test_a_process_that_has_imported_other_code_says_that_it_must_start_again(project: Project) -> None:
    made = project.loop()
    go_live(made, week(2))
    project.write("shared/factors", "FACTOR = 4.0\n")
    with pytest.raises(TrainingError, match=r"and this process has imported that of .*start it again"):
        train(made, week(3))


def test_a_type_that_is_not_declared_is_refused_before_the_fit_and_when_it_is_no_longer(project: Project) -> None:
    made = project.loop()
    missing = project.again(made, own_types=project.types[:1])
    words = rf"{project.package}\.steps\.Slope, {project.package}\.steps\.doubled; .*train\.own_types"
    with pytest.raises(TrainingError, match=words):
        train(missing, week(2))
    train(made, week(2))
    for types in ([], project.types[1:]):
        with pytest.raises(RegistryError, match=rf"not trusted: {project.package}.steps.Scaled.*train.own_types"):
            load_version(project.again(made, own_types=types), made.state().versions["1"])


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("os:system", "module 'os' is not in the project folder"),
        ("{package}.step:Scaled", r"module '{package}\.step' is not in the project folder"),
        ("{package}.steps:place", "steps.py defines no 'place' at its top"),
        ("{package}.steps:Scale", "steps.py defines no 'Scale' at its top; did you mean 'Scaled'"),
    ],
)
def test_a_declared_type_is_defined_by_a_module_of_the_project(reference: str, words: str, project: Project) -> None:
    declared = [project.types[0], reference.format(package=project.package)]
    loop = toy_loop(train=project.fields(own_types=declared))
    with pytest.raises(DeclarationError, match=words.format(package=project.package)) as raised:
        check_functions(loop, project.folder)
    assert raised.value.key == "train.own_types[1]"
    check_functions(toy_loop(train=project.fields()), project.folder)


def test_a_module_that_an_installed_one_hides_is_refused(tmp_path: Path) -> None:
    (tmp_path / "colorsys.py").write_text("class Own: pass\n")
    recorded = own_code(["colorsys:Own"], tmp_path)
    with pytest.raises(
        OwnCodeError, match=r"needs the module 'colorsys' of the project, and Python finds .*colorsys\.py"
    ):
        verified_own_types(["colorsys:Own"], recorded, tmp_path, "version 1")


def test_a_loop_without_own_types_has_the_request_that_it_had(project: Project) -> None:
    made = project.loop(own_types=[], function="plain")
    train(made, week(2))
    request = made.evidence.get(str(made.state().versions["1"].details.report))["request"]
    assert not {"own_code", "own_types", "early_stopping"} & set(request)
