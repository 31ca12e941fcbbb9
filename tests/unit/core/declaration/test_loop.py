"""The declaration: the same fields in Python and in YAML, and one clear error for the first fault."""

from __future__ import annotations

import contextlib
import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.read_loop import MAX_BYTES, read_loop, read_strict_yaml
from airflow_mlops.core.errors import DeclarationError
from tests.unit.core.toy_loop import toy_fields, toy_loop

TOY = """\
model: toy
owner: tests
data:
  source: {kind: parquet, uri: "toy/{partition}.parquet"}
  key: id
  time: at
  label: y
train:
  function: tests.unit.core.toy_loop:candidates
  window: 2
gates:
  - {metric: mae, at_most: 5}
"""

FULL: dict[str, Any] = {
    "model": "toy",
    "owner": "tests",
    "data": {
        "source": {"kind": "parquet", "uri": "toy/{partition}.parquet"},
        "every": "@daily",
        "from": "2013-01-06",
        "until": "2014-01-05",
        "key": "id",
        "time": "at",
        "label": "y",
        "expectations": "suite.yaml",
        "tolerance": 0.02,
    },
    "train": {"function": "a.b:c", "window": "all", "at_least": 3, "holdout": 2, "at": "0 1 * * *", "seed": 7},
    "gates": [
        {"metric": "mae", "at_most": 5, "slices": ["kind"], "min_rows": 10},
        {"metric": "rmse", "no_worse_than_champion_by": 0.1},
    ],
    "rollout": {
        "target": "batch",
        "approval": "none",
        "stages": [{"shadow": 100, "bake": 1}, {"canary": 10}, {"live": 100}],
        "margin": 0.02,
        "min_rows": 50,
    },
    "watch": {
        "drift": {"alarm_rate": 0.02, "min_effect": 0.05},
        "performance": {"metric": "mae", "worse_by": 0.2, "min_rows": 10},
    },
    "retrain": {
        "policy": {"clock": 4, "or_alarm": True},
        "alarm": {"windows": 1, "of": 2},
        "cooldown": 1,
        "budget": 5,
    },
    "notify": ["a.b:tell"],
}


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def read_text(text: str | bytes) -> Loop:
        path = tmp_path / "loop.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_loop(path)

    return read_text


def read_error(read: Any, text: str | bytes) -> DeclarationError:
    with pytest.raises(DeclarationError) as caught:
        read(text)
    assert caught.value.file is not None
    assert str(caught.value).startswith(caught.value.file)
    return caught.value


def test_yaml_and_python_give_equal_loops(read: Any) -> None:
    assert read(TOY) == toy_loop()
    assert read(yaml.safe_dump(FULL)) == Loop(**FULL)


def test_a_loop_written_out_as_json_values_reads_back_equal(read: Any) -> None:
    loop = Loop(**FULL)
    assert Loop(**loop.to_dict()) == loop
    assert read(yaml.safe_dump(loop.to_dict())) == loop


BY_KIND = {
    "promoted": ["a.b:tell", {"kind": "webhook", "conn_id": "chat", "style": "slack"}],
    "alarm": [{"kind": "smtp", "conn_id": "mail", "to": ["ml@example.org"], "tiers": ["high"]}],
    "failed": ["a.b:tell"],
}


def test_notifiers_by_kind_read_back_equal_and_a_list_stays_what_it_was(read: Any) -> None:
    by_kind, listed = Loop(**{**FULL, "notify": BY_KIND}), Loop(**FULL)
    assert read(yaml.safe_dump(by_kind.to_dict())) == by_kind == read(yaml.safe_dump({**FULL, "notify": BY_KIND}))
    assert hash(by_kind) == hash(Loop(**{**FULL, "notify": copy.deepcopy(BY_KIND)}))
    assert (listed.callbacks, listed.notify_by_kind) == (("a.b:tell",), None)
    assert (by_kind.callbacks, by_kind.notify_by_kind) == ((), by_kind.notify)


