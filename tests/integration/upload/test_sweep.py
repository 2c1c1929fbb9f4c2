"""Cleanup: objects of deleted jobs and abandoned uploads are deleted; objects of other jobs stay."""

import base64
import json
import random
import time
from typing import Any

import grpc
import pytest

from crease.analysis.v1 import launch_pb2
from crease.cleanup.v1 import cleanup_pb2
from crease.cleanup.v1.cleanup_pb2 import Cleanup
from crease.upload.v1 import upload_pb2
from services import clients
from services.cli.api import client as cli_client
from services.cli.api.endpoints import Endpoints
from services.cli.commands.orphans import show_orphans
from services.upload.cleanup import is_unnamed
from services.upload.s3.inventory import folder_of
from tests.integration.upload.whole import WAIT_SECONDS, Whole


@pytest.mark.slow
def test_deleting_a_job_deletes_its_video_and_its_artifacts(whole: Whole) -> None:
    """Every version is deleted. The row stays as a tombstone, and GetJob is NOT_FOUND."""
    job_id = whole.completed()
    whole.analysed()
    assert len(whole.stored()) == 2
    whole.s3.client().put_object(Bucket=whole.bucket, Key=whole.key(job_id), Body=b"another version")
    whole.delete(job_id)
    whole.swept()
    listed = whole.s3.client().list_object_versions(Bucket=whole.bucket)
    assert (listed.get("Versions", []), listed.get("DeleteMarkers", [])) == ([], [])
    with pytest.raises(grpc.RpcError) as caught:
        whole.road.job(job_id)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    [(deleted_at, results)] = whole.rows("SELECT deleted_at, results FROM video_analysis_jobs WHERE id = %s", job_id)
    assert deleted_at is not None
    assert results is None


@pytest.mark.slow
def test_a_video_stays_while_another_job_analyses_it(whole: Whole) -> None:
    """Only the artifacts of the deleted job are deleted; the video is deleted with the last job."""
    first = whole.completed()
    second = whole.again(first)
    whole.analysed()
    video = whole.key(first)
    whole.delete(first)
    whole.swept()
    assert whole.stored() == {video, *(key for key in whole.stored() if f"/analysis/{second}/" in key)}
    assert len(whole.stored()) == 2
    whole.delete(second)
    whole.swept()
    assert whole.stored() == set()


@pytest.mark.parametrize("status", ["queued", "quick_running"])
def test_a_job_that_is_queued_or_runs_is_not_deleted(whole: Whole, status: str) -> None:
    """It must be cancelled or finish first."""
    job_id = whole.completed()
    if status == "quick_running":
        [launch] = whole.road.open()
        whole.road.confirm(launch)
        whole.road.start(launch)
    with pytest.raises(grpc.RpcError) as caught:
        whole.delete(job_id)
    assert clients.reason(caught.value) == "WRONG_STATE"


@pytest.mark.slow
def test_an_upload_after_its_cleanup_cannot_be_completed(whole: Whole) -> None:
    """A late upload of an expired job is refused, and the second cleanup deletes it."""
    begun = whole.initiated()
    whole.rows("UPDATE video_analysis_jobs SET created_at = now() - interval '25 hours'")
    give_up = time.monotonic() + WAIT_SECONDS
    while not whole.rows("SELECT 1 FROM video_analysis_jobs WHERE cleared_at IS NOT NULL"):
        assert time.monotonic() < give_up
        time.sleep(0.1)
    whole.swept()
    whole.sent(begun)
    with pytest.raises(grpc.RpcError) as caught:
        whole.upload.CompleteUpload(
            upload_pb2.CompleteUploadRequest(job_id=begun.job_id), metadata=whole.road.coach, timeout=30
        )
    assert clients.reason(caught.value) == "UPLOAD_CLEARED"
    assert whole.orphans() == {("KIND_OBJECT", begun.s3_key)}
    whole.rows("UPDATE video_analysis_jobs SET sweep_at = now(), cleared_at = now() - interval '2 hours'")
    give_up = time.monotonic() + WAIT_SECONDS
    while whole.stored():
        assert time.monotonic() < give_up
        time.sleep(0.1)


def test_artifacts_that_no_result_names_are_listed_and_deleted(whole: Whole) -> None:
    """Those of a lost launch, and an unfinished upload. Those of the open launch and of the result stay unlisted."""
    job_id = whole.completed()
    [lost] = whole.launched()
    whole.road.end(lost.launch, launch_pb2.ENDING_DISRUPTION)
    [running] = whole.launched()
    first, second = (key for key in sorted(whole.stored()) if "/analysis/" in key)
    assert f"/{job_id}/1/" in first
    assert whole.orphans() == {("KIND_OBJECT", first)}
    make_due = "UPDATE video_analysis_jobs SET sweep_at = now()"
    whole.rows(make_due)
    whole.submit(running)
    assert whole.orphans() == {("KIND_OBJECT", first)}
    whole.s3.client().create_multipart_upload(Bucket=whole.bucket, Key=whole.key(job_id))
    whole.rows(make_due)
    whole.swept()
    assert whole.unfinished() == set()
    assert whole.stored() == {whole.key(job_id), second}
    assert whole.orphans() == set()


