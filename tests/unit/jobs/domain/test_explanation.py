"""The drawing at the top of explanation.py, branch by branch."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from crease.jobs.v1 import job_pb2
from services.jobs.domain.explanation import WaitingFor, explain
from services.jobs.domain.limits import LaunchLimits, OpenLaunches
from services.jobs.domain.records import Accelerator, Ending, Launch
from services.jobs.domain.states import ResultStage, Status
from testing.data import jobs
from testing.data.jobs import NOW

NO_LIMITS = LaunchLimits()
NONE_OPEN = OpenLaunches()


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


JOB = jobs.job(created_at=ago(600), queued_at=ago(300), updated_at=ago(10))
OFFERED = jobs.launch(opened_at=ago(100))
CREATED = replace(OFFERED, confirmed_at=ago(90), placed_on=Accelerator.GPU, placement_reason="node n1 has a free one")
STARTED = replace(CREATED, started_at=ago(80), pod_name="p", lease_expires_at=ago(-20))
LOST = replace(STARTED, ended_at=ago(50), ending=Ending.LEASE_LOST, ending_message="The analyzer p was not heard of")
RUNNING = {"status": Status.QUICK_RUNNING, "stage": "QUICK", "progress_pct": 25}
DONE = {"status": Status.DONE, "completed_at": ago(0)}
FAILED = {"status": Status.FAILED, "failure_code": "IMAGE", "error_message": "No such image"}
QUOTA = "The cluster does not take it now: exceeded quota"


@pytest.mark.parametrize(
    ("job", "launches", "waiting_for", "since", "sentence"),
    [
        ({"status": Status.AWAITING_UPLOAD}, [], "upload", ago(600),
         "The video has not arrived: the client has not uploaded it, or has not called CompleteUpload"),
        ({}, [], "capacity", ago(300), "The job waits to be launched: no cluster has had room for it yet"),
        ({"not_before": ago(100)}, [LOST], "capacity", ago(100),
         "The job waits to be launched again (launch 1 ended: lease lost, The analyzer p was not heard of): "
         "no cluster has had room for it yet"),
        ({"not_before": ago(-12)}, [LOST], "backoff", ago(300),
         "The job is launched again (launch 1 ended: lease lost, The analyzer p was not heard of) in 12 seconds"),
        ({}, [OFFERED], "capacity", ago(100),
         "Launch 1 in c1 was handed to the controller, which has not confirmed it yet"),
        ({}, [replace(OFFERED, placement_reason=QUOTA)], "capacity", ago(100),
         f"Launch 1 in c1 cannot be created yet: {QUOTA}"),
        ({}, [CREATED], "capacity", ago(90),
         "Launch 1 in c1 was created and has not started yet: node n1 has a free one"),
        (RUNNING, [STARTED], "lease", ago(80), "Launch 1 in c1 is running on the GPU: quick analysis, 25 %"),
        (RUNNING, [replace(STARTED, lease_expires_at=ago(5))], "lease", ago(5),
         "Launch 1 in c1 sends no heartbeat: the lease of p expired 5 seconds ago"),
        (RUNNING | {"cancel_requested_at": ago(3)}, [STARTED], "lease", ago(3),
         "The job is being cancelled: the controller is deleting Launch 1 in c1, which may still run"
         " (node n1 has a free one)"),
        (RUNNING, [LOST], "nothing", ago(10),
         "The job has the status quick_running but no open launch: an operator changed its row by hand"),
        (DONE, [LOST, replace(STARTED, ended_at=NOW)], "nothing", NOW,
         "The job is done, after 2 launches, 5 minutes after it was queued"),
        (DONE | {"queued_at": ago(9)}, [LOST, replace(STARTED, ended_at=NOW)], "nothing", NOW,
         "The job is done, after 2 launches, 100 seconds after it was queued"),
        ({"status": Status.DONE}, [], "nothing", ago(10), "The job is done, after 0 launches"),
        (FAILED, [LOST], "nothing", ago(10), "The job failed after 1 launch (IMAGE): No such image"),
        ({"status": Status.FAILED}, [], "nothing", ago(10), "The job failed after 0 launches: no reason was recorded"),
        ({"status": Status.CANCELLED, "results_stage": ResultStage.QUICK}, [LOST], "nothing", ago(10),
         "The job was cancelled after 1 launch; its quick result can still be read"),
        ({"status": Status.CANCELLED, "results_stage": ResultStage.DEEP}, [LOST], "nothing", ago(10),
         "The job was cancelled after 1 launch; its deep result can still be read"),
        ({"status": Status.CANCELLED, "acted_by": "service:stats for org:o for all"}, [], "nothing", ago(10),
         "The job was cancelled after 0 launches. The last request came from the service stats, "
         "on behalf of org:o for all"),
        (DONE | {"acted_by": "service:stats"}, [LOST], "nothing", NOW,
         "The job is done, after 1 launch, 5 minutes after it was queued. "
         "The last request came from the service stats"),
    ],
)  # fmt: skip
def test_each_branch_has_its_sentence(
    job: dict[str, Any], launches: list[Launch], waiting_for: str, since: datetime, sentence: str
) -> None:
    """Words, field and time for each state that a job can be found in."""
    explained = explain(replace(JOB, **job), launches, NOW, NONE_OPEN, NO_LIMITS)
    assert (explained.sentence, explained.waiting_for, explained.since) == (sentence, waiting_for, since)


def test_each_thing_to_wait_for_has_its_value_in_the_proto() -> None:
    """The enum is the proto's, in lower case."""
    assert {f"WAITING_FOR_{one.name}" for one in WaitingFor} == set(job_pb2.WaitingFor.keys()) - {
        "WAITING_FOR_UNSPECIFIED"
    }


@pytest.mark.parametrize(
    ("opened", "limits", "waiting_for"),
    [
        (OpenLaunches(total=9), NO_LIMITS, "capacity"),
        (OpenLaunches(total=9), LaunchLimits(total=10), "capacity"),
        (OpenLaunches(total=10), LaunchLimits(total=10), "limits"),
        (OpenLaunches(of_owner=1), LaunchLimits(per_owner=2), "capacity"),
        (OpenLaunches(of_owner=2), LaunchLimits(per_owner=2), "limits"),
    ],
)
def test_a_limit_that_is_reached_is_named(opened: OpenLaunches, limits: LaunchLimits, waiting_for: str) -> None:
    """0 is no limit; a limit that is reached is named with its number."""
    explained = explain(JOB, [], NOW, opened, limits)
    assert explained.waiting_for == waiting_for
    assert (waiting_for == "limits") == ("and the limit is" in explained.sentence)


def test_backoff_is_named_before_limits() -> None:
    """The job waits for its backoff first, and for a free place afterwards."""
    job = replace(JOB, not_before=ago(-5))
    assert explain(job, [LOST], NOW, OpenLaunches(1, 1), LaunchLimits(1, 1)).waiting_for == "backoff"
