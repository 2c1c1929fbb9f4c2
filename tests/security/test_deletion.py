"""What stays of deleted people: at once nothing that they wrote or that was measured, later no row."""

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from google.protobuf import json_format, struct_pb2
from psycopg.rows import dict_row

from crease.analysis.v1 import launch_pb2
from crease.cleanup.v1 import cleanup_pb2
from crease.jobs.v1 import intake_pb2, job_pb2, session_pb2
from services.jobs.background import retention
from testing.servers.programs import ROOT, Laptop, Program, lease, running
from tests.integration.jobs.test_lifecycle import Road
from tests.integration.jobs.test_outbox import wait_until

SECRETS = ("Secret title", "Secret notes", "Secret player", "Secret result", "secret-artifact.html", "Secret sentence")
# Columns of deleted rows: ids, times, states, the owner, settings of the analysis, the place in S3. `etag`, `content_…`
# and `sha256` describe the removed object.
KEPT = {
    "video_sessions": "id owner_type owner_id created_by acted_by discipline created_at updated_at deleted_at",
    "video_analysis_jobs": """
        id session_id status stage progress_pct failure_code sample_fps include_frames deep_enabled anonymous
        accelerator discipline capture_fps s3_bucket s3_key content_type content_length etag sha256 part_bytes
        created_by acted_by results_stage launch_count memory_factor retries_from_launch owner launched event_xid
        version deleted_at sweep_at status_since created_at queued_at started_at completed_at updated_at
    """,
    "launches": """
        job_id launch_no cluster memory_factor kubernetes_uid pod_name pod_uid lease_hash lease_expires_at ending
        opened_at offered_at confirmed_at started_at ended_at
    """,
}
# Tables that the page for operators calls otherwise.
CALLED = {"video_sessions": "sessions", "video_analysis_jobs": "jobs"}
TABLES = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"


