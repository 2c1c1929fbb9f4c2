"""The drawing at the top of explain.py, branch by branch."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crease.jobs.v1 import job_pb2
from services.jobs.domain.explanation import Room, explain

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


JOB: dict[str, Any] = {
    "status": "queued", "stage": "QUEUED", "progress_pct": 0, "failure_code": "", "error_message": "",
    "results_stage": None, "cancel_requested_at": None, "not_before": None,
    "created_at": ago(600), "queued_at": ago(300), "updated_at": ago(10), "completed_at": None,
}  # fmt: skip
OFFERED: dict[str, Any] = {
    "launch_no": 1, "cluster": "c1", "placed_on": "", "placement_reason": "", "pod_name": "", "ending": "",
    "ending_message": "", "opened_at": ago(100), "confirmed_at": None, "started_at": None, "lease_expires_at": None,
    "ended_at": None,
}  # fmt: skip
CREATED = OFFERED | {"confirmed_at": ago(90), "placed_on": "gpu", "placement_reason": "node n1 has a free one"}
STARTED = CREATED | {"started_at": ago(80), "pod_name": "p", "lease_expires_at": ago(-20)}
LOST = STARTED | {"ended_at": ago(50), "ending": "lease_lost", "ending_message": "The analyzer p was not heard of"}
RUNNING = {"status": "quick_running", "stage": "QUICK", "progress_pct": 25}
DONE = {"status": "done", "completed_at": ago(0)}
FAILED = {"status": "failed", "failure_code": "IMAGE", "error_message": "No such image"}


@pytest.mark.parametrize(
    ("job", "launches", "waiting_for", "since", "sentence"),
    [
        ({"status": "awaiting_upload"}, [], "upload", ago(600),
         "The video has not arrived: it was not uploaded, or the upload was not said to be complete"),
        ({}, [], "capacity", ago(300), "It waits to be launched: no cluster has had room for it yet"),
        ({"not_before": ago(100)}, [LOST], "capacity", ago(100),
         "It waits to be launched again (launch 1 ended: lease lost, The analyzer p was not heard of): "
         "no cluster has had room for it yet"),
        ({"not_before": ago(-12)}, [LOST], "backoff", ago(300),
         "It is launched again (launch 1 ended: lease lost, The analyzer p was not heard of) in 12 seconds"),
        ({}, [OFFERED], "capacity", ago(100),
         "Launch 1 in c1 was handed to the controller, which has not said yet that anything runs for it"),
        ({}, [OFFERED | {"placement_reason": "The cluster does not take it now: exceeded quota"}], "capacity", ago(100),
         "Launch 1 in c1 cannot be created yet: The cluster does not take it now: exceeded quota"),
        ({}, [CREATED], "capacity", ago(90),
         "Launch 1 in c1 was created and has not started yet: node n1 has a free one"),
        (RUNNING, [STARTED], "lease", ago(80), "Launch 1 in c1 is at work on the GPU: stage QUICK, 25 %"),
        (RUNNING, [STARTED | {"lease_expires_at": ago(5)}], "lease", ago(5),
         "Launch 1 in c1 has fallen silent: the lease of p ran out 5 seconds ago"),
        (RUNNING | {"cancel_requested_at": ago(3)}, [STARTED], "lease", ago(3),
         "It is being cancelled: Launch 1 in c1 is deleted, and not yet proved gone (node n1 has a free one)"),
        (RUNNING, [LOST], "nothing", ago(10),
         "Its status is quick_running, but no launch is open for it: somebody wrote into the database"),
        (DONE, [LOST, STARTED | {"ended_at": NOW}], "nothing", NOW,
         "It is done, after 2 launches, 5 minutes after it was queued"),
        ({"status": "done"}, [], "nothing", ago(10), "It is done, after 0 launches"),
        (FAILED, [LOST], "nothing", ago(10), "It failed after 1 launch (IMAGE): No such image"),
        ({"status": "failed"}, [], "nothing", ago(10), "It failed after 0 launches: nobody said why"),
        ({"status": "cancelled", "results_stage": "quick"}, [LOST], "nothing", ago(10),
         "It was cancelled after 1 launch; the quick result can still be read"),
    ],
)  # fmt: skip
def test_each_branch_has_its_sentence(
    job: dict[str, Any], launches: list[dict[str, Any]], waiting_for: str, since: datetime, sentence: str
) -> None:
    """Words, field and time for each state that a job can be found in."""
    told = explain(JOB | job, launches, NOW)
    assert (told.sentence, told.waiting_for, told.since) == (sentence, waiting_for, since)
    assert f"WAITING_FOR_{told.waiting_for.upper()}" in dict(job_pb2.WaitingFor.items())


@pytest.mark.parametrize(
    ("room", "waiting_for"),
    [
        (Room(open=9), "capacity"),
        (Room(open=9, limit=10), "capacity"),
        (Room(open=10, limit=10), "limits"),
        (Room(open_of_owner=1, limit_of_owner=2), "capacity"),
        (Room(open_of_owner=2, limit_of_owner=2), "limits"),
    ],
)
def test_a_limit_that_is_reached_is_named(room: Room, waiting_for: str) -> None:
    """0 is no limit; what is full is said with its number."""
    told = explain(JOB, [], NOW, room)
    assert told.waiting_for == waiting_for
    assert (waiting_for == "limits") == ("as many as may be" in told.sentence)


def test_backoff_is_named_before_limits() -> None:
    """What has to happen last is not what it waits for first."""
    assert explain(JOB | {"not_before": ago(-5)}, [LOST], NOW, Room(1, 1, 1, 1)).waiting_for == "backoff"