@pytest.mark.parametrize(
    ("notify", "key", "words"),
    [
        ({"promotd": ["a.b:tell"]}, "notify.promotd", "did you mean 'promoted'?"),
        ({"drift": ["a.b:tell"]}, "notify.drift", "valid keys: alarm, approval, escalated, failed, overdue, promoted"),
        ({"alarm": ["tell"]}, "notify.alarm[0]", "should match pattern"),
        ({"alarm": "a.b:tell"}, "notify.alarm", "should be a valid tuple"),
        ({"alarm": [{"kind": "slack", "conn_id": "x"}]}, "notify.alarm[0].kind", "valid kinds: smtp, webhook"),
        ({"alarm": [{"kind": "webhook"}]}, "notify.alarm[0].conn_id", "is required and missing"),
        ({"alarm": [{"kind": "webhook", "conn_id": ""}]}, "notify.alarm[0].conn_id", "at least 1 character"),
        (
            {"alarm": [{"kind": "webhook", "conn_id": "x", "style": "slak"}]},
            "notify.alarm[0].style",
            "Input should be 'slack', 'pagerduty' or 'json' (value 'slak')",
        ),
        ({"alarm": [{"kind": "webhook", "conn_id": "x", "url": "y"}]}, "notify.alarm[0].url", "unknown key"),
        ({"alarm": [{"kind": "webhook", "conn_id": "x", "tiers": ["top"]}]}, "notify.alarm[0].tiers[0]", "'high'"),
        ({"alarm": [{"kind": "smtp", "conn_id": "x"}]}, "notify.alarm[0].to", "is required and missing"),
        ({"alarm": [{"kind": "smtp", "conn_id": "x", "to": ["ann"]}]}, "notify.alarm[0].to[0]", "match pattern"),
        ({"alarm": [{"kind": "smtp", "conn_id": "x", "to": ["a@b\nBcc: c@d"]}]}, "notify.alarm[0].to[0]", "pattern"),
        ({"alarm": [{"kind": "webhook", "conn_id": "{{ x }}"}]}, "notify.alarm[0].conn_id", "holds a template"),
    ],
)
def test_a_wrong_notifier_is_named_by_its_key(read: Any, notify: dict[str, Any], key: str, words: str) -> None:
    error = read_error(read, yaml.safe_dump({**FULL, "notify": notify}))
    assert error.key == key
    assert error.line is not None
    assert words in str(error)


def test_a_loop_is_hashable_and_cannot_be_changed() -> None:
    loop = Loop(**FULL)
    assert hash(loop) == hash(Loop(**copy.deepcopy(FULL)))
    with pytest.raises(ValueError, match="frozen"):
        loop.owner = "eve"


@pytest.mark.parametrize(
    ("old", "new", "line", "key_and_hint"),
    [
        ("owner:", "ownr:", 2, ("ownr", "did you mean 'owner'?")),
        ("label: y", "lable: y", 7, ("data.lable", "did you mean 'label'?")),
        ("kind: parquet,", "knd: parquet,", 4, ("data.source.knd", "did you mean 'kind'?")),
        ("at_most: 5", "at_mots: 5", 12, ("gates[0].at_mots", "did you mean 'at_most'?")),
        ("  window: 2", "  zzz: 2", 10, ("train.zzz", "valid keys: at, at_least, early_stopping, function")),
    ],
)
def test_an_unknown_key_is_named_with_its_line_its_value_and_the_nearest_key(
    read: Any, old: str, new: str, line: int, key_and_hint: tuple[str, str]
) -> None:
    error = read_error(read, TOY.replace(old, new))
    assert (error.line, error.key) == (line, key_and_hint[0])
    assert key_and_hint[1] in error.message
    assert "value " in error.message


