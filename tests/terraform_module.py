"""The module of docker/terraform as a parser of HCL reads it, and its policies as AWS would be given them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import hcl2

MODULE = Path(__file__).parents[1] / "docker" / "terraform"
ACCOUNT, REGION = "123456789012", "us-east-1"


@dataclass(frozen=True)
class Block:
    """A block of the module: ``resource``, ``data``, ``variable``, ``output``; its type is empty where it has none."""

    kind: str
    type: str
    name: str
    body: dict[str, Any]

    @property
    def address(self) -> str:
        """The address by which other blocks refer to it."""
        prefix = {"resource": "", "data": "data.", "variable": "var."}.get(self.kind, f"{self.kind}.")
        return f"{prefix}{self.type}{'.' if self.type else ''}{self.name}"


def read_module() -> list[Block]:
    """Return all blocks with a name, and those of ``locals`` one by one."""
    blocks: list[Block] = []
    for file in sorted(MODULE.glob("*.tf")):
        parsed = plain(hcl2.loads(file.read_text(encoding="utf-8")))
        for kind in ("resource", "data"):
            for entry in parsed.get(kind, []):
                ((type_, named),) = entry.items()
                ((name, body),) = named.items()
                blocks.append(Block(kind, type_, name, body))
        for kind in ("variable", "output"):
            for entry in parsed.get(kind, []):
                ((name, body),) = entry.items()
                blocks.append(Block(kind, "", name, body))
        for entry in parsed.get("locals", []):
            blocks += [Block("local", "", name, {"value": value}) for name, value in entry.items()]
    return blocks


def plain(value: Any) -> Any:
    """Return a parsed value without the marks of the parser: quotes around texts, and flags of blocks."""
    if isinstance(value, dict):
        return {plain(name): plain(inner) for name, inner in value.items() if not str(name).startswith("__")}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1]
    return value


def texts(value: Any) -> Iterator[str]:
    """Yield every text within a value, names of fields included."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield str(name)
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    elif isinstance(value, str):
        yield value


def policy(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the policy document of a name as IAM takes it, with every conditional statement in it.

    Parameters
    ----------
    values : mapping of str to str or list of str
        What each reference stands for, by its address with the attribute.
    """
    (block,) = [block for block in read_module() if block.address == f"data.aws_iam_policy_document.{name}"]
    statements = [*block.body.get("statement", [])]
    for dynamic in block.body.get("dynamic", []):
        statements += dynamic["statement"]["content"]
    for source in block.body.get("source_policy_documents", []):
        inner = re.fullmatch(r"\$\{data\.aws_iam_policy_document\.(\w+)\.json\}", source)
        assert inner is not None, source
        statements += policy(inner[1], values)["Statement"]
    rendered = [entry if "Action" in entry else statement_of(entry, values) for entry in statements]
    return {"Version": "2012-10-17", "Statement": rendered}


def statement_of(entry: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return one statement as IAM takes it."""
    statement: dict[str, Any] = {"Effect": entry.get("effect", "Allow"), "Action": entry["actions"]}
    if "sid" in entry:
        statement["Sid"] = entry["sid"]
    if "resources" in entry:
        statement["Resource"] = resolve(entry["resources"], values)
    for condition in entry.get("condition", []):
        test = statement.setdefault("Condition", {}).setdefault(condition["test"], {})
        test[condition["variable"]] = resolve(condition["values"], values)
    return statement


def resolve(value: Any, values: Mapping[str, Any]) -> list[str]:
    """Return texts in which each reference is replaced."""
    entries = value if isinstance(value, list) else [value]
    resolved: list[str] = []
    for entry in entries:
        whole = re.fullmatch(r"\$\{([\w.]+)\}", entry)
        if whole is not None and isinstance(values[whole[1]], list):
            resolved += values[whole[1]]
        else:
            resolved.append(re.sub(r"\$\{([\w.]+)\}", lambda match: str(values[match[1]]), entry))
    return resolved


def references(bucket: str, *, fits: str, serving: str) -> dict[str, Any]:
    """Return the values of the references in the policies, with a bucket and the ARNs of the two roles."""
    return {
        "aws_s3_bucket.loops.arn": f"arn:aws:s3:::{bucket}",
        "aws_iam_role.fits.arn": fits,
        "aws_iam_role.serving.arn": serving,
        "data.aws_caller_identity.here.account_id": ACCOUNT,
        "local.sagemaker": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}",
        "local.alarms": f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm",
        "local.logs": f"arn:aws:logs:{REGION}:{ACCOUNT}",
        "statement.value": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1",
        "var.image_repositories": [f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/step"],
    }


def allows(document: Mapping[str, Any], action: str, resource: str) -> bool:
    """Return whether a policy allows an action on a resource, whatever its conditions."""
    return any(
        statement["Effect"] == "Allow"
        and action in statement["Action"]
        and any(fnmatchcase(resource, pattern) for pattern in statement["Resource"])
        for statement in document["Statement"]
    )
