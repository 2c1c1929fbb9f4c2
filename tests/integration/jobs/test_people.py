"""The calls of people about sessions and jobs, through a real `jobs` on a real PostgreSQL."""

import math
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf import field_mask_pb2, json_format, struct_pb2

from crease.analysis.v1 import launch_pb2
from crease.jobs.v1 import intake_pb2, job_pb2, session_pb2
from testing.servers.programs import Laptop, Program, lease
from tests.integration.jobs.test_lifecycle import Road, code_of
from tests.integration.jobs.test_races import wait_until_waiting

LIVE = ("queued", "quick_running", "quick_done", "deep_running")
NOT_FAILED = ("awaiting_upload", *LIVE, "done", "cancelled")
REPAIRS = ("RetryJob", "ConfirmUpload")
RELEASE = job_pb2.GivenEvent(name="release", time_seconds=1.02)
BOX = job_pb2.AthleteBox(left=0.1, top=0.1, width=0.3, height=0.5)


class People(Road):
    """The callers of `jobs`, with the calls that coaches make."""

    def session(self, **fields: Any) -> session_pb2.Session:
        return self.sessions.CreateSession(session_pb2.CreateSessionRequest(**fields), metadata=self.coach)

    def seen(self, session_id: str) -> session_pb2.Session:
        return self.sessions.GetSession(session_pb2.GetSessionRequest(session_id=session_id), metadata=self.coach)

    def page(self, *, metadata: Any = None, **fields: Any) -> session_pb2.ListSessionsResponse:
        return self.sessions.ListSessions(session_pb2.ListSessionsRequest(**fields), metadata=metadata or self.coach)

    def update(self, session_id: str, *paths: str, **fields: Any) -> session_pb2.Session:
        session = session_pb2.Session(session_id=session_id, **fields)
        mask = field_mask_pb2.FieldMask(paths=paths)
        request = session_pb2.UpdateSessionRequest(session=session, update_mask=mask)
        return self.sessions.UpdateSession(request, metadata=self.coach)

    def delete(self, session_id: str) -> None:
        self.sessions.DeleteSession(session_pb2.DeleteSessionRequest(session_id=session_id), metadata=self.coach)

    def retry(self, job_id: str) -> job_pb2.Job:
        return self.jobs.RetryJob(job_pb2.RetryJobRequest(job_id=job_id), metadata=self.coach)

    def reanalyze(self, job_id: str, **fields: Any) -> job_pb2.Job:
        return self.jobs.ReanalyzeJob(job_pb2.ReanalyzeJobRequest(job_id=job_id, **fields), metadata=self.coach)

    def compare(self, *job_ids: str) -> job_pb2.CompareJobsResponse:
        return self.jobs.CompareJobs(job_pb2.CompareJobsRequest(job_ids=job_ids), metadata=self.coach)

    def repair(self, how: str, job_id: str) -> None:
        if how == "RetryJob":
            self.retry(job_id)
            return
        request = intake_pb2.ConfirmUploadRequest(job_id=job_id, etag="abc", content_length=10)
        self.intake.ConfirmUpload(request, metadata=self.upload)

    def failed(self, *, quick: bool = False) -> str:
        """A job that failed for bad input, before or after its quick result."""
        launch, secret = self.started()
        if quick:
            self.submit(launch, secret, job_pb2.STAGE_QUICK)
        self.end(launch, launch_pb2.ENDING_BAD_INPUT, "The file is not a video")
        return launch.job_id

    def finish(self, metrics: dict[str, Any], artifact: str = "", summary: dict[str, Any] | None = None) -> str:
        """Runs the one queued job until it is done; returns its id. Each metric has an error of 0.05, unless given."""
        [launch] = self.open()
        self.confirm(launch)
        secret = self.start(launch).lease
        pose_summary = {"errors": dict.fromkeys(metrics, 0.05), **(summary or {})}
        parts = {"pose": {"pose_summary": pose_summary}, "metrics": metrics, "findings": {}, "report": {}}
        for stage in (job_pb2.STAGE_QUICK, job_pb2.STAGE_DEEP):
            request = launch_pb2.SubmitResultRequest(
                job_id=launch.job_id,
                launch_no=launch.launch_no,
                stage=stage,
                results=json_format.ParseDict(parts, struct_pb2.Struct()),
                artifacts=[job_pb2.Artifact(name=artifact)] if artifact else [],
            )
            self.launches.SubmitResult(request, metadata=lease(secret))
        return launch.job_id

    def analysed(self, metrics: dict[str, Any], summary: dict[str, Any] | None = None, **session: Any) -> str:
        """A done job in a session of its own."""
        values = {"player_ids": ["p-1"]} | session
        self.queued(session_id=self.session(**values).session_id)
        return self.finish(metrics, summary=summary)


@pytest.fixture
def database_url(empty: str) -> str:
    """The database of the `jobs` that `people` calls."""
    return empty


@pytest.fixture
def people(shared_jobs: Program, laptop: Laptop, database_url: str) -> People:
    return People(shared_jobs.endpoint, laptop)


