"""The balance of both sides: which launches and workloads the gauges count, and which they do not."""

from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client import REGISTRY

from crease.analysis.v1 import launch_pb2 as wire
from services.controller.core import first_seen
from services.controller.core.decide import Snapshot
from services.controller.core.launcher import Gpus, Observed, name_of
from services.controller.core.metrics import GRACE, Balance
from testing.fakes.controller import Elapsed, launch
from tests.unit.controller.core.test_decide import CANCELLING, CONFIRMED, ENDED, NOW, OPEN, OTHER, RUNNING

LINGER = timedelta(seconds=60)
PREVIOUS = replace(RUNNING, name=name_of(launch(launch_no=7)))


@pytest.fixture
def elapsed(monkeypatch: pytest.MonkeyPatch) -> Elapsed:
    made = Elapsed()
    monkeypatch.setattr(first_seen, "time", made)
    return made


def exported(name: str) -> float | None:
    return REGISTRY.get_sample_value(f"crease_{name}")


@pytest.mark.parametrize(
    ("launches", "workloads", "has_room", "lost"),
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
def test_an_open_launch_without_a_workload_is_lost_after_the_grace(
    launches: list[wire.Launch], workloads: list[Observed], has_room: bool, lost: int, elapsed: Elapsed
) -> None:
    """A launch that waits for room, for the previous launch or for its cancellation is not lost."""
    balance, snapshot = Balance(LINGER), Snapshot(launches, workloads, {})
    balance.update(snapshot, NOW, has_room=has_room)
    assert exported("orphans") == 0
    elapsed.seconds += GRACE.total_seconds()
    balance.update(snapshot, NOW, has_room=has_room)
    assert exported("orphans") == lost
    balance.update(Snapshot([], [], {}), NOW, has_room=True)
    assert exported("orphans") == 0


def test_a_launch_that_a_quota_has_no_room_for_is_not_lost(elapsed: Elapsed) -> None:
    """It is, if the cluster rejects it for another reason."""
    balance, snapshot = Balance(LINGER), Snapshot([OPEN], [], {})
    for graces, without_room, lost in ((0, [name_of(OPEN)], 0), (1, [name_of(OPEN)], 0), (1, [], 0), (2, [], 1)):
        elapsed.seconds = graces * GRACE.total_seconds()
        balance.update(snapshot, NOW, has_room=True, without_room=without_room)
        assert exported("orphans") == lost


def test_a_workload_without_an_open_launch_is_a_ghost_after_linger_and_grace() -> None:
    """An analyzer gets its linger after its last result; a replica that no longer leads exports 0."""
    balance = Balance(LINGER)
    for age, ghosts in ((timedelta(0), 0), (LINGER, 0), (LINGER + GRACE, 1)):
        balance.update(Snapshot([], [RUNNING], {RUNNING.uid: NOW - age}), NOW, has_room=True)
        assert exported("ghosts") == ghosts
    balance.reset()
    assert exported("ghosts") == 0


def test_promised_gpus_are_not_free() -> None:
    """Without GPUs the gauge is 0."""
    Balance(LINGER).update(Snapshot([], [], {}, gpus=Gpus("g", {"a": 2, "b": 1}, promised=1)), NOW, has_room=True)
    assert exported("gpus_free") == 2
    Balance(LINGER).update(Snapshot([], [], {}), NOW, has_room=True)
    assert exported("gpus_free") == 0
