"""`python -m testing.chaos`: thousands of lives through the real programs under combined faults, then an audit.

    warm-up ─▶ faults, several at a time ─▶ every peer falls silent ─▶ calm under load ─▶ all jobs end ─▶ audit

Exit code 0: every audit of every round found nothing, and each part made progress again within 20 s of the last fault.
"""

import argparse
import asyncio
import contextlib
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from crease.jobs.v1 import session_pb2, session_pb2_grpc
from services.clients import open_aio_channel
from services.naming import SUPERUSER
from testing.chaos import audit
from testing.chaos.analyzers import Analyzers
from testing.chaos.calls import Calls
from testing.chaos.coaches import Coaches
from testing.chaos.faults import KINDS, Faults, say
from testing.chaos.stack import CLUSTERS, Stack, stack
from testing.chaos.watching import Progress, Reader, Stalls, sizes, until
from testing.servers.kubernetes import cannot

WARM_UP_SECONDS, CALM_SECONDS, END_SECONDS = 20.0, 40.0, 120.0
LONGEST_GAP_SECONDS = 20.0
MESSAGES_SECONDS = 60.0
# Without an event, jobs that are left are stuck. With events, a machine that others use gets this time more than once.
STUCK_SECONDS, MOST_WAITS = 300.0, 4
# All cleanups at once.
CLEANUP_SECONDS = 300.0
# Until the readers wait for their first event.
READERS_SECONDS = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m testing.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="how long all rounds together last")
    parser.add_argument("--round-minutes", type=float, default=6, help="how long one round lasts")
    parser.add_argument("--seed", type=int, default=None, help="the dice of the first round; the next round adds one")
    parser.add_argument("--lives", type=float, default=5.0, help="videos that clients begin with in a second")
    parser.add_argument("--faults", type=int, default=3, help="faults at a time")
    parser.add_argument("--without", action="append", default=[], choices=KINDS, help="a kind of fault to leave out")
    parser.add_argument("--tls", action="store_true", help="every server has TLS; its certificate is renewed meanwhile")
    parser.add_argument("--pgbouncer", action="store_true", help="jobs reaches PostgreSQL through PgBouncer")
    parser.add_argument("--relay", action="store_true", help="a relay sends each queued job to SQS")
    parser.add_argument("--kubernetes", action="store_true", help="one cluster is a real Kubernetes; needs root")
    parser.add_argument("--keep", type=Path, help="where to keep the logs")
    arguments = parser.parse_args()
    if arguments.kubernetes and (reason := cannot()):
        parser.error(reason)
    for kind in arguments.without:
        del KINDS[kind]
    sys.exit(asyncio.run(_run(arguments)))


async def _run(arguments: argparse.Namespace) -> int:
    """Plays the rounds; returns the exit code. SIGTERM ends the programs too."""
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    seed = random.randrange(10**6) if arguments.seed is None else arguments.seed
    failed, ends_at = 0, time.monotonic() + arguments.minutes * 60
    while True:
        say(f"── seed {seed}")
        failed += await _play_round(seed, arguments)
        seed += 1
        if time.monotonic() + arguments.round_minutes * 30 > ends_at:
            say(f"── rounds with findings: {failed}")
            return 1 if failed else 0


