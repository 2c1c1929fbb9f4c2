"""A coach in the cluster: this file is piped into Python in the trial's pod, and answers with one JSON line each.

submit VIDEO COUNT     files COUNT videos under a session each, uploads and completes them; the job ids
wait SECONDS JOB...    until all are final, or time is up; each job as it is then
get JOB | explain JOB | cancel JOB | artifact JOB NAME
"""

import json
import os
import sys
import time
from pathlib import Path

import urllib3
from google.protobuf import json_format

from crease.jobs.v1.job_pb2 import CancelJobRequest, ExplainJobRequest, GetJobRequest, Job, JobStatus
from crease.jobs.v1.session_pb2 import CreateSessionRequest
from crease.upload.v1.upload_pb2 import CompleteUploadRequest, InitiateUploadRequest, SignDownloadRequest
from services.cli.api import client
from services.cli.api.client import Services

FINAL = ("JOB_STATUS_DONE", "JOB_STATUS_FAILED", "JOB_STATUS_CANCELLED")


def submit(services: Services, video: str, count: str, accelerator: str = "ACCELERATOR_UNSPECIFIED") -> None:
    content = Path(video).read_bytes()
    for _ in range(int(count)):
        session = services.call(services.sessions.CreateSession, CreateSessionRequest(title="Nets"))
        asked = InitiateUploadRequest(
            session_id=session.session_id,
            content_type="video/mp4",
            content_length=len(content),
            accelerator=accelerator,  # type: ignore[arg-type]
        )
        begun = services.call(services.uploads.InitiateUpload, asked)
        put = urllib3.request("PUT", begun.presigned_url, body=content, headers=dict(begun.required_headers))
        assert put.status == 200, put.data
        services.call(services.uploads.CompleteUpload, CompleteUploadRequest(job_id=begun.job_id))
        say({"job_id": begun.job_id})


def wait(services: Services, seconds: str, *jobs: str) -> None:
    give_up = time.monotonic() + float(seconds)
    for job_id in jobs:
        while True:
            job = services.call(services.jobs.GetJob, GetJobRequest(job_id=job_id))
            if JobStatus.Name(job.status) in FINAL or time.monotonic() > give_up:
                break
            time.sleep(0.5)
        tell(job)


def get(services: Services, job: str) -> None:
    tell(services.call(services.jobs.GetJob, GetJobRequest(job_id=job)))


def explain(services: Services, job: str) -> None:
    say(json_format.MessageToDict(services.call(services.jobs.ExplainJob, ExplainJobRequest(job_id=job))))


def cancel(services: Services, job: str) -> None:
    services.call(services.jobs.CancelJob, CancelJobRequest(job_id=job))
    get(services, job)


def artifact(services: Services, job: str, name: str) -> None:
    signed = services.call(services.uploads.SignDownload, SignDownloadRequest(job_id=job, name=name))
    reply = urllib3.request("GET", signed.get.url)
    say({"status": reply.status, "bytes": len(reply.data)})


def tell(job: Job) -> None:
    say(json_format.MessageToDict(job, preserving_proto_field_name=True))


def say(answer: object) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    with client.connect(client.find(os.environ, Path("/nowhere"))) as opened:
        globals()[command](opened, *arguments)