def run(database_url: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        cursor = connection.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


@contextmanager
def held(database_url: str, table: str, key: str, *, waiting: int) -> Iterator[None]:
    """Locks a row until as many calls as the block has begun wait for it."""
    with psycopg.connect(database_url) as holder:
        holder.execute(f"SELECT FROM {table} WHERE id = %s FOR UPDATE", [key])
        yield
        wait_until_waiting(database_url, waiting)


def outcome(call: Any) -> str:
    """The name of a call's status code."""
    return str(call.code().name)


def refused(call: Callable[[], object]) -> tuple[str, str, str]:
    """Code, reason and sentence of a refusal."""
    with pytest.raises(grpc.RpcError) as error:
        call()
    return (*code_of(error), error.value.details() or "")


# Sessions


def test_sessions_are_listed_in_pages_newest_first_with_their_status(people: People) -> None:
    """The pages hold each session of the coach exactly once, with the same status as GetSession."""
    made = [people.session(title=str(number)).session_id for number in range(4)]
    people.queued(session_id=made[1])
    stranger = people.laptop.person("coach-2")
    people.sessions.CreateSession(session_pb2.CreateSessionRequest(), metadata=stranger)
    listed: list[session_pb2.Session] = []
    token = ""
    while True:
        page = people.page(page_size=3, page_token=token)
        listed += page.sessions
        token = page.next_page_token
        if not token:
            break
    assert [session.session_id for session in listed] == made[::-1]
    assert listed == [people.seen(session_id) for session_id in made[::-1]]
    assert [session.title for session in listed if session.status == session_pb2.SESSION_STATUS_UPLOADED] == ["1"]


def test_a_page_holds_fifty_sessions_by_default_and_two_hundred_at_most(people: People, database_url: str) -> None:
    """page_size 0 is 50, over 200 is 200, negative is refused."""
    run(
        database_url,
        "INSERT INTO video_sessions (owner_type, owner_id, created_by)"
        " SELECT 'coach', 'coach-1', 'coach-1' FROM generate_series(1, 201)",
    )
    assert [len(people.page(page_size=size).sessions) for size in (0, 200, 201)] == [50, 200, 200]
    rest = people.page(page_size=1000, page_token=people.page(page_size=1000).next_page_token)
    assert (len(rest.sessions), rest.next_page_token) == (1, "")
    assert refused(lambda: people.page(page_size=-1))[:2] == ("INVALID_ARGUMENT", "INVALID_FIELD")


def test_a_token_belongs_to_its_list_and_its_person(people: People) -> None:
    """A token of ListJobs, another person's token and an invented one are refused."""
    for _ in range(2):
        people.created()
    own = people.page(page_size=1).next_page_token
    jobs = people.jobs.ListJobs(job_pb2.ListJobsRequest(page_size=1), metadata=people.coach).next_page_token
    for token in (jobs, "x", "é", own[:-8], "W10=" * 100000, "W1tb" * 100000):
        assert refused(partial(people.page, page_token=token))[0] == "INVALID_ARGUMENT"
    stranger = people.laptop.person("coach-2")
    assert refused(lambda: people.page(page_token=own, metadata=stranger))[0] == "INVALID_ARGUMENT"
    assert len(people.page(page_token=own).sessions) == 1


def test_an_update_writes_only_the_fields_of_its_mask(people: People) -> None:
    """An unpopulated field of the mask becomes empty; a field outside the mask keeps its value."""
    before = people.session(title="Nets", notes="left-handed", player_ids=["p-1"])
    after = people.update(before.session_id, "notes", "camera_view", title="Ignored", camera_view="CAMERA_VIEW_SIDE")
    assert (after.title, after.notes, list(after.player_ids)) == ("Nets", "", ["p-1"])
    assert after.camera_view == session_pb2.CAMERA_VIEW_SIDE
    assert (after.created_at, after.owner_id) == (before.created_at, before.owner_id)
    assert after.updated_at.ToDatetime() > before.updated_at.ToDatetime()
    assert people.seen(before.session_id) == after


def test_without_a_mask_an_update_writes_the_populated_fields(people: People) -> None:
    """AIP-134: a client may send the other fields back; jobs ignores them."""
    before = people.session(title="Nets", notes="left-handed")
    after = people.update(before.session_id, title="Match", owner_id="coach-2", status="SESSION_STATUS_READY")
    assert (after.title, after.notes, after.owner_id) == ("Match", "left-handed", "coach-1")
    assert after.status == session_pb2.SESSION_STATUS_PENDING
    assert people.update(before.session_id) == after


def test_a_star_replaces_every_field_that_a_client_may_set(people: People) -> None:
    """An unpopulated discipline becomes batting, as in CreateSession."""
    before = people.session(title="Nets", notes="n", player_ids=["p-1"], discipline="DISCIPLINE_BOWLING")
    after = people.update(before.session_id, "*", title="Match")
    assert (after.title, after.notes, list(after.player_ids)) == ("Match", "", [])
    assert after.discipline == session_pb2.DISCIPLINE_BATTING


@pytest.mark.parametrize(
    "path",
    ["session_id", "owner_type", "owner_id", "status", "created_at", "updated_at", "deleted_at", "title.x", "", "*"],
)
def test_a_path_that_is_unknown_or_immutable_is_refused_and_nothing_written(people: People, path: str) -> None:
    """The valid paths beside it are not written either; a star must stand alone."""
    before = people.session(title="Nets")
    call = partial(people.update, before.session_id, "title", path, title="Match")
    assert refused(call)[:2] == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert people.seen(before.session_id) == before


@pytest.mark.parametrize(
    "fields",
    [{"title": "x" * 201}, {"notes": "x" * 5001}, {"player_ids": ["p"] * 51}, {"title": "\0"}, {"discipline": 99}],
)
def test_an_update_is_held_to_the_limits_of_a_create(people: People, fields: dict[str, Any]) -> None:
    """The field is named by its path in the request."""
    before = people.session(title="Nets")
    code, _, sentence = refused(lambda: people.update(before.session_id, **fields))
    assert (code, sentence.partition(":")[0]) == ("INVALID_ARGUMENT", f"session.{next(iter(fields))}")
    assert people.seen(before.session_id) == before


def test_a_deleted_session_and_its_jobs_read_as_not_found(people: People, database_url: str) -> None:
    """Every call of a person returns NOT_FOUND; the rows are kept."""
    session_id = people.session(player_ids=["p-1"]).session_id
    other = people.analysed({})
    people.queued(session_id=session_id)
    job_id = people.finish({})
    people.delete(session_id)
    session_gone = ("NOT_FOUND", "SESSION_NOT_FOUND", "Video session not found")
    job_gone = ("NOT_FOUND", "JOB_NOT_FOUND", "Analysis job not found")
    assert refused(lambda: people.seen(session_id)) == session_gone
    assert refused(lambda: people.update(session_id, title="x")) == session_gone
    assert refused(lambda: people.delete(session_id)) == session_gone
    assert refused(lambda: people.created(session_id=session_id)) == session_gone
    assert refused(lambda: people.job(job_id)) == job_gone
    assert refused(lambda: people.retry(job_id)) == job_gone
    assert refused(lambda: people.reanalyze(job_id)) == job_gone
    assert refused(lambda: people.compare(other, job_id)) == job_gone
    assert refused(lambda: people.repair("ConfirmUpload", job_id)) == job_gone
    watch = people.jobs.WatchJob(job_pb2.WatchJobRequest(job_id=job_id), metadata=people.coach, timeout=60)
    assert refused(lambda: list(watch)) == job_gone
    listed = people.jobs.ListJobs(job_pb2.ListJobsRequest(), metadata=people.coach).jobs
    assert [job.job_id for job in listed] == [other]
    assert [session.session_id for session in people.page().sessions] == [people.job(other).session_id]
    kept = "SELECT count(*) FROM video_analysis_jobs JOIN video_sessions s ON s.id = session_id WHERE s.id = %s"
    assert run(database_url, kept, session_id) == [(1,)]


@pytest.mark.parametrize("status", LIVE)
def test_a_session_with_a_live_job_is_not_deleted(people: People, database_url: str, status: str) -> None:
    """Its jobs that await their upload are not cancelled either."""
    job_id = people.created()
    session_id = people.job(job_id).session_id
    waiting = people.created(session_id=session_id)
    run(database_url, "UPDATE video_analysis_jobs SET status = %s WHERE id = %s", status, job_id)
    sentence = "The session has an analysis that is queued or running: cancel it first, or wait"
    assert refused(lambda: people.delete(session_id)) == ("FAILED_PRECONDITION", "SESSION_HAS_LIVE_JOBS", sentence)
    assert (people.status(job_id), people.status(waiting)) == (status, "awaiting_upload")


def test_deleting_a_session_cancels_its_jobs_that_await_their_upload(people: People, database_url: str) -> None:
    """The transition has its event; failed jobs stay failed."""
    failed = people.failed()
    session_id = people.job(failed).session_id
    waiting = people.created(session_id=session_id)
    people.delete(session_id)
    assert people.events_of(waiting, 2) == ["JobCreated", "JobCancelled"]
    assert run(database_url, "SELECT status::text, stage FROM video_analysis_jobs ORDER BY created_at") == [
        ("failed", "FAILED"),
        ("cancelled", "CANCELLED"),
    ]


def test_of_a_delete_and_a_retry_at_once_one_is_refused(people: People, database_url: str) -> None:
    """A deleted session never has a live job."""
    job_id = people.failed()
    session_id = people.job(job_id).session_id
    with held(database_url, "video_sessions", session_id, waiting=2):
        request = session_pb2.DeleteSessionRequest(session_id=session_id)
        deleting = people.sessions.DeleteSession.future(request, metadata=people.coach)
        retrying = people.jobs.RetryJob.future(job_pb2.RetryJobRequest(job_id=job_id), metadata=people.coach)
    assert (outcome(deleting), outcome(retrying)) in (("OK", "NOT_FOUND"), ("FAILED_PRECONDITION", "OK"))


def test_of_a_delete_and_an_upload_at_once_no_job_is_left_waiting(people: People, database_url: str) -> None:
    """The job is cancelled with its session, or is not created."""
    session_id = people.session().session_id
    with held(database_url, "video_sessions", session_id, waiting=2):
        request = session_pb2.DeleteSessionRequest(session_id=session_id)
        deleting = people.sessions.DeleteSession.future(request, metadata=people.coach)
        order = intake_pb2.CreateJobRequest(session_id=session_id, s3_bucket="videos", content_length=10)
        creating = people.intake.CreateJob.future(order, metadata=people.upload)
    assert outcome(deleting) == "OK"
    assert outcome(creating) in ("OK", "NOT_FOUND")
    made = [("cancelled",)] if outcome(creating) == "OK" else []
    assert run(database_url, "SELECT status::text FROM video_analysis_jobs") == made


# Retry


def test_a_retried_job_is_queued_again_on_its_pinned_video(people: People) -> None:
    """Its failure is cleared, and its next launch has a new number."""
    job_id = people.failed()
    before = people.job(job_id)
    job = people.retry(job_id)
    assert (job.stage, job.progress_pct, job.failure_code, job.error_message) == ("QUEUED", 0, "", "")
    assert job.video == before.video
    assert [(launch.job_id, launch.launch_no) for launch in people.open()] == [(job_id, 2)]
    assert people.events_of(job_id, 5)[-2:] == ["JobFailed", "JobQueued"]


def test_a_retried_job_whose_quick_result_is_in_resumes_at_deep(people: People) -> None:
    """The quick result stays readable in the meantime."""
    job_id = people.failed(quick=True)
    job = people.retry(job_id)
    assert (job.stage, job.progress_pct, job.results_stage) == ("DEEP_QUEUED", 50, job_pb2.STAGE_QUICK)
    [launch] = people.open()
    assert people.start(launch, uid="pod-2").stage == job_pb2.STAGE_DEEP
    assert people.status(job_id) == "deep_running"


@pytest.mark.parametrize("status", NOT_FAILED)
def test_only_a_failed_job_is_retried(people: People, database_url: str, status: str) -> None:
    """Any other status returns FAILED_PRECONDITION and is kept."""
    job_id = people.queued()
    run(database_url, "UPDATE video_analysis_jobs SET progress_pct = 100, status = %s WHERE id = %s", status, job_id)
    expected = ("FAILED_PRECONDITION", "WRONG_STATE", f"Cannot retry a job in status: {status}")
    assert refused(lambda: people.retry(job_id)) == expected
    assert people.status(job_id) == status


def test_a_job_without_a_verified_video_is_not_retried(people: People) -> None:
    """The error names CompleteUpload."""
    job_id = people.created()
    missing = intake_pb2.FailUploadRequest(job_id=job_id, failure_code="NOT_FOUND", error_message="Not there")
    people.intake.FailUpload(missing, metadata=people.upload)
    sentence = "The job has no verified video: complete the upload with CompleteUpload"
    assert refused(lambda: people.retry(job_id)) == ("FAILED_PRECONDITION", "UPLOAD_NOT_VERIFIED", sentence)
    assert refused(lambda: people.reanalyze(job_id)) == ("FAILED_PRECONDITION", "UPLOAD_NOT_VERIFIED", sentence)
    assert people.status(job_id) == "failed"


@pytest.mark.parametrize("how", REPAIRS)
def test_a_repaired_job_has_all_its_retries_again(people: People, database_url: str, how: str) -> None:
    """The ending `unknown` allows two more launches before the repair, and two more after it."""
    job_id = people.queued()
    for number in range(1, 7):
        run(database_url, "UPDATE video_analysis_jobs SET not_before = NULL")
        [launch] = people.open()
        assert launch.launch_no == number
        people.end(launch, launch_pb2.ENDING_UNKNOWN, "exit code 70")
        assert people.status(job_id) == ("failed" if number in (3, 6) else "queued")
        if number == 3:
            people.repair(how, job_id)


@pytest.mark.parametrize("how", REPAIRS)
def test_a_repaired_job_starts_with_the_default_memory(people: People, how: str) -> None:
    """Otherwise each repair would multiply the memory by 1.5."""
    job_id = people.queued()
    factors = []
    for number in range(1, 5):
        [launch] = people.open()
        factors.append(launch.memory_factor)
        people.end(launch, launch_pb2.ENDING_OUT_OF_MEMORY)
        if number == 2:
            people.repair(how, job_id)
    assert factors == [1.0, 1.5, 1.0, 1.5]
    assert people.job(job_id).failure_code == "OUT_OF_MEMORY"


def test_of_two_retries_at_once_exactly_one_moves_the_job(people: People, database_url: str) -> None:
    """The other is refused, and there is one event."""
    job_id = people.failed()
    with held(database_url, "video_analysis_jobs", job_id, waiting=2):
        request = job_pb2.RetryJobRequest(job_id=job_id)
        calls = [people.jobs.RetryJob.future(request, metadata=people.coach) for _ in range(2)]
    assert sorted(map(outcome, calls)) == ["FAILED_PRECONDITION", "OK"]
    count = "SELECT count(*) FROM events WHERE job_id = %s AND from_status = 'failed' AND to_status = 'queued'"
    assert run(database_url, count, job_id) == [(1,)]


# Reanalyze


def test_a_reanalysis_is_a_new_job_on_the_same_pinned_video(people: People) -> None:
    """It has its own settings and is queued at once; the first job and its results are kept."""
    first = people.analysed({})
    before = people.job(first)
    made = people.reanalyze(first, sample_fps=30, include_frames=True, accelerator="ACCELERATOR_CPU", anonymous=True)
    assert made.job_id != first
    assert (made.source_job_id, made.session_id, made.video) == (first, before.session_id, before.video)
    assert (made.stage, made.progress_pct, made.launch_count) == ("QUEUED", 0, 0)
    assert (made.sample_fps, made.include_frames, made.accelerator) == (30, True, job_pb2.ACCELERATOR_CPU)
    assert made.anonymous
    assert not made.HasField("results")
    assert people.job(first) == before
    assert people.events_of(made.job_id, 1) == ["JobQueued"]


def test_a_setting_that_a_reanalysis_leaves_unset_is_the_first_jobs(people: People) -> None:
    """An unset field is copied, not set to the default; so is the box around the athlete."""
    box = job_pb2.AthleteBox(left=0.1, top=0.2, width=0.3, height=0.4)
    first = people.queued(
        sample_fps=20, include_frames=True, accelerator="ACCELERATOR_GPU", athlete_box=box, anonymous=True
    )
    same = people.reanalyze(first)
    assert (same.sample_fps, same.include_frames, same.accelerator) == (20, True, job_pb2.ACCELERATOR_GPU)
    assert same.anonymous
    assert same.athlete_box == box
    other = people.reanalyze(first, sample_fps=0, include_frames=False)
    assert (other.sample_fps, other.include_frames, other.accelerator) == (10, False, job_pb2.ACCELERATOR_GPU)


def test_a_reanalysis_takes_what_the_coach_states_and_hands_it_on(people: People) -> None:
    """Whom to follow, the discipline, the camera's rate and the moments; a further reanalysis keeps them."""
    box = job_pb2.AthleteBox(left=0.0, top=0.2, width=0.3, height=0.4)
    events = [job_pb2.GivenEvent(name="front_foot_contact", time_seconds=0.9), RELEASE]
    stated = {"athlete_box": box, "discipline": session_pb2.DISCIPLINE_BOWLING, "capture_fps": 120, "events": events}
    made = people.reanalyze(people.queued(), **stated)
    for job in (made, people.reanalyze(made.job_id, sample_fps=20), people.job(made.job_id)):
        assert (job.athlete_box, job.discipline, job.capture_fps) == (box, session_pb2.DISCIPLINE_BOWLING, 120)
        assert list(job.events) == events
    changed = people.reanalyze(made.job_id, capture_fps=0, discipline=session_pb2.DISCIPLINE_BATTING)
    assert (changed.capture_fps, list(changed.events)) == (0, [])


def test_a_repeated_reanalysis_must_repeat_what_it_states(people: People) -> None:
    """Another moment, box, discipline or rate under the same request_id is refused."""
    first, request_id = people.queued(), str(uuid.uuid4())
    stated: dict[str, Any] = {"request_id": request_id, "events": [RELEASE]}
    stated |= {"discipline": session_pb2.DISCIPLINE_BOWLING, "capture_fps": 60, "athlete_box": BOX}
    made = people.reanalyze(first, **stated)
    assert people.reanalyze(first, **stated).job_id == made.job_id
    others: tuple[dict[str, Any], ...] = (
        {"events": [job_pb2.GivenEvent(name="release", time_seconds=1.03)]},
        {"capture_fps": 61},
        {"athlete_box": job_pb2.AthleteBox(left=0.2, top=0.1, width=0.3, height=0.5)},
        {"discipline": session_pb2.DISCIPLINE_BATTING, "events": []},
    )
    for other in others:
        code, reason, _ = refused(partial(people.reanalyze, first, **stated | other))
        assert (code, reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")


def test_a_launch_is_told_of_the_landmarks_that_its_source_kept(people: People) -> None:
    """So that a moved moment costs no pose. A job of its own upload has none, nor has one whose source is deleted."""
    people.queued()
    first = people.finish({}, artifact="landmarks.npz")
    assert _landmarks_key(people, people.queued()) == ""
    second = people.reanalyze(first).job_id
    folder = people.job(first).video.s3_key.removesuffix("original.mp4")
    assert _landmarks_key(people, second) == f"{folder}analysis/{first}/1/deep/landmarks.npz"
    third = people.reanalyze(first).job_id
    people.jobs.DeleteJob(job_pb2.DeleteJobRequest(job_id=first), metadata=people.coach)
    assert _landmarks_key(people, third) == ""


def _landmarks_key(people: People, job_id: str) -> str:
    [launch] = people.open()
    assert launch.job_id == job_id
    people.confirm(launch)
    secret = people.start(launch).lease
    request = intake_pb2.AuthorizeLaunchRequest(job_id=job_id, launch_no=1, lease=secret)
    return people.intake.AuthorizeLaunch(request, metadata=people.upload).landmarks_key


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("capture_fps", {"capture_fps": 0.5}),
        ("capture_fps", {"capture_fps": 1001}),
        ("capture_fps", {"capture_fps": float("nan")}),
        ("athlete_box", {"athlete_box": job_pb2.AthleteBox(left=0.9, top=0, width=0.2, height=1)}),
        ("discipline", {"discipline": 9}),
        ("events", {"events": [job_pb2.GivenEvent(name="fastest_hands", time_seconds=at) for at in range(17)]}),
        ("events[0].name", {"events": [job_pb2.GivenEvent(name="lunch", time_seconds=1)]}),
        ("events[0].name", {"events": [job_pb2.GivenEvent(name="release", time_seconds=1)]}),
        ("events[0].time_seconds", {"events": [job_pb2.GivenEvent(name="fastest_hands", time_seconds=-1)]}),
        ("events[0].time_seconds", {"events": [job_pb2.GivenEvent(name="fastest_hands", time_seconds=math.inf)]}),
    ],
)
def test_a_wrong_statement_is_refused_by_its_name(people: People, field: str, fields: dict[str, Any]) -> None:
    """No moment of another discipline, before the film or without a number."""
    first = people.queued()
    code, _, sentence = refused(lambda: people.reanalyze(first, **fields))
    assert (code, sentence.partition(":")[0]) == ("INVALID_ARGUMENT", field)


