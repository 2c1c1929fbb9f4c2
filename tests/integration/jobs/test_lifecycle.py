"""The life of a job through a real `jobs` on a real PostgreSQL."""

import time
import uuid
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf import json_format, struct_pb2

from crease.analysis.v1 import launch_pb2, launch_pb2_grpc
from crease.cleanup.v1 import cleanup_pb2_grpc
from crease.events.v1 import event_pb2, event_pb2_grpc
from crease.jobs.v1 import (
    intake_pb2,
    intake_pb2_grpc,
    job_pb2,
    job_pb2_grpc,
    library_pb2_grpc,
    player_pb2_grpc,
    session_pb2,
    session_pb2_grpc,
    share_pb2_grpc,
    sweep_pb2_grpc,
)
from services import clients
from testing.servers.programs import Laptop, Program, lease

RESULTS = json_format.ParseDict(
    {"pose": {"pose_summary": {"total_frames": 105}}, "metrics": {}, "findings": {}, "report": {}}, struct_pb2.Struct()
)


class Road:
    """Every caller of `jobs`, with a token each."""

    def __init__(self, endpoint: str, laptop: Laptop) -> None:
        channel = grpc.insecure_channel(endpoint)
        self.sessions = session_pb2_grpc.SessionServiceStub(channel)
        self.shares = share_pb2_grpc.ShareServiceStub(channel)
        self.library = library_pb2_grpc.LibraryServiceStub(channel)
        self.players = player_pb2_grpc.PlayerServiceStub(channel)
        self.jobs = job_pb2_grpc.JobServiceStub(channel)
        self.intake = intake_pb2_grpc.IntakeServiceStub(channel)
        self.launches = launch_pb2_grpc.LaunchServiceStub(channel)
        self.cleanup = cleanup_pb2_grpc.CleanupServiceStub(channel)
        self.sweep = sweep_pb2_grpc.SweepServiceStub(channel)
        self.events = event_pb2_grpc.EventServiceStub(channel)
        self.coach = laptop.person("coach-1")
        self.upload = laptop.program("upload", behind="coach-1")
        self.controller = laptop.program("controller")
        self.laptop = laptop

    def created(self, **fields: object) -> str:
        if "session_id" not in fields:
            session = self.sessions.CreateSession(session_pb2.CreateSessionRequest(title="Nets"), metadata=self.coach)
            fields["session_id"] = session.session_id
        values = {"s3_bucket": "videos", "content_type": "video/mp4"} | fields
        request = intake_pb2.CreateJobRequest(content_length=10, **values)  # type: ignore[arg-type] # fields of any type
        return self.intake.CreateJob(request, metadata=self.upload).job_id

    def queued(self, **fields: object) -> str:
        job_id = self.created(**fields)
        self.intake.ConfirmUpload(
            intake_pb2.ConfirmUploadRequest(job_id=job_id, etag="abc", content_length=10), metadata=self.upload
        )
        return job_id

    def open(self, capacity: int = 10) -> list[launch_pb2.Launch]:
        request = launch_pb2.OpenLaunchesRequest(cluster="c1", capacity=capacity)
        return list(self.launches.OpenLaunches(request, metadata=self.controller).launches)

    def confirm(self, launch: launch_pb2.Launch, uid: str = "uid-1", reason: str = "") -> launch_pb2.Launch:
        request = launch_pb2.ConfirmLaunchRequest(
            job_id=launch.job_id, launch_no=launch.launch_no, kubernetes_uid=uid, placement_reason=reason
        )
        return self.launches.ConfirmLaunch(request, metadata=self.controller)

    def start(
        self, launch: launch_pb2.Launch, suffix: str = "aaaaa", uid: str = "pod-1"
    ) -> launch_pb2.StartLaunchResponse:
        pod = self.laptop.pod(f"analysis-{launch.job_id}-{launch.launch_no}-{suffix}", uid)
        request = launch_pb2.StartLaunchRequest(job_id=launch.job_id, launch_no=launch.launch_no)
        return self.launches.StartLaunch(request, metadata=pod)

    def started(self, **fields: object) -> tuple[launch_pb2.Launch, str]:
        self.queued(**fields)
        launch = self.open()[0]
        self.confirm(launch)
        return launch, self.start(launch).lease

    def submit(
        self, launch: launch_pb2.Launch, secret: str, stage: "job_pb2.Stage.ValueType", **fields: Any
    ) -> job_pb2.Job:
        request = launch_pb2.SubmitResultRequest(
            job_id=launch.job_id, launch_no=launch.launch_no, stage=stage, results=RESULTS, **fields
        )
        return self.launches.SubmitResult(request, metadata=lease(secret)).job

    def beat(
        self, launch: launch_pb2.Launch, secret: str, stage: "job_pb2.Stage.ValueType", progress: float = 0.5
    ) -> None:
        request = launch_pb2.HeartbeatRequest(
            job_id=launch.job_id,
            launch_no=launch.launch_no,
            stage=stage,
            progress=progress,
        )
        self.launches.Heartbeat(request, metadata=lease(secret))

    def end(
        self, launch: launch_pb2.Launch, ending: "launch_pb2.Ending.ValueType", message: str = "gone"
    ) -> launch_pb2.Launch:
        request = launch_pb2.EndLaunchRequest(
            job_id=launch.job_id,
            launch_no=launch.launch_no,
            ending=ending,
            message=message,
        )
        return self.launches.EndLaunch(request, metadata=self.controller)

    def job(self, job_id: str) -> job_pb2.Job:
        return self.jobs.GetJob(job_pb2.GetJobRequest(job_id=job_id), metadata=self.coach)

    def status(self, job_id: str) -> str:
        return job_pb2.JobStatus.Name(self.job(job_id).status).removeprefix("JOB_STATUS_").lower()

    def events_of(self, job_id: str, count: int) -> list[str]:
        """The types of the first `count` events of a job."""
        stream = self.events.WatchEvents(
            event_pb2.WatchEventsRequest(after="0-0"), metadata=self.controller, timeout=60
        )
        types = []
        for event in stream:
            if event.subject == job_id:
                types.append(event.type)
            if len(types) == count:
                stream.cancel()
                break
        return types


