"""Sends a video to Crease and fetches the report: `python analyze.py VIDEO REPORT`.

CREASE_JOBS_ENDPOINT, CREASE_UPLOAD_ENDPOINT and CREASE_TOKEN_FILE say where, and as whom.
"""

import os
import sys
from pathlib import Path

from crease.jobs.v1.job_pb2 import JobStatus
from crease.jobs.v1.session_pb2 import DISCIPLINE_BATTING, CreateSessionRequest
from crease.upload.v1.upload_pb2 import InitiateUploadRequest
from crease_client import connect, token_file
from crease_client.errors import CreaseError, JobFailed


def main(video: Path, report: Path) -> None:
    with connect(
        jobs=os.environ["CREASE_JOBS_ENDPOINT"],
        upload=os.environ["CREASE_UPLOAD_ENDPOINT"],
        token=token_file(Path(os.environ["CREASE_TOKEN_FILE"])),
    ) as client:
        session = client.sessions.CreateSession(CreateSessionRequest(title="Nets", discipline=DISCIPLINE_BATTING))
        sent = client.upload(video, InitiateUploadRequest(session_id=session.session_id), notify=print)
        for job in client.watch(sent.job_id):
            print(JobStatus.Name(job.status), job.progress_pct)
        done = client.wait(sent.job_id)
        client.download(done.job_id, "report.html", report)


if __name__ == "__main__":
    try:
        main(*map(Path, sys.argv[1:]))
    except JobFailed as failed:
        sys.exit(f"{failed} ({failed.job.failure_code})")
    except CreaseError as error:
        sys.exit(str(error))