@pytest.mark.parametrize("fields", [{"sample_fps": 31}, {"sample_fps": -1}, {"accelerator": 9}, {"request_id": "x"}])
def test_a_reanalysis_is_held_to_the_limits_of_an_upload(people: People, fields: dict[str, Any]) -> None:
    """The field is named."""
    first = people.queued()
    code, _, sentence = refused(lambda: people.reanalyze(first, **fields))
    assert (code, sentence.partition(":")[0]) == ("INVALID_ARGUMENT", next(iter(fields)))


def test_a_reanalysis_needs_the_right_to_upload(people: People) -> None:
    """It costs as much as an analysis of a new video."""
    first = people.queued()
    request = job_pb2.ReanalyzeJobRequest(job_id=first)
    for claims, reason in (({"role": "player"}, "ROLE_NOT_ALLOWED"), ({"features": ()}, "FEATURE_NOT_ENABLED")):
        person = people.laptop.person("coach-1", **claims)
        call = partial(people.jobs.ReanalyzeJob, request, metadata=person)
        assert refused(call)[:2] == ("PERMISSION_DENIED", reason)


def test_the_same_request_id_is_the_same_reanalysis_and_other_content_is_refused(people: People) -> None:
    """AIP-155: an upload and a reanalysis never share a request_id."""
    first, second = people.queued(), people.queued()
    request_id = str(uuid.uuid4())
    made = people.reanalyze(first, sample_fps=15, request_id=request_id)
    assert people.reanalyze(first, sample_fps=15, request_id=request_id).job_id == made.job_id
    reused = ("ALREADY_EXISTS", "REQUEST_ID_REUSED", "request_id was used for another job")
    assert refused(lambda: people.reanalyze(first, sample_fps=16, request_id=request_id)) == reused
    assert refused(lambda: people.reanalyze(second, sample_fps=15, request_id=request_id)) == reused
    session_id = people.job(first).session_id
    assert refused(lambda: people.created(session_id=session_id, sample_fps=15, request_id=request_id)) == reused
    assert len({people.reanalyze(first).job_id for _ in range(2)}) == 2


