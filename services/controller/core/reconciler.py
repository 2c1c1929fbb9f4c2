"""Makes what runs agree with what `jobs` lists: woken by an event or a tick, it looks, decides and acts.

event of jobs ─────┐
change in cluster ─┼▶ look: what runs, the open launches, new ones if there is room, what runs ─┬▶ decide ─▶ act
tick ──────────────┘                                                                            │
a job was queued ───▶ look: new launches, if the last look and those since then leave room ─────┘

One look at a time. A look that fails decides nothing; an action that fails is decided again at the next whole look. So
nothing here has to be remembered for safety, and `jobs` or the cluster may stay away for as long as they like.
"""

import asyncio
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
from services.controller.core.decide import ORDER, Action, Confirm, Create, Delete, End, Mark, View, decide, unwanted
from services.controller.core.failpoints import CrashPoint
from services.controller.core.jobs_client import Jobs
from services.controller.core.launcher import (
    Launcher,
    NotNow,
    Phase,
    Placement,
    Rejected,
    Seen,
    Unknown,
    labels_of,
    name_of,
)
from services.controller.settings import Settings
from services.logs import Logger

# After these there may be something to start or to stop. Missing one costs a tick, no more.
WAKING = frozenset({"JobFailed", "JobCancelled", "JobDone"})
LISTEN_AGAIN_SECONDS = 1.0
# Between two whole looks: where much happens, one look is for many changes.
PAUSE_SECONDS = 0.2
# What looking may take of a core where nothing wakes it, and where something does without end.
IDLE_SHARE, BUSY_SHARE = 0.05, 0.5


class Outage:
    """One line when something goes away and one when it is back, however often it was asked in between."""

    def __init__(self, log: Logger, of: str) -> None:
        self._log = log
        self._of = of
        self._said = ""
        self._since = 0.0

    def goes_on(self, error: Exception) -> None:
        """It failed, for the first time or again; another error gets its own line."""
        words = _words(error)
        if words == self._said:
            return
        self._since = self._since if self._said else time.monotonic()
        self._said = words
        self._log.warning("away", what=self._of, error=words)

    def is_over(self) -> None:
        """It answered."""
        if self._said:
            self._log.info("back", what=self._of, seconds=round(time.monotonic() - self._since, 1))
        self._said = ""


