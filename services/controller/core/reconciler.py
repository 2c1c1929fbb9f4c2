"""Reconciles the workloads with the open launches of `jobs`: woken by an event or a tick, it reads, decides and acts.

event of jobs ──────┐
change in cluster ──┼▶ whole snapshot: workloads, launches, new launches if there is room, workloads ─┬▶ decide ─▶ act
tick ───────────────┘                                                                                 │
a job was queued ────▶ snapshot of new launches, if the last whole snapshot leaves room for them ─────┘

Rounds run one at a time. A round whose reads fail takes no action; a failed action is decided again in the next whole
round. So safety needs no memory, and `jobs` or the cluster may be unavailable for any time.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime

import grpc.aio

from crease.analysis.v1.launch_pb2 import Launch
from crease.jobs.v1.job_pb2 import Accelerator
from services import logs, traces
from services.clients import is_transient
from services.controller.core import failpoints, metrics
from services.controller.core.decide import (
    ORDER,
    Action,
    Confirm,
    Create,
    Delete,
    End,
    SetStatusLabel,
    Snapshot,
    decide,
    find_ghosts,
)
from services.controller.core.failpoints import CrashPoint
from services.controller.core.first_seen import FirstSeen
from services.controller.core.jobs_client import Jobs
from services.controller.core.launcher import (
    Launcher,
    Observed,
    PendingReason,
    PermanentRejection,
    Phase,
    Placement,
    RetryableRejection,
    Unknown,
    labels_of,
    name_of,
)
from services.controller.core.limits import Limits
from services.logs import Logger

# After these events a launch may have to start or to stop. A missed event costs one tick.
WAKING_EVENTS = frozenset({"JobFailed", "JobCancelled", "JobDone"})
# The events after this position are no longer kept, or the position is unknown: the stream begins at its end.
POSITION_LOST = frozenset({grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.INVALID_ARGUMENT})
RECONNECT_SECONDS = 1.0
# The least time between two whole rounds, so that one round serves many changes.
PAUSE_SECONDS = 0.2
# The share of a core that rounds may take: when nothing wakes the controller, and when events never stop.
IDLE_SHARE, BUSY_SHARE = 0.05, 0.5
CAMEL_HUMP = re.compile(r"(?<!^)(?=[A-Z])")


class OutageLog:
    """Logs one line when a dependency becomes unavailable and one when it recovers, not one a try."""

    def __init__(self, log: Logger, dependency: str) -> None:
        self._log = log
        self._dependency = dependency
        self._error = ""
        self._since = 0.0

    def failed(self, error: Exception) -> None:
        """Logs the failure, unless the same error was logged before."""
        text = _describe(error)
        if text == self._error:
            return
        self._since = self._since if self._error else time.monotonic()
        self._error = text
        self._log.warning("unavailable", dependency=self._dependency, error=text)

    def succeeded(self) -> None:
        """Logs the recovery, if there was a failure."""
        if self._error:
            self._log.info("recovered", dependency=self._dependency, seconds=round(time.monotonic() - self._since, 1))
        self._error = ""


class Reconciler:
    """`leads`: whether this replica is the leader. `drained`: whether new launches are stopped.

    `woken` is set by the launcher after each change. `parallel` actions run at once. `completed` is called after each
    round that could read `jobs` and the cluster, and by a standby.
    """

    def __init__(
        self,
        launcher: Launcher,
        jobs: Jobs,
        log: Logger,
        *,
        limits: Limits,
        tick_seconds: float,
        parallel: int,
        woken: asyncio.Event | None = None,
        leads: Callable[[], bool] = lambda: True,
        drained: Callable[[], bool] = lambda: False,
        completed: Callable[[], None] = lambda: None,
    ) -> None:
        self._limits = limits
        self._tick_seconds = tick_seconds
        self._launcher = launcher
        self._jobs = jobs
        self._log = log
        self._leads = leads
        self._drained = drained
        self._completed = completed
        self._was_drained = False
        self._outage = OutageLog(log, "jobs or the cluster")
        self._event_outage = OutageLog(log, "events")
        # A crash loses these: their graces start again, nothing else changes.
        self._ghosts = FirstSeen()
        self._is_never_opened: dict[str, bool] = {}
        # Whether the cluster rejected an open launch for want of room, by name.
        self._rejected: dict[str, bool] = {}
        # The confirmations of this round's creations: they are sent after the last creation.
        self._confirmations: list[Confirm] = []
        self._balance = metrics.Balance(limits.linger)
        self._woken = woken or asyncio.Event()
        self._job_queued = asyncio.Event()
        self._round_lock = asyncio.Lock()
        # The live workloads of the last whole round, with its open launches and those opened since.
        self._last: Snapshot | None = None
        self._slots = asyncio.Semaphore(parallel)
        self._stopped = False

    async def run(self) -> None:
        """Reconciles until `stop`; the workloads keep running."""
        async with asyncio.TaskGroup() as group:
            background = [group.create_task(one) for one in (self._watch_events(), self._start_queued())]
            while not self._stopped:
                self._woken.clear()
                cpu_time = 0.0
                leads = self._leads()
                metrics.LEADER.set(leads)
                if leads:
                    cpu_time = await self._reconcile(self._take_snapshot)
                else:
                    self._last = None
                    self._balance.reset()
                    self._completed()
                await self._wait(cpu_time)
            # A background task is not cancelled within a round.
            async with self._round_lock:
                for task in background:
                    task.cancel()

    def is_ready(self) -> bool:
        """Whether a round could read the cluster now; true of a standby too."""
        return self._launcher.is_ready()

    def stop(self) -> None:
        """Ends `run` after the current round."""
        self._stopped = True
        self._woken.set()

    async def _wait(self, cpu_time: float) -> None:
        """Waits for a wake-up or the tick; an expensive round is followed by a longer wait."""
        at_least = min(max(_idle_seconds(cpu_time, BUSY_SHARE), PAUSE_SECONDS), self._tick_seconds)
        at_most = max(_idle_seconds(cpu_time, IDLE_SHARE), self._tick_seconds)
        if not self._stopped:
            await asyncio.sleep(at_least)
        try:
            async with asyncio.timeout(at_most):
                await self._woken.wait()
        except TimeoutError:
            pass

    async def _start_queued(self) -> None:
        """Starts newly queued jobs at once, without a whole snapshot."""
        while True:
            await self._job_queued.wait()
            self._job_queued.clear()
            if self._last is None or not self._leads():
                self._woken.set()
            else:
                cpu_time = await self._reconcile(self._take_snapshot_of_queued)
                await asyncio.sleep(_idle_seconds(cpu_time, BUSY_SHARE))

    async def _watch_events(self) -> None:
        after, is_expired = "", False
        while True:
            try:
                async for event in self._jobs.events(after):
                    self._event_outage.succeeded()
                    after, is_expired = event.id, False
                    if event.type == "JobQueued":
                        self._job_queued.set()
                    elif event.type in WAKING_EVENTS:
                        self._woken.set()
            except (grpc.RpcError, OSError) as error:
                # A stream ends with its token, and the file holds a newer one: no outage, unless it ends again.
                is_expired = not is_expired and _code(error) == grpc.StatusCode.UNAUTHENTICATED
                if not is_expired:
                    self._event_outage.failed(error)
                if _code(error) in POSITION_LOST:
                    # `jobs` rejects the position on every try. A whole round finds what the lost events were about.
                    after = ""
                    self._woken.set()
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _reconcile(self, take_snapshot: Callable[[], Awaitable[Snapshot]]) -> float:
        """One round, logged in one line if it had actions. Returns its CPU time in seconds."""
        async with self._round_lock:
            started_cpu = time.process_time()
            started, actions, outcome = time.monotonic(), list[Action](), "ok"
            with logs.collecting_durations() as waits:
                try:
                    snapshot = await take_snapshot()
                    actions = decide(snapshot, self._limits, self._launcher.now())
                    outcome = "ok" if await self._perform_all(actions) else "unknown"
                except (grpc.RpcError, OSError, Unknown) as error:
                    outcome = "unavailable"
                    self._outage.failed(error)
                if outcome == "ok":
                    self._outage.succeeded()
                if outcome != "unavailable":
                    self._completed()
                log = self._log.info if actions else self._log.debug
                log("reconcile", outcome=outcome, actions=len(actions), ms=_elapsed_ms(started), **waits)
            return time.process_time() - started_cpu

    async def _perform_all(self, actions: Sequence[Action]) -> bool:
        """Performs the actions in their order; whether the cluster answered each of them."""
        self._confirmations = []
        answered = True
        for kind in ORDER:
            of_kind = [action for action in actions if isinstance(action, kind)]
            answered &= await self._perform_together([*of_kind, *self._confirmations] if kind is Confirm else of_kind)
        return answered

    async def _take_snapshot(self) -> Snapshot:
        """The whole snapshot: the ghosts come from the first list of workloads, the rest from the second."""
        earlier = await self._launcher.list()
        listed = await self._jobs.list_launches()
        by_name = {name_of(launch): launch for launch in (*listed, *await self._open_launches(listed, earlier))}
        launches = list(by_name.values())
        ghosts_since = await self._track_ghosts(find_ghosts(launches, earlier))
        never_opened = frozenset(uid for uid, is_never_opened in self._is_never_opened.items() if is_never_opened)
        self._rejected = {name: no_room for name, no_room in self._rejected.items() if name in by_name}
        workloads = await self._launcher.list()
        snapshot = Snapshot(launches, workloads, ghosts_since, never_opened, self._launcher.gpus())
        has_room = sum(one.is_live for one in workloads) < self._limits.capacity
        without_room = [name for name, no_room in self._rejected.items() if no_room]
        self._balance.update(snapshot, self._launcher.now(), has_room=has_room, without_room=without_room)
        self._last = Snapshot(launches, [one for one in workloads if one.is_live], {})
        return snapshot

    async def _take_snapshot_of_queued(self) -> Snapshot:
        """The launches opened just now, with the live workloads of the last whole round.

        The workloads only take room and keep a job from a second workload. They may have changed since, so no other
        action follows from them.
        """
        last = self._last
        if last is None or not self._launcher.is_ready():
            raise Unknown("The cache of the cluster is stale")
        opened = await self._open_launches(last.launches, last.workloads)
        if not opened:
            # A whole round may find room.
            self._woken.set()
        self._last = replace(last, launches=[*last.launches, *opened])
        return Snapshot(opened, last.workloads, {}, gpus=self._launcher.gpus())

    async def _open_launches(self, launches: Sequence[Launch], workloads: Sequence[Observed]) -> Sequence[Launch]:
        """Asks `jobs` for as many new launches as there is room for."""
        room = self._room(launches, workloads)
        opened = await self._jobs.open_launches(room) if room > 0 and not self._stopped else ()
        if opened:
            failpoints.hit(CrashPoint.OPENED)
        return opened

    def _room(self, launches: Sequence[Launch], workloads: Sequence[Observed]) -> int:
        """The number of launches to open; 0 while drained. Open launches continue in any case."""
        drained = self._drained()
        if drained != self._was_drained:
            self._was_drained = drained
            self._log.info("drained" if drained else "undrained")
        return 0 if drained else self._limits.capacity - _count_occupied(launches, workloads)

    async def _track_ghosts(self, ghosts: dict[str, Observed]) -> dict[str, datetime]:
        """Since when each is a ghost. Asks `jobs` once whether its launch was ever opened."""
        ghosts_since = self._ghosts.update(ghosts, self._launcher.now())
        is_never_opened = {uid: self._is_never_opened[uid] for uid in ghosts if uid in self._is_never_opened}
        for uid, observed in ghosts.items():
            if uid not in is_never_opened:
                is_never_opened[uid] = not await self._jobs.knows(observed)
                if is_never_opened[uid]:
                    self._log.error("launch_never_opened", name=observed.name, uid=uid)
        self._is_never_opened = is_never_opened
        return ghosts_since

    async def _perform_together(self, actions: Iterable[Action]) -> bool:
        """Performs the actions concurrently; whether the cluster answered each of them."""
        tasks = [asyncio.create_task(self._perform_logged(action)) for action in actions]
        if not tasks:
            return True
        done, _ = await asyncio.wait(tasks)
        # If `jobs` is unavailable, the first error ends the round; the other actions are complete by then. The other
        # errors are retrieved, or asyncio would log them.
        failed = [error for task in done if (error := task.exception())]
        if failed:
            raise failed[0]
        return all(task.result() for task in done)

    async def _perform_logged(self, action: Action) -> bool:
        """Performs one action and logs it in one line; whether the cluster answered.

        An unanswered action does not stop the others. Raises grpc.RpcError if `jobs` is unavailable.
        """
        async with self._slots:
            started, outcome, failure = time.monotonic(), "ok", dict[str, str]()
            with logs.collecting_durations() as waits:
                try:
                    await self._perform(action)
                except Unknown as error:
                    outcome, failure = "unknown", {"error": str(error)}
                    self._outage.failed(error)
                except PermanentRejection as error:
                    outcome, failure = "rejected", {"error": str(error)}
                except grpc.RpcError as error:
                    outcome, failure = "refused", {"error": _describe(error)}
                    if is_transient(error):
                        outcome = "unavailable"
                        raise
                    # The launch changed since the snapshot; the next round sees the change.
                finally:
                    log = self._log.info if outcome == "ok" else self._log.warning
                    fields = _log_fields(action)
                    log(_event_name(action), **fields, why=action.why, outcome=outcome, ms=_elapsed_ms(started),
                        **waits, **failure)  # fmt: skip
        return outcome != "unknown"

    async def _perform(self, action: Action) -> None:
        match action:
            case Create(launch, placement, why, after):
                if not await self._is_live(after):
                    await self._create(launch, placement, why)
            case Confirm(launch, observed):
                await self._confirm(launch, observed)
            case End():
                await self._end(action)
            case Delete(observed, why, force):
                await self._launcher.delete(observed, force=force)
                self._launcher.record_event(observed, "DeletedByForce" if force else "Deleted", why)
            case SetStatusLabel(observed, status):
                await self._launcher.set_status_label(observed, status)

    async def _is_live(self, name: str) -> bool:
        """Whether a workload lives under the name at this moment; one on a dead node does not count."""
        found = await self._launcher.get(name) if name else None
        return found is not None and found.is_live and not found.dead_node

    async def _create(self, launch: Launch, placement: Placement, why: str) -> None:
        job_id, launch_no = launch.job_id, launch.launch_no
        with traces.span("launch", launch.trace_parent, job_id=job_id, launch_no=launch_no, why=why) as span:
            if launch.trace_parent and traces.is_on():
                launch.trace_parent = traces.traceparent()
            try:
                observed = await self._launcher.create(launch, placement)
            except PermanentRejection as error:
                span.failed(str(error))
                await self._jobs.end(launch, error.ending, str(error))
                raise
            except RetryableRejection as error:
                span.failed(str(error))
                await self._report_rejection(launch, placement, error)
                raise
            self._rejected.pop(name_of(launch), None)
            placed_on = Accelerator.Name(observed.placed_on)
            span.add(uid=observed.uid, placed_on=placed_on, placement_reason=observed.placement_reason)
        self._launcher.record_event(observed, "Created", f"{why}. {observed.placement_reason}")
        if placement.is_fallback:
            metrics.NONE_FREE.inc()
        if launch.HasField("job_queued_at"):
            metrics.QUEUE_TO_JOB.observe(max(time.time() - launch.job_queued_at.ToNanoseconds() / 1e9, 0.0))
        # The next round classifies a workload that has already ended.
        if observed.is_live:
            self._confirmations.append(Confirm(launch, observed, "The workload was created"))

    async def _report_rejection(self, launch: Launch, placement: Placement, error: RetryableRejection) -> None:
        """Reports a rejection to `jobs`, for ExplainJob, and as an event; once for each launch and kind."""
        if self._rejected.get(name_of(launch)) != error.no_room:
            uncreated = Observed(
                name=name_of(launch),
                uid="",
                phase=Phase.PENDING,
                labels=labels_of(launch),
                created_at=self._launcher.now(),
                placed_on=placement.on,
                placement_reason=str(error),
            )
            await self._jobs.confirm(launch, uncreated)
            self._launcher.record_event(uncreated, "Refused", str(error))
        self._rejected[name_of(launch)] = error.no_room

    async def _confirm(self, launch: Launch, observed: Observed) -> None:
        await self._jobs.confirm(launch, observed)
        failpoints.hit(CrashPoint.CONFIRMED)

    async def _end(self, end: End) -> None:
        if end.if_not_found is not None:
            found = await self._launcher.get(name_of(end.launch))
            if found and end.if_not_found in ("", found.uid):
                return
        if end.if_suspended and not _is_suspended(await self._launcher.get(name_of(end.launch))):
            return
        failpoints.hit(CrashPoint.CLASSIFIED)
        await self._jobs.end(end.launch, end.ending, end.why)
        failpoints.hit(CrashPoint.ENDED)
        if end.then_delete:
            await self._launcher.delete(end.then_delete)
            self._launcher.record_event(end.then_delete, "Ended", end.why)


def _is_suspended(observed: Observed | None) -> bool:
    return bool(observed and observed.pending and observed.pending.reason == PendingReason.SUSPENDED)


def _count_occupied(launches: Sequence[Launch], workloads: Sequence[Observed]) -> int:
    """The number of names that take room: live workloads, and launches still to be started."""
    return len({name_of(launch) for launch in launches} | {one.name for one in workloads if one.is_live})


def _idle_seconds(cpu_time: float, share: float) -> float:
    """The pause after a round that keeps rounds at this share of a core."""
    return cpu_time * (1 / share - 1)


def _event_name(action: Action) -> str:
    """The class name in snake_case: create, set_status_label."""
    return CAMEL_HUMP.sub("_", type(action).__name__).lower()


def _log_fields(action: Action) -> dict[str, str | int]:
    if isinstance(action, Delete | SetStatusLabel):
        return {"name": action.observed.name, "job_id": action.observed.job_id}
    return {"job_id": action.launch.job_id, "launch_no": action.launch.launch_no}


def _elapsed_ms(started: float) -> float:
    return round((time.monotonic() - started) * 1000, 1)


def _code(error: Exception) -> grpc.StatusCode | None:
    return error.code() if isinstance(error, grpc.aio.AioRpcError) else None


def _describe(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return f"{type(error).__name__}: {error}"