def test_two_analyses_of_one_video_share_no_artifact(people: People) -> None:
    """The artifacts' keys hold the job's id."""
    people.queued()
    first = people.finish({}, artifact="report.html")
    second = people.reanalyze(first).job_id
    assert people.finish({}, artifact="report.html") == second
    jobs = [people.job(job_id) for job_id in (first, second)]
    folder = jobs[0].video.s3_key.removesuffix("original.mp4")
    assert [job.artifacts[0].s3_key for job in jobs] == [
        f"{folder}analysis/{job_id}/1/deep/report.html" for job_id in (first, second)
    ]


# Compare


def metric(value: float | None, confidence: float = 1.0, **more: Any) -> dict[str, Any]:
    """A metric in the contract's shape; without a value it is absent."""
    reason = None if value is not None else "front arm not visible"
    whole = {"value": value, "score": value, "unit": "body", "confidence": confidence, "plane": "image"}
    return whole | {"frames_used": 9, "evidence": [], "absent_reason": reason} | more


def test_the_change_of_a_metric_goes_from_the_first_job_to_the_last_and_step_by_step(people: People) -> None:
    """In the order of the request; the confidence is the lower one of both."""
    values = ((0.5, 0.9), (0.25, 0.4), (1.0, 0.8))
    jobs = [people.analysed({"elbow_drop_score": metric(value, sure)}) for value, sure in values]
    reply = people.compare(*jobs)
    [compared] = reply.metrics
    assert (compared.name, list(reply.player_ids), list(reply.caveats)) == ("elbow_drop_score", ["p-1"], [])
    assert [(r.job_id, r.value, r.score, r.unit, r.confidence, r.plane) for r in compared.readings] == [
        (job_id, value, value, "body", sure, "image") for job_id, (value, sure) in zip(jobs, values, strict=True)
    ]
    overall = compared.overall
    assert (overall.from_job_id, overall.to_job_id) == (jobs[0], jobs[2])
    assert (overall.value, overall.score, overall.unit, overall.confidence) == (0.5, 0.5, "body", 0.8)
    assert [(step.from_job_id, step.to_job_id, step.value, step.confidence) for step in compared.steps] == [
        (jobs[0], jobs[1], -0.25, 0.4),
        (jobs[1], jobs[2], 0.75, 0.4),
    ]
    [backwards] = people.compare(jobs[2], jobs[0]).metrics
    assert backwards.overall.value == -0.5


