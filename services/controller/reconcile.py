"""Makes what runs agree with what `jobs` lists: woken by an event or a tick, it looks, decides and acts.

event ─┐
tick ──┴▶ look: what runs, the open launches, new ones if there is room, what runs ─▶ decide ─▶ act

A look that fails decides nothing; an action that fails is decided again at the next look. So nothing here has to be
remembered for safety, and `jobs` or the cluster may stay away for as long as they like.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import grpc.aio

from crease.analysis.v1.launch_pb2 import ENDING_UNKNOWN, Launch
from services.clients import is_passing
from services.controller import crash
from services.controller.crash import CrashPoint
from services.controller.decide import Action, Confirm, Create, Delete, End, View, decide, unwanted
from services.controller.jobs import Jobs
from services.controller.launcher import JOB_LABEL, Launcher, Rejected, Seen, Unknown, name_of
from services.controller.settings import Settings
from services.logs import Logger

# After these there may be something to start or to stop. Missing one costs a tick, no more.
WAKING = frozenset({"JobQueued", "JobFailed", "JobCancelled"})
LISTEN_AGAIN_SECONDS = 1.0


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
    def __init__(self, settings: Settings, launcher: Launcher, jobs: Jobs, log: Logger) -> None:
        self._settings = settings
        self._launcher = launcher
        self._jobs = jobs
        self._log = log
        self._outage = Outage(log, "jobs or the cluster")
        self._silence = Outage(log, "events")
        # Forgotten by a crash, which costs no more than waiting again.
        self._unwanted_since: dict[str, datetime] = {}
        self._woken = asyncio.Event()
        self._stopped = False

    async def run(self) -> None:
        """Until `stop`; what runs keeps running."""
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(self._listen())
            while not self._stopped:
                self._woken.clear()
                await self._round()
                await self._wait()
            listening.cancel()

    def stop(self) -> None:
        """Ends `run` after the round it is in."""
        self._stopped = True
        self._woken.set()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._settings.tick_seconds):
                await self._woken.wait()
        except TimeoutError:
            pass

    async def _listen(self) -> None:
        after = ""
        while True:
            try:
                async for event in self._jobs.events(after):
                    self._silence.is_over()
                    after = event.id
                    if event.type in WAKING:
                        self._woken.set()
            except (grpc.RpcError, OSError) as error:
                self._silence.goes_on(error)
                # A position that `jobs` doesn't know would be refused for ever.
                after = "" if _code(error) == grpc.StatusCode.INVALID_ARGUMENT else after
            await asyncio.sleep(LISTEN_AGAIN_SECONDS)

    async def _round(self) -> None:
        try:
            actions = decide(await self._look(), self._settings.limits, datetime.now(UTC))
            answers = [await self._act(action) for action in actions]
        except (grpc.RpcError, OSError, Unknown) as error:
            self._outage.goes_on(error)
        else:
            if all(answers):
                self._outage.is_over()

    async def _look(self) -> View:
        earlier = await self._launcher.list()
        launches = await self._jobs.list_launches()
        room = self._settings.capacity - _busy(launches, earlier)
        if room > 0 and not self._stopped:
            offered = await self._jobs.open_launches(room)
            if offered:
                crash.here(CrashPoint.OPENED)
            launches = list({name_of(launch): launch for launch in (*launches, *offered)}.values())
        now = datetime.now(UTC)
        self._unwanted_since = {uid: self._unwanted_since.get(uid, now) for uid in unwanted(launches, earlier)}
        return View(launches, await self._launcher.list(), self._unwanted_since)

    async def _act(self, action: Action) -> bool:
        """Whether there was an answer. One launch that the cluster cannot answer for stops no other."""
        self._log.info(type(action).__name__.lower(), **_labels(action), why=action.why)
        try:
            await self._perform(action)
        except Unknown as error:
            self._outage.goes_on(error)
            return False
        except Rejected as error:
            self._log.error("rejected", **_labels(action), error=str(error))
        except grpc.RpcError as error:
            if is_passing(error):
                raise
            # `jobs` knows better than the last look; the next one will show what.
            self._log.warning("refused", **_labels(action), error=_words(error))
        return True

    async def _perform(self, action: Action) -> None:
        match action:
            case Create(launch):
                await self._create(launch)
            case Confirm(launch, seen):
                await self._confirm(launch, seen)
            case End(launch, ending, why):
                crash.here(CrashPoint.JUDGED)
                await self._jobs.end(launch, ending, why)
                crash.here(CrashPoint.ENDED)
            case Delete(seen):
                await self._launcher.delete(seen.name, seen.uid)

    async def _create(self, launch: Launch) -> None:
        try:
            seen = await self._launcher.create(launch)
        except Rejected as error:
            await self._jobs.end(launch, ENDING_UNKNOWN, str(error))
            raise
        # What has ended already is judged at the next look.
        if seen.is_live:
            await self._confirm(launch, seen)

    async def _confirm(self, launch: Launch, seen: Seen) -> None:
        await self._jobs.confirm(launch, seen)
        crash.here(CrashPoint.CONFIRMED)


def _busy(launches: Sequence[Launch], seen: Sequence[Seen]) -> int:
    """What takes room: whatever lives, and launches still to be started."""
    return len({name_of(launch) for launch in launches} | {one.name for one in seen if one.is_live})


def _labels(action: Action) -> dict[str, object]:
    if isinstance(action, Delete):
        return {"name": action.seen.name, "job_id": action.seen.labels.get(JOB_LABEL)}
    return {"job_id": action.launch.job_id, "launch_no": action.launch.launch_no}


def _code(error: Exception) -> grpc.StatusCode | None:
    return error.code() if isinstance(error, grpc.aio.AioRpcError) else None


def _words(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return f"{type(error).__name__}: {error}"
