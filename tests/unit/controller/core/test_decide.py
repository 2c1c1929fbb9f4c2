"""The table at the top of decide.py, row by row."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from crease.analysis.v1 import launch_pb2 as wire
from services.controller.core.decide import Action, Confirm, Create, Delete, End, View, decide, unwanted
from services.controller.core.launcher import Phase, Reason, Seen, labels_of, name_of
from services.controller.core.limits import Limits
from testing.fakes.controller import launch

NOW = datetime(2026, 11, 1, tzinfo=UTC)
OPEN = launch()
CONFIRMED = launch(kubernetes_uid="uid")
UNSTARTED_CANCELLING = launch(cancel_requested_at=NOW)
CANCELLING = launch(kubernetes_uid="uid", cancel_requested_at=NOW)
ENDED = launch(kubernetes_uid="uid", ending=wire.ENDING_CANCELLED)
PENDING = Seen(name_of(OPEN), "uid", Phase.PENDING, labels_of(OPEN), NOW - timedelta(minutes=1), 1, "")
RUNNING = replace(PENDING, phase=Phase.RUNNING)
OTHER = replace(RUNNING, uid="other")
LONG = replace(RUNNING, created_at=NOW - timedelta(hours=2))
DONE = replace(RUNNING, phase=Phase.SUCCEEDED, exit_code=0)
BAD = replace(RUNNING, phase=Phase.FAILED, exit_code=65)
DELETED = replace(RUNNING, phase=Phase.FAILED, reason=Reason.DELETED)


def told(launches: list[wire.Launch], seen: list[Seen], *, settled: bool = True, capacity: int = 1) -> list[Action]:
    """With `settled`, what has no launch has had none for long; else since a second ago."""
    since = NOW - timedelta(seconds=60 if settled else 1)
    view = View(launches, seen, dict.fromkeys(unwanted(launches, seen), since))
    return decide(view, Limits(capacity, deadline=timedelta(hours=1), linger=timedelta(seconds=5)), NOW)


def in_short(actions: list[Action]) -> list[tuple[object, ...]]:
    return [(type(one), one.ending) if isinstance(one, End) else (type(one),) for one in actions]


@pytest.mark.parametrize(
    ("launches", "seen", "settled", "actions"),
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
    launches: list[wire.Launch], seen: list[Seen], settled: bool, actions: list[tuple[object, ...]]
) -> None:
    """One launch and what is seen for it give exactly the row's action."""
    assert in_short(told(launches, seen, settled=settled)) == actions


def test_a_launch_waits_where_there_is_no_room() -> None:
    """No more is created than may run at once, counting what is still being deleted."""
    waiting = launch("waiting")
    assert in_short(told([waiting], [RUNNING], capacity=1)) == [(Delete,)]
    assert in_short(told([waiting, launch("another")], [RUNNING], capacity=2)) == [(Delete,), (Create,)]


def test_what_is_being_cancelled_is_deleted_before_anything_is_created() -> None:
    """It keeps its room until it is gone."""
    seen, waiting = [RUNNING], launch("waiting")
    assert in_short(told([waiting, CANCELLING], seen, capacity=2)) == [(Delete,), (Create,)]
    assert in_short(told([waiting, CANCELLING], seen, capacity=1)) == [(Delete,)]


def test_more_running_than_allowed_stops_nothing_that_is_wanted() -> None:
    """A capacity that was lowered only keeps new ones from starting."""
    seen = [replace(RUNNING, name=f"analysis-j{n}-1", uid=f"u{n}") for n in range(3)]
    launches = [launch(f"j{n}", kubernetes_uid=f"u{n}") for n in range(3)]
    assert told([*launches, launch("new")], seen, capacity=1) == []


def test_an_older_launch_of_a_job_is_not_the_newer_one() -> None:
    """What runs for launch 1 is deleted when only launch 2 is open, and launch 2 waits until it is gone."""
    actions = told([launch(launch_no=2)], [RUNNING], capacity=2)
    assert in_short(actions) == [(Delete,)]
    assert isinstance(actions[0], Delete)
    assert actions[0].seen.uid == "uid"
    assert in_short(told([launch(launch_no=2)], [BAD], capacity=2)) == [(Create,)]


def test_every_action_says_why() -> None:
    """Each reason is a sentence a person can read."""
    stray = replace(RUNNING, name="analysis-stray-1", labels=labels_of(launch("stray")))
    actions = told([OPEN, launch("gone", kubernetes_uid="x")], [stray], capacity=2)
    assert len(actions) == 3
    assert all(action.why[0].isupper() and len(action.why) > 10 for action in actions)


def test_what_was_not_there_before_the_launches_were_listed_is_not_unwanted() -> None:
    """Its launch may be younger than the list."""
    assert unwanted([], []) == {}
    assert decide(View([], [RUNNING], {}), Limits(1, timedelta(hours=1), timedelta(0)), NOW) == []
