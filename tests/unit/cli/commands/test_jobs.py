"""`crease retry --code`: which jobs it queues again, and its warning."""

from typing import Any

import pytest

from crease.jobs.v1.job_pb2 import JOB_STATUS_FAILED, Job, ListJobsRequest, ListJobsResponse, RetryJobRequest
from services.cli.api.client import Services
from services.cli.commands import jobs
from services.cli.ui import console


class FakeJobs:
    """Two failed jobs, on two pages."""

    def __init__(self) -> None:
        self.retried: list[str] = []

    def ListJobs(self, request: ListJobsRequest, **_: object) -> ListJobsResponse:
        assert request.status == JOB_STATUS_FAILED
        if not request.page_token:
            return ListJobsResponse(jobs=[Job(job_id="a", failure_code="IMAGE")], next_page_token="2")
        return ListJobsResponse(jobs=[Job(job_id="b", failure_code="TOO_LONG")])

    def RetryJob(self, request: RetryJobRequest, **_: object) -> Job:
        self.retried.append(request.job_id)
        return Job(job_id=request.job_id, stage="QUEUED")


@pytest.mark.parametrize(("code", "retried", "warns"), [("IMAGE", ["a"], False), ("TOO_LONG", ["b"], True)])
def test_retry_by_code_warns_if_the_videos_are_at_fault(
    code: str, retried: list[str], warns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the jobs with the code are queued, from every page."""
    fake = FakeJobs()
    stub: Any = fake
    unused: Any = None
    lines: list[str] = []
    monkeypatch.setattr(console, "print_line", lambda text="", *_, **__: lines.append(str(text)))
    jobs.retry(Services(unused, stub, *[unused] * 7), [], code)
    assert fake.retried == retried
    assert any("a retry fails again" in line for line in lines) == warns
    assert lines[-1] == f"{retried[0]}  queued"
