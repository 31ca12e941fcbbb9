"""The policy refuses every promotion until the requirements of the tier are met."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.errors import DeclarationError, PolicyError
from airflow_mlops.core.governance import reproduce_version as reproduce_version_module
from airflow_mlops.core.governance.certify_version import certify_version
from airflow_mlops.core.governance.model_card import write_model_card
from airflow_mlops.core.rollout.approvals import record_approval, version_to_approve
from airflow_mlops.core.rollout.promotion_policy import FILE, read_policy, unmet_requirements
from airflow_mlops.core.rollout.roll_out import run_rollout_step, start_rollout
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import ingest, toy_loop, toy_rows, train, week


def registered(tmp_path: Path, **changes: Any) -> Workspace:
    """Return a loop whose version 1 waits for its rollout, which is one stage."""
    frames = {week(number): toy_rows(number) for number in range(4)}
    rollout = {"stages": [{"live": 100}], **changes.pop("rollout", {})}
    workspace = in_memory_workspace(toy_loop(rollout=rollout, **changes), frames, scratch=tmp_path)
    for number in range(3):
        ingest(workspace, week(number))
    train(workspace, week(2))
    return workspace


def go_live(workspace: Workspace) -> None:
    """Try to promote the candidate."""
    run_rollout_step(workspace, start_rollout(workspace, week(2)), 0, week(2))


def write_policy(root: Path, text: str) -> None:
    """Write the policy file of a project."""
    (root / FILE).parent.mkdir(parents=True, exist_ok=True)
    (root / FILE).write_text(text)


def test_without_a_file_a_low_tier_needs_nothing_and_a_high_one_everything(tmp_path: Path) -> None:
    policy = read_policy(tmp_path)
    assert policy.of("low") == ()
    assert policy.of("high") == ("purpose", "signature", "card", "reproduced", "approval")
    go_live(registered(tmp_path))


def test_a_high_tier_is_promoted_only_with_all_that_the_policy_names(tmp_path: Path) -> None:
    workspace = registered(tmp_path, tier="high", rollout={"approval": "human"}, evaluate={"slices": ["kind"]})
    version = version_to_approve(workspace, week(2))
    record_approval(workspace, version, ("ben",), started_by=None)
    with pytest.raises(PolicyError) as refused:
        go_live(workspace)
    message = str(refused.value)
    assert message.startswith("version 1 of toy (tier high) may not be promoted: purpose: the declaration does not say")
    assert "card: no model card was written; airflow-mlops card toy 1" in message
    assert "reproduced: it was not made again yet; airflow-mlops reproduce toy 1" in message
    assert "approval" not in message
    assert workspace.state().champion is None


def test_what_a_machine_can_prove_is_proved_and_what_only_a_person_can_is_left_over(tmp_path: Path) -> None:
    workspace = registered(
        tmp_path, tier="high", purpose="tests only", rollout={"approval": "human"}, evaluate={"slices": ["kind"]}
    )
    missing = certify_version(workspace, "1")
    assert [sentence.partition(":")[0] for sentence in missing] == ["approval"]
    assert workspace.state().reproduced["1"].details.verdict == "identical"
    records = workspace.ledger.head().sequence
    assert certify_version(workspace, "1") == missing
    assert workspace.ledger.head().sequence == records
    record_approval(workspace, version_to_approve(workspace, week(2)), ("ben",), started_by=None)
    assert unmet_requirements(workspace, workspace.state(), workspace.state().versions["1"]) == []
    go_live(workspace)
    champion = workspace.state().champion
    assert champion is not None
    assert champion.number == "1"


def test_a_card_that_lacks_something_holds_a_promotion_by_name(tmp_path: Path) -> None:
    write_policy(tmp_path, "tiers:\n  low: [card]\n")
    workspace = registered(tmp_path)
    certify_version(workspace, "1")
    with pytest.raises(PolicyError, match="card: the model card lacks purpose"):
        go_live(workspace)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tiers:\n  high: [aproval]\n", r"include/policy.yaml:2: tiers.high\[0\]: .*'approval'"),
        ("tiers:\n  huge: []\n", r"include/policy.yaml:2: tiers.huge: unknown key"),
        ("tier: {}\n", r"include/policy.yaml:1: tier: unknown key .*did you mean 'tiers'"),
    ],
)
def test_a_wrong_policy_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    write_policy(tmp_path, text)
    with pytest.raises(DeclarationError, match=words):
        read_policy(tmp_path)


def test_a_card_that_lacked_something_counts_anew_once_it_is_declared(tmp_path: Path) -> None:
    write_policy(tmp_path, "tiers:\n  low: [card]\n")
    workspace = registered(tmp_path, evaluate={"slices": ["kind"]})
    (missing,) = certify_version(workspace, "1")
    assert missing.startswith("card: the model card lacks purpose: declare `purpose`; once nothing is lacking, airflow")
    declared = dataclasses.replace(workspace, loop=workspace.loop.model_copy(update={"purpose": "tests only"}))
    write_model_card(declared, "1")
    assert unmet_requirements(declared, declared.state(), declared.state().versions["1"]) == []
    records = declared.ledger.head().sequence
    write_model_card(declared, "1")
    assert declared.ledger.head().sequence == records
    assert unmet_requirements(workspace, workspace.state(), workspace.state().versions["1"]) == []
    write_model_card(workspace, "1")
    assert unmet_requirements(workspace, workspace.state(), workspace.state().versions["1"]) != []


@pytest.mark.parametrize(("allowed", "met"), [("", False), ("tolerance: 0.1\n", False), ("tolerance: 1.5\n", True)])
def test_how_far_a_version_made_again_may_be_off_is_for_the_policy_to_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: str, met: bool
) -> None:
    write_policy(tmp_path, f"tiers:\n  low: [reproduced]\n{allowed}")
    workspace = registered(tmp_path)
    real_predict = reproduce_version_module.predict
    offsets = iter(range(10))
    monkeypatch.setattr(
        reproduce_version_module, "predict", lambda *args, **kwargs: real_predict(*args, **kwargs) + next(offsets)
    )
    report = reproduce_version_module.reproduce_version(workspace, "1", tolerance=1e9)
    assert (report.verdict, report.largest_difference) == ("within tolerance", pytest.approx(1.0))
    missing = unmet_requirements(workspace, workspace.state(), workspace.state().versions["1"])
    assert (missing == []) is met
    if not met:
        assert "within tolerance" in missing[0]
        assert "include/policy.yaml allows" in missing[0]


def test_a_tolerance_of_the_policy_is_the_one_a_new_version_is_proved_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_policy(tmp_path, "tiers:\n  low: [reproduced]\ntolerance: 1.5\n")
    workspace = registered(tmp_path)
    real_predict, offsets = reproduce_version_module.predict, iter(range(10))
    monkeypatch.setattr(
        reproduce_version_module, "predict", lambda *args, **kwargs: real_predict(*args, **kwargs) + next(offsets)
    )
    assert certify_version(workspace, "1") == []
    assert workspace.state().reproduced["1"].details.verdict == "within tolerance"