@pytest.fixture
def database_url(empty: str) -> str:
    """The database of the `jobs` that `road` calls."""
    return empty


@pytest.fixture
def road(shared_jobs: Program, laptop: Laptop, database_url: str) -> Road:
    return Road(shared_jobs.endpoint, laptop)


def code_of(error: pytest.ExceptionInfo[grpc.RpcError]) -> tuple[str, str]:
    return error.value.code().name, clients.reason(error.value)


def test_a_job_goes_from_upload_to_done_with_one_event_a_transition(road: Road) -> None:
    """Statuses, stages, progress and events are those of the drawing in states.py."""
    job_id = road.created()
    assert road.status(job_id) == "awaiting_upload"
    assert road.open() == []
    road.intake.ConfirmUpload(intake_pb2.ConfirmUploadRequest(job_id=job_id, etag="abc"), metadata=road.upload)
    assert (road.job(job_id).stage, road.job(job_id).progress_pct) == ("QUEUED", 0)
    [launch] = road.open()
    assert (launch.job_id, launch.launch_no) == (job_id, 1)
    road.confirm(launch)
    started = road.start(launch)
    assert started.stage == job_pb2.STAGE_QUICK
    road.beat(launch, started.lease, job_pb2.STAGE_QUICK, 0.5)
    assert (road.job(job_id).stage, road.job(job_id).progress_pct) == ("QUICK", 25)
    assert road.submit(launch, started.lease, job_pb2.STAGE_QUICK).stage == "QUICK_DONE"
    road.beat(launch, started.lease, job_pb2.STAGE_DEEP, 0.0)
    assert (road.job(job_id).stage, road.job(job_id).progress_pct) == ("DEEP", 51)
    road.submit(launch, started.lease, job_pb2.STAGE_DEEP)
    job = road.job(job_id)
    assert (job.stage, job.progress_pct, job.results_stage) == ("DONE", 100, job_pb2.STAGE_DEEP)
    assert json_format.MessageToDict(job.results)["pose"] == {"pose_summary": {"total_frames": 105}}
    assert road.events_of(job_id, 6) == [
        "JobCreated", "JobQueued", "JobQuickStarted", "JobQuickDone", "JobDeepStarted", "JobDone",
    ]  # fmt: skip


