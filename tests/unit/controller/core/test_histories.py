"""Random histories: `decide` and controllers that lag, forget and lose answers; the cluster and `jobs` are models.

After each step nothing wrong may have happened; when the faults stop, everything must end.
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
    Mark,
    View,
    decide,
    open_ones,
    unwanted,
)
from services.controller.core.launcher import Gpus, Hold, Holding, Phase, Placement, Seen, labels_of, name_of
from services.controller.core.limits import Limits
from testing.fakes.controller import launch

LIMITS = Limits(capacity=2, deadline=timedelta(days=1), linger=timedelta(0), orphan_grace=timedelta(0))
BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
AGAIN = (wire.ENDING_DISRUPTION, wire.ENDING_UNKNOWN, wire.ENDING_LEASE_LOST, wire.ENDING_UNSCHEDULABLE)


@dataclass
class Rows:
    """`jobs`: what its transactions allow, one after the other."""

    queued: list[str] = field(default_factory=list)
    launches: dict[str, wire.Launch] = field(default_factory=dict)
    # By launch: the uid of what holds the lease.
    bound: dict[str, str] = field(default_factory=dict)
    results: list[str] = field(default_factory=list)

    def open(self) -> list[wire.Launch]:
        return [wire.Launch.FromString(one.SerializeToString()) for one in open_ones(self.launches.values())]

    def offer(self, most: int) -> None:
        for job_id in self.queued[: max(most, 0)]:
            self.queued.remove(job_id)
            before = [one for one in self.launches.values() if one.job_id == job_id]
            new = launch(job_id, len(before) + 1)
            gave_up = [one.ending_message for one in before if one.ending == wire.ENDING_UNSCHEDULABLE]
            new.unscheduled_reason = gave_up[-1] if gave_up else ""
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
        if ending in AGAIN:
            self.queued.append(row.job_id)

    def start(self, seen: Seen) -> None:
        """StartLaunch: the first pod is bound, while the launch is open and wanted."""
        row = self.launches.get(seen.name)
        if row is not None and not row.ending and not row.HasField("cancel_requested_at"):
            self.bound.setdefault(seen.name, seen.uid)

    def submit(self, seen: Seen) -> None:
        row = self.launches.get(seen.name)
        leased = row is not None and not row.ending and self.bound.get(seen.name) == seen.uid
        if leased and row is not None and not row.HasField("cancel_requested_at"):
            row.ending = wire.ENDING_SUCCEEDED
            self.results.append(row.job_id)


@dataclass
class Controller:
    """What one process knows: an old copy of the cluster, and what it has decided."""

    copy: list[Seen] = field(default_factory=list)
    gpus: Gpus = field(default_factory=lambda: Gpus("gpu", {}))
    pending: list[Action] = field(default_factory=list)
    since: dict[str, datetime] = field(default_factory=dict)


@dataclass
class World:
    controllers: list[Controller]
    rows: Rows = field(default_factory=Rows)
    things: dict[str, Seen] = field(default_factory=dict)
    # Of what was created after its launch was over.
    late: set[str] = field(default_factory=set)
    free_gpus: int = 0
    uids: "itertools.count[int]" = field(default_factory=itertools.count)
    minutes: int = 0

    @property
    def now(self) -> datetime:
        return BEGIN + timedelta(minutes=self.minutes)

    # --- What happens to the world.

    def queue(self, n: int, _: int) -> None:
        if len(self.rows.queued) < 3:
            self.rows.queued.append(f"j{next(self.uids)}")

    def sync(self, n: int, _: int) -> None:
        one = self._controller(n)
        one.copy, one.gpus = list(self.things.values()), Gpus("gpu", {"node": self.free_gpus})

    def miss(self, n: int, m: int) -> None:
        """An event is missed: one object of the copy stays as it was, or is not there."""
        one = self._controller(n)
        if one.copy:
            one.copy.pop(m % len(one.copy))

    def look(self, n: int, _: int) -> None:
        one = self._controller(n)
        earlier = one.copy
        busy = {name_of(row) for row in self.rows.open()} | {seen.name for seen in earlier if seen.is_live}
        self.rows.offer(LIMITS.capacity - len(busy))
        launches = self.rows.open()
        one.since = {uid: one.since.get(uid, self.now) for uid in unwanted(launches, earlier)}
        one.pending = decide(View(launches, one.copy, one.since, gpus=one.gpus), LIMITS, self.now)

    def act(self, n: int, m: int) -> None:
        """One action: done; done and the answer lost; or refused by a server that is busy or broken."""
        one = self._controller(n)
        if one.pending:
            action = one.pending.pop(0)
            if m % 4 != 3:
                self._perform(one, action, is_answered=m % 4 != 2)

    def round(self, n: int, m: int) -> None:
        """It gets through, whatever it knows."""
        if m % 2:
            self.sync(n, m)
        self.look(n, m)
        while self._controller(n).pending:
            self.act(n, 0)

    def forget(self, n: int, _: int) -> None:
        """It is killed and starts again."""
        self.controllers[n % len(self.controllers)] = Controller(copy=list(self.things.values()))

    def begin(self, n: int, _: int) -> None:
        """A pod gets its node and asks for its lease."""
        seen = self._thing(n, lambda one: one.is_live and not one.is_deleting)
        if seen and (seen.placed_on != ACCELERATOR_GPU or self.free_gpus):
            self.things[seen.name] = replace(seen, phase=Phase.RUNNING, hold=None)
            self.rows.start(seen)

    def finish(self, n: int, m: int) -> None:
        seen = self._thing(n, lambda one: one.phase == Phase.RUNNING)
        if seen:
            code = (0, 65, 70)[m % 3]
            if code == 0:
                self.rows.submit(seen)
            phase = Phase.FAILED if code else Phase.SUCCEEDED
            self.things[seen.name] = replace(seen, phase=phase, exit_code=code, hold=None, is_left=True)

    def vanish(self, n: int, _: int) -> None:
        """What is being deleted, or was deleted by hand, or is over, is gone."""
        seen = self._thing(n, lambda _: True)
        if seen:
            del self.things[seen.name]

    def lose_lease(self, n: int, _: int) -> None:
        bound = [name for name in self.rows.bound if self.rows.is_open(name)]
        if bound:
            self.rows.end(bound[n % len(bound)], wire.ENDING_LEASE_LOST, "Not heard of")

    def cancel(self, n: int, _: int) -> None:
        rows = open_ones(self.rows.launches.values())
        if rows:
            rows[n % len(rows)].cancel_requested_at.FromDatetime(self.now)

    def gpu(self, n: int, _: int) -> None:
        self.free_gpus = n % 2

    def wait(self, n: int, _: int) -> None:
        self.minutes += 1 + n % 3

    # --- What an executor does.

    def _perform(self, one: Controller, action: Action, *, is_answered: bool) -> None:
        match action:
            case Create(row, placement, _, after):
                if not (after and self._live(after)):
                    self._create(row, placement)
                    if is_answered:
                        one.pending.append(Confirm(row, self.things[name_of(row)], "Created"))
            case Confirm(row, seen):
                self.rows.confirm(name_of(row), seen.uid)
            case End(row, ending, why, then_delete, if_gone):
                found = self.things.get(name_of(row))
                if if_gone is not None and found and if_gone in ("", found.uid):
                    return
                if ending == wire.ENDING_CANCELLED:
                    self._check_nothing_lives(name_of(row))
                self.rows.end(name_of(row), ending, why)
                if then_delete and is_answered:
                    self._delete(then_delete)
            case Delete(seen):
                self._delete(seen)
            case Mark():
                pass

    def _create(self, row: wire.Launch, placement: Placement) -> None:
        name = name_of(row)
        if name in self.things:
            return
        if len(self.controllers) == 1 and name not in self.rows.bound:
            assert self.rows.is_open(name), f"{name} is created, and its launch is over"
        hold = Hold(Holding.UNSCHEDULED, "no node has a GPU", self.now) if placement.on == ACCELERATOR_GPU else None
        uid = f"u{next(self.uids)}"
        if not self.rows.is_open(name):
            self.late.add(uid)
        self.things[name] = Seen(name, uid, Phase.PENDING, labels_of(row), self.now, placement.on,
                                 placement.reason, hold=hold)  # fmt: skip

    def _delete(self, seen: Seen) -> None:
        found = self.things.get(seen.name)
        if found and found.uid == seen.uid:
            self.things[seen.name] = replace(found, is_deleting=True)

    def _live(self, name: str) -> bool:
        return name in self.things and self.things[name].is_live

    def _controller(self, n: int) -> Controller:
        return self.controllers[n % len(self.controllers)]

    def _thing(self, n: int, fits: Callable[[Seen], bool]) -> Seen | None:
        found = [one for one in self.things.values() if fits(one)]
        return found[n % len(found)] if found else None

    # --- What must hold.

    def _check_nothing_lives(self, name: str) -> None:
        assert not self._live(name), f"{name} is said to be cancelled, and lives"

    def check(self) -> None:
        """One live Kubernetes Job for a job, at most; one result; one pod that may report.

        Not counted is what was created after its launch was over: nobody can take back a request that is on its way,
        and StartLaunch refuses the pod.
        """
        assert not self.late & set(self.rows.bound.values()), "what came late has got a lease"
        live = [one.job_id for one in self.things.values() if one.is_live and one.uid not in self.late]
        assert len(live) == len(set(live)), f"two live at once: {self.things}"
        assert len(self.rows.results) == len(set(self.rows.results)), "a job has two results"
        opened = [row.job_id for row in open_ones(self.rows.launches.values())]
        assert len(opened) == len(set(opened))

    def settle(self) -> None:
        """The faults stop: everybody hears everything, pods run, what is asked to end ends. Everything must be over."""
        for _ in range(12 * (2 + len(self.rows.queued) + len(self.rows.launches))):
            self.minutes += 3
            for name in [name for name, one in self.things.items() if one.is_deleting]:
                del self.things[name]
            for n in range(len(self.controllers)):
                self.sync(n, 0)
                self.look(n, 0)
                while self.controllers[n].pending:
                    self.act(n, 0)
                self.check()
            for m in range(len(self.things)):
                self.begin(m, 0)
            for _ in range(len(self.things)):
                self.finish(0, 0)
            if not (self.rows.queued or self.rows.open() or any(one.is_live for one in self.things.values())):
                return
        raise AssertionError(f"not over: {self.rows} {self.things}")


OPS = ("queue", "sync", "miss", "look", "look", "act", "act", "act", "round", "round", "forget", "begin", "begin",
       "finish", "vanish", "lose_lease", "cancel", "gpu", "wait")  # fmt: skip
HISTORIES = st.lists(st.tuples(st.sampled_from(OPS), st.integers(0, 5), st.integers(0, 11)), min_size=20, max_size=100)


def lived(history: list[tuple[str, int, int]], controllers: int) -> None:
    world = World([Controller() for _ in range(controllers)])
    for op, n, m in history:
        getattr(world, op)(n, m)
        world.check()
    world.settle()


@settings(max_examples=25, deadline=None)
@given(HISTORIES)
def test_one_controller_never_does_wrong_and_comes_to_an_end(history: list[tuple[str, int, int]]) -> None:
    """It also never creates for a launch that was over before any pod of it began."""
    lived(history, 1)


@settings(max_examples=25, deadline=None)
@given(HISTORIES)
def test_two_controllers_at_once_never_do_wrong_and_come_to_an_end(history: list[tuple[str, int, int]]) -> None:
    """Safety does not rest on who leads."""
    lived(history, 2)


@pytest.mark.slow
@pytest.mark.parametrize("controllers", [1, 2])
def test_thousands_of_histories(controllers: int) -> None:
    """The same, for longer."""
    settings(max_examples=2000, deadline=None)(given(HISTORIES)(lambda history: lived(history, controllers)))()