def test_a_metric_that_one_job_lacks_is_absent_from_the_comparison(people: People) -> None:
    """With its reason: it was not measurable, or the analysis did not measure it. Other steps are compared."""
    jobs = [
        people.analysed({"elbow_drop_score": metric(0.5), "head_stability_score": metric(0.25)}),
        people.analysed({"elbow_drop_score": metric(None)}),
        people.analysed({"elbow_drop_score": metric(0.75), "head_stability_score": metric(0.5)}),
    ]
    elbow, head = people.compare(*jobs).metrics
    assert [reading.absent_reason for reading in elbow.readings] == ["", "front arm not visible", ""]
    assert not elbow.readings[1].HasField("value")
    assert elbow.overall.value == head.overall.value == 0.25
    for compared, why in ((elbow, "front arm not visible"), (head, "not measured by this analysis")):
        for step in compared.steps:
            assert (step.HasField("value"), step.HasField("score"), step.confidence) == (False, False, 0)
            assert step.absent_reason == f"job {jobs[1]}: {why}"


@pytest.mark.parametrize(
    ("more", "why"),
    [({"unit": "deg"}, "different units: body and deg"), ({"plane": "space"}, "different planes: image and space")],
)
def test_values_of_different_units_or_planes_are_not_subtracted(people: People, more: dict[str, Any], why: str) -> None:
    """The change is absent and names both."""
    jobs = [people.analysed({"elbow_drop_score": metric(0.5, **kind)}) for kind in ({}, more)]
    [compared] = people.compare(*jobs).metrics
    assert (compared.overall.HasField("value"), compared.overall.absent_reason) == (False, why)