def test_the_deep_result_is_read_before_its_last_file_is_made(road: Road) -> None:
    """With more_files the result and the first files are there and the job runs on; the next call completes it."""
    launch, secret = road.started()
    road.submit(launch, secret, job_pb2.STAGE_QUICK)
    report, film = (job_pb2.Artifact(name=name, content_length=9) for name in ("report.html", "overlay.mp4"))
    for _ in range(2):  # the reply may be lost
        job = road.submit(launch, secret, job_pb2.STAGE_DEEP, artifacts=[report], more_files=True)
        assert (job.stage, job.results_stage) == ("DEEP", job_pb2.STAGE_DEEP)
        assert [artifact.name for artifact in job.artifacts] == ["report.html"]
    assert road.events_of(launch.job_id, 5)[-1] == "JobDeepStarted"
    for _ in range(2):
        job = road.submit(launch, secret, job_pb2.STAGE_DEEP, artifacts=[report, film])
        assert (job.stage, job.results_stage) == ("DONE", job_pb2.STAGE_DEEP)
        assert [artifact.name for artifact in job.artifacts] == ["report.html", "overlay.mp4"]
    assert road.events_of(launch.job_id, 6)[-1] == "JobDone"


def test_a_launch_lost_before_the_last_file_is_followed_by_one_that_resumes_at_deep(road: Road) -> None:
    """The deep result outlives its launch."""
    launch, secret = road.started()
    road.submit(launch, secret, job_pb2.STAGE_QUICK)
    road.submit(launch, secret, job_pb2.STAGE_DEEP, more_files=True)
    road.end(launch, launch_pb2.ENDING_DISRUPTION)
    job = road.job(launch.job_id)
    assert (job.stage, job.progress_pct, job.results_stage) == ("DEEP_QUEUED", 50, job_pb2.STAGE_DEEP)
    [again] = road.open()
    started = road.start(again, uid="pod-2")
    assert (started.stage, road.status(launch.job_id)) == (job_pb2.STAGE_DEEP, "deep_running")
    assert road.submit(again, started.lease, job_pb2.STAGE_DEEP).status == job_pb2.JOB_STATUS_DONE


def test_only_the_deep_stage_has_files_that_follow(road: Road) -> None:
    """A quick result is complete, because the deep stage follows at once."""
    launch, secret = road.started()
    with pytest.raises(grpc.RpcError) as refused:
        road.submit(launch, secret, job_pb2.STAGE_QUICK, more_files=True)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "more_files" in str(refused.value.details())


def test_without_a_deep_stage_the_quick_result_finishes_the_job(road: Road, database_url: str) -> None:
    """deep_enabled false: quick_done and done in one submit."""
    launch, secret = road.started()
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE video_analysis_jobs SET deep_enabled = false")
    assert road.submit(launch, secret, job_pb2.STAGE_QUICK).status == job_pb2.JOB_STATUS_DONE
    assert road.events_of(launch.job_id, 5)[-2:] == ["JobQuickDone", "JobDone"]


def test_a_second_pod_of_a_launch_is_refused_and_the_first_may_ask_again(road: Road) -> None:
    """One launch has one pod. A pod whose reply was lost calls again and gets a new lease; the old one ends."""
    launch, old = road.started()
    with pytest.raises(grpc.RpcError) as refused:
        road.start(launch, suffix="bbbbb", uid="pod-2")
    assert code_of(refused) == ("PERMISSION_DENIED", "OTHER_POD")
    new = road.start(launch).lease
    with pytest.raises(grpc.RpcError) as stale:
        road.beat(launch, old, job_pb2.STAGE_QUICK)
    assert code_of(stale) == ("PERMISSION_DENIED", "LEASE_LOST")
    road.beat(launch, new, job_pb2.STAGE_QUICK)


