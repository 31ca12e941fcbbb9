"""Pages can be followed: links lead somewhere, and declarations can be read."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from airflow_mlops.cli import parser
from airflow_mlops.core.declaration.contract import read_contract
from airflow_mlops.core.declaration.data import AnySource
from airflow_mlops.core.declaration.read_loop import read_loop
from airflow_mlops.core.validation.suite import read_suite

HOUSE = Path(__file__).parents[3]
DOCS = HOUSE / "docs"
PAGES = [*sorted(HOUSE.glob("*.md")), *sorted(DOCS.rglob("*.md"))]

FENCED = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def links_of(page: Path) -> list[str]:
    """Return the targets of a page's relative links, those in code blocks left out."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    return [target for target in LINK.findall(text) if not re.match(r"[a-z]+:", target)]


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that a page's headings make, as GitHub makes them."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def snippets(language: str, start: str) -> list[object]:
    """Return the code blocks of a language that start with a word, each with the name of its page."""
    return [
        pytest.param(code, id=f"{page.relative_to(HOUSE)}-{number}")
        for page in PAGES
        for number, (kind, code) in enumerate(FENCED.findall(page.read_text(encoding="utf-8")))
        if kind == language and re.search(rf"^{start}", code, flags=re.MULTILINE)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(HOUSE)))
def test_every_relative_link_leads_to_a_file_and_a_heading_that_exist(page: Path) -> None:
    for link in links_of(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.relative_to(HOUSE)} links to {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors_of(target), f"{page.relative_to(HOUSE)} links to {link}"


def test_every_page_can_be_reached_from_the_index() -> None:
    reached, waiting = set(), [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached and page.suffix == ".md" and page.is_relative_to(DOCS):
            reached.add(page)
            waiting += [(page.parent / link.partition("#")[0]).resolve() for link in links_of(page)]
    assert [str(page.relative_to(HOUSE)) for page in sorted(DOCS.rglob("*.md")) if page not in reached] == []


@pytest.mark.parametrize("code", snippets("yaml", "model:"))
def test_every_declaration_on_a_page_can_be_read(code: str, tmp_path: Path) -> None:
    file = tmp_path / "loop.yaml"
    file.write_text(code, encoding="utf-8")
    assert read_loop(file).model


@pytest.mark.parametrize("code", snippets("yaml", "contract:"))
def test_every_contract_on_a_page_can_be_read(code: str, tmp_path: Path) -> None:
    file = tmp_path / "contract.yaml"
    file.write_text(code, encoding="utf-8")
    assert read_contract(file).columns


@pytest.mark.parametrize("code", snippets("yaml", "source:"))
def test_every_source_on_a_page_can_be_declared(code: str) -> None:
    assert TypeAdapter(AnySource).validate_python(yaml.safe_load(code)["source"])


@pytest.mark.parametrize("code", snippets("yaml", "expectations:"))
def test_every_suite_on_a_page_can_be_read(code: str, tmp_path: Path) -> None:
    file = tmp_path / "suite.yaml"
    file.write_text(code, encoding="utf-8")
    assert read_suite(file)


@pytest.mark.parametrize("code", snippets("python", ""))
def test_every_python_snippet_on_a_page_is_python(code: str) -> None:
    compile(code, "snippet", "exec")


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(line, id=f"{page.relative_to(HOUSE)}: {line[:60]}")
        for page in PAGES
        for kind, code in FENCED.findall(page.read_text(encoding="utf-8"))
        if kind == "bash"
        for line in code.replace("\\\n", " ").splitlines()
        if line.strip().startswith("airflow-mlops ")
    ],
)
def test_every_command_on_a_page_is_one_of_the_command_line(line: str) -> None:
    words = shlex.split(re.split(r"\s[|>]|\s2>", line)[0], comments=True)
    assert parser().parse_args(words[1:]).run
