"""A version of staging becomes a candidate of production: the same bytes and signature, or a refusal that names why."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.errors import (
    DataError,
    DeclarationError,
    GateError,
    MlopsError,
    NotReadyError,
    PolicyError,
    RegistryError,
    ReproductionError,
)
from airflow_mlops.core.governance.adopt_archive import adopt_archive
from airflow_mlops.core.governance.export_version import ExportError, export_version
from airflow_mlops.core.governance.reproduce_version import reproduce_version
from airflow_mlops.core.ledger.audit import audit_ledger
from airflow_mlops.core.ledger.record import canonical_json
from airflow_mlops.core.ledger.training_details import CandidateRefused, CandidateRegistered
from airflow_mlops.core.overview.retrain_costs import retrain_costs
from airflow_mlops.core.overview.sentences import describe_record
from airflow_mlops.core.ports.signing_keys import StaticKeys, derive_public_key, new_private_key
from airflow_mlops.core.registry.load import copy_folder, load_version, verified_folder
from airflow_mlops.core.registry.own_code import OwnCodeError
from airflow_mlops.core.registry.recorded_classes import ClassesChangedError
from airflow_mlops.core.registry.sign_folder import OtherKeyError, SignatureError
from airflow_mlops.core.registry.sign_manifest import sign_manifest
from airflow_mlops.core.registry.verify_version import verify_version
from airflow_mlops.core.registry.version_archive import ArchiveError
from airflow_mlops.core.rollout.approvals import people_behind
from airflow_mlops.core.rollout.inspect_versions import inspect_versions
from airflow_mlops.core.rollout.manual_rollback import roll_back_now
from airflow_mlops.core.rollout.promotion_policy import unmet_requirements
from airflow_mlops.core.rollout.roll_out import run_rollout_step, start_rollout
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.watch.drift.detect_drift import detect_drift
from airflow_mlops.core.watch.overdue import find_overdue
from airflow_mlops.core.watch.performance.measure_performance import measure_performance
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import go_live, ingest, loop_with_champion, toy_loop, toy_rows, train, week

STAGES = {"rollout": {"stages": [{"shadow": 100}, {"live": 100}]}}
STAGING_KEY = new_private_key()
FILES = [
    "evidence/profile.json",
    "evidence/report.json",
    "manifest.json",
    "manifest.sig",
    "record.json",
    "version/environment.json",
    "version/model.sig",
    "version/model.skops",
    "version/sbom.cdx.json",
]


@pytest.fixture(scope="module")
def staging(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return a loop whose champion is version 1; it signs with the key of staging."""
    scratch = tmp_path_factory.mktemp("staging")
    workspace = in_memory_workspace(
        toy_loop(**STAGES), {week(number): toy_rows(number) for number in range(4)}, scratch=scratch
    )
    workspace.__dict__["keys"] = StaticKeys(STAGING_KEY)
    for number in range(4):
        ingest(workspace, week(number))
    go_live(workspace, week(2))
    return workspace