def test_a_change_is_clear_only_beyond_what_the_errors_allow(people: People) -> None:
    """1.96 standard errors of a difference: 0.14 if the error of both is 0.05."""
    jobs = [people.analysed({"elbow_drop_score": metric(value)}) for value in (0.5, 0.6, 0.75)]
    [compared] = people.compare(*jobs).metrics
    assert [step.detectable for step in compared.steps] == pytest.approx([0.1386, 0.1386], abs=1e-4)
    assert [step.clear for step in (*compared.steps, compared.overall)] == [False, True, True]


def test_a_change_is_held_against_what_two_films_do_not_share(people: People) -> None:
    """Both have the bias of the pose model, which is part of their errors but not of their difference."""
    summary = {"errors": {"elbow_drop_score": 0.06}, "scatter": {"elbow_drop_score": 0.02}}
    jobs = [people.analysed({"elbow_drop_score": metric(value)}, summary=summary) for value in (0.5, 0.6)]
    [compared] = people.compare(*jobs).metrics
    assert [reading.error for reading in compared.readings] == [0.06, 0.06]
    assert compared.overall.detectable == pytest.approx(0.0554, abs=1e-4)
    assert compared.overall.clear


def test_a_change_of_values_without_errors_is_absent(people: People) -> None:
    """Older results have no errors."""
    summaries: tuple[dict[str, Any] | None, ...] = (None, {"errors": {}})
    jobs = [people.analysed({"elbow_drop_score": metric(0.5)}, summary=summary) for summary in summaries]
    [compared] = people.compare(*jobs).metrics
    assert not compared.overall.HasField("value")
    assert compared.overall.absent_reason == f"job {jobs[1]}: the error of this number was not recorded"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"camera_view": "CAMERA_VIEW_SIDE"}, "different camera views: not given and side"),
        ({"discipline": "DISCIPLINE_BOWLING"}, "different disciplines: batting and bowling"),
        ({"summary": {"video_fps": 120.0}}, "different frame rates: 30 a second and 60 a second"),
        (
            {"summary": {"video_fps": 30.0, "actions": 0}},
            "different kinds of film: with an action and without an action",
        ),
        ({"summary": {"video_fps": 30.0, "model": "lite"}}, "different pose models: not given and lite"),
    ],
)
def test_analyses_that_are_not_comparable_are_not_subtracted(people: People, more: dict[str, Any], why: str) -> None:
    """The reason names the camera view, discipline, frame rate, extent or pose model; it is a caveat too."""
    alike: dict[str, Any] = {"summary": {"video_fps": 29.97}, "discipline": "DISCIPLINE_BATTING"}
    jobs = [people.analysed({"elbow_drop_score": metric(0.5)}, **(alike | kind)) for kind in ({}, more)]
    reply = people.compare(*jobs)
    assert (reply.metrics[0].overall.HasField("value"), reply.metrics[0].overall.absent_reason) == (False, why)
    assert len(reply.caveats) == 1