@pytest.fixture(scope="module")
def program(shared_jobs_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Its tombstones are due at once."""
    env = shared_jobs_env | {"CREASE_TOMBSTONE_TTL_SECONDS": "0.001"}
    with running(Program("jobs", env, Path(tmp_path_factory.mktemp("deletion"), "log"))) as started:
        yield started


def analysed(road: Road) -> tuple[str, str]:
    """A session with a done job that holds all of SECRETS but the last one; the ids of both."""
    session = session_pb2.CreateSessionRequest(title=SECRETS[0], notes=SECRETS[1], player_ids=[SECRETS[2]])
    session_id = road.sessions.CreateSession(session, metadata=road.coach).session_id
    box = job_pb2.AthleteBox(left=0.123, top=0.2, width=0.3, height=0.4)
    launch, secret = road.started(session_id=session_id, athlete_box=box)
    results = {"pose": {}, "metrics": {}, "findings": {}, "report": {"summary": SECRETS[3]}}
    for stage in (job_pb2.STAGE_QUICK, job_pb2.STAGE_DEEP):
        if stage == job_pb2.STAGE_DEEP:
            road.beat(launch, secret, stage)
        request = launch_pb2.SubmitResultRequest(
            job_id=launch.job_id,
            launch_no=launch.launch_no,
            stage=stage,
            results=json_format.ParseDict(results, struct_pb2.Struct()),
            artifacts=[job_pb2.Artifact(name=SECRETS[4], content_type="text/html", content_length=1)],
        )
        road.launches.SubmitResult(request, metadata=lease(secret))
    return session_id, launch.job_id


def failed(road: Road, session_id: str) -> str:
    """A failed job with the last of SECRETS."""
    job_id = road.created(session_id=session_id)
    request = intake_pb2.FailUploadRequest(job_id=job_id, failure_code="EMPTY", error_message=SECRETS[5])
    road.intake.FailUpload(request, metadata=road.upload)
    return job_id


def found(database_url: str) -> set[str]:
    """Those of SECRETS that any row of any table holds."""
    with psycopg.connect(database_url) as connection:
        tables = [name for (name,) in connection.execute(TABLES)]
        assert "video_sessions" in tables
        rows = [row for name in tables for (row,) in connection.execute(f"SELECT t::text FROM {name} t")]  # noqa: S608
    return {secret for secret in (*SECRETS, "0.123") if any(secret in row for row in rows)}


def counts(database_url: str) -> list[int]:
    """The numbers of sessions, jobs and launches."""
    with psycopg.connect(database_url) as connection:
        tables = ("video_sessions", "video_analysis_jobs", "launches")
        return [connection.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0] for name in tables]  # noqa: S608


def test_every_table_says_for_how_long_its_rows_are_kept() -> None:
    """A new table gets its row in *Deleting data* of docs/operating.md."""
    tables = re.findall(r"^CREATE TABLE (\w+)", (ROOT / "services/jobs/store/schema.sql").read_text(), re.MULTILINE)
    assert {"events", "shares"} < set(tables)
    section = (ROOT / "docs/operating.md").read_text().partition("## Deleting data")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| ")]
    assert [table for table in tables if not any(CALLED.get(table, table) in row for row in rows)] == []


@pytest.mark.parametrize("way", ["session", "jobs"])
def test_a_deleted_row_holds_nothing_of_a_person(way: str, shared_jobs: Program, laptop: Laptop, empty: str) -> None:
    """At once, in every table: texts, results, names of artifacts, the athlete's place in the picture."""
    road = Road(shared_jobs.endpoint, laptop)
    session_id, job_id = analysed(road)
    jobs = [job_id, failed(road, session_id)]
    assert found(empty) == {*SECRETS, "0.123"}
    if way == "session":
        road.sessions.DeleteSession(session_pb2.DeleteSessionRequest(session_id=session_id), metadata=road.coach)
        assert found(empty) == set()
    else:
        for job in jobs:
            road.jobs.DeleteJob(job_pb2.DeleteJobRequest(job_id=job), metadata=road.coach)
        assert found(empty) == set(SECRETS[:3])


def test_every_column_of_a_tombstone_is_kept_for_a_reason_or_empty(
    shared_jobs: Program, laptop: Laptop, empty: str
) -> None:
    """A new column is of no person and belongs into KEPT, or a deletion empties it."""
    road = Road(shared_jobs.endpoint, laptop)
    session_id, _ = analysed(road)
    failed(road, session_id)
    road.sessions.DeleteSession(session_pb2.DeleteSessionRequest(session_id=session_id), metadata=road.coach)
    with psycopg.connect(empty, row_factory=dict_row) as connection:
        rows = [(table, row) for table in KEPT for row in connection.execute(f"SELECT * FROM {table}")]  # noqa: S608
    assert len(rows) == 4
    kept = {(table, name) for table, row in rows for name, value in row.items() if value not in (None, "", [], {})}
    assert kept - {(table, name) for table, names in KEPT.items() for name in names.split()} == set()


def test_a_tombstone_ends_after_its_time_once_s3_is_empty(program: Program, laptop: Laptop, empty: str) -> None:
    """Its launches and its session with it; a job whose objects still lie in S3 stays, and so does what lives."""
    road = Road(program.endpoint, laptop)
    kept, _ = analysed(road)
    deleted, job_id = analysed(road)
    road.sessions.DeleteSession(session_pb2.DeleteSessionRequest(session_id=deleted), metadata=road.coach)
    [cleanup] = road.cleanup.ClaimCleanup(cleanup_pb2.ClaimCleanupRequest(limit=10), metadata=road.upload).cleanups
    assert (cleanup.job_id, counts(empty)) == (job_id, [2, 2, 2])
    road.cleanup.CompleteCleanup(cleanup_pb2.CompleteCleanupRequest(job_id=job_id), metadata=road.upload)
    wait_until(lambda: counts(empty) == [1, 1, 1])
    session = session_pb2.GetSessionRequest(session_id=kept)
    assert road.sessions.GetSession(session, metadata=road.coach).title == SECRETS[0]


def test_more_tombstones_than_a_batch_end(program: Program, laptop: Laptop, empty: str) -> None:
    """One batch after another."""
    road = Road(program.endpoint, laptop)
    kept = road.created()
    many = retention.BATCH * 2 + 1
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO video_analysis_jobs (session_id, status, s3_bucket, s3_key, deleted_at)"
            " SELECT session_id, 'cancelled', s3_bucket, s3_key, now()"
            " FROM video_analysis_jobs, generate_series(1, %s)",
            [many],
        )
    wait_until(lambda: counts(empty)[1] == 1)
    assert road.status(kept) == "awaiting_upload"