@pytest.fixture(scope="module")
def archive(staging: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_version(staging, "1", tmp_path_factory.mktemp("archives"), environment="staging")


def production(scratch: Path, *, weeks: int = 3, slope: float = 2.0, labels: bool = True, **changes: Any) -> Workspace:
    """Return a loop of other rows that has trained nothing, and trusts the key of staging beside its own."""
    frames = {week(number): toy_rows(number + 50, slope=slope) for number in range(10, 10 + weeks)}
    for frame in frames.values():
        if not labels:
            frame["y"] = float("nan")
    workspace = in_memory_workspace(toy_loop(**{**STAGES, **changes}), frames, scratch=scratch, actor="person:ann")
    workspace.__dict__["keys"] = StaticKeys(new_private_key(), (derive_public_key(STAGING_KEY),))
    for number in range(10, 10 + weeks):
        ingest(workspace, week(number))
    return workspace


def only_record(workspace: Workspace) -> CandidateRegistered:
    (record,) = workspace.ledger.records(CandidateRegistered)
    details: CandidateRegistered = record.details
    return details


def rewrite(archive: Path, file: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """Write the members of an archive to another, after a change of their bytes."""
    with zipfile.ZipFile(archive) as opened:
        members = {name: opened.read(name) for name in opened.namelist()}
    change(members)
    with zipfile.ZipFile(file, "w") as written:
        for name, content in members.items():
            written.writestr(zipfile.ZipInfo(name), content)
    return file


def signed_again(members: dict[str, bytes], values: Mapping[str, Any]) -> None:
    """Change fields of the manifest, and sign it with the key of staging."""
    manifest = canonical_json({**json.loads(members["manifest.json"]), **values}).encode()
    members.update({"manifest.json": manifest, "manifest.sig": sign_manifest(manifest, StaticKeys(STAGING_KEY))})


def test_a_version_of_one_of_several_windows_is_adopted_with_the_partitions_of_its_own(tmp_path: Path) -> None:
    frames = {week(number): toy_rows(number, slope=2.0 if number < 2 else 6.0) for number in range(4)}
    train = {"function": "tests.unit.core.toy_loop:candidates", "window": [1, "all"]}
    there = in_memory_workspace(toy_loop(**STAGES, train=train), frames, scratch=tmp_path / "there")
    there.__dict__["keys"] = StaticKeys(STAGING_KEY)
    for key in frames:
        ingest(there, key)
    go_live(there, week(3))
    file = export_version(there, "1", tmp_path, environment="staging")
    here = production(tmp_path / "here", slope=6.0)
    adopt_archive(here, file)
    details = only_record(here)
    assert details.candidate == "line@1"
    assert details.trained_on == there.state().versions["1"].details.window
    assert [pin.partition for pin in details.trained_on.fitted] == [week(2)]
    version = start_rollout(here, week(12))
    for index in range(2):
        run_rollout_step(here, version, index, week(12))
    assert here.state().champion is not None


def test_a_version_is_adopted_with_its_bytes_and_its_signature_and_becomes_the_champion_by_a_rollout(
    staging: Workspace, archive: Path, tmp_path: Path
) -> None:
    here = production(tmp_path)
    adopted = adopt_archive(here, archive)
    assert (adopted.number, adopted.origin, adopted.existed) == ("1", "version 1 of staging", False)
    there, details = staging.state().versions["1"], only_record(here)
    assert details.artefact == there.details.artefact
    assert details.signature == there.details.signature
    folders = [verified_folder(staging, there), verified_folder(here, here.state().versions["1"])]
    files = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
    assert files[0] == files[1]
    assert here.registry.aliases()["candidate"] == "1"
    version = start_rollout(here, week(12))
    for index in range(2):
        run_rollout_step(here, version, index, week(12))
    champion = here.state().champion
    assert champion is not None
    assert hasattr(load_version(here, champion), "predict")
    assert inspect_versions(here).problems == []
    assert verify_version(here, champion, in_registry=True).verified


def test_the_ledger_says_where_a_version_comes_from_and_on_which_rows_of_here_it_was_judged(
    staging: Workspace, archive: Path, tmp_path: Path
) -> None:
    here = production(tmp_path)
    adopt_archive(here, archive)
    (record,) = here.ledger.records(CandidateRegistered)
    details, there = record.details, staging.state().versions["1"].details
    origin = details.adopted
    assert origin is not None
    assert (origin.environment, origin.version, origin.judged, origin.window) == ("staging", "1", True, there.window)
    assert details.window.fitted == ()
    assert [pin.partition for pin in details.window.holdout] == [week(12)]
    assert here.evidence.get(str(details.report))["holdout"]["pins"][0]["partition"] == week(12)
    assert here.evidence.get(str(origin.report)) == staging.evidence.get(str(there.report))
    assert details.metrics != there.metrics
    assert record.actor == "person:ann"
    assert people_behind(here.ledger, here.state().versions["1"]) == ["ann"]
    assert describe_record(record) == (
        f"adopted version 1 of staging as version 1 (line): it passed its gates on {week(12)} here"
    )
    audit_ledger(here.ledger, here.evidence)
    card = here.state().cards["1"]
    assert "version 1 of staging" in json.dumps(here.evidence.get(card.evidence[0]))


def test_adopting_twice_gives_the_same_version_and_no_second_record(archive: Path, tmp_path: Path) -> None:
    here = production(tmp_path)
    first = adopt_archive(here, archive)
    head = here.ledger.head()
    again = adopt_archive(here, archive.parent)
    assert (again.number, again.existed) == (first.number, True)
    assert here.ledger.head() == head
    assert len(here.registry.all_versions()) == 1


def test_an_adoption_that_died_before_its_record_is_finished_by_the_next(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = production(tmp_path)

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("airflow_mlops.core.governance.adopt_archive.append_decision", interrupt)
        with pytest.raises(KeyboardInterrupt):
            adopt_archive(here, archive)
    assert list(here.state().versions) == []
    assert adopt_archive(here, archive).number == "1"
    assert len(here.registry.all_versions()) == 1


def test_an_export_is_the_same_bytes_again_and_holds_no_row(staging: Workspace, archive: Path, tmp_path: Path) -> None:
    again = export_version(staging, "1", tmp_path / "again.zip", environment="staging")
    assert again.read_bytes() == archive.read_bytes()
    with zipfile.ZipFile(archive) as opened:
        assert sorted(opened.namelist()) == FILES
        text = b"".join(opened.read(name) for name in opened.namelist())
    keys = [row for number in range(4) for row in toy_rows(number)["id"].head(20)]
    assert [key for key in keys if f'"{key}"'.encode() in text] == []


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_of_any_file_is_refused_and_nothing_is_registered(
    archive: Path, tmp_path: Path, name: str
) -> None:
    here = production(tmp_path)
    for place in (0, -2):

        def flip(members: dict[str, bytes], place: int = place) -> None:
            content = bytearray(members[name])
            content[place] ^= 1
            members[name] = bytes(content)

        with pytest.raises(SignatureError):
            adopt_archive(here, rewrite(archive, tmp_path / "tampered.zip", flip))
    assert here.registry.all_versions() == []
    assert list(here.state().versions) == []


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_by_its_name(archive: Path, tmp_path: Path, name: str) -> None:
    def leave_out(members: dict[str, bytes]) -> None:
        del members[name]

    file = rewrite(archive, tmp_path / "less.zip", leave_out)
    with pytest.raises(RegistryError, match=rf"{name}.*export the version again"):
        adopt_archive(production(tmp_path), file)


def test_an_added_file_is_refused_by_its_name(archive: Path, tmp_path: Path) -> None:
    file = rewrite(archive, tmp_path / "more.zip", lambda members: members.update({"version/evil.py": b"x"}))
    with pytest.raises(SignatureError, match=r"version/evil\.py was added"):
        adopt_archive(production(tmp_path), file)


def replaced_by_its_own_signer(members: dict[str, bytes], name: str, content: bytes) -> None:
    """Replace a file and name its digest in the manifest, as somebody with the key of staging could."""
    members[name] = content
    files = json.loads(members["manifest.json"])["files"]
    signed_again(members, {"files": {**files, name: hashlib.sha256(content).hexdigest()}})


def test_another_model_file_is_refused_even_if_the_manifest_is_signed_again(archive: Path, tmp_path: Path) -> None:
    def swap(members: dict[str, bytes]) -> None:
        replaced_by_its_own_signer(members, "version/model.skops", members["version/model.skops"] + b"x")

    with pytest.raises(SignatureError, match=r"version 1 of staging is refused: model\.skops was changed"):
        adopt_archive(production(tmp_path), rewrite(archive, tmp_path / "swapped.zip", swap))


@pytest.mark.parametrize("name", ["../evil", "/evil", "version/../../evil", "version\\evil", "C:evil", "version/.evil"])
def test_a_name_that_leads_out_of_the_folder_is_refused(archive: Path, tmp_path: Path, name: str) -> None:
    file = rewrite(archive, tmp_path / "path.zip", lambda members: members.update({name: b"x"}))
    with pytest.raises(ArchiveError, match="a name that no export gives"):
        adopt_archive(production(tmp_path), file)


def test_a_link_and_a_compressed_member_are_refused(archive: Path, tmp_path: Path) -> None:
    here = production(tmp_path)
    link, packed = zipfile.ZipInfo("version/link"), zipfile.ZipInfo("version/zeros")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    packed.compress_type = zipfile.ZIP_DEFLATED
    for entry, content, message in ((link, b"/etc/passwd", "a link"), (packed, bytes(10**6), "compressed")):
        file = Path(shutil.copy(archive, tmp_path / "odd.zip"))
        with zipfile.ZipFile(file, "a") as opened:
            opened.writestr(entry, content)
        with pytest.raises(ArchiveError, match=message):
            adopt_archive(here, file)


def test_what_is_no_archive_is_refused(archive: Path, tmp_path: Path) -> None:
    here, file = production(tmp_path), tmp_path / "half.zip"
    file.write_bytes(archive.read_bytes()[:1000])
    with pytest.raises(ArchiveError, match=r"half\.zip cannot be read as an archive"):
        adopt_archive(here, file)
    with pytest.raises(ArchiveError, match="is not there; name the file that airflow-mlops export wrote"):
        adopt_archive(here, tmp_path / "none.zip")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ArchiveError, match=r"must hold one file toy-NUMBER.zip, and holds none"):
        adopt_archive(here, tmp_path / "folder")


def test_another_form_of_archive_is_refused_by_its_number(archive: Path, tmp_path: Path) -> None:
    file = rewrite(archive, tmp_path / "old.zip", lambda members: signed_again(members, {"format": 0}))
    with pytest.raises(ArchiveError, match="of the form 0, and this release reads 1; export it with the release"):
        adopt_archive(production(tmp_path), file)


def test_a_key_that_is_not_trusted_here_is_named(archive: Path, tmp_path: Path) -> None:
    here = production(tmp_path)
    here.__dict__["keys"] = StaticKeys(new_private_key())
    with pytest.raises(OtherKeyError, match="not trusted here; give the connection mlops_signing the public key"):
        adopt_archive(here, archive)


def test_an_archive_of_another_model_is_refused(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="holds a version of 'toy', and this is 'other'; airflow-mlops adopt toy"):
        adopt_archive(production(tmp_path, model="other"), archive)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"details": {"classes": ["a", "b"]}}, ClassesChangedError, "fitted on the classes a, b, and .* declares none"),
        (
            {"details": {"own_code": {"steps": "0" * 64}}},
            OwnCodeError,
            "with the module 'steps' of the digest 000",
        ),
        ({"declared": {"label": "z"}}, DeclarationError, "data.label: version 1 of staging was made for 'z', and 'y'"),
        ({"declared": {"predicts": "class"}}, DeclarationError, "made for 'class', and 'number' is declared here"),
        ({"declared": {"code": "0" * 64}}, DeclarationError, "features of the digest 0{12}…, .* bring the same code"),
        ({"declared": {"columns": ["x", "tax"]}}, DataError, "made from 'tax', which the rows of .* here do not have"),
    ],
)
def test_a_version_for_another_declaration_is_refused_with_both_values(
    archive: Path, tmp_path: Path, changes: dict[str, Any], error: type[MlopsError], message: str
) -> None:
    def change(members: dict[str, bytes]) -> None:
        record = json.loads(members["record.json"])
        record = {
            name: {**value, **changes.get(name, {})} if name in changes else value for name, value in record.items()
        }
        replaced_by_its_own_signer(members, "record.json", canonical_json(record).encode())

    here = production(tmp_path)
    with pytest.raises(error, match=message):
        adopt_archive(here, rewrite(archive, tmp_path / "other.zip", change))
    assert here.registry.all_versions() == []


