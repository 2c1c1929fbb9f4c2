"""Attacks by the pod of one launch: reports without bound, which would make the job and every list unreadable."""

from collections.abc import Iterator
from typing import Any

import grpc
import psycopg
import pytest

from crease.analysis.v1 import launch_pb2
from crease.jobs.v1 import intake_pb2, job_pb2, session_pb2
from services.rules.limits import MAX_ARTIFACT_BYTES, MAX_ARTIFACTS, MAX_SENTENCE_BYTES
from services.serving import MAX_MESSAGE_BYTES
from testing.servers.programs import Laptop, Program, lease
from tests.integration.jobs.test_lifecycle import RESULTS, Road

LONG = "é" * 1_500_000
REPORT = job_pb2.Artifact(name="report.html", content_type="text/html", content_length=10)


@pytest.fixture
def road(shared_jobs: Program, laptop: Laptop, empty: str) -> Road:
    return Road(shared_jobs.endpoint, laptop)


def artifact(**fields: Any) -> job_pb2.Artifact:
    made = job_pb2.Artifact()
    made.CopyFrom(REPORT)
    made.MergeFrom(job_pb2.Artifact(**fields))
    return made


@pytest.mark.parametrize(
    ("field", "artifacts"),
    [
        ("artifacts", [artifact(name=f"a{number}") for number in range(MAX_ARTIFACTS + 1)]),
        ("artifacts", [artifact(name=f"a{number}") for number in range(3500)]),
        ("artifacts[1].name", [REPORT, REPORT]),
        ("artifacts[0].name", [artifact(name="../report.html")]),
        ("artifacts[0].name", [artifact(name="x" * 65)]),
        ("artifacts[0].content_length", [artifact(content_length=-1)]),
        ("artifacts[0].content_length", [artifact(content_length=MAX_ARTIFACT_BYTES + 1)]),
        ("artifacts[0].content_type", [artifact(content_type="text/html\r\nx: y")]),
        ("artifacts[0].content_type", [artifact(content_type="text/" + "x" * 1_000_000)]),
    ],
    ids=range(9),
)
def test_a_result_names_few_artifacts_each_within_its_bounds(
    field: str, artifacts: list[job_pb2.Artifact], road: Road
) -> None:
    """The refusal names the field, and the launch goes on."""
    launch, secret = road.started()
    request = launch_pb2.SubmitResultRequest(
        job_id=launch.job_id, launch_no=launch.launch_no, stage=job_pb2.STAGE_QUICK, results=RESULTS
    )
    request.artifacts.extend(artifacts)
    with pytest.raises(grpc.RpcError) as caught:
        road.launches.SubmitResult(request, metadata=lease(secret))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert str(caught.value.details()).startswith(f"{field}: ")
    road.submit(launch, secret, job_pb2.STAGE_QUICK)


def test_a_long_sentence_is_stored_shortened(road: Road, empty: str) -> None:
    """Of an analyzer, of a controller and of upload: the job, its explanation and every list stay readable."""
    failed, secret = road.started()
    road.launches.FailLaunch(
        launch_pb2.FailLaunchRequest(
            job_id=failed.job_id,
            launch_no=failed.launch_no,
            ending=launch_pb2.ENDING_BAD_INPUT,
            failure_code="NOT_A_VIDEO",
            error_message=LONG,
        ),
        metadata=lease(secret),
    )
    unsent = road.created()
    road.intake.FailUpload(
        intake_pb2.FailUploadRequest(job_id=unsent, failure_code="EMPTY", error_message=LONG), metadata=road.upload
    )
    road.queued()
    [launch] = road.open()
    request = launch_pb2.ConfirmLaunchRequest(job_id=launch.job_id, launch_no=launch.launch_no, placement_reason=LONG)
    road.launches.ConfirmLaunch(request, metadata=road.controller)
    road.end(launch, launch_pb2.ENDING_BAD_INPUT, LONG)
    for job_id in (failed.job_id, unsent, launch.job_id):
        sentence = road.job(job_id).error_message
        assert len(sentence.encode()) <= MAX_SENTENCE_BYTES
        assert sentence.startswith("éé")
        assert sentence.endswith("é…")
        road.jobs.ExplainJob(job_pb2.ExplainJobRequest(job_id=job_id), metadata=road.coach)
    assert len(road.jobs.ListJobs(job_pb2.ListJobsRequest(), metadata=road.coach).jobs) == 3
    with psycopg.connect(empty) as connection:
        columns = "greatest(octet_length(ending_message), octet_length(placement_reason))"
        [(longest,)] = connection.execute(f"SELECT max({columns}) FROM launches").fetchall()  # noqa: S608
    assert longest <= MAX_SENTENCE_BYTES


