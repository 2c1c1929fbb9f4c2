"""Signing after the upload: SignDownload for people, SignLaunch for analyzers."""

import uuid
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from crease.jobs.v1 import job_pb2
from crease.upload.v1 import upload_pb2
from services import clients
from testing.servers.programs import lease
from tests.integration.upload.client import VIDEO, Client, get, put

REPORT = b"<!doctype html><title>report</title>"
QUICK, DEEP = job_pb2.STAGE_QUICK, job_pb2.STAGE_DEEP


def report(**changed: Any) -> job_pb2.Artifact:
    declared: dict[str, Any] = {"name": "report.html", "stage": QUICK, "content_type": "text/html; charset=utf-8"}
    return job_pb2.Artifact(**(declared | {"content_length": len(REPORT)} | changed))


def sign_launch(client: Client, job: job_pb2.Job, *artifacts: job_pb2.Artifact, shown: str = "living") -> Any:
    client.jobs.leases[job.job_id, 1] = "living"
    request = upload_pb2.SignLaunchRequest(job_id=job.job_id, launch_no=1, artifacts=artifacts)
    return client.stub.SignLaunch(request, metadata=lease(shown), timeout=30)


def sign_download(client: Client, job_id: str, name: str, subject: str = "coach-1") -> Any:
    request = upload_pb2.SignDownloadRequest(job_id=job_id, name=name)
    return client.stub.SignDownload(request, metadata=client.laptop.person(subject), timeout=30)


def publish(client: Client, job: job_pb2.Job, stage: "job_pb2.Stage.ValueType", body: bytes) -> None:
    """Stores a report as an analyzer does, and records it as jobs does."""
    artifact = report(stage=stage, content_length=len(body))
    (signed,) = sign_launch(client, job, artifact).artifacts
    assert put(signed.url, body, signed.headers) == 200
    folder = "quick" if stage == QUICK else "deep"
    artifact.s3_key = f"{job.video.s3_key.rpartition('/')[0]}/analysis/{job.job_id}/1/{folder}/report.html"
    job.artifacts.append(artifact)


def test_a_lease_reads_the_video_and_writes_under_its_launch(client: Client) -> None:
    """The URLs are in the order asked, and the objects land in the launch's own folder by stage."""
    job = client.upload()
    signed = sign_launch(client, job, report(stage=DEEP), report(name="results.json", content_type="application/json"))
    assert get(signed.video).data == VIDEO
    for request in signed.artifacts:
        assert put(request.url, REPORT, request.headers) == 200
    folder = job.video.s3_key.removesuffix("original.mp4")
    listed = client.s3.client().list_objects_v2(Bucket="plain", Prefix=f"{folder}analysis/")["Contents"]
    names = [item["Key"].removeprefix(f"{folder}analysis/{job.job_id}/1/") for item in listed]
    assert names == ["deep/report.html", "quick/results.json"]


def test_a_reanalysis_reads_the_landmarks_that_the_first_job_kept(client: Client) -> None:
    """By a signed GET of that one object; a job without them gets none."""
    first, again = client.upload(), client.upload()
    publish(client, first, DEEP, REPORT)
    client.jobs.landmarks_keys[again.job_id] = first.artifacts[0].s3_key
    assert get(sign_launch(client, again).landmarks).data == REPORT
    assert not sign_launch(client, first).HasField("landmarks")


def test_an_artifact_that_was_never_put_is_not_found(client: Client) -> None:
    """An analyzer may report what it did not put."""
    job = client.upload()
    job.artifacts.append(report(stage=DEEP, s3_key=f"{job.video.s3_key.rpartition('/')[0]}/analysis/deep/report.html"))
    with pytest.raises(grpc.RpcError) as caught:
        sign_download(client, job.job_id, "report.html")
    assert (caught.value.code(), clients.reason(caught.value)) == (
        grpc.StatusCode.NOT_FOUND,
        "ARTIFACT_NOT_FOUND",
    )


def test_an_artifact_may_be_put_twice(client: Client) -> None:
    """A pod retries after a lost answer."""
    (signed,) = sign_launch(client, client.upload(), report()).artifacts
    assert put(signed.url, REPORT, signed.headers) == 200
    assert put(signed.url, REPORT, signed.headers) == 200