def test_a_launch_after_the_claim_keeps_its_artifacts(whole: Whole) -> None:
    """A job is retried while its cleanup runs: the cleanup covers the launches before the claim."""
    claimed = Cleanup(
        prefix="v/analysis/j/", artifacts_only=True, launches=1, kept=["v/analysis/j/1/quick/report.html"]
    )
    keys = ["1/quick/report.html", "1/deep/report.html", "2/quick/report.html", "10/quick/report.html", "stray"]
    assert [key for key in keys if is_unnamed(claimed, claimed.prefix + key)] == ["1/deep/report.html"]
    job_id = whole.completed()
    whole.analysed()
    whole.rows("UPDATE video_analysis_jobs SET launch_count = 2, sweep_at = now() + interval '1 hour'")
    caller = whole.laptop.program("upload")
    whole.road.cleanup.CompleteCleanup(cleanup_pb2.CompleteCleanupRequest(job_id=job_id, launches=1), metadata=caller)
    assert whole.rows("SELECT sweep_at IS NOT NULL FROM video_analysis_jobs") == [(True,)]
    whole.road.cleanup.CompleteCleanup(cleanup_pb2.CompleteCleanupRequest(job_id=job_id, launches=2), metadata=caller)
    assert whole.rows("SELECT sweep_at IS NOT NULL FROM video_analysis_jobs") == [(False,)]


def test_orphans_of_each_kind_are_listed_for_superusers_alone(whole: Whole, capsys: pytest.CaptureFixture[str]) -> None:
    """Orphans are an object and parts without a row, and a missing video and artifact."""
    job_id, kept = whole.completed(), whole.completed(in_parts=True)
    whole.analysed()
    assert whole.orphans() == set()
    client, stray = whole.s3.client(), "coach_plus/coach/nobody/none/none/original.mp4"
    client.put_object(Bucket=whole.bucket, Key=stray, Body=b"x")
    client.create_multipart_upload(Bucket=whole.bucket, Key=stray.replace("nobody", "nobody-else"))
    for key in [key for key in whole.stored() if key.startswith(folder_of(whole.key(job_id)))]:
        client.delete_object(Bucket=whole.bucket, Key=key)
    listed = whole.orphans()
    superuser = whole.laptop.person("root", role="superuser")
    deprecated = whole.upload.ListOrphans(upload_pb2.ListOrphansRequest(), metadata=superuser)
    assert {(upload_pb2.Orphan.Kind.Name(one.kind), one.s3_key) for one in deprecated} == listed
    assert {kind for kind, _ in listed} == {"KIND_OBJECT", "KIND_PARTS", "KIND_VIDEO_MISSING", "KIND_ARTIFACT_MISSING"}
    assert len(listed) == 4
    assert not any(key.startswith(folder_of(whole.key(kept))) for _, key in listed)
    found = Endpoints("127.0.0.1:1", whole.upload_endpoint, str(whole.admin_token()))
    with cli_client.connect(found) as services:
        assert show_orphans(services) == 4
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == (
        "4 orphans. An upload or a deletion during the listing may appear as an orphan: list again before you act."
    )
    assert sum(line.startswith(("object without a job", "parts without a job")) for line in out) == 2
    with pytest.raises(grpc.RpcError) as caught:
        whole.orphans(role="coach_pro_plus")
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED


def token(*position: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode()


@pytest.mark.parametrize(
    "page",
    [
        {"page_size": -1},
        {"page_token": "x"},
        {"page_token": "é"},
        {"page_token": token()},
        {"page_token": token("elsewhere/")},
        {"page_token": token("coach_plus/\0")},
        {"page_token": token("coach_plus/\ud800")},
        {"page_token": token("coach_plus/a/", "coach_plus/a/b", "1", "")},
    ],
)
def test_a_page_that_no_answer_named_is_refused(whole: Whole, page: dict[str, Any]) -> None:
    """Neither S3 nor the database sees such a token."""
    superuser = whole.laptop.person("root", role="superuser")
    with pytest.raises(grpc.RpcError) as caught:
        whole.listing.ListOrphans(upload_pb2.ListOrphansRequest(**page), metadata=superuser)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    [name] = page
    assert str(caught.value.details()).startswith(name)


@pytest.mark.slow
def test_after_two_hundred_random_lifecycles_there_are_no_orphans(whole: Whole) -> None:
    """Every job ends in one of ten ways; S3 then holds only the objects of jobs that need them."""
    dice = random.Random(1)
    living: set[str] = set()
    waiting: set[str] = set()
    ways = [
        "kept",
        "never sent",
        "sent",
        "aborted",
        "cancelled",
        "deleted",
        "again",
        "again deleted",
        "session",
        "gone",
    ]
    for number in range(200):
        way, how = ways[number % len(ways)], {"in_parts": dice.random() < 0.5}
        session_id = whole.session()
        if way in ("never sent", "sent", "aborted", "cancelled", "gone"):
            begun = whole.initiated(session_id=session_id, **how)
            if way != "never sent" and dice.random() < 0.7:
                whole.sent(begun)
            match way:
                case "never sent" | "sent":
                    waiting.add(begun.s3_key)
                case "aborted":
                    whole.abort(begun.job_id)
                case "cancelled":
                    whole.cancel(begun.job_id)
                case _:
                    whole.delete_session(session_id)
            continue
        job_id = whole.completed(session_id=session_id, **how)
        second = whole.again(job_id) if way.startswith("again") else ""
        if dice.random() < 0.3:
            whole.cancel(job_id)
        whole.analysed()
        if way in ("deleted", "again deleted"):
            whole.delete(job_id)
        if way == "session":
            whole.delete_session(session_id)
        if way in ("kept", "again"):
            living.add(job_id)
        if second:
            living.add(second)
    whole.swept()
    videos = {whole.key(job_id) for job_id in living}
    assert {key for key in whole.stored() if key.endswith("original.mp4")} - waiting == videos
    assert {key.split("/analysis/")[1].split("/")[0] for key in whole.stored() if "/analysis/" in key} <= living
    assert whole.unfinished() <= waiting
    assert whole.orphans() == set()
