"""The table of attacks in docs/security.md, against the tests."""

import re
from pathlib import Path

from testing.servers.programs import ROOT

HERE = Path(__file__).parent
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
# Not attacks: they prove that the tables of other tests are not empty, and that they are whole.
OTHERS = {"test_requests_with_enums_are_found", "test_every_path_of_the_page_is_attacked"}


def named() -> list[tuple[str, str]]:
    """The files and tests that the page names."""
    return NAMED.findall((ROOT / "docs/security.md").read_text())


def names_in(file: Path) -> set[str]:
    return set(re.findall(r"^(?:async )?def (test_\w+)\(", file.read_text(), re.MULTILINE))


def test_every_test_that_the_page_names_exists() -> None:
    """A renamed test renames its row."""
    assert len(named()) > 40
    assert [f"{file}::{test}" for file, test in named() if test not in names_in(ROOT / file)] == []


def test_every_attack_of_this_folder_is_a_row_of_the_page() -> None:
    """A new attack gets its row."""
    rows = {test for _, test in named()}
    files = [file for file in HERE.glob("test_*.py") if file != Path(__file__)]
    assert {test for file in files for test in names_in(file)} - OTHERS - rows == set()