@pytest.mark.parametrize(
    ("old", "new", "line", "key"),
    [
        ("window: 2", "window: two", 10, "train.window"),
        ("window: 2", "window: 0", 10, "train.window"),
        ("window: 2", "window: true", 10, "train.window"),
        ("window: 2", "window: 2.5", 10, "train.window"),
        ("at_most: 5", "at_most: five", 12, "gates[0].at_most"),
        ("at_most: 5", "at_most: 1e999", 12, "gates[0].at_most"),
        ("at_most: 5", "at_most: 5, at_least: 1", 12, "gates[0]"),
        ("metric: mae", "metric: auc", 12, "gates[0].metric"),
        ("owner: tests", "owner: 7", 2, "owner"),
        ("model: toy", "model: To Y", 1, "model"),
        ("model: toy", f"model: {'9' * 5000}", 1, "model"),
        ("model: toy", f"model: {'a' * 64}", 1, "model"),
        ("toy/{partition}.parquet", "toy/{partitoin}.parquet", 4, "data.source.uri"),
        ('{kind: parquet, uri: "toy/{partition}.parquet"}', '{kind: parquet, uri: ""}', 4, "data.source.uri"),
        ("function: tests.unit.core.toy_loop:candidates", "function: no-reference", 9, "train.function"),
        ("  key: id\n", "", 3, "data.key"),
        ("owner: tests\n", "", 1, "owner"),
        ("owner: tests", "owner: '{{ conn.x.password }}'", 2, "owner"),
        ("owner: tests", "owner: '{% raw %}'", 2, "owner"),
        ("owner: tests", "owner: tests\nretrain: {policy: {clok: 4}}", 3, "retrain.policy.clok"),
        ("owner: tests", "owner: tests\nretrain: {alarm: {windows: 3, of: 2}}", 3, "retrain.alarm"),
        ("owner: tests", "owner: tests\nrollout: {stages: [{live: 100}, {shadow: 5}]}", 3, "rollout"),
        ("owner: tests", "owner: tests\nrollout: {stages: [{live: 100, bake: 1}]}", 3, "rollout.stages[0]"),
        ("owner: tests", "owner: tests\nwatch: {performance: {metric: log_loss}}", 3, None),
        ("owner: tests", "owner: tests\nself: 1", 3, "self"),
    ],
)
def test_a_wrong_value_is_named_with_its_line(read: Any, old: str, new: str, line: int, key: str | None) -> None:
    assert old in TOY
    error = read_error(read, TOY.replace(old, new))
    if key is None:
        assert "mixes metrics" in error.message
    else:
        assert (error.key, error.line) == (key, line)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x 1\nb: *x", "uses the alias or anchor 'x'"),
        ("owner: !!python/object/apply:os.getcwd []", "uses the tag"),
        ("owner: !mine a", "uses the tag '!mine'"),
        ("model: a\nmodel: b", "stands here a second time"),
        ("owner: [", "is no YAML"),
        ("a: 1\n---\nb: 2", "is no YAML"),
        ("- a\n- b", "must be a mapping"),
        ("", "must be a mapping"),
        ("just text", "must be a mapping"),
        ("[" * 21 + "]" * 21, "is nested deeper than 20 levels"),
        ("[" * 100_000 + "]" * 100_000, "is nested deeper than 20 levels"),
        ("{a: " * 3_000 + "}" * 3_000, "is nested deeper than 20 levels"),
        ("model: a\x00", "is no YAML"),
    ],
)
def test_surprising_features_of_yaml_are_refused(read: Any, text: str, message: str) -> None:
    assert message in read_error(read, text).message


SOURCE = '{kind: parquet, uri: "toy/{partition}.parquet"}'


@pytest.mark.parametrize(
    "source",
    [
        {"kind": "parquet", "uri": "s3://lake/{year}/{month}/{day}/*.parquet", "conn_id": "lake"},
        {"kind": "csv", "uri": "in/{partition}/", "delimiter": ";"},
        {"kind": "csv", "uri": "in/all.csv", "path_columns": ["region"]},
        {"kind": "json", "uri": "in/{partition}.jsonl"},
        {"kind": "sql", "conn_id": "warehouse", "table": "public.flights"},
        {"kind": "sql", "conn_id": "warehouse", "query": "SELECT * FROM f WHERE at >= :start AND at < :end"},
        {"kind": "http", "conn_id": "api", "path": "flights?until={partition}", "pages": {"next": "links.next"}},
        {"kind": "http", "conn_id": "api", "path": "f/{partition}", "format": "csv", "pages": {"number": "page"}},
    ],
)
def test_each_kind_of_source_reads_alike_in_python_and_yaml_and_back(read: Any, source: dict[str, Any]) -> None:
    data = {**FULL["data"], "source": source, "contract": "contract.yaml"}
    loop = Loop(**{**FULL, "data": data})
    assert read(yaml.safe_dump({**FULL, "data": data})) == loop
    assert Loop(**loop.to_dict()) == loop
    assert loop.data.source.kind == source["kind"]


