"""Deletions that can be undone for a minute, through a real `jobs` on a real PostgreSQL."""

import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from crease.cleanup.v1 import cleanup_pb2
from crease.jobs.v1 import job_pb2, library_pb2, session_pb2
from testing.servers.programs import Laptop, Program, running
from tests.integration.jobs.test_outbox import wait_until
from tests.integration.jobs.test_people import People, database_url, outcome, people, refused, run  # noqa: F401
from tests.security.test_deletion import SECRETS, analysed, found

SESSION_GONE = ("NOT_FOUND", "SESSION_NOT_FOUND", "Video session not found")
JOB_GONE = ("NOT_FOUND", "JOB_NOT_FOUND", "Analysis job not found")
# What tells nothing of a deletion that was undone: times of changes, and when cleanup is due.
MOVING = "- 'updated_at' - 'version' - 'sweep_at'"


def hide(to: People, session_id: str) -> None:
    request = session_pb2.DeleteSessionRequest(session_id=session_id, undoable=True)
    to.sessions.DeleteSession(request, metadata=to.coach)


def hide_job(to: People, job_id: str) -> None:
    to.jobs.DeleteJob(job_pb2.DeleteJobRequest(job_id=job_id, undoable=True), metadata=to.coach)


def undo(to: People, session_id: str) -> session_pb2.Session:
    request = session_pb2.UndeleteSessionRequest(session_id=session_id)
    return to.sessions.UndeleteSession(request, metadata=to.coach)


def undo_job(to: People, job_id: str) -> job_pb2.Job:
    return to.jobs.UndeleteJob(job_pb2.UndeleteJobRequest(job_id=job_id), metadata=to.coach)


def claimed(to: People) -> list[str]:
    """The jobs whose objects cleanup removes now."""
    request = cleanup_pb2.ClaimCleanupRequest(limit=10)
    return [cleanup.job_id for cleanup in to.cleanup.ClaimCleanup(request, metadata=to.upload).cleanups]


def rows(database_url: str) -> list[Any]:  # noqa: F811
    """All rows as JSON, without what a deletion that was undone may change."""
    return [
        run(database_url, f"SELECT to_jsonb(t) {MOVING} FROM {table} t ORDER BY id")  # noqa: S608
        for table in ("video_sessions", "video_analysis_jobs")
    ]


def pass_a_minute(database_url: str) -> None:  # noqa: F811
    """The minute of each deletion is over."""
    run(database_url, "UPDATE video_sessions SET undo_until = undo_until - interval '1 minute'")
    run(
        database_url,
        "UPDATE video_analysis_jobs SET undo_until = undo_until - interval '1 minute',"
        " sweep_at = sweep_at - interval '1 minute' WHERE undo_until IS NOT NULL",
    )


def test_a_session_is_as_before_after_an_undo(people: People, database_url: str) -> None:  # noqa: F811
    """Every column of it and of its jobs. Meanwhile every call reads NOT_FOUND, and cleanup claims nothing."""
    session_id, job_id = analysed(people)
    before, rows_before = people.seen(session_id), rows(database_url)
    hide(people, session_id)
    assert refused(partial(people.seen, session_id)) == SESSION_GONE
    assert refused(partial(people.job, job_id)) == JOB_GONE
    assert refused(partial(undo_job, people, job_id)) == JOB_GONE
    assert refused(partial(hide, people, session_id)) == SESSION_GONE
    assert not people.page().sessions
    searched = people.library.SearchJobs(library_pb2.SearchJobsRequest(), metadata=people.coach)
    assert not searched.jobs
    assert claimed(people) == []
    assert undo(people, session_id) == before
    assert undo(people, session_id) == before
    assert rows(database_url) == rows_before
    assert run(database_url, "SELECT sweep_at > now() FROM video_analysis_jobs") == [(True,)]


def test_after_a_minute_a_deletion_is_final(people: People, database_url: str) -> None:  # noqa: F811
    """Nothing of a person is left in any table, cleanup removes the objects, and an undo reads NOT_FOUND."""
    session_id, job_id = analysed(people)
    assert found(database_url)
    hide(people, session_id)
    assert found(database_url) >= set(SECRETS[:4])
    pass_a_minute(database_url)
    assert refused(partial(undo, people, session_id)) == SESSION_GONE
    wait_until(lambda: found(database_url) == set())
    assert claimed(people) == [job_id]
    assert refused(partial(undo, people, session_id)) == SESSION_GONE
    assert run(database_url, "SELECT undo_until FROM video_sessions") == [(None,)]


def test_a_job_is_as_before_after_an_undo(people: People, database_url: str) -> None:  # noqa: F811
    """Alone; after the minute it is erased, and its session stays."""
    session_id, job_id = analysed(people)
    before, rows_before = people.job(job_id), rows(database_url)
    hide_job(people, job_id)
    assert refused(partial(people.job, job_id)) == JOB_GONE
    after = undo_job(people, job_id)
    assert after.results == before.results
    assert rows(database_url) == rows_before
    assert undo_job(people, job_id) == people.job(job_id)
    hide_job(people, job_id)
    pass_a_minute(database_url)
    wait_until(lambda: found(database_url) == set(SECRETS[:3]))
    assert refused(partial(undo_job, people, job_id)) == JOB_GONE
    assert people.seen(session_id).title == SECRETS[0]