async def _play_round(seed: int, arguments: argparse.Namespace) -> bool:
    """One round in a folder of its own; whether the audit found anything."""
    with (
        _folder(arguments.keep and arguments.keep / str(seed)) as folder,
        stack(
            folder,
            tls=arguments.tls,
            pgbouncer=arguments.pgbouncer,
            relay=arguments.relay,
            kubernetes=arguments.kubernetes,
        ) as made,
        Stalls() as stalls,
    ):
        findings = await Round(made, stalls, seed, arguments).play()
    for finding in findings:
        say(f"FOUND {finding}")
    return bool(findings)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """A folder that PostgreSQL's own user can reach. `keep` gets its logs."""
    with tempfile.TemporaryDirectory(prefix="crease-chaos-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        try:
            yield folder
        finally:
            if keep:
                keep.mkdir(parents=True, exist_ok=True)
                for log in (*folder.glob("*.log"), *folder.glob("*.yaml")):
                    shutil.copy(log, keep)


class Round:
    def __init__(self, made: Stack, stalls: Stalls, seed: int, arguments: argparse.Namespace) -> None:
        self._stack = made
        self._stalls = stalls
        self._arguments = arguments
        self._dice = random.Random(seed)
        self._calls = Calls()
        self._findings: list[str] = []

    async def play(self) -> list[str]:
        """Plays the round and prints its figures; returns the findings."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._unretrieved)
        began = time.monotonic()
        async with self._parts() as (analyzers, coaches, readers, progress):
            loading = asyncio.create_task(coaches.run(most_at_once=400))
            await asyncio.sleep(WARM_UP_SECONDS)
            before = sizes(self._stack.pids)
            faults = Faults(self._stack, analyzers, self._dice)
            await faults.run(began + self._arguments.round_minutes * 60 - CALM_SECONDS - 30, self._arguments.faults)
            await faults.silence_everything()
            await asyncio.sleep(CALM_SECONDS)
            calm_until = time.monotonic()
            after = sizes(self._stack.pids)
            loading.cancel()
            await coaches.finish(END_SECONDS)
            is_final = await self._all_end()
            await self._audit(analyzers, coaches, readers, is_final=is_final)
            self._findings += audit.growth(before, after)
            self._measure(progress, faults.ended_at, calm_until)
            self._print(analyzers, coaches, readers, faults, after)
        return self._findings

    @asynccontextmanager
    async def _parts(self) -> AsyncIterator[tuple[Analyzers, Coaches, list[Reader], Progress]]:
        lines, dice = self._stack.lines, self._dice
        async with AsyncExitStack() as opened:

            async def channel(line: str) -> Any:
                return await opened.enter_async_context(open_aio_channel(self._stack.address(lines.endpoint(line))))

            to_jobs, to_upload = (
                self._stack.address(lines.endpoint(line)) for line in ("jobs-analyzers", "upload-analyzers")
            )
            analyzers = Analyzers(
                self._stack.socket, self._stack.pods, to_jobs, to_upload, self._calls, dice, self._has_ended
            )
            coaches = Coaches(
                await channel("jobs-coaches"), await channel("upload-coaches"), self._calls, self._stack.laptop, dice,
                analyzers.videos, self._arguments.lives,
            )  # fmt: skip
            token = self._stack.laptop.program("controller")
            readers = [Reader(await channel("jobs-readers"), token, dice) for _ in range(2)]
            progress = Progress(self._stack.database.url)
            parts = (analyzers.serve(), progress.run(), self._stack.restart_ended(), *(one.run() for one in readers))
            tasks = [asyncio.create_task(part) for part in parts]
            # The readers' first calls come before the first event.
            await asyncio.sleep(READERS_SECONDS)
            try:
                yield analyzers, coaches, readers, progress
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def _unretrieved(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._findings.append(f"the harness: {context.get('message')}: {context.get('exception')!r}")

    def _has_ended(self, job_id: str, launch_no: int) -> bool:
        with contextlib.suppress(psycopg.Error):
            sql = "SELECT ended_at IS NOT NULL FROM launches WHERE job_id = %s AND launch_no = %s"
            return self._stack.sql(sql, [job_id, launch_no]) == [(True,)]
        return False

    def _all_final(self) -> bool:
        return not self._stack.sql(audit.NONE["jobs without an end"])

    async def _all_end(self) -> bool:
        """Waits until all jobs are final; whether they are. Jobs that are stuck leave the state of their cluster."""
        events, waits = -1, 0
        while waits < MOST_WAITS and events != (events := self._count_events()):
            waits += 1
            if await until(self._all_final, STUCK_SECONDS):
                return True
        if self._stack.pods:
            (self._stack.folder / "kubernetes.yaml").write_text(self._stack.pods.describe())
        return False

    def _count_events(self) -> int:
        [(count,)] = self._stack.sql("SELECT count(*) FROM events")
        return int(count)

    async def _audit(self, analyzers: Analyzers, coaches: Coaches, readers: list[Reader], *, is_final: bool) -> None:
        whole = self._count_events()
        await until(lambda: all(len(one.events) >= whole for one in readers), 20)
        # A job that is not final may write objects after its cleanup.
        if is_final:
            await self._clean_up(analyzers)
        # A message follows its event by a poll of the relay.
        await until(lambda: not audit.messages(self._stack), MESSAGES_SECONDS)
        statuses = await self._session_statuses()
        # Only of final jobs does the harness know what must hold.
        of_final = [*audit.sessions(self._stack, statuses), *audit.objects(self._stack)] if is_final else []
        self._findings += [*await asyncio.to_thread(self._read, analyzers, coaches, readers), *of_final]

    async def _clean_up(self, analyzers: Analyzers) -> None:
        """Does every cleanup now, once no launch that was lost can still write objects."""
        await until(lambda: not analyzers.running, CLEANUP_SECONDS)
        self._stack.sql(audit.CLEANUPS_DUE)
        if not await until(lambda: self._stack.sql(audit.CLEANUPS_LEFT) == [(0,)], CLEANUP_SECONDS):
            self._findings.append(f"cleanups left: {self._stack.sql(audit.CLEANUPS_LEFT)}")
        in_pods = self._stack.pods
        if in_pods and not await until(lambda: not in_pods.active(), CLEANUP_SECONDS):
            self._findings.append(f"Kubernetes Jobs that still run: {in_pods.active()[:3]}")

    def _read(self, analyzers: Analyzers, coaches: Coaches, readers: list[Reader]) -> list[str]:
        return [
            *audit.rows(self._stack),
            *audit.lives(self._stack, coaches.lives, coaches.requests),
            *audit.results(self._stack, analyzers.submitted),
            *audit.messages(self._stack),
            *audit.events(self._stack, [one.events for one in readers]),
            *self._stack.ended,
            *analyzers.violations,
            *coaches.violations,
        ]

    async def _session_statuses(self) -> dict[str, str]:
        """What the product says of each session."""
        coach = self._stack.laptop.person("operator", role=SUPERUSER)
        found, request = {}, session_pb2.ListSessionsRequest(page_size=200)
        async with open_aio_channel(self._stack.address(self._stack.programs["jobs-1"].endpoint)) as channel:
            stub = session_pb2_grpc.SessionServiceStub(channel)
            while True:
                page = await self._calls.until(stub.ListSessions, request, coach, 60)
                for session in page.sessions:
                    name = session_pb2.SessionStatus.Name(session.status)
                    found[session.session_id] = name.removeprefix("SESSION_STATUS_").lower()
                request.page_token = page.next_page_token
                if not request.page_token:
                    return found

    def _measure(self, progress: Progress, last_fault: float, calm_until: float) -> None:
        self._gaps = {}
        for part in (*(f"cluster {name}" for name in CLUSTERS), "uploads", "results"):
            self._gaps[part] = gap = progress.longest_gap(part, last_fault, calm_until)
            if gap > LONGEST_GAP_SECONDS:
                self._findings.append(f"{part} made no progress for {gap:.1f} s after the last fault")

    def _print(
        self, analyzers: Analyzers, coaches: Coaches, readers: list[Reader], faults: Faults, after: dict[str, Any]
    ) -> None:
        statuses: dict[Any, Any] = dict(
            self._stack.sql("SELECT status::text, count(*) FROM video_analysis_jobs GROUP BY 1")
        )
        endings: dict[Any, Any] = dict(self._stack.sql("SELECT ending, count(*) FROM launches GROUP BY 1"))
        errors = Counter({key: count for key, count in self._calls.answers.items() if key[1] != "OK"})
        lines = audit.log_lines(self._stack.folder)
        most = sum(lines.values()) / max(len(coaches.lives), 1)
        if most > audit.LINES_PER_LIFE:
            self._findings.append(f"{most:.0f} log lines a life")
        for title, value in {
            "lives": len(coaches.lives),
            "jobs": statuses,
            "launches": endings,
            "plans": Counter(coaches.lives.values()),
            "fates": analyzers.fates,
            "faults": faults.played,
            "faults left out": sorted(faults.skipped),
            "longest gap after the last fault, s": {part: round(gap, 1) for part, gap in self._gaps.items()},
            "late calls": analyzers.late,
            "calls that failed": errors.most_common(15),
            "clients that gave up": coaches.gave_up.most_common(5),
            "events read": [(len(one.events), one.connects) for one in readers],
            "sizes": {name: f"{size.rss_mib:.0f} MiB, {size.descriptors}" for name, size in after.items()},
            "log lines": lines | {"a life": round(most)},
            "errors in logs": _loud(self._stack.folder),
            "machine's longest stall, s": round(self._stalls.longest(), 1),
            "machine's stalls over 0.5 s": len(self._stalls.found),
        }.items():
            say(f"{title}: {dict(value) if isinstance(value, Counter) else value}")


def _loud(folder: Path) -> dict[str, int]:
    """How often each error or traceback is in the logs."""
    found: Counter[str] = Counter()
    for log in folder.glob("*.log"):
        for line in log.read_text(errors="replace").splitlines():
            with contextlib.suppress(json.JSONDecodeError, AttributeError):
                entry = json.loads(line)
                if entry.get("level") in ("error", "critical"):
                    found[f"{log.stem} {entry.get('event')} {entry.get('outcome', '')}"] += 1
            if line.startswith("Traceback") or "never retrieved" in line:
                found[f"{log.stem} {line[:60]}"] += 1
    return dict(found)


if __name__ == "__main__":
    main()