@pytest.mark.parametrize(
    ("source", "key", "message"),
    [
        ("{kind: parqet, uri: x}", "data.source.kind", "no such kind; did you mean 'parquet'? (value 'parqet')"),
        (
            "{kind: ftp, uri: x}",
            "data.source.kind",
            "no such kind; valid kinds: csv, delta, feast, http, iceberg, json, orc, parquet, sql, xlsx",
        ),
        ("{uri: 'x/{partition}'}", "data.source.kind", "is required and missing"),
        ("{kid: sql, table: t}", "data.source.kid", "unknown key (value 'sql'); did you mean 'kind'?"),
        ("just/a/path", "data.source", "valid dictionary"),
        ("{kind: csv, uri: 'x/{partition}.csv', delimeter: ;}", "data.source.delimeter", "did you mean 'delimiter'?"),
        ("{kind: csv, uri: 'x/{partition}.csv', delimiter: ';;'}", "data.source.delimiter", "at most 1 character"),
        (
            "{kind: csv, uri: 'x/{partition}.csv', table: t}",
            "data.source.table",
            "valid keys: comment, conn_id, decimal",
        ),
        ("{kind: csv, uri: 'x/{partition}.csv'}", "data", "a csv source carries no types: declare data.contract"),
        ("{kind: http, conn_id: a, path: '{day}'}", "data", "a http source carries no types: declare data.contract"),
        ("{kind: sql, conn_id: a}", "data.source", "needs exactly one of table, query"),
        ("{kind: sql, conn_id: a, table: t, query: ':start :end'}", "data.source", "needs exactly one of table, query"),
        ("{kind: sql, conn_id: a, query: 'SELECT 1'}", "data.source", "query must bind :start and :end"),
        ("{kind: sql, conn_id: a, query: 'x < :end'}", "data.source", "query must bind :start and :end"),
        ("{kind: sql, conn_id: a, table: 't; DROP TABLE t'}", "data.source.table", "should match pattern"),
        ("{kind: sql, table: t}", "data.source.conn_id", "is required and missing"),
        ("{kind: http, conn_id: a, path: '{day}', pages: {nxt: a}}", "data.source.pages.nxt", "did you mean 'next'?"),
        (
            "{kind: http, conn_id: a, path: '{day}', pages: {}}",
            "data.source.pages",
            "needs exactly one of next, number",
        ),
        ("{kind: http, conn_id: a, path: '{day}', attempts: 0}", "data.source.attempts", "greater than or equal to 1"),
        ("{kind: http, conn_id: a, path: all}", "data.source.path", "must hold {partition}"),
        ("{kind: json, uri: all.jsonl}", "data.source.uri", "must hold {partition}"),
        ("{kind: csv, uri: 'in/', path_columns: [a, a]}", "data.source.path_columns", "names 'a' more than once"),
    ],
)
def test_a_wrong_source_is_named_by_its_key_and_not_by_the_kinds_it_could_be(
    read: Any, source: str, key: str, message: str
) -> None:
    error = read_error(read, TOY.replace(SOURCE, source))
    assert error.key == key
    assert message in error.message


def test_a_duplicate_key_is_named_with_its_second_line(read: Any) -> None:
    error = read_error(read, TOY.replace("  label: y", "  label: y\n  key: other"))
    assert (error.key, error.line) == ("data.key", 8)


def test_a_file_over_the_limit_is_refused_before_it_is_parsed(read: Any) -> None:
    assert "256,001 bytes; the limit is 256,000" in read_error(read, b"#" * (MAX_BYTES + 1)).message
    assert read(TOY + "#" * (MAX_BYTES - len(TOY))) == toy_loop()


def test_a_file_that_is_not_utf_8_is_refused_at_its_byte(read: Any) -> None:
    assert read_error(read, b"owner: \xff").message == "is not UTF-8 at byte 7"


def test_a_missing_file_is_a_declaration_error(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=r"none\.yaml: cannot be read: No such file"):
        read_loop(tmp_path / "none.yaml")


