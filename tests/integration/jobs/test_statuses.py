"""Every status of a job is known everywhere. A status that somebody adds and forgets somewhere fails here."""

import re

import psycopg
import pytest

from crease.jobs.v1 import job_pb2, session_pb2
from scripts import dashboard
from services.cli.commands import status as status_command
from services.jobs.background import table_metrics
from services.jobs.domain import states
from services.rules import stages
from services.upload import completion
from testing.servers.programs import ROOT, Laptop, Program
from tests.integration.jobs.test_lifecycle import Road

# The contract's table: the status of a session with one job.
SESSION_STATUS = {
    "awaiting_upload": "PENDING",
    "queued": "UPLOADED",
    "quick_running": "PROCESSING",
    "quick_done": "PROCESSING",
    "deep_running": "PROCESSING",
    "done": "READY",
    "failed": "FAILED",
    "cancelled": "PENDING",
}
RESTING = {"done", "failed", "cancelled"}
RUNNING = {"quick_running", "quick_done", "deep_running"}
# Statuses from before two-phase uploads: in the database's enum, and refused by a CHECK.
OLD = ["processing", "completed"]


@pytest.fixture
def road(shared_jobs: Program, laptop: Laptop, empty: str) -> Road:
    return Road(shared_jobs.endpoint, laptop)


def test_the_database_and_the_proto_list_the_statuses_in_order(empty: str) -> None:
    """The columns of the contract's SQL, and the numbers on the wire."""
    query = (
        "SELECT enumlabel FROM pg_enum WHERE enumtypid = 'video_analysis_job_status'::regtype ORDER BY enumsortorder"
    )
    with psycopg.connect(empty) as connection:
        labels = [label for (label,) in connection.execute(query).fetchall()]
    assert [label for label in labels if label not in OLD] == list(states.STATUSES)
    named = ["UNSPECIFIED", *(status.upper() for status in states.STATUSES)]
    assert job_pb2.JobStatus.items() == [(f"JOB_STATUS_{name}", number) for number, name in enumerate(named)]


@pytest.mark.parametrize("status", states.STATUSES)
def test_every_program_knows_the_status(status: str) -> None:
    """The tables of jobs, what upload accepts, the client's words, the gauges, and the drawing in the docs."""
    for table in (states.STAGES, states.PROGRESS, states.EVENT_TYPES, SESSION_STATUS):
        assert status in table
    assert status in states.SOURCES or status == "awaiting_upload"
    number = job_pb2.JobStatus.Value(f"JOB_STATUS_{status.upper()}")
    assert number in (*completion.OPEN_STATUSES, *completion.COMPLETED_STATUSES, job_pb2.JOB_STATUS_CANCELLED)
    assert status in status_command.STATUSES
    assert {*states.STAGES.values(), states.DEEP_QUEUED} <= stages.STAGES.keys()
    assert status in (ROOT / "docs" / "architecture.md").read_text()


TOTALS = ("failures", "launches_open", "outbox_seconds", "relay_seconds", "subscription_seconds", "overdue_seconds")


@pytest.mark.parametrize("status", states.STATUSES)
def test_the_gauges_and_the_dashboard_know_the_status(status: str) -> None:
    """Also where no job has it. The dashboard's two charts by status leave none out."""
    unknown = dict.fromkeys(TOTALS, None)
    families = {family.name: family.samples for family in table_metrics.make_gauges({}, unknown)}
    counted, ages = (
        {sample.labels["status"] for sample in families[name]}
        for name in ("crease_jobs", "crease_oldest_job_age_seconds")
    )
    assert status in counted
    assert (status in ages) == (status not in RESTING)
    charts = [query for query in dashboard.queries() if "by (status)" in query]
    assert [re.findall(r"crease_\w+|status=", query) for query in charts] == [
        ["crease_jobs"], ["crease_oldest_job_age_seconds"],
    ]  # fmt: skip
    assert {name for query in dashboard.queries() for name in re.findall(r'\bstatus="(\w+)"', query)} <= counted


@pytest.mark.parametrize("status", states.STATUSES)
def test_the_session_and_the_explanation_know_the_status(road: Road, empty: str, status: str) -> None:
    """Of a job that is set by hand, under an open launch where its status needs one."""
    job_id = road.started()[0].job_id if status in RUNNING else road.created()
    with psycopg.connect(empty, autocommit=True) as connection:
        percent = 100 if status == "done" else 0
        statement = "UPDATE video_analysis_jobs SET status = %s, progress_pct = %s WHERE id = %s"
        connection.execute(statement, [status, percent, job_id])
    job = road.job(job_id)
    session = road.sessions.GetSession(session_pb2.GetSessionRequest(session_id=job.session_id), metadata=road.coach)
    assert session_pb2.SessionStatus.Name(session.status) == f"SESSION_STATUS_{SESSION_STATUS[status]}"
    explained = road.jobs.ExplainJob(job_pb2.ExplainJobRequest(job_id=job_id), metadata=road.coach)
    assert explained.sentence
    assert (explained.waiting_for == job_pb2.WAITING_FOR_NOTHING) == (status in RESTING)
