"""The faults, several at a time. Each breaks one part for some seconds and ends with the part whole again.

A part that falls silent closes no connection: its peers learn nothing unless they ask.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import psycopg

from testing.chaos.analyzers import Analyzers
from testing.chaos.database import READY_SECONDS
from testing.chaos.stack import TO_JOBS, Stack
from testing.servers.programs import ROOT

LONGEST_STOP_SECONDS = 60.0
LONGEST_SECONDS = 15.0


@dataclass
class Faults:
    """`played` counts each kind; `ended_at` is when the last one ended, by the monotonic clock."""

    stack: Stack
    analyzers: Analyzers
    dice: random.Random
    played: Counter[str] = field(default_factory=Counter)
    skipped: set[str] = field(default_factory=set)
    ended_at: float = 0.0

    async def run(self, until: float, at_once: int) -> None:
        """Plays random faults, `at_once` at a time, until a moment; then waits until each part is whole."""
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(self._play(until))

    async def _play(self, until: float) -> None:
        while time.monotonic() < until:
            await self.play(self.dice.choice(list(KINDS)), until)
            await asyncio.sleep(self.dice.uniform(0.5, 4))

    async def play(self, kind: str, until: float) -> None:
        """One fault of a kind. Its part is locked: a stopped program is not also replaced."""
        longest = max(until - time.monotonic(), 1.0)
        seconds = min(self.dice.uniform(1, LONGEST_STOP_SECONDS if "stop" in kind else LONGEST_SECONDS), longest)
        if await KINDS[kind](self, seconds):
            self.played[kind] += 1
            say(f"{kind} ({seconds:.0f} s)")
        else:
            self.skipped.add(kind)
        self.ended_at = time.monotonic()

    async def kill_program(self, seconds: float) -> bool:
        """SIGKILL, and the same program again after at most three seconds."""
        name = self.dice.choice(list(self.stack.programs))
        async with self.stack.lock(name):
            program = self.stack.programs[name]
            await asyncio.to_thread(program.kill)
            await asyncio.sleep(min(seconds, 3))
            await asyncio.to_thread(program.start)
        return True

    async def replace_program(self, seconds: float) -> bool:
        """SIGTERM, as a rollout does, after 30 s SIGKILL, and the same program again."""
        name = self.dice.choice(list(self.stack.programs))
        async with self.stack.lock(name):
            program = self.stack.programs[name]
            try:
                await asyncio.to_thread(program.stop)
            except subprocess.TimeoutExpired:
                await asyncio.to_thread(program.kill)
            await asyncio.to_thread(program.start)
        return True

    async def stop_program(self, seconds: float) -> bool:
        """SIGSTOP for up to a minute: every connection stays open, and nothing answers."""
        name = self.dice.choice(list(self.stack.programs))
        async with self.stack.lock(name):
            pid = self.stack.programs[name].pid
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(seconds)
            os.kill(pid, signal.SIGCONT)
        return True

    async def lose_jobs_machine(self, seconds: float) -> bool:
        """A machine of `jobs` dies in the middle of everything; its peers hear nothing. Another replaces it."""
        number = self.dice.choice((1, 2))
        name = f"jobs-{number}"
        async with self.stack.lock(name):
            program = self.stack.programs[name]
            os.kill(program.pid, signal.SIGSTOP)
            self.stack.lines.apply(f"postgres-{number}", "silence")
            for line in TO_JOBS:
                self.stack.lines.apply(line, "silence", backend=program.endpoint)
            await asyncio.to_thread(program.kill)
            await asyncio.sleep(min(seconds, 5))
            await asyncio.to_thread(program.start)
        return True

    async def silence_lines(self, seconds: float) -> bool:
        """Every open connection of some lines is dead; new ones work."""
        for name in self.dice.sample(self.stack.lines.names, self.dice.randrange(1, 5)):
            self.stack.lines.apply(name, "silence")
        return True

    async def cut_lines(self, seconds: float) -> bool:
        for name in self.dice.sample(self.stack.lines.names, self.dice.randrange(1, 5)):
            self.stack.lines.apply(name, "cut")
        return True

    async def swallow_line(self, seconds: float) -> bool:
        """A partition: open connections are dead, and so is each new one until the end."""
        return await self._on_line(self.dice.choice(self.stack.lines.names), seconds, "silence", "swallow")

    async def delay_line(self, seconds: float) -> bool:
        return await self._on_line(self.dice.choice(self.stack.lines.names), seconds, "delay")

    async def throttle_s3(self, seconds: float) -> bool:
        return await self._on_line("s3", seconds, "throttle")

    async def hang_s3(self, seconds: float) -> bool:
        return await self._on_line("s3", seconds, "silence", "swallow")

    async def _on_line(self, name: str, seconds: float, *actions: str) -> bool:
        async with self.stack.lock(name):
            for action in actions:
                self.stack.lines.apply(name, action, seconds=self.dice.uniform(0.1, 2))
            await asyncio.sleep(seconds)
            self.stack.lines.apply(name, "heal")
        return True

    async def kill_postgres(self, seconds: float) -> bool:
        async with self.stack.lock("postgres"):
            await asyncio.to_thread(self.stack.database.stop, signal.SIGKILL)
            await asyncio.sleep(min(seconds, 5))
            await asyncio.to_thread(self.stack.database.start)
        return True

    async def restart_postgres(self, seconds: float) -> bool:
        async with self.stack.lock("postgres"):
            await asyncio.to_thread(self.stack.database.stop)
            await asyncio.to_thread(self.stack.database.start)
        return True

    async def terminate_backends(self, seconds: float) -> bool:
        async with self.stack.lock("postgres"):
            others = (
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND state <> ''"
            )
            await asyncio.to_thread(self.stack.sql, others)
        return True

    async def fill_disk(self, seconds: float) -> bool:
        """PostgreSQL's disk is full: it refuses, or crashes and cannot recover before there is room."""
        if not self.stack.database.is_volume:
            return False
        async with self.stack.lock("postgres"):
            await asyncio.to_thread(self.stack.database.fill_disk)
            await asyncio.sleep(min(seconds, 8))
            self.stack.database.free_disk()
            await asyncio.to_thread(self.stack.database.start)
        return True

    async def lock_tables(self, seconds: float) -> bool:
        """A migration under traffic: `migrate` runs, and a table is locked as its ALTER TABLE does, for a moment."""
        async with self.stack.lock("postgres"):
            env = os.environ | {"CREASE_DATABASE_URL": self.stack.database.url}
            command = [sys.executable, "-m", "services.jobs", "migrate"]
            await asyncio.to_thread(subprocess.run, command, cwd=ROOT, env=env, check=True, capture_output=True)
            await asyncio.to_thread(self._alter_table)
        return True

    def _alter_table(self) -> None:
        """Gives up its lock after two seconds and is tried again, as `migrate` is."""
        give_up = time.monotonic() + READY_SECONDS
        while time.monotonic() < give_up:
            try:
                with psycopg.connect(self.stack.database.url) as session:
                    session.execute("SET LOCAL lock_timeout = '2s'")
                    session.execute("ALTER TABLE video_analysis_jobs ADD COLUMN chaos integer")
                    session.execute("ALTER TABLE video_analysis_jobs DROP COLUMN chaos")
                    time.sleep(0.5)
                return
            except psycopg.errors.LockNotAvailable:
                time.sleep(1)

    async def leap_database_clock(self, seconds: float) -> bool:
        """The time of PostgreSQL leaps by a minute, an hour or a day, and comes back."""
        if not self.stack.database.has_clock:
            return False
        async with self.stack.lock("clock"):
            leap = self.dice.choice((-3600, -60, 60, 3600, 86400))
            self.stack.database.clock_file.write_text(f"{leap:+d}")
            await asyncio.sleep(min(seconds, 10))
            self.stack.database.clock_file.write_text("+0")
        return True

    async def leap_controller_clock(self, seconds: float) -> bool:
        file = self.dice.choice(list(self.stack.clocks.values()))
        if not file.exists():
            return False
        async with self.stack.lock(str(file)):
            file.write_text(f"{self.dice.choice((-3600, -60, 60, 3600)):+d}")
            await asyncio.sleep(seconds)
            file.write_text("+0")
        return True

    async def crash_api_server(self, seconds: float) -> bool:
        return await self._on_kubernetes("kube-apiserver", "kill")

    async def hang_api_server(self, seconds: float) -> bool:
        return await self._on_kubernetes("kube-apiserver", "pause", "cont", seconds=seconds)

    async def hang_etcd(self, seconds: float) -> bool:
        return await self._on_kubernetes("etcd", "pause", "cont", seconds=seconds)

    async def crash_kubelet(self, seconds: float) -> bool:
        return await self._on_kubernetes("kubelet", "kill")

    async def _on_kubernetes(self, program: str, *orders: str, seconds: float = 0.0) -> bool:
        if self.stack.pods is None:
            return False
        async with self.stack.lock("kubernetes"):
            for order in orders:
                await asyncio.to_thread(self.stack.pods.cluster.sv, order, program)
                await asyncio.sleep(seconds if order == "pause" else 0)
        return True

    async def renew_certificate(self, seconds: float) -> bool:
        """Every server gets a certificate of a new authority while it serves."""
        if self.stack.certificate is None:
            return False
        async with self.stack.lock("certificate"):
            self.stack.certificate.renew()
            await asyncio.sleep(seconds)
        return True

    async def kill_analyzers(self, seconds: float) -> bool:
        self.analyzers.kill(0.5)
        return True

    async def stop_analyzers(self, seconds: float) -> bool:
        """Processes that do not die by SIGTERM: the controller has to kill them."""
        chosen = self.analyzers.kill(0.3, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        for pid in chosen:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                continue
        return True

    async def silence_everything(self) -> None:
        """Every peer of every program has died without a word; each can be reached anew."""
        for name in self.stack.lines.names:
            self.stack.lines.apply(name, "silence")
        self.played["silence everything"] += 1
        self.ended_at = time.monotonic()
        say("silence everything")


KINDS: dict[str, Callable[[Faults, float], Awaitable[bool]]] = {
    "kill a program": Faults.kill_program,
    "replace a program": Faults.replace_program,
    "stop a program": Faults.stop_program,
    "lose a machine of jobs": Faults.lose_jobs_machine,
    "silence lines": Faults.silence_lines,
    "cut lines": Faults.cut_lines,
    "swallow a line": Faults.swallow_line,
    "delay a line": Faults.delay_line,
    "throttle S3": Faults.throttle_s3,
    "hang S3": Faults.hang_s3,
    "kill PostgreSQL": Faults.kill_postgres,
    "restart PostgreSQL": Faults.restart_postgres,
    "terminate backends": Faults.terminate_backends,
    "fill PostgreSQL's disk": Faults.fill_disk,
    "migrate": Faults.lock_tables,
    "leap PostgreSQL's clock": Faults.leap_database_clock,
    "leap a controller's clock": Faults.leap_controller_clock,
    "crash the API server": Faults.crash_api_server,
    "hang the API server": Faults.hang_api_server,
    "hang etcd": Faults.hang_etcd,
    "crash the kubelet": Faults.crash_kubelet,
    "renew the certificate": Faults.renew_certificate,
    "kill analyzers": Faults.kill_analyzers,
    "stop analyzers": Faults.stop_analyzers,
}


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)  # noqa: T201 (progress output)