def test_an_analysis_that_is_not_assessed_is_not_compared(people: People, database_url: str) -> None:
    """Its numbers are nothing to subtract from; the reason is a caveat too."""
    jobs = [people.analysed({"elbow_drop_score": metric(0.5)}) for _ in range(2)]
    findings = '{"overall_level": null, "not_assessed_reason": "the film looks slowed", "findings": []}'
    change = "UPDATE video_analysis_jobs SET results = jsonb_set(results, '{findings}', %s::jsonb) WHERE id = %s"
    run(database_url, change, findings, jobs[1])
    reply = people.compare(*jobs)
    why = f"job {jobs[1]} was not assessed: the film looks slowed"
    assert (reply.metrics[0].overall.HasField("value"), reply.metrics[0].overall.absent_reason) == (False, why)
    assert why in reply.caveats


def test_measures_are_compared_like_metrics(people: People) -> None:
    """They have no score, and each holds its own error."""
    jobs = []
    for value in (0.6, 0.7):
        stride = {k: v for k, v in metric(value).items() if k != "score"} | {"error": 0.02}
        jobs.append(people.analysed({}, summary={"measures": {"stride_length": stride}}))
    [compared] = people.compare(*jobs).metrics
    assert (compared.name, compared.overall.clear) == ("stride_length", True)
    assert compared.overall.value == pytest.approx(0.1)
    assert not compared.overall.HasField("score")