def test_a_pod_of_another_launch_cannot_start_this_one(road: Road) -> None:
    """The pod's name in its token must be the launch's."""
    road.queued()
    [launch] = road.open()
    pod = road.laptop.pod(f"analysis-{uuid.uuid4()}-1-aaaaa", "pod-1")
    with pytest.raises(grpc.RpcError) as refused:
        road.launches.StartLaunch(launch_pb2.StartLaunchRequest(job_id=launch.job_id, launch_no=1), metadata=pod)
    assert code_of(refused) == ("PERMISSION_DENIED", "OTHER_POD")


def test_a_lost_launch_is_followed_by_another_that_resumes_at_deep(road: Road) -> None:
    """The quick result outlives its launch; jobs rejects every call by the old lease."""
    launch, secret = road.started()
    road.submit(launch, secret, job_pb2.STAGE_QUICK)
    road.end(launch, launch_pb2.ENDING_DISRUPTION)
    job = road.job(launch.job_id)
    assert (job.stage, job.progress_pct, job.results_stage) == ("DEEP_QUEUED", 50, job_pb2.STAGE_QUICK)
    [again] = road.open()
    assert again.launch_no == 2
    started = road.start(again, uid="pod-2")
    assert (started.stage, road.status(launch.job_id)) == (job_pb2.STAGE_DEEP, "deep_running")
    with pytest.raises(grpc.RpcError) as late:
        road.submit(launch, secret, job_pb2.STAGE_DEEP)
    assert code_of(late) == ("PERMISSION_DENIED", "LEASE_LOST")
    assert road.submit(again, started.lease, job_pb2.STAGE_DEEP).status == job_pb2.JOB_STATUS_DONE


def test_a_started_launch_cannot_end_as_unschedulable(road: Road) -> None:
    """A controller with a stale cache cannot end a launch whose pod has started."""
    launch, secret = road.started()
    with pytest.raises(grpc.RpcError) as late:
        road.end(launch, launch_pb2.ENDING_UNSCHEDULABLE)
    assert code_of(late) == ("FAILED_PRECONDITION", "LAUNCH_STARTED")
    road.beat(launch, secret, job_pb2.STAGE_QUICK)


def test_a_result_submitted_again_by_its_own_lease_changes_nothing(road: Road) -> None:
    """A pod whose reply was lost may repeat the call, also after the launch has succeeded."""
    launch, secret = road.started()
    for stage in (job_pb2.STAGE_QUICK, job_pb2.STAGE_DEEP):
        first = road.submit(launch, secret, stage)
        assert road.submit(launch, secret, stage) == first


def test_bad_input_fails_the_job_at_once_with_its_code_and_sentence(road: Road) -> None:
    """The job fails without a second launch."""
    launch, secret = road.started()
    request = launch_pb2.FailLaunchRequest(
        job_id=launch.job_id, launch_no=1, ending=launch_pb2.ENDING_BAD_INPUT,
        failure_code="NOT_A_VIDEO", error_message="The file is not a video",
    )  # fmt: skip
    road.launches.FailLaunch(request, metadata=lease(secret))
    job = road.job(launch.job_id)
    assert (job.stage, job.failure_code, job.error_message) == ("FAILED", "NOT_A_VIDEO", "The file is not a video")
    assert road.open() == []


def test_an_unconfirmed_launch_is_offered_again_under_the_same_number(road: Road, database_url: str) -> None:
    """A controller that crashed between OpenLaunches and the Kubernetes Job loses no launch and duplicates none."""
    road.queued()
    [first] = road.open()
    assert road.open() == []
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE launches SET offered_at = offered_at - interval '1 hour'")
    [again] = road.open()
    assert (again.job_id, again.launch_no) == (first.job_id, 1)
    road.confirm(again)
    assert road.confirm(again).kubernetes_uid == "uid-1"
    with pytest.raises(grpc.RpcError) as other:
        road.confirm(again, "uid-2")
    assert code_of(other)[0] == "FAILED_PRECONDITION"


