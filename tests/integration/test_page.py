"""docs/operating.md: its SQL runs as written and has the effects that the page states."""

import re
from pathlib import Path

import psycopg
import pytest

from testing.servers.programs import ROOT, Laptop, Program
from tests.integration.jobs.test_lifecycle import Road

PAGE = (ROOT / "docs" / "operating.md").read_text()
STATEMENTS = [line for block in re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
# Statements of older runbooks, to the letter.
KNOWN = (
    "SELECT enumlabel FROM pg_enum WHERE enumtypid = 'video_analysis_job_status'::regtype ORDER BY enumsortorder;",
    "SELECT id, created_at FROM video_analysis_jobs WHERE status = 'awaiting_upload' "
    "AND created_at < NOW() - INTERVAL '5 minutes';",
    "SELECT status, COUNT(*) FROM video_analysis_jobs GROUP BY status;",
    "SELECT status, COUNT(*) as count FROM video_analysis_jobs WHERE created_at > NOW() - INTERVAL '1 hour' "
    "GROUP BY status ORDER BY count DESC;",
    "SELECT COUNT(*) FROM video_analysis_jobs WHERE status = 'failed' AND created_at > NOW() - INTERVAL '1 hour';",
    "UPDATE video_analysis_jobs SET status = 'queued', stage = 'QUEUED' WHERE status = 'awaiting_upload' "
    "AND created_at < NOW() - INTERVAL '10 minutes';",
)


@pytest.fixture
def road(shared_jobs: Program, laptop: Laptop, empty: str) -> Road:
    return Road(shared_jobs.endpoint, laptop)


def test_the_page_has_the_statements_that_operators_know() -> None:
    """Each on its own line, to the letter."""
    assert set(KNOWN) <= set(STATEMENTS)


def test_every_statement_of_the_page_runs(empty: str) -> None:
    """As written, each one alone, as the owner of the tables."""
    assert len(STATEMENTS) > len(KNOWN)
    with psycopg.connect(empty, autocommit=True) as connection:
        for statement in STATEMENTS:
            connection.execute(statement)


@pytest.mark.parametrize(
    ("status", "heading"), [("awaiting_upload", "Rows that are stuck"), ("deep_running", "add up")]
)
def test_a_repaired_row_is_launched_like_any_other(road: Road, empty: str, status: str, heading: str) -> None:
    """A row stuck in its upload, and a running row without a launch; the repair changes no other row."""
    stuck, fresh = road.created(), road.created()
    section = next(part for part in PAGE.split("\n### ") if part.partition("\n")[0].endswith(heading))
    repair = re.search(r"^UPDATE .*;$", section, re.MULTILINE)
    assert repair is not None
    with psycopg.connect(empty, autocommit=True) as connection:
        backdate = (
            "UPDATE video_analysis_jobs SET created_at = created_at - INTERVAL '1 hour', status = %s WHERE id = %s"
        )
        connection.execute(backdate, [status, stuck])
        connection.execute(repair[0])
    assert [launch.job_id for launch in road.open()] == [stuck]
    assert road.status(fresh) == "awaiting_upload"


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((#[^)]+)\)", PAGE))))
def test_every_link_within_the_page_has_its_heading(link: str) -> None:
    """By the anchors that Markdown renderers make of headings."""
    headings = re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    anchors = {"#" + re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert link in anchors


@pytest.mark.parametrize("file", sorted(set(re.findall(r"`((?:tests|deploy|docs|services)/[\w./-]+\.\w+)`", PAGE))))
def test_every_file_that_the_page_names_exists(file: str) -> None:
    """The page sends no operator to a missing file."""
    assert Path(ROOT, file).exists()