def test_another_metric_is_refused_and_another_training_function_is_not(archive: Path, tmp_path: Path) -> None:
    other = production(tmp_path / "metric", gates=[{"metric": "rmse", "at_most": 5}])
    with pytest.raises(DeclarationError, match="made for 'mae', and 'rmse' is declared here"):
        adopt_archive(other, archive)
    train_field = {"function": "tests.unit.core.toy_loop:several", "window": 2}
    assert adopt_archive(production(tmp_path / "function", train=train_field), archive).number == "1"


def test_rows_without_a_column_of_the_model_are_refused_by_its_name(archive: Path, tmp_path: Path) -> None:
    frames = {week(10): toy_rows(60).drop(columns="x")}
    here = in_memory_workspace(toy_loop(**STAGES), frames, scratch=tmp_path)
    here.__dict__["keys"] = StaticKeys(new_private_key(), (derive_public_key(STAGING_KEY),))
    ingest(here, week(10))
    with pytest.raises(DataError, match=r"was made from 'x', which the rows of .* here do not have"):
        adopt_archive(here, archive)


def test_a_version_that_fails_its_gates_on_rows_of_here_is_refused_and_the_refusal_recorded(
    archive: Path, tmp_path: Path
) -> None:
    here = production(tmp_path, slope=40.0)
    with pytest.raises(GateError, match=r"version 1 of staging does not pass on .* here: "):
        adopt_archive(here, archive)
    (record,) = here.ledger.records(CandidateRefused)
    assert here.evidence.get(str(record.details.report))["best"] == "line"
    assert here.registry.all_versions() == []


