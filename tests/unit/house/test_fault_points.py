"""Every write to a store passes a named fault point, so that the drill can stop a process before it and after it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[3] / "plugins" / "airflow_mlops"
ROOMS = ("core", "gateway", "hooks", "notifiers", "operators", "sensors", "triggers")
"""The rooms that write to stores; the command line writes only what a person asked it to write."""

POINTS = ("external_write", "write")
"""The functions of ``core.fault_point`` that pass points around a write."""
MLFLOW = (
    "create_experiment create_run log_batch log_metric log_param log_dict log_text log_artifact log_artifacts "
    "log_inputs set_terminated set_tag set_experiment_tag update_run delete_run create_registered_model "
    "create_model_version create_logged_model finalize_logged_model log_model_artifacts set_model_version_tag "
    "delete_model_version set_registered_model_alias delete_registered_model_alias transition_model_version_stage"
)
DELTA = (
    "create_write_transaction write_deltalake add_columns create_checkpoint cleanup_metadata optimize delete_file "
    "delete_dir open_output_stream open_append_stream ParquetWriter write_table write_dataset RecordBatchFileWriter"
)
FILES = "write_text write_bytes unlink rmdir rmtree copytree copyfile copy2 symlink_to"
SQL = "insert update delete bulk_insert_mappings"
AWS = (
    "create_model create_endpoint create_endpoint_config create_training_job create_transform_job "
    "create_processing_job update_endpoint update_endpoint_weights_and_capacities delete_model delete_endpoint "
    "delete_endpoint_config stop_training_job stop_transform_job add_tags delete_tags upload_file upload_fileobj "
    "put_object delete_object"
)
HTTP = "post patch urlopen"
METHODS = frozenset(" ".join((MLFLOW, DELTA, FILES, AWS, HTTP)).split())
"""Names of calls that write wherever they stand."""
FUNCTIONS = frozenset(SQL.split())
"""Names of functions, not of methods, that write."""

OWN = "a folder or a pipe of this process alone, which nobody reads after it"
PART = "a file beside the one that is replaced as a whole, under a point of its own"
LEFT = "removes what nobody reads any more; the next attempt removes it too"
ELSEWHERE = {
    "core.data.duplicate_keys:_spool": OWN,
    "core.data.quarantined_rows:__init__": OWN,
    "core.data.quarantined_rows:add": OWN,
    "core.data.split_pass:encode_sample": OWN,
    "core.ports.fit_rows:write": OWN,
    "core.ports.signing_keys:private": PART,
    "core.registry.mlflow_experiments:_log_contents": OWN,
    "core.registry.mlflow_files:write_folder": OWN,
    "core.registry.mlflow_files:write_new_folder": OWN,
    "core.registry.mlflow_registry:fetch": PART,
    "core.registry.model_file:make_repeatable": PART,
    "core.registry.replace_folder:fetch_folder": PART,
    "core.registry.replace_folder:move_away": "is called under the point of replace_folder",
    "core.registry.replace_folder:try_move": "is called under the point of replace_folder",
    "core.registry.replace_folder:replace_folder": LEFT,
    "core.registry.version_archive:extract": OWN,
    "core.registry.version_archive:write_archive": PART,
    "core.rollout.targets.sagemaker.model:pack": OWN,
    "core.sources.table_copies:__exit__": PART,
    "core.sources.table_copies:_make": PART,
    "core.training.child_step:fit": LEFT,
    "core.training.fit_candidate:fit_by": LEFT,
    "core.training.fit_candidate:fit_candidate": LEFT,
    "core.training.transform_server:answer": OWN,
    "core.training.transform_server:write_features": OWN,
    "core.training.trial_file:_remove": LEFT,
    "core.watch.fresh_model:_fit": LEFT,
    "core.workspace.workspace:shared": PART,
    "core.lake:lock_file": "an empty file, opened to be locked",
    "core.lake:replace_file": PART,
    "core.ledger.projection:apply": "changes a fact in memory, which sql_facts writes",
    "core.ledger.sql_facts:flush": "is called under the point of the projection",
    "core.scaffold.new_files:write_new_files": "files of a person's project, made at their command",
    "gateway.durable_file:replace_durably": PART,
    "gateway.prediction_log:_write_files": PART,
    "gateway.prediction_log:write_part": PART,
    "gateway.replica_id:own_folder": "an empty file, opened to be locked",
    "gateway.version_files:_copy_from_lake": PART,
    "hooks.sagemaker_training:_start": OWN,
    "hooks.sagemaker_training:unpack": OWN,
    "hooks.sagemaker_training:write_code": OWN,
    "hooks.sagemaker_transform:_create": OWN,
    "hooks.sagemaker_transform:_ensure_model": OWN,
}
"""What writes without a point, by module and function, and why that needs none."""


@dataclass(frozen=True)
class Write:
    """A call that writes, in the function that holds it."""

    module: str
    function: str
    line: int
    call: str

    @property
    def place(self) -> str:
        """The module and the function."""
        return f"{self.module}:{self.function}"


def name_of(call: ast.Call) -> str:
    """Return the name of the function or method that is called."""
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def writes(call: ast.Call) -> bool:
    """Return whether a call writes to a file, a table, a database or a service."""
    name, is_method = name_of(call), isinstance(call.func, ast.Attribute)
    if name in METHODS or (name in FUNCTIONS and not is_method):
        return True
    if name in ("replace", "rename"):  # of a path: it has one argument; of a text, a frame or a time it has others
        return is_method and len(call.args) == 1 and not call.keywords
    if name in ("open", "ZipFile"):
        modes = [*call.args, *(keyword.value for keyword in call.keywords)]
        texts = [mode.value for mode in modes if isinstance(mode, ast.Constant) and isinstance(mode.value, str)]
        return any(set(text) <= set("rwaxbt+") and set(text) & set("wax+") for text in texts)
    return name == "create" and is_method and getattr(call.func.value, "id", "") == "DeltaTable"  # type: ignore[attr-defined]


def has_point(node: ast.AST) -> bool:
    """Return whether a block passes fault points around what it holds."""
    if not isinstance(node, ast.With):
        return False
    calls = [call for item in node.items for call in ast.walk(item) if isinstance(call, ast.Call)]
    return any(name_of(call) == "external_write" for call in calls)


def calls_of(tree: ast.Module) -> Iterator[tuple[ast.Call, str, bool]]:
    """Yield every call of a module with the function that holds it, and whether a point is around it."""
    stack: list[tuple[ast.AST, str, bool]] = [(tree, "", False)]
    while stack:
        node, function, covered = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function, covered = node.name, False
        if isinstance(node, ast.Call):
            yield node, function, covered
        inside = covered or has_point(node)
        stack += [(child, function, inside) for child in ast.iter_child_nodes(node)]


@cache
def uncovered() -> tuple[Write, ...]:
    """Return the writes around which there is no point, neither where they stand nor where their function is called."""
    writing = []
    for path in sorted(file for room in ROOMS for file in (PACKAGE / room).rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        calls = list(calls_of(ast.parse(path.read_text(encoding="utf-8"))))
        called = {
            function: [covered for call, _, covered in calls if name_of(call) == function] for _, function, _ in calls
        }
        for call, function, covered in calls:
            within = function.startswith("_") and called[function] and all(called[function])
            if writes(call) and not covered and not within:
                writing.append(Write(module, function, call.lineno, name_of(call)))
    return tuple(writing)


def test_every_write_passes_a_fault_point() -> None:
    assert [write for write in uncovered() if write.place not in ELSEWHERE] == []


def test_what_needs_no_point_is_there_still() -> None:
    assert set(ELSEWHERE) - {write.place for write in uncovered()} == set()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("client.create_run(experiment)", True),
        ("path.replace(target)", True),
        ("text.replace('a', 'b')", False),
        ("frame.rename(columns=names)", False),
        ("file.open('ab')", True),
        ("file.open('rb')", False),
        ("insert(TABLE)", True),
        ("profile.update(batch)", False),
    ],
)
def test_a_write_is_told_from_what_looks_like_one(line: str, expected: bool) -> None:
    (call,) = [node for node in ast.walk(ast.parse(line)) if isinstance(node, ast.Call) and name_of(node) != ""]
    assert writes(call) is expected