def test_results_of_any_shape_can_be_compared(people: People, database_url: str) -> None:
    """Rows from before two-phase uploads may hold any JSON; a value that is no number is absent."""
    jobs = [people.analysed({"a": metric(0.5)}) for _ in range(3)]
    for job_id, results in zip(jobs[1:], ('{"metrics": {"a": {"value": "0.5", "score": true}}}', "[]"), strict=True):
        run(database_url, "UPDATE video_analysis_jobs SET results = %s::jsonb WHERE id = %s", results, job_id)
    [compared] = people.compare(*jobs).metrics
    assert [reading.HasField("value") for reading in compared.readings] == [True, False, False]
    assert not compared.overall.HasField("value")


def test_differences_between_jobs_are_listed_as_caveats(people: People, database_url: str) -> None:
    """Discipline, camera view, several players in common, and the stage."""
    both = ["p-1", "p-2"]
    jobs = [
        people.analysed({}, player_ids=both, discipline="DISCIPLINE_BATTING", camera_view="CAMERA_VIEW_SIDE"),
        people.analysed({}, player_ids=["p-2", "p-1"], discipline="DISCIPLINE_BOWLING"),
    ]
    run(database_url, "UPDATE video_analysis_jobs SET results_stage = 'quick' WHERE id = %s", jobs[1])
    reply = people.compare(*jobs)
    assert list(reply.player_ids) == both
    assert list(reply.caveats) == [
        "The analyses are of different disciplines: batting, bowling",
        "The analyses are of different camera views: side, not given",
        "The films name 2 players in common, and may show different ones",
        f"Only a first look, which is provisional, was taken by {jobs[1]}",
    ]


@pytest.mark.parametrize("players", [["p-2"], []])
def test_jobs_without_a_player_in_common_are_not_compared(people: People, players: list[str]) -> None:
    """Sessions without players have none in common."""
    jobs = [people.analysed({}), people.analysed({}, player_ids=players)]
    sentence = "job_ids: the sessions of these jobs name no player in common"
    assert refused(lambda: people.compare(*jobs)) == ("INVALID_ARGUMENT", "INVALID_FIELD", sentence)


def test_only_done_jobs_are_compared(people: People) -> None:
    """The error names the first job that is not done."""
    done = people.analysed({})
    queued = people.queued()
    expected = ("FAILED_PRECONDITION", "JOB_NOT_DONE", f"Cannot compare job {queued} in status: queued")
    assert refused(lambda: people.compare(done, queued)) == expected


def test_a_comparison_takes_two_to_twenty_different_jobs(people: People) -> None:
    """The same id in another spelling is the same job."""
    done = people.analysed({})
    for job_ids in ([], [done], [done, done], [done, done.upper()], [str(uuid.uuid4()) for _ in range(21)]):
        assert refused(partial(people.compare, *job_ids))[0] == "INVALID_ARGUMENT"


def test_anothers_session_or_job_is_denied_and_an_unknown_one_not_found(people: People) -> None:
    """The contract's sentences, for each call that names a session or a job."""
    own = people.analysed({})
    session_id = people.job(own).session_id
    people.coach = people.laptop.person("coach-2")
    their = people.session(player_ids=["p-1"]).session_id
    unknown = str(uuid.uuid4())
    session_calls: list[Callable[[str], object]] = [people.delete, lambda key: people.update(key, title="x")]
    for call in session_calls:
        assert refused(partial(call, session_id)) == (
            "PERMISSION_DENIED", "SESSION_ACCESS_DENIED", "You don't have access to this session",
        )  # fmt: skip
        assert refused(partial(call, unknown))[2] == "Video session not found"
    job_calls: list[Callable[[str], object]] = [
        people.retry, people.reanalyze, lambda key: people.compare(key, unknown),
    ]  # fmt: skip
    for call in job_calls:
        assert refused(partial(call, own)) == (
            "PERMISSION_DENIED", "JOB_ACCESS_DENIED", "You don't have access to this job",
        )  # fmt: skip
    for call in job_calls[:2]:
        assert refused(partial(call, unknown))[2] == "Analysis job not found"
    assert [session.session_id for session in people.page().sessions] == [their]