def test_without_labels_it_is_refused_unless_a_person_relies_on_the_evaluation_there(
    staging: Workspace, archive: Path, tmp_path: Path
) -> None:
    here = production(tmp_path, labels=False)
    with pytest.raises(GateError, match=r"not judged here: .* add --unjudged to rely on the evaluation there"):
        adopt_archive(here, archive)
    assert adopt_archive(here, archive, unjudged=True).reason.startswith("not judged here")
    details, there = only_record(here), staging.state().versions["1"].details
    assert details.adopted is not None
    assert not details.adopted.judged
    assert (details.metrics, details.report) == (there.metrics, there.report)
    assert details.window.pins == ()
    (record,) = here.ledger.records(CandidateRegistered)
    assert "not judged here" in describe_record(record)


def test_nothing_is_adopted_while_another_version_waits_or_before_a_partition_is_published(
    archive: Path, tmp_path: Path
) -> None:
    here = production(tmp_path / "busy")
    assert train(here, week(12)) == "1"
    with pytest.raises(NotReadyError, match="version 1 waits for its rollout; adopt it once that has ended"):
        adopt_archive(here, archive)
    with pytest.raises(NotReadyError, match="no partition of toy is published"):
        adopt_archive(production(tmp_path / "empty", weeks=0), archive)