@pytest.mark.parametrize(
    "changed", [{"Content-Length": str(len(REPORT) - 1)}, {"Content-Type": "text/javascript"}], ids=["length", "type"]
)
def test_s3_refuses_another_artifact_than_was_declared(client: Client, changed: dict[str, str]) -> None:
    """An artifact is bound to its length and its type."""
    (signed,) = sign_launch(client, client.upload(), report()).artifacts
    headers = dict(signed.headers) | changed
    assert put(signed.url, REPORT[: int(headers["Content-Length"])], headers) == 403


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "../original.mp4"),
        ("name", "a/b.html"),
        ("name", ""),
        ("name", ".hidden"),
        ("stage", 0),
        ("content_type", "text/html\r\nx-amz-acl: public-read"),
        ("content_length", 0),
    ],
)
def test_an_artifact_that_could_leave_its_folder_is_refused(client: Client, field: str, value: Any) -> None:
    """The error has the path of the wrong field."""
    with pytest.raises(grpc.RpcError) as caught:
        sign_launch(client, client.upload(), report(), report(**{field: value}))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert str(caught.value.details()).startswith(f"artifacts[1].{field}: ")


def test_a_dead_lease_signs_nothing(client: Client) -> None:
    """jobs decides whether a lease is valid."""
    with pytest.raises(grpc.RpcError) as caught:
        sign_launch(client, client.upload(), shown="dead")
    assert (caught.value.code(), clients.reason(caught.value)) == (grpc.StatusCode.PERMISSION_DENIED, "LEASE_LOST")


def test_the_newest_stage_that_has_an_artifact_is_downloaded(client: Client) -> None:
    """Quick until deep is in, then deep; the URL lasts five minutes and needs no header."""
    job = client.upload()
    publish(client, job, QUICK, b"quick report")
    assert get(sign_download(client, job.job_id, "report.html").get).data == b"quick report"
    publish(client, job, DEEP, b"deep report!")
    signed = sign_download(client, job.job_id, "report.html")
    assert get(signed.get).data == b"deep report!"
    assert (signed.expires_in.seconds, dict(signed.get.headers)) == (300, {})


def test_an_unknown_artifact_is_not_found(client: Client) -> None:
    """Only listed artifacts can be downloaded: neither the video nor a path."""
    job = client.upload()
    for name in ("overlay.mp4", "original.mp4", "../../original.mp4"):
        with pytest.raises(grpc.RpcError) as caught:
            sign_download(client, job.job_id, name)
        assert clients.reason(caught.value) == "ARTIFACT_NOT_FOUND"
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_an_artifact_of_anothers_job_is_denied_and_of_an_unknown_one_not_found(client: Client) -> None:
    """jobs checks ownership by the caller's own token."""
    job = client.upload()
    publish(client, job, QUICK, REPORT)
    with pytest.raises(grpc.RpcError) as foreign:
        sign_download(client, job.job_id, "report.html", subject="coach-2")
    assert foreign.value.code() == grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(grpc.RpcError) as unknown:
        sign_download(client, str(uuid.uuid4()), "report.html")
    assert (unknown.value.code(), unknown.value.details()) == (grpc.StatusCode.NOT_FOUND, "Analysis job not found")


@pytest.mark.parametrize("rpc", ["InitiateUpload", "CompleteUpload", "SignDownload", "SignLaunch"])
def test_another_kind_of_token_is_denied(client: Client, rpc: str) -> None:
    """Each RPC admits one kind of caller, and none without a token."""
    call = getattr(client.stub, rpc)
    request = getattr(upload_pb2, f"{rpc}Request")()
    wrong = [client.laptop.program("upload"), client.laptop.program("controller"), client.laptop.pod("pod-1")]
    wrong.append(client.laptop.person() if rpc == "SignLaunch" else lease("secret"))
    for metadata in wrong:
        with pytest.raises(grpc.RpcError) as caught:
            call(request, metadata=metadata, timeout=30)
        assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=30)
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_health_and_reflection_answer_without_a_token(client: Client) -> None:
    """Probes and grpcurl need none."""
    name = "crease.upload.v1.UploadService"
    health = health_pb2_grpc.HealthStub(client.channel)
    reply = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=30)
    assert reply.status == health_pb2.HealthCheckResponse.SERVING
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    answers = reflection_pb2_grpc.ServerReflectionStub(client.channel).ServerReflectionInfo(iter([ask]), timeout=30)
    assert name in [service.name for service in next(answers).list_services_response.service]
