"""The audit of the chaos harness finds each fault that it is there for, and nothing in whole data."""

from dataclasses import dataclass
from typing import Any

import pytest

from crease.events.v1.event_pb2 import Event
from testing.chaos import audit
from tests.integration.jobs.test_outbox import sql

JOB, REQUEST = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"
MARKER = f"{JOB}/1/STAGE_DEEP/x"
# One job that was launched once and is done; triggers write its events.
DONE = f"""
    INSERT INTO video_sessions (id, owner_type, owner_id, created_by) VALUES ('{JOB}', 'coach', 'c', 'c');
    INSERT INTO video_analysis_jobs (id, session_id, status, s3_bucket, s3_key, etag, request_id, created_by)
        VALUES ('{JOB}', '{JOB}', 'queued', 'videos', 'key', 'e', '{REQUEST}', 'c');
    INSERT INTO launches (job_id, launch_no, cluster, ending, ended_at) VALUES ('{JOB}', 1, 'c', 'succeeded', now());
    UPDATE video_analysis_jobs SET launch_count = 1, status = 'done', progress_pct = 100, results_stage = 'deep',
        results = '{{"pose": {{"pose_summary": {{"marker": "{MARKER}"}}}}}}';
"""  # noqa: S608 (constants)
EVENT = "INSERT INTO events (job_id, session_id, from_status, to_status, failure_code, sample_fps, include_frames)"
BROKEN = {
    "jobs without an end": "UPDATE video_analysis_jobs SET status = 'queued'",
    "launches without an end": "UPDATE launches SET ending = '', ended_at = NULL",
    "launches out of order": "UPDATE video_analysis_jobs SET launch_count = 2",
    "done jobs without exactly one successful launch": "UPDATE launches SET ending = 'lease_lost'",
    "done jobs without results": "UPDATE video_analysis_jobs SET results = NULL",
    "requests with several jobs": f"""
        DROP INDEX jobs_by_request;
        INSERT INTO video_analysis_jobs (session_id, s3_bucket, s3_key, request_id, created_by)
            VALUES ('{JOB}', 'videos', 'other', '{REQUEST}', 'c')""",  # noqa: S608 (constants)
    "jobs with other than one end in the outbox": f"{EVENT} VALUES ('{JOB}', '{JOB}', 'done', 'done', '', 10, false)",
    "events that do not follow one another": f"{EVENT} VALUES ('{JOB}', '{JOB}', 'failed', 'done', '', 10, false)",
    "jobs that their last event contradicts": "DELETE FROM events WHERE to_status = 'done'",
}


@dataclass
class Stack:
    """The part of a stack that an audit of the database reads."""

    url: str

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        return sql(self.url, statement)


@pytest.fixture
def stack(database_url: str) -> Any:
    made = Stack(database_url)
    made.sql(DONE)
    return made


@pytest.fixture
def events(stack: Any) -> list[Event]:
    """All of the job, as a reader gets them."""
    found = stack.sql("SELECT xid || '-' || id FROM events ORDER BY xid, id")
    return [Event(id=event_id, subject=JOB) for (event_id,) in found]


def test_whole_data_has_no_finding(stack: Any, events: list[Event]) -> None:
    """One job that is done, as its client, its analyzer and a reader of events know it."""
    assert len(events) == 2
    assert audit.rows(stack) == []
    assert audit.lives(stack, [JOB], {REQUEST: JOB}) == []
    assert audit.results(stack, {JOB: {MARKER}}) == []
    assert audit.events(stack, [events]) == []
    assert audit.sessions(stack, {JOB: "ready"}) == []


def test_each_audit_finds_what_another_part_knows_otherwise(stack: Any, events: list[Event]) -> None:
    """A reader, a client, an analyzer or the product itself contradicts the whole data."""
    for read in (events[:1], [*events, events[1]], [events[0], events[0]]):
        assert audit.events(stack, [read])
    assert audit.lives(stack, [REQUEST], {})
    assert audit.lives(stack, [], {JOB: JOB})
    assert audit.results(stack, {JOB: {"stale"}})
    assert audit.sessions(stack, {JOB: "failed"})


@pytest.mark.parametrize("name", audit.NONE)
def test_each_statement_finds_its_fault(stack: Any, name: str) -> None:
    stack.sql(BROKEN[name])
    assert name in [finding.partition(":")[0] for finding in audit.rows(stack)]
