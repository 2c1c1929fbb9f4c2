"""The client follows a job to its final status, through failures of `jobs`."""

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
from services.cli.errors import UNAVAILABLE, CommandError
from testing.fakes.rpc_error import FakeRpcError

QUEUED, RUNNING, DONE = (
    Job(job_id="j", status=status) for status in (JOB_STATUS_QUEUED, JOB_STATUS_QUICK_RUNNING, JOB_STATUS_DONE)
)
LOST = FakeRpcError(grpc.StatusCode.UNAVAILABLE, "Connection refused")


@dataclass
class FakeJobs:
    """The streams to answer in turn: jobs, then the end or an error."""

    streams: list[list[Job | FakeRpcError]]
    calls: int = field(default=0)

    def WatchJob(self, request: Any, metadata: Any) -> Iterator[Job]:
        self.calls += 1
        for item in self.streams.pop(0):
            if isinstance(item, FakeRpcError):
                raise item
            yield item


def services(tmp_path: Path, *streams: list[Job | FakeRpcError]) -> Services:
    (tmp_path / "token").write_text("t")
    nothing: Any = None
    jobs: Any = FakeJobs(list(streams))
    return Services(nothing, jobs, nothing, tmp_path / "token")


def test_a_job_is_followed_through_a_restart_of_jobs(tmp_path: Path) -> None:
    """Broken streams and streams that end early are opened again, until the job is final."""
    connected = services(tmp_path, [QUEUED, LOST], [LOST], [RUNNING], [DONE])
    assert list(analyze.watch(connected, "j")) == [QUEUED, RUNNING, DONE]


def test_a_stream_that_ends_with_its_token_is_opened_again(tmp_path: Path) -> None:
    """The token file may hold a newer one; a token that is refused at once ends the watch."""
    expired = FakeRpcError.of(errors.Unauthenticated("The token has expired"))
    connected = services(tmp_path, [QUEUED, expired], [RUNNING, expired], [DONE])
    assert list(analyze.watch(connected, "j")) == [QUEUED, RUNNING, DONE]
    with pytest.raises(CommandError, match="rejected your token"):
        list(analyze.watch(services(tmp_path, [QUEUED, expired], [expired]), "j"))


def test_a_permanent_error_ends_the_watch(tmp_path: Path) -> None:
    """The client does not wait for an error that is not transient."""
    connected = services(tmp_path, [FakeRpcError.of(errors.NotFound("Analysis job not found", reason="JOB_NOT_FOUND"))])
    with pytest.raises(CommandError, match="Analysis job not found"):
        list(analyze.watch(connected, "j"))


def test_the_watch_ends_when_jobs_stays_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the command that fetches the report later."""
    monkeypatch.setattr(analyze, "MOST_UNAVAILABLE_SECONDS", 0.0)
    with pytest.raises(CommandError, match="crease report j") as caught:
        list(analyze.watch(services(tmp_path, [LOST]), "j"))
    assert caught.value.exit_code == UNAVAILABLE
