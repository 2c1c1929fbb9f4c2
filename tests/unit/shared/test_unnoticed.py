"""A test that leaves a fault unnoticed fails: the checks of conftest.py."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from testing.servers.programs import ROOT

TESTS = """
import asyncio
import gc
import psycopg

async def fail():
    raise ValueError

async def test_that_forgets_a_task():
    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    del task
    gc.collect()

def test_that_commits_without_a_transaction(database_url):
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("COMMIT")

def test_that_is_right(database_url):
    with psycopg.connect(database_url) as connection:
        connection.execute("SELECT 1")
"""


@pytest.mark.slow
def test_an_unretrieved_exception_and_a_warning_of_postgresql_fail_their_test(tmp_path: Path) -> None:
    """Each test is reported by its name, also if its own assertions hold."""
    (tmp_path / "test_unnoticed.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-n0", "-p", "tests.conftest", "-c", str(ROOT / "pyproject.toml")]
    ended = subprocess.run(
        [*command, str(tmp_path / "test_unnoticed.py")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    failed = set(re.findall(r"^ERROR .*::(\w+)", ended.stdout, re.MULTILINE))
    assert failed >= {"test_that_forgets_a_task", "test_that_commits_without_a_transaction"}, ended.stdout
    assert "3 passed" in ended.stdout
