"""Both sides balance: what is told as ghosts and orphans, and what is none."""

from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client import REGISTRY

from crease.analysis.v1 import launch_pb2 as wire
from services.controller.core.decide import View
from services.controller.core.launcher import Gpus, Seen, name_of
from services.controller.core.metrics import GRACE, Balance
from testing.fakes.controller import launch
from tests.unit.controller.core.test_decide import CANCELLING, CONFIRMED, ENDED, NOW, OPEN, OTHER, RUNNING

LINGER = timedelta(seconds=60)
PREVIOUS = replace(RUNNING, name=name_of(launch(launch_no=7)))


def told(name: str) -> float | None:
    return REGISTRY.get_sample_value(f"crease_{name}")


@pytest.mark.parametrize(
    ("launches", "seen", "has_room", "orphans"),
    [
        ([OPEN], [], True, 1),
        ([OPEN], [], False, 0),
        ([OPEN], [PREVIOUS], True, 0),
        ([OPEN], [RUNNING], True, 0),
        ([CONFIRMED], [], False, 1),
        ([CONFIRMED], [OTHER], True, 0),
        ([CANCELLING], [], True, 0),
        ([ENDED], [], True, 0),
        ([], [], True, 0),
    ],
)
def test_an_open_launch_that_nothing_runs_for_is_an_orphan_once_it_stays_so(
    launches: list[wire.Launch], seen: list[Seen], has_room: bool, orphans: int
) -> None:
    """What waits for room, for the launch before it or for its end is none; nor is what was not there a moment ago."""
    balance, view = Balance(LINGER), View(launches, seen, {})
    balance.note(view, NOW, has_room=has_room)
    assert told("orphans") == 0
    balance.note(view, NOW + GRACE, has_room=has_room)
    assert told("orphans") == orphans
    balance.note(View([], [], {}), NOW + GRACE, has_room=True)
    assert told("orphans") == 0


def test_a_launch_that_a_quota_has_no_room_for_waits_and_is_no_orphan() -> None:
    """It becomes one where the cluster takes nothing of it for another reason."""
    balance, view = Balance(LINGER), View([OPEN], [], {})
    for now, without_room, orphans in (
        (NOW, [name_of(OPEN)], 0),
        (NOW + GRACE, [name_of(OPEN)], 0),
        (NOW + GRACE, [], 0),
        (NOW + 2 * GRACE, [], 1),
    ):
        balance.note(view, now, has_room=True, without_room=without_room)
        assert told("orphans") == orphans


def test_what_runs_without_an_open_launch_is_a_ghost_once_its_time_to_end_is_over() -> None:
    """An analyzer that has submitted its result gets its linger; another replica's looks make ours worthless."""
    balance = Balance(LINGER)
    for age, ghosts in ((timedelta(0), 0), (LINGER, 0), (LINGER + GRACE, 1)):
        balance.note(View([], [RUNNING], {RUNNING.uid: NOW - age}), NOW, has_room=True)
        assert told("ghosts") == ghosts
    balance.forget()
    assert told("ghosts") == 0


def test_free_gpus_are_those_promised_to_nobody() -> None:
    """And none where none are seen."""
    Balance(LINGER).note(View([], [], {}, gpus=Gpus("g", {"a": 2, "b": 1}, promised=1)), NOW, has_room=True)
    assert told("gpus_free") == 2
    Balance(LINGER).note(View([], [], {}), NOW, has_room=True)
    assert told("gpus_free") == 0