def test_a_lease_that_is_not_renewed_is_lost_and_the_job_queued_again(road: Road, database_url: str) -> None:
    """The sweep compares lease_expires_at with the database's clock."""
    launch, secret = road.started()
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE launches SET lease_expires_at = now() - interval '1 second'")
    watch = road.jobs.WatchJob(job_pb2.WatchJobRequest(job_id=launch.job_id), metadata=road.coach, timeout=60)
    assert any(job.status == job_pb2.JOB_STATUS_QUEUED for job in watch)
    with pytest.raises(grpc.RpcError) as lost:
        road.beat(launch, secret, job_pb2.STAGE_QUICK)
    assert code_of(lost) == ("PERMISSION_DENIED", "LEASE_LOST")


def test_a_silent_cluster_loses_the_launches_that_no_pod_has_started(road: Road, database_url: str) -> None:
    """Without this rule an offered or confirmed launch would stay open for ever. A pod that starts later is refused."""
    road.queued()
    [launch] = road.open()
    road.confirm(launch)
    road.launches.ListLaunches(launch_pb2.ListLaunchesRequest(cluster=launch.cluster), metadata=road.controller)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE clusters SET seen_at = now() - interval '1 hour'")
        for _ in range(600):
            [(ending,)] = connection.execute("SELECT ending FROM launches").fetchall()
            if ending:
                break
            time.sleep(0.05)
        assert ending == "lease_lost"
    with pytest.raises(grpc.RpcError) as late:
        road.start(launch)
    assert code_of(late) == ("FAILED_PRECONDITION", "LAUNCH_ENDED")
    [again] = road.open()
    assert again.launch_no == launch.launch_no + 1


def test_a_cluster_name_has_one_owner(road: Road) -> None:
    """The first controller that names its owner gets the name; the sentence of the refusal has both owners."""

    def call(method: str, owner: str) -> None:
        if method == "list":
            listing = launch_pb2.ListLaunchesRequest(cluster="c1", owner=owner)
            road.launches.ListLaunches(listing, metadata=road.controller)
        else:
            opening = launch_pb2.OpenLaunchesRequest(cluster="c1", capacity=1, owner=owner)
            road.launches.OpenLaunches(opening, metadata=road.controller)

    road.open()
    call("list", "uid-1/crease-release")
    for method in ("list", "open"):
        with pytest.raises(grpc.RpcError) as taken:
            call(method, "uid-2/crease-release")
        assert code_of(taken) == ("FAILED_PRECONDITION", "CLUSTER_TAKEN")
        assert "belongs to uid-1/crease-release" in str(taken.value)
        assert "not to uid-2/crease-release" in str(taken.value)
    call("open", "uid-1/crease-release")
    # A controller of an older version names no owner.
    road.open()


def test_an_operators_update_is_launched_like_any_other(road: Road, database_url: str) -> None:
    """jobs finds the row without an event; a trigger writes the event all the same."""
    job_id = road.created()
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "UPDATE video_analysis_jobs SET status = 'queued', stage = 'QUEUED' "
            "WHERE status = 'awaiting_upload' AND created_at < NOW() + INTERVAL '10 minutes'"
        )
    assert [launch.job_id for launch in road.open()] == [job_id]
    assert road.events_of(job_id, 2) == ["JobCreated", "JobQueued"]


def test_an_unknown_end_is_tried_twice_more_and_then_dead_lettered(road: Road, database_url: str) -> None:
    """Two more launches, then the event JobDeadLettered."""
    job_id = road.queued()
    for number in (1, 2, 3):
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("UPDATE video_analysis_jobs SET not_before = NULL")
        [launch] = road.open()
        assert launch.launch_no == number
        road.end(launch, launch_pb2.ENDING_UNKNOWN, "exit code 70")
    assert (road.status(job_id), road.job(job_id).error_message) == ("failed", "exit code 70")
    assert road.events_of(job_id, 3)[-1] == "JobDeadLettered"