class Reconciler:
    """`leads` says whether this replica is the one that works; `drained`, whether nothing new is to be launched."""

    def __init__(
        self,
        settings: Settings,
        launcher: Launcher,
        jobs: Jobs,
        log: Logger,
        *,
        woken: asyncio.Event | None = None,
        leads: Callable[[], bool] = lambda: True,
        drained: Callable[[], bool] = lambda: False,
    ) -> None:
        self._settings = settings
        self._launcher = launcher
        self._jobs = jobs
        self._log = log
        self._leads = leads
        self._drained = drained
        self._was_drained = False
        self._outage = Outage(log, "jobs or the cluster")
        self._silence = Outage(log, "events")
        # Forgotten by a crash, which costs no more than waiting again.
        self._unwanted_since: dict[str, datetime] = {}
        self._orphans: dict[str, bool] = {}
        # The open launches that the cluster has refused, by name; whether for want of room.
        self._refused: dict[str, bool] = {}
        # In this round. They run by now; that `jobs` knows it can wait until all of them do.
        self._created: list[Confirm] = []
        self._balance = metrics.Balance(settings.limits.linger)
        self._woken = woken or asyncio.Event()
        self._queued = asyncio.Event()
        self._turn = asyncio.Lock()
        # What lives, by the last whole look, and the launches that were open then or have been opened since.
        self._known: View | None = None
        self._under_way = asyncio.Semaphore(settings.parallel)
        self._stopped = False

    async def run(self) -> None:
        """Until `stop`; what runs keeps running."""
        async with asyncio.TaskGroup() as group:
            beside = [group.create_task(one) for one in (self._listen(), self._start_queued())]
            while not self._stopped:
                self._woken.clear()
                cost_seconds = 0.0
                leads = self._leads()
                metrics.LEADER.set(leads)
                if leads:
                    cost_seconds = await self._round(self._look)
                else:
                    self._known = None
                    self._balance.forget()
                await self._wait(cost_seconds)
            # Not in the middle of what it does.
            async with self._turn:
                for task in beside:
                    task.cancel()

    def is_ready(self) -> bool:
        """Whether it could decide now; one that stands by could too."""
        return self._launcher.is_ready()

    def stop(self) -> None:
        """Ends `run` after the round it is in."""
        self._stopped = True
        self._woken.set()

    async def _wait(self, cost_seconds: float) -> None:
        """Until woken or the tick; a look that was costly, since much runs, is taken less often."""
        at_least = min(max(_rest(cost_seconds, BUSY_SHARE), PAUSE_SECONDS), self._settings.tick_seconds)
        at_most = max(_rest(cost_seconds, IDLE_SHARE), self._settings.tick_seconds)
        if not self._stopped:
            await asyncio.sleep(at_least)
        try:
            async with asyncio.timeout(at_most):
                await self._woken.wait()
        except TimeoutError:
            pass

    async def _start_queued(self) -> None:
        """Starts what was queued at once: all else can wait for a whole look."""
        while True:
            await self._queued.wait()
            self._queued.clear()
            if self._known is None or not self._leads():
                self._woken.set()
            else:
                await asyncio.sleep(_rest(await self._round(self._look_at_queued), BUSY_SHARE))

    async def _listen(self) -> None:
        after = ""
        while True:
            try:
                async for event in self._jobs.events(after):
                    self._silence.is_over()
                    after = event.id
                    if event.type == "JobQueued":
                        self._queued.set()
                    elif event.type in WAKING:
                        self._woken.set()
            except (grpc.RpcError, OSError) as error:
                self._silence.goes_on(error)
                # A position that `jobs` doesn't know would be refused for ever.
                after = "" if _code(error) == grpc.StatusCode.INVALID_ARGUMENT else after
            await asyncio.sleep(LISTEN_AGAIN_SECONDS)

    async def _round(self, look: Callable[[], Awaitable[View]]) -> float:
        """Ends in one line, where something was done or could not be. Returns the CPU seconds that it took."""
        async with self._turn:
            began_cpu = time.process_time()
            began, actions, outcome = time.monotonic(), list[Action](), "ok"
            with logs.collecting_durations() as spent:
                try:
                    view = await look()
                    actions = decide(view, self._settings.limits, self._launcher.now())
                    outcome = "ok" if await self._take(actions) else "unanswered"
                except (grpc.RpcError, OSError, Unknown) as error:
                    outcome = "away"
                    self._outage.goes_on(error)
                if outcome == "ok":
                    self._outage.is_over()
                say = self._log.info if actions else self._log.debug
                say("reconcile", outcome=outcome, actions=len(actions), ms=_since(began), **spent)
            return time.process_time() - began_cpu

    async def _take(self, actions: Sequence[Action]) -> bool:
        """Takes the actions in their order; whether there was an answer to each."""
        self._created = []
        answered = True
        for kind in ORDER:
            mine = [action for action in actions if isinstance(action, kind)]
            answered &= await self._all([*mine, *self._created] if kind is Confirm else mine)
        return answered

    async def _look(self) -> View:
        earlier = await self._launcher.list()
        listed = await self._jobs.list_launches()
        by_name = {name_of(launch): launch for launch in (*listed, *await self._offered(listed, earlier))}
        launches = list(by_name.values())
        await self._note_unwanted(unwanted(launches, earlier))
        orphans = frozenset(uid for uid, is_orphan in self._orphans.items() if is_orphan)
        self._refused = {name: why for name, why in self._refused.items() if name in by_name}
        seen = await self._launcher.list()
        view = View(launches, seen, self._unwanted_since, orphans, self._launcher.gpus())
        has_room = sum(one.is_live for one in seen) < self._settings.capacity
        without_room = [name for name, no_room in self._refused.items() if no_room]
        self._balance.note(view, self._launcher.now(), has_room=has_room, without_room=without_room)
        self._known = View(launches, [one for one in seen if one.is_live], {})
        return view

    async def _look_at_queued(self) -> View:
        """At what is offered now. What lives takes room and keeps its job from being run twice; no more follows from
        it, since it may have changed."""
        known = self._known
        if known is None or not self._launcher.is_ready():
            raise Unknown("What is known of the cluster is too old")
        offered = await self._offered(known.launches, known.seen)
        if not offered:
            # There may be room by now.
            self._woken.set()
        self._known = replace(known, launches=[*known.launches, *offered])
        return View(offered, known.seen, {}, gpus=self._launcher.gpus())

    async def _offered(self, launches: Sequence[Launch], seen: Sequence[Seen]) -> Sequence[Launch]:
        """Launches to be started, as many as there is room for."""
        room = self._room(launches, seen)
        offered = await self._jobs.open_launches(room) if room > 0 and not self._stopped else ()
        if offered:
            failpoints.here(CrashPoint.OPENED)
        return offered

    def _room(self, launches: Sequence[Launch], seen: Sequence[Seen]) -> int:
        """For how many more launches; none while drained. What is open goes on."""
        drained = self._drained()
        if drained != self._was_drained:
            self._was_drained = drained
            self._log.info("drained" if drained else "launches again")
        return 0 if drained else self._settings.capacity - _busy(launches, seen)

    async def _note_unwanted(self, found: dict[str, Seen]) -> None:
        """Since when each is unwanted, and whether `jobs` has ever heard of it, which is asked once."""
        now = self._launcher.now()
        self._unwanted_since = {uid: self._unwanted_since.get(uid, now) for uid in found}
        orphans = {uid: self._orphans[uid] for uid in found if uid in self._orphans}
        for uid, seen in found.items():
            if uid not in orphans:
                orphans[uid] = not await self._jobs.knows(seen)
                if orphans[uid]:
                    self._log.error("orphan", name=seen.name, uid=uid)
        self._orphans = orphans

    async def _all(self, actions: Iterable[Action]) -> bool:
        """Performs them side by side; whether there was an answer to each."""
        tasks = [asyncio.create_task(self._act(action)) for action in actions]
        if not tasks:
            return True
        done, _ = await asyncio.wait(tasks)
        # One that `jobs` does not answer ends the round; the others were heard.
        answers = [task.result() for task in done]
        return all(answers)

    async def _act(self, action: Action) -> bool:
        """Whether there was an answer. One launch that the cluster cannot answer for stops no other. One line each."""
        async with self._under_way:
            began, outcome, said = time.monotonic(), "ok", dict[str, object]()
            with logs.collecting_durations() as spent:
                try:
                    await self._perform(action)
                except Unknown as error:
                    outcome, said = "unknown", {"error": str(error)}
                    self._outage.goes_on(error)
                except Rejected as error:
                    outcome, said = "rejected", {"error": str(error)}
                except grpc.RpcError as error:
                    outcome, said = "refused", {"error": _words(error)}
                    if is_transient(error):
                        outcome = "away"
                        raise
                    # `jobs` knows better than the last look; the next one will show what.
                finally:
                    say = self._log.info if outcome == "ok" else self._log.warning
                    did = type(action).__name__.lower()
                    say(did, **_labels(action), why=action.why, outcome=outcome, ms=_since(began), **spent, **said)
        return outcome != "unknown"

    async def _perform(self, action: Action) -> None:
        match action:
            case Create(launch, placement, why, after):
                if not await self._lives(after):
                    await self._create(launch, placement, why)
            case Confirm(launch, seen):
                await self._confirm(launch, seen)
            case End():
                await self._end(action)
            case Delete(seen, why, force):
                await self._launcher.delete(seen, force=force)
                self._launcher.tell(seen, "DeletedByForce" if force else "Deleted", why)
            case Mark(seen, status):
                await self._launcher.mark(seen, status)

    async def _lives(self, name: str) -> bool:
        """Whether something is at work under a name at this moment; what a dead node holds is not waited for."""
        found = await self._launcher.look(name) if name else None
        return found is not None and found.is_live and not found.dead_node

    async def _create(self, launch: Launch, placement: Placement, why: str) -> None:
        job_id, launch_no = launch.job_id, launch.launch_no
        with traces.span("launch", launch.trace_parent, job_id=job_id, launch_no=launch_no, why=why) as span:
            if launch.trace_parent and traces.is_on():
                launch.trace_parent = traces.traceparent()
            try:
                seen = await self._launcher.create(launch, placement)
            except Rejected as error:
                span.failed(str(error))
                await self._jobs.end(launch, error.ending, str(error))
                raise
            except NotNow as error:
                span.failed(str(error))
                await self._tell_refusal(launch, placement, error)
                raise
            self._refused.pop(name_of(launch), None)
            span.add(uid=seen.uid, placed_on=Accelerator.Name(seen.placed_on), placement_reason=seen.placement_reason)
        self._launcher.tell(seen, "Created", f"{why}. {seen.placement_reason}")
        if placement.is_fallback:
            metrics.NONE_FREE.inc()
        if launch.HasField("job_queued_at"):
            metrics.QUEUE_TO_JOB.observe(max(time.time() - launch.job_queued_at.ToNanoseconds() / 1e9, 0.0))
        # What has ended already is judged at the next look.
        if seen.is_live:
            self._created.append(Confirm(launch, seen, "It was created"))

    async def _tell_refusal(self, launch: Launch, placement: Placement, error: NotNow) -> None:
        """Once for each launch and kind, to `jobs`, whose Explain says it, and under the name of what does not run."""
        if self._refused.get(name_of(launch)) != error.no_room:
            wanted = Seen(name_of(launch), "", Phase.PENDING, labels_of(launch), self._launcher.now(),
                          placement.on, str(error))  # fmt: skip
            await self._jobs.confirm(launch, wanted)
            self._launcher.tell(wanted, "Refused", str(error))
        self._refused[name_of(launch)] = error.no_room

    async def _confirm(self, launch: Launch, seen: Seen) -> None:
        await self._jobs.confirm(launch, seen)
        failpoints.here(CrashPoint.CONFIRMED)

    async def _end(self, end: End) -> None:
        if end.if_gone is not None:
            found = await self._launcher.look(name_of(end.launch))
            if found and end.if_gone in ("", found.uid):
                return
        failpoints.here(CrashPoint.JUDGED)
        await self._jobs.end(end.launch, end.ending, end.why)
        failpoints.here(CrashPoint.ENDED)
        if end.then_delete:
            await self._launcher.delete(end.then_delete)
            self._launcher.tell(end.then_delete, "Ended", end.why)


def _busy(launches: Sequence[Launch], seen: Sequence[Seen]) -> int:
    """What takes room: whatever lives, and launches still to be started."""
    return len({name_of(launch) for launch in launches} | {one.name for one in seen if one.is_live})


def _rest(cost_seconds: float, share: float) -> float:
    """How long to do nothing after a look, so that looks take this share of a core."""
    return cost_seconds * (1 / share - 1)


def _labels(action: Action) -> dict[str, object]:
    if isinstance(action, Delete | Mark):
        return {"name": action.seen.name, "job_id": action.seen.job_id}
    return {"job_id": action.launch.job_id, "launch_no": action.launch.launch_no}


def _since(began: float) -> float:
    """In milliseconds."""
    return round((time.monotonic() - began) * 1000, 1)


def _code(error: Exception) -> grpc.StatusCode | None:
    return error.code() if isinstance(error, grpc.aio.AioRpcError) else None


def _words(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return f"{type(error).__name__}: {error}"
