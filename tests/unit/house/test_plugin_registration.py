"""The plugin is registered once: by the wheel where there is one, else by the file in plugins/."""

from __future__ import annotations

import importlib.metadata
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest

SHIM = Path(__file__).parents[3] / "plugins" / "register_airflow_mlops.py"


@pytest.fixture
def plugin_module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A stand-in for the module of the plugin, so that no Airflow is started to look at one name."""
    module = ModuleType("airflow_mlops.ui.plugin")
    module.AirflowMlopsPlugin = type("AirflowMlopsPlugin", (), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "airflow_mlops.ui", ModuleType("airflow_mlops.ui"))
    monkeypatch.setitem(sys.modules, "airflow_mlops.ui.plugin", module)
    return module


def entry_points_holding(*names: str) -> object:
    """Return a stand-in for `importlib.metadata.entry_points` that knows these plugins."""
    points = [importlib.metadata.EntryPoint(name, "somewhere:Plugin", "airflow.plugins") for name in names]
    return lambda **sought: importlib.metadata.EntryPoints(points).select(**sought)


def test_without_the_wheel_the_file_offers_the_plugin(
    monkeypatch: pytest.MonkeyPatch, plugin_module: ModuleType
) -> None:
    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points_holding("another_plugin"))
    assert runpy.run_path(str(SHIM))["AirflowMlopsPlugin"] is plugin_module.AirflowMlopsPlugin


def test_with_the_wheel_the_file_offers_nothing(monkeypatch: pytest.MonkeyPatch, plugin_module: ModuleType) -> None:
    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points_holding("airflow_mlops"))
    assert "AirflowMlopsPlugin" not in runpy.run_path(str(SHIM))
