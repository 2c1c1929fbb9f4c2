"""Random histories: `decide` in controllers that lag, restart and lose answers; the cluster and `jobs` are models.

The invariants must hold after each step; when the faults stop, everything must end.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crease.analysis.v1 import launch_pb2 as wire
from crease.jobs.v1.job_pb2 import ACCELERATOR_GPU
from services.controller.core.decide import (
    Action,
    Confirm,
    Create,
    Delete,
    End,
    SetStatusLabel,
    Snapshot,
    decide,
    find_ghosts,
    only_open,
)
from services.controller.core.launcher import (
    Gpus,
    Observed,
    Pending,
    PendingReason,
    Phase,
    Placement,
    labels_of,
    name_of,
)
from services.controller.core.limits import Limits
from testing.fakes.controller import RETRIED, launch

LIMITS = Limits(capacity=2, deadline=timedelta(days=1), linger=timedelta(0), never_opened_grace=timedelta(0))
BEGIN = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass
class Rows:
    """A model of `jobs`: its transactions, one after the other."""

    queued: list[str] = field(default_factory=list)
    launches: dict[str, wire.Launch] = field(default_factory=dict)
    # The uid of the workload that holds the lease, by launch.
    bound: dict[str, str] = field(default_factory=dict)
    results: list[str] = field(default_factory=list)

    def open(self) -> list[wire.Launch]:
        return [wire.Launch.FromString(one.SerializeToString()) for one in only_open(self.launches.values())]

    def open_new(self, capacity: int) -> None:
        for job_id in self.queued[: max(capacity, 0)]:
            self.queued.remove(job_id)
            before = [one for one in self.launches.values() if one.job_id == job_id]
            new = launch(job_id, len(before) + 1)
            unscheduled = [one.ending_message for one in before if one.ending == wire.ENDING_UNSCHEDULABLE]
            new.unscheduled_reason = unscheduled[-1] if unscheduled else ""
            self.launches[name_of(new)] = new

    def is_open(self, name: str) -> bool:
        return name in self.launches and not self.launches[name].ending

    def confirm(self, name: str, uid: str) -> None:
        if self.is_open(name) and self.launches[name].kubernetes_uid in ("", uid):
            self.launches[name].kubernetes_uid = uid

    def end(self, name: str, ending: wire.Ending.ValueType, message: str) -> None:
        row = self.launches[name]
        cancelling = row.HasField("cancel_requested_at")
        if row.ending or cancelling != (ending == wire.ENDING_CANCELLED):
            return
        row.ending, row.ending_message = ending, message
        if ending in RETRIED:
            self.queued.append(row.job_id)

    def start(self, observed: Observed) -> None:
        """StartLaunch: binds the first pod, while the launch is open and not being cancelled."""
        row = self.launches.get(observed.name)
        if row is not None and not row.ending and not row.HasField("cancel_requested_at"):
            self.bound.setdefault(observed.name, observed.uid)

    def submit(self, observed: Observed) -> None:
        row = self.launches.get(observed.name)
        leased = row is not None and not row.ending and self.bound.get(observed.name) == observed.uid
        if leased and row is not None and not row.HasField("cancel_requested_at"):
            row.ending = wire.ENDING_SUCCEEDED
            self.results.append(row.job_id)


@dataclass
class Controller:
    """The state of one process: a stale cache of the cluster, and its pending actions."""

    cache: list[Observed] = field(default_factory=list)
    gpus: Gpus = field(default_factory=lambda: Gpus("gpu", {}))
    pending: list[Action] = field(default_factory=list)
    since: dict[str, datetime] = field(default_factory=dict)


@dataclass
class World:
    controllers: list[Controller]
    rows: Rows = field(default_factory=Rows)
    workloads: dict[str, Observed] = field(default_factory=dict)
    # The uids of workloads that were created after their launch had ended.
    late: set[str] = field(default_factory=set)
    free_gpus: int = 0
    uids: "itertools.count[int]" = field(default_factory=itertools.count)
    minutes: int = 0

    @property
    def now(self) -> datetime:
        return BEGIN + timedelta(minutes=self.minutes)

    # --- Steps.

    def queue(self, n: int, _: int) -> None:
        if len(self.rows.queued) < 3:
            self.rows.queued.append(f"j{next(self.uids)}")

    def sync(self, n: int, _: int) -> None:
        one = self._controller(n)
        one.cache, one.gpus = list(self.workloads.values()), Gpus("gpu", {"node": self.free_gpus})

    def miss(self, n: int, m: int) -> None:
        """An event is missed: one object is not in the cache."""
        one = self._controller(n)
        if one.cache:
            one.cache.pop(m % len(one.cache))

    def decide(self, n: int, _: int) -> None:
        one = self._controller(n)
        earlier = one.cache
        busy = {name_of(row) for row in self.rows.open()} | {observed.name for observed in earlier if observed.is_live}
        self.rows.open_new(LIMITS.capacity - len(busy))
        launches = self.rows.open()
        one.since = {uid: one.since.get(uid, self.now) for uid in find_ghosts(launches, earlier)}
        one.pending = decide(Snapshot(launches, one.cache, one.since, gpus=one.gpus), LIMITS, self.now)

    def act(self, n: int, m: int) -> None:
        """Performs one action: answered, executed with a lost answer, or refused."""
        one = self._controller(n)
        if one.pending:
            action = one.pending.pop(0)
            if m % 4 != 3:
                self._perform(one, action, is_answered=m % 4 != 2)

    def round(self, n: int, m: int) -> None:
        """A whole round without a fault, with a fresh or a stale cache."""
        if m % 2:
            self.sync(n, m)
        self.decide(n, m)
        while self._controller(n).pending:
            self.act(n, 0)

    def restart(self, n: int, _: int) -> None:
        """A controller is killed and starts again."""
        self.controllers[n % len(self.controllers)] = Controller(cache=list(self.workloads.values()))

    def start(self, n: int, _: int) -> None:
        """A pod is scheduled and asks for its lease."""
        observed = self._workload(n, lambda one: one.is_live and not one.is_deleting)
        if observed and (observed.placed_on != ACCELERATOR_GPU or self.free_gpus):
            self.workloads[observed.name] = replace(observed, phase=Phase.RUNNING, pending=None)
            self.rows.start(observed)

    def finish(self, n: int, m: int) -> None:
        observed = self._workload(n, lambda one: one.phase == Phase.RUNNING)
        if observed:
            code = (0, 65, 70)[m % 3]
            if code == 0:
                self.rows.submit(observed)
            phase = Phase.FAILED if code else Phase.SUCCEEDED
            self.workloads[observed.name] = replace(
                observed, phase=phase, exit_code=code, pending=None, has_leftovers=True
            )

    def vanish(self, n: int, _: int) -> None:
        """A workload is gone: deleted by the controller or by hand, or expired."""
        observed = self._workload(n, lambda _: True)
        if observed:
            del self.workloads[observed.name]

    def lose_lease(self, n: int, _: int) -> None:
        bound = [name for name in self.rows.bound if self.rows.is_open(name)]
        if bound:
            self.rows.end(bound[n % len(bound)], wire.ENDING_LEASE_LOST, "The lease expired")

    def cancel(self, n: int, _: int) -> None:
        rows = only_open(self.rows.launches.values())
        if rows:
            rows[n % len(rows)].cancel_requested_at.FromDatetime(self.now)

    def gpu(self, n: int, _: int) -> None:
        self.free_gpus = n % 2

    def wait(self, n: int, _: int) -> None:
        self.minutes += 1 + n % 3

    # --- Actions.

    def _perform(self, one: Controller, action: Action, *, is_answered: bool) -> None:
        match action:
            case Create(row, placement, _, after):
                if not (after and self._live(after)):
                    self._create(row, placement)
                    if is_answered:
                        one.pending.append(Confirm(row, self.workloads[name_of(row)], "The workload was created"))
            case Confirm(row, observed):
                self.rows.confirm(name_of(row), observed.uid)
            case End(row, ending, why, then_delete, if_not_found):
                found = self.workloads.get(name_of(row))
                if if_not_found is not None and found and if_not_found in ("", found.uid):
                    return
                if ending == wire.ENDING_CANCELLED:
                    self._check_not_live(name_of(row))
                self.rows.end(name_of(row), ending, why)
                if then_delete and is_answered:
                    self._delete(then_delete)
            case Delete(observed):
                self._delete(observed)
            case SetStatusLabel():
                pass

    def _create(self, row: wire.Launch, placement: Placement) -> None:
        name = name_of(row)
        if name in self.workloads:
            return
        if len(self.controllers) == 1 and name not in self.rows.bound:
            assert self.rows.is_open(name), f"{name} is created, but its launch has ended"
        waits = placement.on == ACCELERATOR_GPU
        pending = Pending(PendingReason.UNSCHEDULABLE, "no node has a GPU", self.now) if waits else None
        uid = f"u{next(self.uids)}"
        if not self.rows.is_open(name):
            self.late.add(uid)
        self.workloads[name] = Observed(
            name, uid, Phase.PENDING, labels_of(row), self.now, placement.on, placement.reason, pending=pending
        )

    def _delete(self, observed: Observed) -> None:
        found = self.workloads.get(observed.name)
        if found and found.uid == observed.uid:
            self.workloads[observed.name] = replace(found, is_deleting=True)

    def _live(self, name: str) -> bool:
        return name in self.workloads and self.workloads[name].is_live

    def _controller(self, n: int) -> Controller:
        return self.controllers[n % len(self.controllers)]

    def _workload(self, n: int, fits: Callable[[Observed], bool]) -> Observed | None:
        found = [one for one in self.workloads.values() if fits(one)]
        return found[n % len(found)] if found else None

    # --- Invariants.

    def _check_not_live(self, name: str) -> None:
        assert not self._live(name), f"{name} is cancelled, but lives"

    def check(self) -> None:
        """At most one live workload, one result and one bound pod for each job.

        A workload that was created after its launch had ended does not count: a request in flight cannot be taken
        back, and StartLaunch refuses the pod.
        """
        assert not self.late & set(self.rows.bound.values()), "a workload created too late has a lease"
        live = [one.job_id for one in self.workloads.values() if one.is_live and one.uid not in self.late]
        assert len(live) == len(set(live)), f"two live at once: {self.workloads}"
        assert len(self.rows.results) == len(set(self.rows.results)), "a job has two results"
        opened = [row.job_id for row in only_open(self.rows.launches.values())]
        assert len(opened) == len(set(opened))

    def settle(self) -> None:
        """Without further faults, everything must end: caches are fresh, pods run, deletions complete."""
        for _ in range(12 * (2 + len(self.rows.queued) + len(self.rows.launches))):
            self.minutes += 3
            for name in [name for name, one in self.workloads.items() if one.is_deleting]:
                del self.workloads[name]
            for n in range(len(self.controllers)):
                self.sync(n, 0)
                self.decide(n, 0)
                while self.controllers[n].pending:
                    self.act(n, 0)
                self.check()
            for m in range(len(self.workloads)):
                self.start(m, 0)
            for _ in range(len(self.workloads)):
                self.finish(0, 0)
            if not (self.rows.queued or self.rows.open() or any(one.is_live for one in self.workloads.values())):
                return
        raise AssertionError(f"not ended: {self.rows} {self.workloads}")


OPS = ("queue", "sync", "miss", "decide", "decide", "act", "act", "act", "round", "round", "restart", "start", "start",
       "finish", "vanish", "lose_lease", "cancel", "gpu", "wait")  # fmt: skip
HISTORIES = st.lists(st.tuples(st.sampled_from(OPS), st.integers(0, 5), st.integers(0, 11)), min_size=20, max_size=100)


def play(history: list[tuple[str, int, int]], controllers: int) -> None:
    world = World([Controller() for _ in range(controllers)])
    for op, n, m in history:
        getattr(world, op)(n, m)
        world.check()
    world.settle()


@settings(max_examples=25, deadline=None)
@given(HISTORIES)
def test_one_controller_keeps_the_invariants_and_ends(history: list[tuple[str, int, int]]) -> None:
    """Nor does it create a workload for an ended launch that never had a pod."""
    play(history, 1)


@settings(max_examples=25, deadline=None)
@given(HISTORIES)
def test_two_controllers_at_once_keep_the_invariants_and_end(history: list[tuple[str, int, int]]) -> None:
    """Safety does not depend on the leader election."""
    play(history, 2)


@pytest.mark.slow
@pytest.mark.parametrize("controllers", [1, 2])
def test_thousands_of_histories(controllers: int) -> None:
    """The same, longer."""
    settings(max_examples=2000, deadline=None)(given(HISTORIES)(lambda history: play(history, controllers)))()
