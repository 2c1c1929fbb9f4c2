"""Fetches the report of each analysis of one owner, for an internal service: `python follow.py OWNER FOLDER`.

OWNER is `coach:ID` or `org:ID`. CREASE_JOBS_ENDPOINT, CREASE_UPLOAD_ENDPOINT and CREASE_TOKEN_FILE say where, and as
which service. `jobs` keeps the position under the subscription's name: a program that starts again misses no report.
"""

import os
import sys
from pathlib import Path

from crease.events.v1.event_pb2 import DeleteSubscriptionRequest, WatchEventsRequest
from crease.jobs.v1.job_pb2 import JOB_STATUS_DONE, ListJobsRequest
from crease_client import Client, connect, token_file
from crease_client.errors import CreaseError, NotFound, OutOfRange

NAME = "example-reports-python"


def follow(client: Client, folder: Path) -> None:
    """Reads events without an end. Where this program fell behind, it reads what it missed from the list of jobs."""
    request = WatchEventsRequest(subscription=NAME, types=["JobDone"])
    while True:
        try:
            for event in client.watch_events(request):
                fetch(client, event.data.job_id, folder)
                client.acknowledge(NAME, [event])
        except OutOfRange as behind:
            client.events.DeleteSubscription(DeleteSubscriptionRequest(subscription=NAME))
            request.after = behind.after
            for job_id in done_jobs(client):
                fetch(client, job_id, folder)


def fetch(client: Client, job_id: str, folder: Path) -> None:
    """Once, although an event may arrive twice. A job may have been deleted since."""
    report = folder / f"{job_id}.html"
    if report.exists():
        return
    try:
        client.download(job_id, "report.html", report)
        print(job_id, flush=True)
    except NotFound as error:
        print(job_id, error, flush=True)


def done_jobs(client: Client) -> list[str]:
    found, request = list[str](), ListJobsRequest(status=JOB_STATUS_DONE)
    while True:
        page = client.jobs.ListJobs(request)
        found += [job.job_id for job in page.jobs]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return found


def main(owner: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with connect(
        jobs=os.environ["CREASE_JOBS_ENDPOINT"],
        upload=os.environ["CREASE_UPLOAD_ENDPOINT"],
        token=token_file(Path(os.environ["CREASE_TOKEN_FILE"])),
    ) as client:
        follow(client.on_behalf_of(owner), folder)


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]))
    except CreaseError as error:
        sys.exit(str(error))
