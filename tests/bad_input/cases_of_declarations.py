"""Declarations, contracts and suites that are wrong, or written to do harm: each is an error with file and line."""

from __future__ import annotations

import json

from tests.bad_input.case import Case, bad_declaration, file_text
from tests.bad_input.world import CONTRACT, SUITE

LOOP = """\
model: orders
owner: tests
data:
  source: {kind: parquet, uri: "in/{partition}.parquet"}
  contract: contract.yaml
  expectations: suite.yaml
  key: id
  time: at
  label: y
train: {function: "nobody:candidates", window: 2}
gates: [{metric: mae, at_most: 5}]
"""
CONTRACT_TEXT = f"""\
contract: orders
key: id
time: at
evolution: none
columns:
{"".join(f"  {name}: {json.dumps(column)}{chr(10)}" for name, column in CONTRACT["columns"].items())}"""
SUITE_TEXT = f"""\
expectations:
  - {json.dumps(SUITE["expectations"][0])}
"""
TEXTS = {"loop.yaml": LOOP, "contract.yaml": CONTRACT_TEXT, "suite.yaml": SUITE_TEXT}
NAMES = {"loop.yaml": "the declaration", "contract.yaml": "the contract", "suite.yaml": "the suite"}
BOMB = "bomb:\n  a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"  {after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdefg", "bcdefgh", strict=True)
)

TAGGED = 'odd: !!python/object/apply:os.system ["true"]\n'


def wrong(file: str, line: str, *words: str, add: str = "", swap: tuple[str, str] = ("", "")) -> Case:
    """Return a case of a file with something added at its end, or a line that says something else."""
    text = TEXTS[file]
    assert swap[0] in text
    text = text.replace(*swap, 1)
    return bad_declaration(f"{line} in {NAMES[file]}", file, *words, deliver=file_text(file, text + add))


def model_named(line: str, name: str) -> Case:
    """Return a case of a model with a name that is refused."""
    text = LOOP.replace("model: orders", f"model: {json.dumps(name)}")
    return bad_declaration(
        line,
        "loop.yaml:1: model",
        "should match pattern '^[a-z0-9][a-z0-9_-]{0,62}$'",
        deliver=file_text("loop.yaml", text),
    )


def uri(line: str, address: str, *words: str) -> Case:
    """Return a case of a source at an address that is refused."""
    text = LOOP.replace("in/{partition}.parquet", address)
    return bad_declaration(line, *words, deliver=file_text("loop.yaml", text))


YAML: list[Case] = [
    case
    for file in TEXTS
    for case in (
        wrong(file, "an alias bomb", "uses the alias or anchor 'a'; write the value out", add=BOMB),
        wrong(file, "a tag of Python", "uses the tag", "plain values only", add=TAGGED),
        wrong(file, "an unknown key", "unknown", add="colour: red\n"),
        wrong(file, "more than 256 kB", "the limit is 256,000", add="#" * 256_000),
        wrong(file, "100 levels of brackets", "is nested deeper than 20 levels", add=f"deep: {'[' * 100}{']' * 100}\n"),
        wrong(file, "a text that is no YAML", "is no YAML", add="]: [\n"),
    )
] + [
    wrong("loop.yaml", "a key that stands twice", "owner: stands here a second time", add="owner: another\n"),
    wrong("contract.yaml", "a key that stands twice", "stands here a second time", add="  x: {type: int}\n"),
    wrong("suite.yaml", "a key that stands twice", "expectations: stands here a second time", add="expectations: []\n"),
]
VALUES: list[Case] = [
    wrong(
        "loop.yaml",
        "a template",
        "owner: holds a template: '{{ conn.warehouse.password }}'",
        swap=("owner: tests", 'owner: "{{ conn.warehouse.password }}"'),
    ),
    wrong(
        "contract.yaml",
        "a template",
        "description: holds a template",
        swap=("evolution: none", 'description: "{{ conn.warehouse.password }}"'),
    ),
    wrong(
        "suite.yaml",
        "a template",
        "holds a template",
        add='  - {type: expect_column_to_exist, kwargs: {column: "{% raw %}"}}\n',
    ),
    wrong(
        "loop.yaml",
        "no, which older YAML takes for false,",
        "tolerance",
        "(value 'no')",
        swap=("  label: y", "  label: y\n  tolerance: no"),
    ),
    wrong(
        "contract.yaml",
        "no, which older YAML takes for false,",
        "nullable: Input should be a valid boolean",
        swap=('"nullable": false', '"nullable": no'),
    ),
    wrong(
        "suite.yaml",
        "no, which older YAML takes for false,",
        "severity",
        add="  - {type: expect_column_to_exist, kwargs: {column: x}, severity: no}\n",
    ),
    wrong(
        "loop.yaml",
        "12:30:45, which older YAML takes for 45045,",
        "(value '12:30:45')",
        swap=("  label: y", "  label: y\n  tolerance: 12:30:45"),
    ),
    wrong(
        "contract.yaml",
        "12:30:45, which older YAML takes for 45045,",
        "nullable: Input should be a valid boolean",
        swap=('"nullable": false', '"nullable": 12:30:45'),
    ),
    wrong("loop.yaml", "a number written as text", "(value '2')", swap=("window: 2", 'window: "2"')),
    wrong(
        "contract.yaml",
        "a type that there is not",
        "columns.x.type",
        swap=('x: {"type": "float"}', 'x: {"type": "number"}'),
    ),
    wrong(
        "contract.yaml",
        "known_ahead of a number",
        "known_ahead: true goes with a date or a time; the type is float",
        swap=('x: {"type": "float"}', 'x: {"type": "float", "known_ahead": true}'),
    ),
    model_named("a model with markup for a name", "<img src=x onerror=alert(1)>"),
    model_named("a model with a name of 300 characters", "m" * 300),
    model_named("a model with a path for a name", "../another"),
    model_named("a model with an address for a name", "s3://somebody-else/model"),
    uri(
        "a source at an address that is none of ours",
        "ftp://somebody.example/{partition}.parquet",
        "data.source.uri",
        "is neither a path nor s3://bucket/key",
    ),
    uri(
        "a source with a misspelt placeholder",
        "in/{partitoin}.parquet",
        "data.source.uri",
        "holds a placeholder that is not known",
    ),
]
