"""Nothing is left behind: what S3 holds of deleted jobs and given-up uploads goes; what living jobs need stays."""

import hashlib
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest

from crease.analysis.v1 import launch_pb2
from crease.jobs.v1 import job_pb2, session_pb2
from crease.upload.v1 import upload_pb2, upload_pb2_grpc
from services import clients
from services.upload.inventory import folder_of
from tests.integration.jobs.test_lifecycle import RESULTS, Road
from tests.integration.upload.client import VIDEO, put
from tests.programs import Laptop, Program, lease, running
from tests.s3 import Endpoint

WAIT_SECONDS = 60


@dataclass
class Whole:
    """`jobs` and `upload` on real PostgreSQL and S3, and a coach."""

    road: Road
    upload: Any
    s3: Endpoint
    bucket: str
    database_url: str
    laptop: Laptop

    def initiated(self, *, session_id: str = "", in_parts: bool = False) -> Any:
        session_id = session_id or self.session()
        # The setting below: from 2,000 bytes in parts.
        body = VIDEO.ljust(3000, b"\0") if in_parts else VIDEO
        request = upload_pb2.InitiateUploadRequest(
            session_id=session_id, content_type="video/mp4", content_length=len(body)
        )
        return self.upload.InitiateUpload(request, metadata=self.road.coach)

    def session(self) -> str:
        request = session_pb2.CreateSessionRequest(title="Nets")
        return self.road.sessions.CreateSession(request, metadata=self.road.coach).session_id

    def sent(self, begun: Any) -> None:
        if not begun.parts.part_count:
            assert put(begun.presigned_url, VIDEO, begun.required_headers) == 200
            return
        body = VIDEO.ljust(3000, b"\0")
        part = upload_pb2.Part(part_number=1, sha256=hashlib.sha256(body).hexdigest())
        request = upload_pb2.SignPartsRequest(job_id=begun.job_id, parts=[part])
        [signed] = self.upload.SignParts(request, metadata=self.road.coach).puts
        assert put(signed.url, body, signed.headers) == 200

    def completed(self, **how: Any) -> str:
        begun = self.initiated(**how)
        self.sent(begun)
        self.upload.CompleteUpload(
            upload_pb2.CompleteUploadRequest(job_id=begun.job_id), metadata=self.road.coach, timeout=30
        )
        return begun.job_id

    def analysed(self) -> None:
        """Every queued job, with a report each."""
        for launch in self.road.open(50):
            self.road.confirm(launch)
            secret = self.road.start(launch).lease
            report = job_pb2.Artifact(
                name="report.html", stage=job_pb2.STAGE_QUICK, content_type="text/html", content_length=6
            )
            named = {"job_id": launch.job_id, "launch_no": launch.launch_no, "artifacts": [report]}
            signed = self.upload.SignLaunch(upload_pb2.SignLaunchRequest(**named), metadata=lease(secret))
            assert put(signed.artifacts[0].url, b"report", signed.artifacts[0].headers) == 200
            result = launch_pb2.SubmitResultRequest(**named, stage=job_pb2.STAGE_QUICK, results=RESULTS)
            self.road.launches.SubmitResult(result, metadata=lease(secret))

    def again(self, job_id: str) -> str:
        return self.road.jobs.ReanalyzeJob(job_pb2.ReanalyzeJobRequest(job_id=job_id), metadata=self.road.coach).job_id

    def cancel(self, job_id: str) -> None:
        self.road.jobs.CancelJob(job_pb2.CancelJobRequest(job_id=job_id), metadata=self.road.coach)

    def delete(self, job_id: str) -> None:
        self.road.jobs.DeleteJob(job_pb2.DeleteJobRequest(job_id=job_id), metadata=self.road.coach)

    def abort(self, job_id: str) -> None:
        self.upload.AbortUpload(upload_pb2.AbortUploadRequest(job_id=job_id), metadata=self.road.coach)

    def delete_session(self, session_id: str) -> None:
        request = session_pb2.DeleteSessionRequest(session_id=session_id)
        self.road.sessions.DeleteSession(request, metadata=self.road.coach)

    def key(self, job_id: str) -> str:
        return self.rows("SELECT s3_key FROM video_analysis_jobs WHERE id = %s", job_id)[0][0]

    def rows(self, statement: str, *values: Any) -> list[Any]:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            cursor = connection.execute(statement, values)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def swept(self) -> None:
        """Waits until nothing is due."""
        give_up = time.monotonic() + WAIT_SECONDS
        # What was handed out and is not settled is due within five minutes; what is looked at again, much later.
        due = "SELECT count(*) FROM video_analysis_jobs WHERE sweep_at < now() + interval '10 minutes'"
        while self.rows(due)[0][0]:
            assert time.monotonic() < give_up, "not swept"
            time.sleep(0.1)

    def stored(self) -> set[str]:
        pages = self.s3.client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return {found["Key"] for page in pages for found in page.get("Contents", [])}

    def unfinished(self) -> set[str]:
        listed = self.s3.client().list_multipart_uploads(Bucket=self.bucket)
        return {found["Key"] for found in listed.get("Uploads", [])}

    def orphans(self, role: str = "superuser") -> set[tuple[str, str]]:
        metadata = self.laptop.person("root", role=role)
        stream = self.upload.ListOrphans(upload_pb2.ListOrphansRequest(), metadata=metadata, timeout=60)
        return {(upload_pb2.Orphan.Kind.Name(one.kind), one.s3_key) for one in stream}


