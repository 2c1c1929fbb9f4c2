"""The client follows a job to its final status, through failures of `jobs`."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pytest

from crease.jobs.v1.job_pb2 import (
    JOB_STATUS_DONE,
    JOB_STATUS_QUEUED,
    JOB_STATUS_QUICK_RUNNING,
    AthleteBox,
    Job,
    ReanalyzeJobRequest,
    WatchJobRequest,
)
from crease.jobs.v1.session_pb2 import Discipline
from crease_client.errors import NotFound, RpcError, Unauthenticated, Unavailable
from services.cli.__main__ import main
from services.cli.api.client import Services
from services.cli.commands import analyze, reports
from services.cli.errors import UNAVAILABLE, CommandError

QUEUED, RUNNING, DONE = (
    Job(job_id="j", status=status) for status in (JOB_STATUS_QUEUED, JOB_STATUS_QUICK_RUNNING, JOB_STATUS_DONE)
)
LOST = Unavailable("Connection refused")


@dataclass
class FakeJobs:
    """The streams to answer in turn: jobs, then the end or an error."""

    streams: list[list[Job | RpcError]]

    def WatchJob(self, request: Any) -> "Stream":
        return Stream(self.streams.pop(0))


@dataclass
class Stream:
    items: list[Job | RpcError]

    def initial_metadata(self) -> list[tuple[str, str]]:
        return []

    def __iter__(self) -> Iterator[Job]:
        for item in self.items:
            if isinstance(item, RpcError):
                raise item
            yield item

    def cancel(self) -> None:
        pass


def services(*streams: list[Job | RpcError]) -> Services:
    nothing: Any = None
    jobs: Any = FakeJobs(list(streams))
    return Services(nothing, jobs, *[nothing] * 7)


def test_a_job_is_followed_through_a_restart_of_jobs() -> None:
    """Broken streams and streams that end early are opened again, until the job is final."""
    connected = services([QUEUED, LOST], [LOST], [RUNNING], [DONE])
    assert list(analyze.watch(connected, "j")) == [QUEUED, RUNNING, DONE]


def test_a_stream_that_ends_with_its_token_is_opened_again() -> None:
    """The token file may hold a newer one; a token that is refused at once ends the watch."""
    expired = Unauthenticated("The token has expired", reason="UNAUTHENTICATED")
    connected = services([QUEUED, expired], [RUNNING, expired], [DONE])
    assert list(analyze.watch(connected, "j")) == [QUEUED, RUNNING, DONE]
    with pytest.raises(CommandError, match="rejected your token"):
        list(analyze.watch(services([QUEUED, expired], [expired]), "j"))


def test_a_permanent_error_ends_the_watch() -> None:
    """The client does not wait for an error that is not transient."""
    connected = services([NotFound("Analysis job not found", reason="JOB_NOT_FOUND")])
    with pytest.raises(CommandError, match="Analysis job not found"):
        list(analyze.watch(connected, "j"))


def test_the_watch_ends_when_jobs_stays_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the command that fetches the report later."""
    monkeypatch.setattr(analyze, "MOST_UNAVAILABLE_SECONDS", 0.0)
    with pytest.raises(CommandError, match="crease report j") as caught:
        list(analyze.watch(services([LOST]), "j"))
    assert caught.value.exit_code == UNAVAILABLE


def parse(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> ReanalyzeJobRequest:
    """The request that `crease reanalyze` sends."""
    sent: list[ReanalyzeJobRequest] = []

    class Answering:
        def ReanalyzeJob(self, request: ReanalyzeJobRequest, **_: object) -> Job:
            sent.append(request)
            return Job(job_id="j-2")

        def WatchJob(self, request: WatchJobRequest) -> Stream:
            assert request.job_id == "j-2"
            return Stream([DONE])

    nothing: Any = None
    jobs: Any = Answering()
    connected = nullcontext(Services(nothing, jobs, *[nothing] * 7))
    monkeypatch.setattr(analyze, "connect", lambda _: connected)
    monkeypatch.setattr(reports, "show", lambda *_: None)
    assert main(["reanalyze", "j-1", *arguments]) == 0
    return sent[0]


def test_reanalyze_sends_what_the_user_states_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """An option that is left out keeps the earlier job's value."""
    bare = parse(monkeypatch)
    assert [field.name for field, _ in bare.ListFields()] == ["job_id", "request_id"]
    stated = parse(
        monkeypatch, "--event", "front_foot_contact=0.9", "--event", "release=1.02", "--capture-fps", "0",
        "--athlete-box", "0,0.2,0.3,0.4", "--discipline", "bowling", "--sample-fps", "20",
    )  # fmt: skip
    assert [(event.name, event.time_seconds) for event in stated.events] == [
        ("front_foot_contact", 0.9),
        ("release", 1.02),
    ]
    assert (stated.HasField("capture_fps"), stated.capture_fps, stated.sample_fps) == (True, 0, 20)
    assert stated.athlete_box == AthleteBox(left=0, top=0.2, width=0.3, height=0.4)
    assert stated.discipline == Discipline.DISCIPLINE_BOWLING


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--event", "release"),
        ("--event", "release=soon"),
        ("--event", "release=-1"),
        ("--event", "lunch=1"),
        ("--capture-fps", "1001"),
        ("--capture-fps", "nan"),
        ("--athlete-box", "0,0,1"),
        ("--athlete-box", "0.9,0,0.2,1"),
    ],
)
def test_a_wrong_statement_is_a_usage_error(option: str, value: str) -> None:
    """Before anything is sent."""
    with pytest.raises(SystemExit) as caught:
        main(["reanalyze", "j-1", option, value])
    assert caught.value.code == 2
