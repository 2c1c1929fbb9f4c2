"""A job is followed to its end, whatever happens to `jobs` meanwhile."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from crease.jobs.v1.job_pb2 import JOB_STATUS_DONE, JOB_STATUS_QUEUED, JOB_STATUS_QUICK_RUNNING, Job
from services import errors
from services.cli.api.client import Services
from services.cli.commands import analyze
from services.cli.errors import AWAY, Trouble
from testing.fakes.refusal import Refusal

QUEUED, RUNNING, DONE = (
    Job(job_id="j", status=status) for status in (JOB_STATUS_QUEUED, JOB_STATUS_QUICK_RUNNING, JOB_STATUS_DONE)
)
GONE = Refusal(grpc.StatusCode.UNAVAILABLE, "Connection refused")


@dataclass
class FakeJobs:
    """Streams to give in turn: jobs, then an end or an error."""

    streams: list[list[Job | Refusal]]
    calls: int = field(default=0)

    def WatchJob(self, request: Any, metadata: Any) -> Iterator[Job]:
        self.calls += 1
        for item in self.streams.pop(0):
            if isinstance(item, Refusal):
                raise item
            yield item


def services(tmp_path: Path, *streams: list[Job | Refusal]) -> Services:
    (tmp_path / "token").write_text("t")
    nothing: Any = None
    jobs: Any = FakeJobs(list(streams))
    return Services(nothing, jobs, nothing, tmp_path / "token")


def test_a_job_is_followed_through_a_restart_of_jobs(tmp_path: Path) -> None:
    """Broken streams and streams that end early are opened again, until the job is final."""
    there = services(tmp_path, [QUEUED, GONE], [GONE], [RUNNING], [DONE])
    assert list(analyze.watch(there, "j")) == [QUEUED, RUNNING, DONE]


def test_a_refusal_ends_the_watch(tmp_path: Path) -> None:
    """What will not pass is not waited for."""
    there = services(tmp_path, [Refusal.of(errors.NotFound("Analysis job not found", reason="JOB_NOT_FOUND"))])
    with pytest.raises(Trouble, match="Analysis job not found"):
        list(analyze.watch(there, "j"))


def test_nobody_waits_for_jobs_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user is told how to come back for the report."""
    monkeypatch.setattr(analyze, "AWAY_SECONDS", 0.0)
    with pytest.raises(Trouble, match="crease report j") as caught:
        list(analyze.watch(services(tmp_path, [GONE]), "j"))
    assert caught.value.exit_code == AWAY
