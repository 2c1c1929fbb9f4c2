"""The table at the top of decide.py, row by row."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from crease.analysis.v1 import launch_pb2 as wire
from crease.jobs.v1.job_pb2 import ACCELERATOR_CPU
from services.controller.core.decide import Action, Confirm, Create, Delete, End, Snapshot, decide, find_ghosts
from services.controller.core.launcher import FailureReason, Observed, Phase, labels_of, name_of
from services.controller.core.limits import Limits
from testing.fakes.controller import launch

NOW = datetime(2026, 11, 1, tzinfo=UTC)
OPEN = launch()
CONFIRMED = launch(kubernetes_uid="uid")
UNSTARTED_CANCELLING = launch(cancel_requested_at=NOW)
CANCELLING = launch(kubernetes_uid="uid", cancel_requested_at=NOW)
ENDED = launch(kubernetes_uid="uid", ending=wire.ENDING_CANCELLED)
PENDING = Observed(
    name_of(OPEN), "uid", Phase.PENDING, labels_of(OPEN), NOW - timedelta(minutes=1), ACCELERATOR_CPU, ""
)
RUNNING = replace(PENDING, phase=Phase.RUNNING)
OTHER = replace(RUNNING, uid="other")
LONG = replace(RUNNING, created_at=NOW - timedelta(hours=2))
DONE = replace(RUNNING, phase=Phase.SUCCEEDED, exit_code=0)
BAD = replace(RUNNING, phase=Phase.FAILED, exit_code=65)
DELETED = replace(RUNNING, phase=Phase.FAILED, failure=FailureReason.DELETED)


def decided(
    launches: list[wire.Launch], workloads: list[Observed], *, settled: bool = True, capacity: int = 1
) -> list[Action]:
    """The actions; ghosts are a minute old if `settled`, otherwise a second."""
    since = NOW - timedelta(seconds=60 if settled else 1)
    snapshot = Snapshot(launches, workloads, dict.fromkeys(find_ghosts(launches, workloads), since))
    return decide(snapshot, Limits(capacity, deadline=timedelta(hours=1), linger=timedelta(seconds=5)), NOW)


def in_short(actions: list[Action]) -> list[tuple[object, ...]]:
    return [(type(one), one.ending) if isinstance(one, End) else (type(one),) for one in actions]


@pytest.mark.parametrize(
    ("launches", "workloads", "settled", "actions"),
    [
        ([], [], True, []),
        ([], [RUNNING], True, [(Delete,)]),
        ([], [PENDING], True, [(Delete,)]),
        ([ENDED], [RUNNING], True, [(Delete,)]),
        ([], [RUNNING], False, []),
        ([], [DONE], True, []),
        ([], [BAD], True, []),
        ([ENDED], [], True, []),
        ([OPEN], [], True, [(Create,)]),
        ([OPEN], [PENDING], True, [(Confirm,)]),
        ([OPEN], [RUNNING], False, [(Confirm,)]),
        ([OPEN], [BAD], True, [(End, wire.ENDING_BAD_INPUT)]),
        ([OPEN], [DELETED], True, [(End, wire.ENDING_DISRUPTION)]),
        ([CONFIRMED], [], True, [(End, wire.ENDING_DISRUPTION)]),
        ([CONFIRMED], [OTHER], True, [(End, wire.ENDING_DISRUPTION)]),
        ([CONFIRMED], [RUNNING], True, []),
        ([CONFIRMED], [PENDING], False, []),
        ([CONFIRMED], [DONE], True, [(End, wire.ENDING_UNKNOWN)]),
        ([CONFIRMED], [BAD], True, [(End, wire.ENDING_BAD_INPUT)]),
        ([CONFIRMED], [DELETED], True, [(End, wire.ENDING_DISRUPTION)]),
        ([CONFIRMED], [LONG], True, [(End, wire.ENDING_DEADLINE)]),
        ([OPEN], [LONG], True, [(End, wire.ENDING_DEADLINE)]),
        ([CANCELLING], [RUNNING], False, [(Delete,)]),
        ([CANCELLING], [PENDING], False, [(Delete,)]),
        ([CANCELLING], [OTHER], False, [(Delete,)]),
        ([CANCELLING], [LONG], False, [(Delete,)]),
        ([CANCELLING], [], True, [(End, wire.ENDING_CANCELLED)]),
        ([CANCELLING], [DELETED], True, [(End, wire.ENDING_CANCELLED)]),
        ([CANCELLING], [DONE], True, [(End, wire.ENDING_CANCELLED)]),
        ([UNSTARTED_CANCELLING], [], True, [(End, wire.ENDING_CANCELLED)]),
        ([UNSTARTED_CANCELLING], [RUNNING], False, [(Delete,)]),
    ],
)
def test_each_row_has_its_action(
    launches: list[wire.Launch], workloads: list[Observed], settled: bool, actions: list[tuple[object, ...]]
) -> None:
    """One launch and its workload give exactly the row's action."""
    assert in_short(decided(launches, workloads, settled=settled)) == actions


def test_a_launch_waits_where_there_is_no_room() -> None:
    """A workload that is being deleted still takes room."""
    waiting = launch("waiting")
    assert in_short(decided([waiting], [RUNNING], capacity=1)) == [(Delete,)]
    assert in_short(decided([waiting, launch("another")], [RUNNING], capacity=2)) == [(Delete,), (Create,)]


def test_a_cancelled_workload_is_deleted_before_any_is_created() -> None:
    """It takes room until it is gone."""
    waiting = launch("waiting")
    assert in_short(decided([waiting, CANCELLING], [RUNNING], capacity=2)) == [(Delete,), (Create,)]
    assert in_short(decided([waiting, CANCELLING], [RUNNING], capacity=1)) == [(Delete,)]


def test_more_workloads_than_the_capacity_stop_no_open_launch() -> None:
    """A lowered capacity only prevents new launches."""
    workloads = [replace(RUNNING, name=f"analysis-j{n}-1", uid=f"u{n}") for n in range(3)]
    launches = [launch(f"j{n}", kubernetes_uid=f"u{n}") for n in range(3)]
    assert decided([*launches, launch("new")], workloads, capacity=1) == []


def test_an_older_launch_of_a_job_is_not_the_newer_one() -> None:
    """When only launch 2 is open, launch 1's workload is deleted, and launch 2 waits for its end."""
    actions = decided([launch(launch_no=2)], [RUNNING], capacity=2)
    assert in_short(actions) == [(Delete,)]
    assert isinstance(actions[0], Delete)
    assert actions[0].observed.uid == "uid"
    assert in_short(decided([launch(launch_no=2)], [BAD], capacity=2)) == [(Create,)]


def test_every_action_has_a_reason() -> None:
    """Each reason is a sentence."""
    ghost = replace(RUNNING, name="analysis-ghost-1", labels=labels_of(launch("ghost")))
    actions = decided([OPEN, launch("lost", kubernetes_uid="x")], [ghost], capacity=2)
    assert len(actions) == 3
    assert all(action.why[0].isupper() and len(action.why) > 10 for action in actions)


def test_a_workload_that_was_listed_only_after_the_launches_is_no_ghost() -> None:
    """Its launch may be newer than the list."""
    assert find_ghosts([], []) == {}
    assert decide(Snapshot([], [RUNNING], {}), Limits(1, timedelta(hours=1), timedelta(0)), NOW) == []