def test_scalars_follow_yaml_1_2(tmp_path: Path) -> None:
    path = tmp_path / "scalars.yaml"
    path.write_text("[no, yes, on, off, 12:30:45, 0o17, 2013-01-06, 1_000, 'true', true, null, ~, -7, +1, 1e3, .5]")
    assert read_strict_yaml(path)[0] == [
        "no",
        "yes",
        "on",
        "off",
        "12:30:45",
        "0o17",
        "2013-01-06",
        "1_000",
        "true",
        True,
        None,
        None,
        -7,
        1,
        1000.0,
        0.5,
    ]


def test_python_gives_the_same_error_as_yaml(read: Any) -> None:
    fields = toy_fields()
    fields["gates"][0]["at_mots"] = fields["gates"][0].pop("at_most")
    with pytest.raises(DeclarationError) as caught:
        Loop(**fields)
    in_yaml = read_error(read, TOY.replace("at_most", "at_mots"))
    assert (caught.value.message, caught.value.key) == (in_yaml.message, in_yaml.key)
    assert caught.value.line is None


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_are_no_limits(number: float) -> None:
    with pytest.raises(DeclarationError, match=r"gates\[0\].at_most: Input should be a finite number"):
        toy_loop(gates=[{"metric": "mae", "at_most": number}])


def test_numbers_are_not_coerced_from_text() -> None:
    with pytest.raises(DeclarationError, match=r"train.window"):
        toy_loop(train={"function": "a:b", "window": "2"})


# Keywords make it likely that a text is nearly a declaration.
PIECES = st.sampled_from(
    [
        *TOY.splitlines(),
        "{",
        "}",
        "[",
        "]",
        ": ",
        "- ",
        "\n",
        "  ",
        "&a ",
        "*a",
        "!!int ",
        "{{ x }}",
        "? ",
        "---",
        "'",
        '"',
    ]
)


@settings(max_examples=300)
@given(st.one_of(st.text(), st.lists(PIECES).map("".join), st.lists(PIECES).map("\n".join)))
@example("self: 1")
@example("? [a]\n: 1")
@example('"\\ud800": 1')
def test_any_text_gives_a_loop_or_a_declaration_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with contextlib.suppress(DeclarationError):
        assert isinstance(read_loop(path), Loop)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_loop_or_a_declaration_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    path.write_bytes(content)
    with pytest.raises(DeclarationError):
        read_loop(path)


def key_paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every key below ``value``."""
    if isinstance(value, dict):
        return [path for key, item in value.items() for path in [(*at, key), *key_paths(item, (*at, key))]]
    if isinstance(value, list):
        return [path for index, item in enumerate(value) for path in key_paths(item, (*at, index))]
    return []


KEY_PATHS = key_paths(FULL)


def declared_names(schema: Any) -> set[str]:
    """Return every key that a section of a declaration may have."""
    if isinstance(schema, list):
        return {name for item in schema for name in declared_names(item)}
    if not isinstance(schema, dict):
        return set()
    own = schema.get("properties", {})
    return {*(own if isinstance(own, dict) else ()), *declared_names(list(schema.values()))}


KEY_NAMES = {path[-1] for path in KEY_PATHS} | declared_names(Loop.model_json_schema(by_alias=True))


@settings(max_examples=200)
@given(
    st.sampled_from(KEY_PATHS),
    st.text("abcdefghijklmnopqrstuvwxyz_0", min_size=1, max_size=12).filter(
        lambda name: name not in KEY_NAMES | {"from_", "live", "canary", "shadow", "bake", "at_least"}
    ),
)
@example(("retrain", "policy", "clock"), "clok")
@example(("retrain", "policy", "or_alarm"), "or_alarms")
@example(("rollout", "stages", 0, "bake"), "bakes")
def test_any_key_with_another_name_is_an_error_that_names_it(path: tuple[Any, ...], name: str) -> None:
    fields: Any = copy.deepcopy(FULL)
    holder = fields
    for part in path[:-1]:
        holder = holder[part]
    holder[name] = holder.pop(path[-1])
    with pytest.raises(DeclarationError) as caught:
        Loop(**fields)
    assert caught.value.key is not None
    assert caught.value.key.endswith(name), caught.value
    assert "unknown key" in caught.value.message
