"""Neither a row that another transaction holds nor a clock that leaps back delays the expiry of other rows."""

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from services.jobs.domain.retry_policy import MAX_BACKOFF_SECONDS
from testing.metrics import listening, scrape, value
from testing.servers.programs import Laptop, Program, free_port, running
from tests.integration.jobs.test_lifecycle import Road
from tests.integration.jobs.test_outbox import sql, wait_until

UPLOAD_TTL_SECONDS, DAY_SECONDS = 3600, 86400


@pytest.fixture
def metrics_port() -> int:
    return free_port()


@pytest.fixture
def program(jobs_env: dict[str, str], metrics_port: int, tmp_path: Path) -> Iterator[Program]:
    settings = {"CREASE_LEASE_SECONDS": "1", "CREASE_UPLOAD_TTL_SECONDS": str(UPLOAD_TTL_SECONDS),
                "CREASE_GAUGE_SECONDS": "0.1"}  # fmt: skip
    with running(Program("jobs", {**jobs_env, **settings, **listening(metrics_port)}, tmp_path / "log")) as started:
        yield started


@pytest.fixture
def road(program: Program, laptop: Laptop) -> Road:
    return Road(program.endpoint, laptop)


def overdue_seconds(port: int) -> float:
    return value(scrape(port), "crease_overdue_seconds") or 0.0


def test_a_locked_row_is_skipped_and_named_while_the_others_expire(
    road: Road, database_url: str, program: Program, metrics_port: int
) -> None:
    """The lease and the upload that are overdue for longest are held by an operator's console, which then ends."""
    held = [road.started()[0].job_id, road.created()]
    others = [road.started()[0].job_id, road.created()]
    with psycopg.connect(database_url) as console:
        console.execute("SELECT FROM video_analysis_jobs WHERE id = ANY(%s::uuid[]) FOR UPDATE", [held])
        age = "UPDATE video_analysis_jobs SET created_at = created_at - interval '2 hours' WHERE id = ANY(%s::uuid[])"
        console.execute(age, [held])
        sql(database_url, age, others)
        wait_until(lambda: [road.status(job_id) for job_id in others] == ["queued", "failed"])
        wait_until(lambda: held[0] in skipped(program))
        wait_until(lambda: overdue_seconds(metrics_port) > 1)
        assert road.status(held[0]) == "quick_running"
    wait_until(lambda: [road.status(job_id) for job_id in held] == ["queued", "failed"])
    wait_until(lambda: overdue_seconds(metrics_port) == 0)


def skipped(program: Program) -> set[str]:
    """The jobs that expiry named as skipped."""
    lines = [json.loads(line) for line in program.log.read_text().splitlines()]
    return {job_id for line in lines if line["event"] == "expiry_skipped" for job_id in line["job_ids"]}


def move(database_url: str, table: str, column: str, seconds: float) -> None:
    """Sets a time of every row to this many seconds from now, as a clock wrote it that then leapt."""
    later = "clock_timestamp() + %s * interval '1 second'"
    sql(database_url, f"UPDATE {table} SET {column} = {later}", seconds)  # noqa: S608 (names from this test)


def test_times_of_a_clock_that_has_leapt_back_a_day_delay_no_job(road: Road, database_url: str) -> None:
    """A retry, a launch that no controller confirmed, a dead pod's lease and a dead cluster all date from tomorrow."""
    road.queued()
    [lost] = road.open()
    move(database_url, "launches", "offered_at", DAY_SECONDS)
    assert [launch.job_id for launch in road.open()] == [lost.job_id]
    road.confirm(lost)
    road.start(lost)
    move(database_url, "launches", "lease_expires_at", DAY_SECONDS)
    move(database_url, "clusters", "seen_at", DAY_SECONDS)
    wait_until(lambda: road.status(lost.job_id) == "queued")
    assert sql(database_url, "SELECT count(*) FROM clusters WHERE seen_at > clock_timestamp()") == [(0,)]
    move(database_url, "video_analysis_jobs", "not_before", DAY_SECONDS)
    [again] = road.open()
    assert (again.job_id, again.launch_no) == (lost.job_id, 2)


def test_a_retry_waits_for_its_backoff(road: Road, database_url: str) -> None:
    """The longest one is no leap of the clock."""
    road.queued()
    move(database_url, "video_analysis_jobs", "not_before", MAX_BACKOFF_SECONDS)
    assert road.open() == []
    move(database_url, "video_analysis_jobs", "not_before", 0)
    assert len(road.open()) == 1