def test_an_undo_of_a_session_brings_back_the_jobs_that_went_with_it(people: People) -> None:  # noqa: F811
    """Not a job that was deleted before; a job that awaited its upload is cancelled."""
    session_id, kept = analysed(people)
    earlier = people.reanalyze(kept).job_id
    people.jobs.CancelJob(job_pb2.CancelJobRequest(job_id=earlier), metadata=people.coach)
    hide_job(people, earlier)
    waiting = people.created(session_id=session_id)
    hide(people, session_id)
    undo(people, session_id)
    listed = people.jobs.ListJobs(job_pb2.ListJobsRequest(session_id=session_id), metadata=people.coach).jobs
    assert {job.job_id for job in listed} == {kept, waiting}
    assert people.status(waiting) == "cancelled"
    assert undo_job(people, earlier).job_id == earlier


def test_a_deletion_without_undoable_is_final_at_once(people: People, database_url: str) -> None:  # noqa: F811
    """As before this field was there."""
    session_id, job_id = analysed(people)
    people.delete(session_id)
    assert found(database_url) == set()
    assert refused(partial(undo, people, session_id)) == SESSION_GONE
    assert refused(partial(undo_job, people, job_id)) == JOB_GONE
    assert refused(partial(undo, people, str(uuid.uuid4()))) == SESSION_GONE
    assert claimed(people) == [job_id]


def test_another_persons_undo_is_refused(people: People) -> None:  # noqa: F811
    """As each of their calls."""
    session_id, job_id = analysed(people)
    hide(people, session_id)
    stranger = people.laptop.person("coach-2")
    request = session_pb2.UndeleteSessionRequest(session_id=session_id)
    assert refused(lambda: people.sessions.UndeleteSession(request, metadata=stranger))[0] == "PERMISSION_DENIED"
    undo(people, session_id)
    hide_job(people, job_id)
    of_job = job_pb2.UndeleteJobRequest(job_id=job_id)
    assert refused(lambda: people.jobs.UndeleteJob(of_job, metadata=stranger))[0] == "PERMISSION_DENIED"


def test_the_video_of_a_job_that_may_come_back_is_not_removed(people: People) -> None:  # noqa: F811
    """Though another job of the same video is deleted for good: only that job's artifacts are."""
    _, source = analysed(people)
    other = people.reanalyze(source).job_id
    people.jobs.CancelJob(job_pb2.CancelJobRequest(job_id=other), metadata=people.coach)
    hide_job(people, source)
    people.jobs.DeleteJob(job_pb2.DeleteJobRequest(job_id=other), metadata=people.coach)
    [cleanup] = people.cleanup.ClaimCleanup(cleanup_pb2.ClaimCleanupRequest(limit=10), metadata=people.upload).cleanups
    assert (cleanup.job_id, cleanup.prefix.endswith(f"/analysis/{other}/")) == (other, True)


def test_a_cleanup_of_artifacts_leaves_a_deletion_due(people: People, database_url: str) -> None:  # noqa: F811
    """A job that is deleted while upload removes its old artifacts is cleaned up once more, as a whole."""
    _, job_id = analysed(people)
    run(database_url, "UPDATE video_analysis_jobs SET sweep_at = now()")
    request = cleanup_pb2.ClaimCleanupRequest(limit=10, artifacts=True)
    [cleanup] = people.cleanup.ClaimCleanup(request, metadata=people.upload).cleanups
    assert cleanup.artifacts_only
    people.jobs.DeleteJob(job_pb2.DeleteJobRequest(job_id=job_id), metadata=people.coach)
    complete = cleanup_pb2.CompleteCleanupRequest(job_id=job_id, launches=cleanup.launches)
    people.cleanup.CompleteCleanup(complete, metadata=people.upload)
    assert claimed(people) == [job_id]


@pytest.fixture(scope="module")
def limited(shared_jobs_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """One owner may have 15 bytes; each video has 10."""
    env = shared_jobs_env | {"CREASE_OWNER_BYTES": "15"}
    with running(Program("jobs", env, Path(tmp_path_factory.mktemp("undo"), "log"))) as started:
        yield started


def test_an_undo_cannot_exceed_the_quota_of_bytes(limited: Program, laptop: Laptop, empty: str) -> None:
    """Otherwise an owner could delete, upload and undo again and again."""
    coach = People(limited.endpoint, laptop)
    session_id, job_id = analysed(coach)
    hide(coach, session_id)
    second = coach.created()
    code, _, sentence = refused(partial(undo, coach, session_id))
    assert (code, sentence.partition(":")[0]) == ("INVALID_ARGUMENT", "session_id")
    assert refused(partial(coach.seen, session_id)) == SESSION_GONE
    coach.jobs.CancelJob(job_pb2.CancelJobRequest(job_id=second), metadata=coach.coach)
    assert undo(coach, session_id).session_id == session_id
    hide_job(coach, job_id)
    coach.created()
    assert refused(partial(undo_job, coach, job_id))[0] == "INVALID_ARGUMENT"
    assert run(empty, "SELECT count(*) FROM video_analysis_jobs WHERE deleted_at IS NOT NULL") == [(1,)]
