"""The seven infrastructure items of the ML Test Score."""

from __future__ import annotations

from airflow_mlops.core.governance.ml_test_score.points import Items, Point, View, full_point, half_point, no_point
from airflow_mlops.core.ledger.rollout_details import Promoted, RolledBack, StageEntered
from airflow_mlops.core.ledger.training_details import CandidateRefused, Reproduced


def reproducibility(view: View) -> Point:
    """I1: training is reproducible."""
    records = view.of_kind(Reproduced)
    if not records:
        return no_point(f"no version was made again; airflow-mlops reproduce {view.workspace.loop.model} VERSION")
    last = records[-1]
    reason = f"version {last.details.version}: {last.details.reason}"
    return (
        full_point(reason, view.record(last))
        if last.details.verdict == "identical"
        else half_point(reason, view.record(last))
    )


def tested_model_code(view: View) -> Point:
    """I2: the code of models is tested."""
    module, _, name = view.workspace.loop.train.function.partition(":")
    # Both, as the name alone may be a word that means something else.
    files = view.tests_that_name([module], [name])
    return (
        full_point(f"{len(files)} test files use {name}", *files)
        if files
        else no_point(f"no test uses {module}:{name}")
    )


def tested_loop(view: View) -> Point:
    """I3: the whole loop is tested."""
    files = view.tests_that_name([view.workspace.loop.model])
    loop_tests = tuple(file for file in files if file.startswith(("tests/loop/", "tests/e2e/", "tests/integration/")))
    if not loop_tests:
        return no_point(f"no test of the whole loop names {view.workspace.loop.model}")
    return full_point("the loop is run from ingest to live in tests", *loop_tests)


def quality_gates(view: View) -> Point:
    """I4: quality is gated before a model serves."""
    promoted = view.of_kind(Promoted)
    if view.version is None:
        return no_point("no version has passed the gates yet")
    refused = len(view.of_kind(CandidateRefused))
    reason = f"{len(promoted)} promotions, each of a version whose gates passed; {refused} candidates were refused"
    return full_point(reason, view.report_of())


def row_trace(view: View) -> Point:
    """I5: one row can be traced step by step."""
    if not view.state.scored or view.version is None:
        return no_point("no row was scored yet")
    model = view.workspace.loop.model
    return full_point(
        "rows, features and predictions are kept", f"airflow-mlops explain {model} {view.version.number} --row KEY"
    )


def canary(view: View) -> Point:
    """I6: a model is tried on a part of the keys before it serves all."""
    entered = [record for record in view.of_kind(StageEntered) if record.details.kind == "canary"]
    if not entered:
        kinds = {stage.kind for stage in view.workspace.loop.rollout.stages}
        return no_point(
            "declared, and no version was in it yet" if "canary" in kinds else "no canary stage is declared"
        )
    return full_point(f"{len(entered)} canary stages were entered", view.record(entered[-1]))


def quick_rollback(view: View) -> Point:
    """I7: going back is quick and safe."""
    records = view.of_kind(RolledBack)
    command = f"airflow-mlops rollback {view.workspace.loop.model}"
    if not records:
        return no_point(f"one command, {command}, and never used on this loop")
    return full_point(f"{len(records)} versions were taken back", view.record(records[-1]), command)


ITEMS: Items = {
    "I1": ("training is reproducible", reproducibility),
    "I2": ("model code is tested", tested_model_code),
    "I3": ("the whole loop is tested", tested_loop),
    "I4": ("quality is gated before serving", quality_gates),
    "I5": ("one row can be traced", row_trace),
    "I6": ("canary", canary),
    "I7": ("rollback is quick and safe", quick_rollback),
}
