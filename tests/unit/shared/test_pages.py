"""The Markdown pages: every file and every page that they name exists."""

import re
from pathlib import Path

import pytest

from tests.chart.chart import ROOT

PAGES = sorted(page.relative_to(ROOT).as_posix() for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))
FOLDERS = (
    "bench",
    "client",
    "deploy",
    "docs",
    "examples/python",
    "protos",
    "samples",
    "scripts",
    "services",
    "testing",
    "tests",
)
# A file of the repository in backticks, whole or from its room on; patterns such as `*.yaml` name no file.
NAMED = re.compile(r"`((?:[\w.-]+/)*[\w-]+\.(?:py|yaml|proto|sql|pml|md))`")
# Patterns for files that a reader adds.
PATTERNS = {"services/jobs/migrations/versions/NNNN_name.py"}


@pytest.fixture(scope="module")
def files() -> set[str]:
    found = {path for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")} | {*ROOT.glob("*.*")}
    return {f"/{path.relative_to(ROOT).as_posix()}" for path in found}


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_exists(page: str, files: set[str]) -> None:
    """So that a renamed module renames its mention."""
    named = set(NAMED.findall((ROOT / page).read_text())) - PATTERNS
    assert [name for name in sorted(named) if not any(file.endswith(f"/{name}") for file in files)] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_link_to_a_page_leads_to_a_file(page: str) -> None:
    """Links to other pages and figures; links to the web are not checked."""
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", (ROOT / page).read_text())
    local = [link for link in links if not re.match(r"\w+:", link)]
    assert [link for link in local if not Path(ROOT, page).parent.joinpath(link).exists()] == []