def test_codes_and_uids_are_short(road: Road) -> None:
    """A failure code is a word for programs, and so is a UID."""
    launch, secret = road.started()
    fail = launch_pb2.FailLaunchRequest(
        job_id=launch.job_id, launch_no=launch.launch_no, ending=launch_pb2.ENDING_BAD_INPUT, failure_code="X" * 65
    )
    confirm = launch_pb2.ConfirmLaunchRequest(job_id=launch.job_id, launch_no=1, kubernetes_uid="u" * 129)
    calls: list[tuple[Any, Any, Any]] = [
        (road.launches.FailLaunch, fail, lease(secret)),
        (road.launches.ConfirmLaunch, confirm, road.controller),
    ]
    for call, request, metadata in calls:
        with pytest.raises(grpc.RpcError) as caught:
            call(request, metadata=metadata)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_what_upload_records_of_an_object_is_short(road: Road) -> None:
    """A taken-over upload makes no row that is too large to list."""
    job_id = road.created()
    text = "x" * 2049
    calls: list[tuple[Any, Any]] = [
        (road.intake.CreateJob, intake_pb2.CreateJobRequest(session_id=road.job(job_id).session_id, sha256=text)),
        (road.intake.ConfirmUpload, intake_pb2.ConfirmUploadRequest(job_id=job_id, etag=text)),
        (road.intake.ConfirmUpload, intake_pb2.ConfirmUploadRequest(job_id=job_id, etag="a", version_id=text)),
        (road.intake.RecordMultipart, intake_pb2.RecordMultipartRequest(job_id=job_id, upload_id=text)),
    ]
    for call, request in calls:
        with pytest.raises(grpc.RpcError, match="at most 2048 characters") as caught:
            call(request, metadata=road.upload)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_odd_progress_stays_within_its_stage(road: Road) -> None:
    """NaN, infinite and negative fractions."""
    launch, secret = road.started()
    for progress in (float("nan"), float("inf"), float("-inf"), -1e308, 1e308):
        road.beat(launch, secret, job_pb2.STAGE_QUICK, progress)
        assert 1 <= road.job(launch.job_id).progress_pct <= 49


def pages(road: Road, of: str) -> Iterator[Any]:
    """The pages of a list, each asked for 200 rows."""
    token = ""
    while True:
        if of == "jobs":
            request = job_pb2.ListJobsRequest(page_size=200, page_token=token)
            page: Any = road.jobs.ListJobs(request, metadata=road.coach)
        else:
            sessions_request = session_pb2.ListSessionsRequest(page_size=200, page_token=token)
            page = road.sessions.ListSessions(sessions_request, metadata=road.coach)
        yield page
        token = page.next_page_token
        if not token:
            return


def test_a_page_of_sessions_ends_before_it_is_too_large(road: Road, empty: str) -> None:
    """Two hundred sessions with the longest texts that CreateSession accepts: each is listed once."""
    longest = session_pb2.CreateSessionRequest(
        title="𝒩" * 200, notes="𝒩" * 5000, player_ids=[f"{number:03}" + "𝒩" * 97 for number in range(50)]
    )
    road.sessions.CreateSession(longest, metadata=road.coach)
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO video_sessions (owner_type, owner_id, created_by, title, notes, player_ids)"
            " SELECT owner_type, owner_id, created_by, title, notes, player_ids FROM video_sessions,"
            " generate_series(2, 200)"
        )
    found = list(pages(road, "sessions"))
    assert all(page.ByteSize() < MAX_MESSAGE_BYTES for page in found)
    assert len({session.session_id for page in found for session in page.sessions}) == 200
    assert len(found) > 1


def test_a_page_of_jobs_ends_before_it_is_too_large_and_holds_no_results(road: Road, empty: str) -> None:
    """Also of rows from before the bounds: each job is listed once, the largest alone on its page."""
    launch, secret = road.started()
    road.submit(launch, secret, job_pb2.STAGE_QUICK)
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO video_analysis_jobs (session_id, status, s3_bucket, s3_key, results, error_message)"
            " SELECT session_id, 'failed', s3_bucket, s3_key, results, repeat('x', 100000)"
            " FROM video_analysis_jobs, generate_series(1, 60)"
        )
        connection.execute(
            "UPDATE video_analysis_jobs SET error_message = repeat('x', 3500000) WHERE status <> 'failed'"
        )
    found = list(pages(road, "jobs"))
    listed = [job for page in found for job in page.jobs]
    assert len({job.job_id for job in listed}) == len(listed) == 61
    assert not any(job.HasField("results") for job in listed)
    assert min(len(page.jobs) for page in found) == 1


def test_a_job_with_very_many_launches_is_explained(road: Road, empty: str) -> None:
    """The newest hundred are listed, and the sentence counts all."""
    job_id = road.queued()
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO launches (job_id, launch_no, cluster, ending, ending_message, ended_at)"
            " SELECT %s, n, 'c1', 'bad_input', repeat('x', 2000), now() FROM generate_series(1, 3000) AS n",
            [job_id],
        )
        connection.execute("UPDATE video_analysis_jobs SET status = 'failed', launch_count = 3000")
    explained = road.jobs.ExplainJob(job_pb2.ExplainJobRequest(job_id=job_id), metadata=road.coach)
    assert [launch.launch_no for launch in explained.launches] == list(range(2901, 3001))
    assert "after 3000 launches" in explained.sentence
