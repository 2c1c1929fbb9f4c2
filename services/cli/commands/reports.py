"""What an analysis leaves: fetched into a folder, and shown."""

import os
import sys
import webbrowser
from pathlib import Path

from google.protobuf import json_format

from crease.jobs.v1.job_pb2 import JOB_STATUS_CANCELLED, JOB_STATUS_FAILED, Job
from crease.upload.v1.upload_pb2 import SignDownloadRequest
from services.cli.api.client import Services
from services.cli.api.s3_transfer import Line
from services.cli.commands import analyze
from services.cli.errors import USAGE, Trouble
from services.cli.ui import console

REPORT = "report.html"
WANTED = (REPORT, "results.json", "overlay.mp4", "frames.parquet")


def deliver(services: Services, job: Job, folder: Path | None) -> None:
    """Fetches what there is, says where it lies, and opens it where there is a screen. Raises Trouble."""
    report = fetch(services, job, folder or Path(f"crease-report-{job.job_id}"))
    console.report(report)
    open_page(report)


def deliver_json(services: Services, job: Job, folder: Path | None) -> None:
    """Fetches what there is, and prints the job's result and where its report lies as one JSON object."""
    report = fetch(services, job, folder or Path(f"crease-report-{job.job_id}"))
    console.as_json({"job_id": job.job_id, "report": str(report), **json_format.MessageToDict(job.results)})


def open_page(page: Path) -> None:
    """Where a person looks on at a screen, in their browser."""
    if sys.stdout.isatty() and any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")):
        webbrowser.open(page.resolve().as_uri())


def check(job: Job) -> None:
    """Raises Trouble for a job that has no result yet, or none at all."""
    if not job.results.fields:
        if job.status in (JOB_STATUS_FAILED, JOB_STATUS_CANCELLED):
            raise analyze.ended_badly(job)
        raise Trouble(f"Job {job.job_id} has no result yet: {console.stage_words(job)}, {job.progress_pct} %.")


def fetch(services: Services, job: Job, folder: Path) -> Path:
    """Fetches all files of the analysis; returns the path of the report. Raises Trouble."""
    there = {artifact.name for artifact in job.artifacts}
    if REPORT not in there:
        raise Trouble(f"Job {job.job_id} has results but no {REPORT}.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Trouble(f"{folder} cannot be used: {error.strerror}.", USAGE) from None
    for name in filter(there.__contains__, WANTED):
        fetch_one(services, job, name, folder / name)
    return folder / REPORT


def fetch_one(services: Services, job: Job, name: str, file: Path) -> None:
    """Fetches one file of the analysis. Raises Trouble."""
    signed = services.call(services.uploads.SignDownload, SignDownloadRequest(job_id=job.job_id, name=name)).get
    Line().fetch(signed.method, signed.url, signed.headers, file)