def test_reproduce_says_that_the_rows_of_an_adopted_version_are_not_here(archive: Path, tmp_path: Path) -> None:
    here = production(tmp_path)
    adopt_archive(here, archive)
    with pytest.raises(
        ReproductionError,
        match="fitted in staging as version 1, and its rows are not here; run airflow-mlops reproduce",
    ):
        reproduce_version(here, "1")


def test_the_highest_tier_takes_the_reproduction_of_there_and_an_approval_of_here(
    staging: Workspace, archive: Path, tmp_path: Path
) -> None:
    here = production(tmp_path / "here", tier="high", purpose="tests")
    with pytest.raises(PolicyError, match="in staging run airflow-mlops reproduce toy 1, and export it again"):
        adopt_archive(here, archive)
    assert reproduce_version(staging, "1").verdict == "identical"
    adopt_archive(here, export_version(staging, "1", tmp_path / "proved.zip", environment="staging"))
    state = here.state()
    unmet = " ".join(unmet_requirements(here, state, state.versions["1"]))
    assert "reproduced" not in unmet
    assert "approval: nobody approved it" in unmet


def test_a_version_that_is_unknown_changed_taken_back_or_adopted_is_not_exported(archive: Path, tmp_path: Path) -> None:
    workspace = loop_with_champion(tmp_path / "loop")
    with pytest.raises(ReproductionError, match="toy has no version 9; versions: 1"):
        export_version(workspace, "9", tmp_path, environment="staging")
    shutil.rmtree(copy_folder(workspace, workspace.state().versions["1"]))
    workspace.registry.versions[0].content = b"tampered"  # type: ignore[attr-defined]  # the registry in memory
    with pytest.raises(SignatureError, match=r"version 1 of toy is refused: model.skops was changed"):
        export_version(workspace, "1", tmp_path, environment="staging")
    other = loop_with_champion(tmp_path / "other")
    train(other, week(3))
    start_rollout(other, week(3))
    roll_back_now(other, reason="it is bad")
    with pytest.raises(ExportError, match="version 2 of toy is in quarantine: it is bad"):
        export_version(other, "2", tmp_path, environment="staging")
    here = production(tmp_path / "here")
    adopt_archive(here, archive)
    with pytest.raises(ExportError, match="was adopted; export version 1 in staging, where it was made"):
        export_version(here, "1", tmp_path, environment="production")
    assert list(tmp_path.glob("*.zip")) == []