def test_a_third_unknown_ending_that_the_analyzer_reports_is_dead_lettered_too(road: Road, empty: str) -> None:
    """FailLaunch has a failure_code of its own; the job still gets DEAD_LETTERED, as by EndLaunch."""
    road.queued()
    for _ in range(3):
        with psycopg.connect(empty, autocommit=True) as connection:
            connection.execute("UPDATE video_analysis_jobs SET not_before = NULL")
        [launch] = road.open()
        secret = road.start(launch).lease
        request = launch_pb2.FailLaunchRequest(
            job_id=launch.job_id, launch_no=launch.launch_no, ending=launch_pb2.ENDING_UNKNOWN,
            failure_code="PROCESSING_FAILED", error_message="Processing failed: KeyError",
        )  # fmt: skip
        job = road.launches.FailLaunch(request, metadata=lease(secret)).job
    assert job.launch_count == 3
    assert (job.stage, job.failure_code) == ("FAILED", "DEAD_LETTERED")
    assert job.error_message == "Processing failed: KeyError"
    # Created, then queued, started and ended by each launch.
    assert road.events_of(job.job_id, 8)[-1] == "JobDeadLettered"


def test_an_upload_that_never_comes_expires(road: Road, database_url: str) -> None:
    """After upload_ttl_seconds: failed, UPLOAD_EXPIRED."""
    job_id = road.created()
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE video_analysis_jobs SET created_at = created_at - interval '25 hours'")
    watch = road.jobs.WatchJob(job_pb2.WatchJobRequest(job_id=job_id), metadata=road.coach, timeout=60)
    assert list(watch)[-1].failure_code == "UPLOAD_EXPIRED"


def test_events_resume_after_the_last_one_seen(road: Road) -> None:
    """The reader gets each event exactly once."""
    first = road.queued()
    stream = road.events.WatchEvents(event_pb2.WatchEventsRequest(after="0-0"), metadata=road.controller, timeout=60)
    seen = [next(stream), next(stream)]
    stream.cancel()
    second = road.queued()
    resumed = road.events.WatchEvents(
        event_pb2.WatchEventsRequest(after=seen[-1].id), metadata=road.controller, timeout=60
    )
    rest = [next(resumed), next(resumed)]
    resumed.cancel()
    assert [(event.subject, event.type) for event in (*seen, *rest)] == [
        (first, "JobCreated"), (first, "JobQueued"), (second, "JobCreated"), (second, "JobQueued"),
    ]  # fmt: skip


def test_an_event_that_commits_late_is_not_missed(road: Road, database_url: str) -> None:
    """An open transaction holds back later events; after its commit its own event comes first."""
    late, early = road.created(), road.created()
    start = event_pb2.WatchEventsRequest()
    stream = road.events.WatchEvents(start, metadata=road.controller, timeout=60)
    road.jobs.GetJob(job_pb2.GetJobRequest(job_id=late), metadata=road.coach)
    with psycopg.connect(database_url) as held:
        held.execute("UPDATE video_analysis_jobs SET status = 'queued' WHERE id = %s", [late])
        road.intake.ConfirmUpload(intake_pb2.ConfirmUploadRequest(job_id=early, etag="e"), metadata=road.upload)
        held.commit()
    queued = []
    for event in stream:
        if event.type == "JobQueued":
            queued.append(event.subject)
        if len(queued) == 2:
            break
    assert queued == [late, early]


def test_the_same_request_id_is_the_same_job_and_other_content_is_refused(road: Road) -> None:
    """AIP-155: another content is ALREADY_EXISTS."""
    session = road.sessions.CreateSession(session_pb2.CreateSessionRequest(), metadata=road.coach)
    request = intake_pb2.CreateJobRequest(
        session_id=session.session_id, s3_bucket="videos", content_type="video/mp4", content_length=10,
        request_id=str(uuid.uuid4()),
    )  # fmt: skip
    first = road.intake.CreateJob(request, metadata=road.upload)
    assert road.intake.CreateJob(request, metadata=road.upload).job_id == first.job_id
    request.content_length = 11
    with pytest.raises(grpc.RpcError) as refused:
        road.intake.CreateJob(request, metadata=road.upload)
    assert code_of(refused) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")