@pytest.fixture(scope="module")
def shared(
    shared_jobs_env: dict[str, str],
    shared_database_url: str,
    laptop: Laptop,
    s3_server: Endpoint,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Whole]:
    folder, bucket = tmp_path_factory.mktemp("sweep"), s3_server.make_bucket("swept", versioned=True)
    with ExitStack() as stack:
        env = shared_jobs_env | {"COACH_PLUS_DEEP_ANALYSIS_ENABLED": "false"}
        jobs = stack.enter_context(running(Program("jobs", env, Path(folder, "jobs.log"))))
        env = laptop.env | s3_server.env | {
            "S3_COACH_VIDEOS_BUCKET": bucket,
            "CREASE_JOBS_ENDPOINT": jobs.endpoint,
            "CREASE_TOKEN_FILE": str(laptop.token_file("upload")),
            "CREASE_SWEEP_SECONDS": "0.2",
            "CREASE_MULTIPART_FROM_BYTES": "2000",
        }  # fmt: skip
        upload = stack.enter_context(running(Program("upload", env, Path(folder, "upload.log"))))
        channel = stack.enter_context(grpc.insecure_channel(upload.endpoint))
        road = Road(jobs.endpoint, laptop)
        yield Whole(road, upload_pb2_grpc.UploadServiceStub(channel), s3_server, bucket, shared_database_url, laptop)


@pytest.fixture
def whole(shared: Whole, empty: str) -> Whole:
    client = shared.s3.client()
    for page in client.get_paginator("list_object_versions").paginate(Bucket=shared.bucket):
        for found in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
            client.delete_object(Bucket=shared.bucket, Key=found["Key"], VersionId=found["VersionId"])
    for found in client.list_multipart_uploads(Bucket=shared.bucket).get("Uploads", []):
        client.abort_multipart_upload(Bucket=shared.bucket, Key=found["Key"], UploadId=found["UploadId"])
    return shared


def test_a_deleted_job_takes_its_video_and_its_artifacts_along(whole: Whole) -> None:
    """In every version; the row stays as a tombstone and reads as if it were not there."""
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


@pytest.mark.prove
def test_a_video_stays_while_another_job_analyses_it(whole: Whole) -> None:
    """Only the artifacts of the deleted one go; with the last job the video goes."""
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
    """It is cancelled first, or waited for."""
    job_id = whole.completed()
    if status == "quick_running":
        [launch] = whole.road.open()
        whole.road.confirm(launch)
        whole.road.start(launch)
    with pytest.raises(grpc.RpcError) as caught:
        whole.delete(job_id)
    assert clients.reason(caught.value) == "WRONG_STATE"


@pytest.mark.prove
def test_what_was_cleared_away_is_not_completed_any_more(whole: Whole) -> None:
    """An upload that expired and came after all is refused, with a sentence, and swept the second time round."""
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


def test_orphans_of_each_kind_are_listed_for_superusers_alone(whole: Whole) -> None:
    """An object and parts without a row, a video and an artifact that are gone; nothing else."""
    job_id, kept = whole.completed(), whole.completed(in_parts=True)
    whole.analysed()
    assert whole.orphans() == set()
    client, stray = whole.s3.client(), "coach_plus/coach/nobody/none/none/original.mp4"
    client.put_object(Bucket=whole.bucket, Key=stray, Body=b"x")
    client.create_multipart_upload(Bucket=whole.bucket, Key=stray.replace("nobody", "nobody-else"))
    for key in [key for key in whole.stored() if key.startswith(folder_of(whole.key(job_id)))]:
        client.delete_object(Bucket=whole.bucket, Key=key)
    listed = whole.orphans()
    assert {kind for kind, _ in listed} == {"KIND_OBJECT", "KIND_PARTS", "KIND_VIDEO_MISSING", "KIND_ARTIFACT_MISSING"}
    assert len(listed) == 4
    assert not any(key.startswith(folder_of(whole.key(kept))) for _, key in listed)
    with pytest.raises(grpc.RpcError) as caught:
        whole.orphans(role="coach_pro_plus")
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.prove
@pytest.mark.timeout(400)
def test_after_two_hundred_random_lifecycles_there_are_no_orphans(whole: Whole) -> None:
    """Every job ends in one of ten ways; S3 holds what the living ones need, and not a byte more."""
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