def test_whoever_adopted_another_version_has_no_hand_in_this_one_and_no_training_is_counted(tmp_path: Path) -> None:
    there = loop_with_champion(tmp_path / "there")
    train(there, week(3))
    here = production(tmp_path / "here", retrain={"confidence": "none"})
    public = derive_public_key(there.keys.private())
    here.__dict__["keys"] = StaticKeys(new_private_key(), (public,))
    adopt_archive(here, export_version(there, "1", tmp_path / "1.zip", environment="staging"))
    version = start_rollout(here, week(12))
    for index in range(2):
        run_rollout_step(here, version, index, week(12))
    of_bob = replace(here, actor="person:bob")
    of_bob.__dict__["keys"] = here.keys
    adopt_archive(of_bob, export_version(there, "2", tmp_path / "2.zip", environment="staging"))
    state = here.state()
    assert people_behind(here.ledger, state.versions["1"]) == ["ann"]
    assert people_behind(here.ledger, state.versions["2"]) == ["bob"]
    assert retrain_costs(here.ledger, state).trainings == ()


def test_an_unjudged_champion_is_scored_and_watched_by_the_evaluation_of_there(archive: Path, tmp_path: Path) -> None:
    watch: dict[str, Any] = {"performance": {"metric": "mae", "worse_by": 0.5, "min_rows": 20, "slices": ["kind"]}}
    watch |= {"drift": {"alarm_rate": 0.001}, "max_age": 1}
    here = production(tmp_path, labels=False, watch=watch)
    adopt_archive(here, archive, unjudged=True)
    version = start_rollout(here, week(12))
    for index in range(2):
        run_rollout_step(here, version, index, week(12))
    here.source.frames[week(13)] = toy_rows(63)  # type: ignore[attr-defined]  # the source in memory
    ingest(here, week(13))
    score_partition(here, week(13))
    performance = measure_performance(here, week(13))
    assert performance.rows == 120
    assert "its holdout is not here" in str(performance.no_slices)
    assert "against 240" in detect_drift(here, week(13)).message
    (stale,) = find_overdue(here.state(), here.loop, week(14))
    assert "version 1 is stale" in stale.message
