"""A coach in the cluster: this file is piped into Python in the trial's pod, and prints one JSON line per answer.

submit VIDEO COUNT     uploads COUNT videos, each with a session of its own, and completes them; prints the job ids
wait SECONDS JOB...    waits until all jobs are final or the time is over; prints each job
get JOB | explain JOB | cancel JOB | artifact JOB NAME
"""

import json
import os
import sys
import time
from pathlib import Path

import urllib3
from google.protobuf import json_format

from crease.jobs.v1.job_pb2 import Accelerator, CancelJobRequest, ExplainJobRequest, GetJobRequest, Job, JobStatus
from crease.jobs.v1.session_pb2 import CreateSessionRequest
from crease.upload.v1.upload_pb2 import CompleteUploadRequest, InitiateUploadRequest, SignDownloadRequest
from services.cli.api import client, endpoints
from services.cli.api.client import Services

FINAL = ("JOB_STATUS_DONE", "JOB_STATUS_FAILED", "JOB_STATUS_CANCELLED")


def submit(services: Services, video: str, count: str, accelerator: str = "ACCELERATOR_UNSPECIFIED") -> None:
    content = Path(video).read_bytes()
    for _ in range(int(count)):
        session = services.call(services.sessions.CreateSession, CreateSessionRequest(title="Nets"))
        request = InitiateUploadRequest(
            session_id=session.session_id,
            content_type="video/mp4",
            content_length=len(content),
            accelerator=Accelerator.Value(accelerator),
        )
        initiated = services.call(services.uploads.InitiateUpload, request)
        put = urllib3.request("PUT", initiated.presigned_url, body=content, headers=dict(initiated.required_headers))
        assert put.status == 200, put.data
        services.call(services.uploads.CompleteUpload, CompleteUploadRequest(job_id=initiated.job_id))
        print_answer({"job_id": initiated.job_id})


def wait(services: Services, seconds: str, *jobs: str) -> None:
    deadline = time.monotonic() + float(seconds)
    for job_id in jobs:
        while True:
            job = services.call(services.jobs.GetJob, GetJobRequest(job_id=job_id))
            if JobStatus.Name(job.status) in FINAL or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        print_job(job)


def get(services: Services, job: str) -> None:
    print_job(services.call(services.jobs.GetJob, GetJobRequest(job_id=job)))


def explain(services: Services, job: str) -> None:
    print_answer(json_format.MessageToDict(services.call(services.jobs.ExplainJob, ExplainJobRequest(job_id=job))))


def cancel(services: Services, job: str) -> None:
    services.call(services.jobs.CancelJob, CancelJobRequest(job_id=job))
    get(services, job)


def artifact(services: Services, job: str, name: str) -> None:
    signed = services.call(services.uploads.SignDownload, SignDownloadRequest(job_id=job, name=name))
    reply = urllib3.request("GET", signed.get.url)
    print_answer({"status": reply.status, "bytes": len(reply.data)})


def print_job(job: Job) -> None:
    print_answer(json_format.MessageToDict(job, preserving_proto_field_name=True))


def print_answer(answer: object) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    with client.connect(endpoints.find(os.environ, Path("/nowhere"))) as opened:
        globals()[command](opened, *arguments)