def test_jobs_are_listed_in_pages_newest_first(road: Road) -> None:
    """A token belongs to its filter; the pages hold each job exactly once."""
    made = [road.created() for _ in range(5)]
    seen: list[str] = []
    token = ""
    while True:
        request = job_pb2.ListJobsRequest(page_size=2, page_token=token)
        page = road.jobs.ListJobs(request, metadata=road.coach)
        seen += [job.job_id for job in page.jobs]
        token = page.next_page_token
        if not token:
            break
        other = job_pb2.ListJobsRequest(page_token=token, status=job_pb2.JOB_STATUS_DONE)
        with pytest.raises(grpc.RpcError) as refused:
            road.jobs.ListJobs(other, metadata=road.coach)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert seen == made[::-1]


def test_the_status_of_a_session_follows_from_its_jobs(road: Road) -> None:
    """pending, uploaded, processing, ready: from the newest live job, else the newest done one."""
    launch, secret = road.started()
    session_id = launch.session_id

    def shown() -> str:
        request = session_pb2.GetSessionRequest(session_id=session_id)
        return session_pb2.SessionStatus.Name(road.sessions.GetSession(request, metadata=road.coach).status)

    assert shown() == "SESSION_STATUS_PROCESSING"
    road.submit(launch, secret, job_pb2.STAGE_QUICK)
    road.submit(launch, secret, job_pb2.STAGE_DEEP)
    assert shown() == "SESSION_STATUS_READY"


@pytest.mark.parametrize(
    ("subject", "claims", "expected"),
    [
        ("coach-2", {}, ("PERMISSION_DENIED", "JOB_ACCESS_DENIED")),
        ("boss", {"role": "org_pro", "organisation_id": "o-1"}, ("PERMISSION_DENIED", "JOB_ACCESS_DENIED")),
        ("root", {"role": "superuser"}, None),
        ("coach-1", {}, None),
    ],
)
def test_a_job_is_seen_by_its_owner_and_superusers(
    road: Road, subject: str, claims: dict[str, str], expected: tuple[str, str] | None
) -> None:
    """Another's job reads PERMISSION_DENIED, an unknown one NOT_FOUND."""
    job_id = road.created()
    person = road.laptop.person(subject, **claims)
    if expected is None:
        assert road.jobs.GetJob(job_pb2.GetJobRequest(job_id=job_id), metadata=person).job_id == job_id
        return
    with pytest.raises(grpc.RpcError) as refused:
        road.jobs.GetJob(job_pb2.GetJobRequest(job_id=job_id), metadata=person)
    assert code_of(refused) == expected
    assert refused.value.details() == "You don't have access to this job"


@pytest.mark.parametrize("job_id", ["", "x", "a9f0c3de-9f0b-4c55-8a0e-6f1f0f4d6f55", "\x00", "a" * 5000])
def test_an_unknown_job_is_not_found(road: Road, job_id: str) -> None:
    """A text that is no UUID is the id of no job."""
    with pytest.raises(grpc.RpcError) as refused:
        road.jobs.GetJob(job_pb2.GetJobRequest(job_id=job_id), metadata=road.coach)
    assert (*code_of(refused), refused.value.details()) == ("NOT_FOUND", "JOB_NOT_FOUND", "Analysis job not found")


def test_uploading_needs_the_role_and_the_feature(road: Road) -> None:
    """Each refusal has its sentence of the contract."""
    create = session_pb2.CreateSessionRequest()
    for claims, sentence in (
        ({"role": "player"}, "Only Coach Pro Plus users can upload videos"),
        ({"features": ()}, "Insufficient feature access: video_upload_enabled"),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            road.sessions.CreateSession(create, metadata=road.laptop.person("coach-1", **claims))
        assert refused.value.details() == sentence


def test_the_contracts_sql_runs_as_written(road: Road, database_url: str) -> None:
    """Runbooks contain these statements."""
    road.created()
    with psycopg.connect(database_url, autocommit=True) as connection:
        labels = connection.execute(
            "SELECT enumlabel FROM pg_enum WHERE enumtypid = 'video_analysis_job_status'::regtype "
            "ORDER BY enumsortorder"
        ).fetchall()
        assert [label for (label,) in labels][:2] == ["awaiting_upload", "queued"]
        counts = connection.execute("SELECT status, COUNT(*) FROM video_analysis_jobs GROUP BY status").fetchall()
        assert counts == [("awaiting_upload", 1)]
