"""Supervises the laptop's programs: starts each one, restarts it when it dies, and stops all in reverse order.

start ─▶ ready ─▶ watched ─▶ stopped, in reverse start order
           ▲          │
           └─ backoff ┘  died by itself

One thread, no signal handlers: the stop signals stay blocked, and the supervisor waits for them with sigtimedwait.
Each program is a process group of its own: Ctrl-C does not reach it, and the supervisor decides the order of stops.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from services.cli.errors import CommandError
from services.cli.laptop import subreaper

PDEATHSIG = Path(__file__).with_name("pdeathsig.py")
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
START_SECONDS = 60.0
# A program that ran this long was healthy: its deaths are counted from one again.
HEALTHY_SECONDS = 60.0
FIRST_BACKOFF_SECONDS = 0.5
LAST_BACKOFF_SECONDS = 30.0
LOG_BYTES = 10 * 2**20

# Gets a program's name and a sentence about it.
Notify = Callable[[str, str], None]


class StopRequested(Exception):
    """A stop signal arrived."""


@dataclass(frozen=True)
class Program:
    """A program to supervise. `name` also names its log. `is_ready` is polled until it is true; it never raises."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    is_ready: Callable[[], bool]
    # Empty: the current user.
    user: str = ""
    # `kill_signal` is sent when `stop_seconds` have passed since `stop_signal`.
    stop_signal: signal.Signals = signal.SIGTERM
    kill_signal: signal.Signals = signal.SIGKILL
    stop_seconds: float = 10.0


@dataclass
class _Running:
    program: Program
    process: subprocess.Popen[bytes]
    started_at: float = field(default_factory=time.monotonic)
    # Consecutive deaths.
    deaths: int = 0
    # When the next start is due; None while it runs.
    restart_at: float | None = None
    is_ready_again: bool = True


class Supervisor:
    """`logs` is the folder of the programs' logs."""

    def __init__(self, logs: Path, notify: Notify) -> None:
        self._logs = logs
        self._notify = notify
        self._running: dict[str, _Running] = {}
        self._is_hurried = False
        logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        subreaper.become_subreaper()

    def run(self, name: str, command: Sequence[str], environment: Mapping[str, str], *, user: str = "") -> None:
        """Runs a program to its end. Raises CommandError if it fails, StopRequested."""
        step = Program(name, command, environment, lambda: False, user=user)
        process = self._spawn(step)
        self._running[name] = _Running(step, process)
        while process.poll() is None:
            self.pause(0.05)
        del self._running[name]
        if process.returncode != 0:
            raise CommandError(f"{name} {self._describe_end(name, process.returncode)} ({self._log(name)}).")

    def start(self, program: Program) -> None:
        """Starts a program and waits until it is ready.

        Raises CommandError if it ends or is not ready after START_SECONDS, StopRequested.
        """
        process = self._spawn(program)
        self._running[program.name] = _Running(program, process)
        deadline = time.monotonic() + START_SECONDS
        while not program.is_ready():
            if process.poll() is not None:
                ending = self._describe_end(program.name, process.returncode)
                raise CommandError(f"{program.name} {ending} ({self._log(program.name)}).")
            if time.monotonic() > deadline:
                raise CommandError(
                    f"{program.name} was not ready after {START_SECONDS:.0f} s ({self._log(program.name)})."
                )
            self.pause(0.1)
        self._notify(program.name, "ready")

    def watch(self, chore: Callable[[], None] = lambda: None) -> None:
        """Restarts programs that die, and runs `chore` in each round, until a stop signal raises StopRequested."""
        while True:
            for running in self._running.values():
                self._restart_if_dead(running)
            chore()
            subreaper.reap(self._pids())
            self.pause(0.25)

    def stop(self) -> None:
        """Stops every program and every stray process. A second Ctrl-C kills them at once."""
        while self._running:
            _, running = self._running.popitem()
            self._stop(running)
            # Stray analyzers of the controller end while `jobs` still runs, so that they can report to it.
            subreaper.end_strays(self._pids(), patience_seconds=0.0 if self._is_hurried else 5.0)

    def pause(self, seconds: float) -> None:
        """Waits. Raises StopRequested when a stop signal arrives."""
        if signal.sigtimedwait(STOP_SIGNALS, seconds):
            raise StopRequested

    def _spawn(self, program: Program) -> subprocess.Popen[bytes]:
        wrapper = (sys.executable, "-I", "-S", str(PDEATHSIG), str(os.getpid()), str(int(program.kill_signal)))
        log = self._log(program.name)
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.rename(log.with_suffix(".log.1"))
        with log.open("ab") as output:
            return subprocess.Popen(
                (*wrapper, program.user, *program.command),
                env=dict(program.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                process_group=0,
            )

    def _restart_if_dead(self, running: _Running) -> None:
        name, now = running.program.name, time.monotonic()
        if running.restart_at is not None and now >= running.restart_at:
            running.process = self._spawn(running.program)
            running.started_at, running.restart_at, running.is_ready_again = now, None, False
        elif running.restart_at is None and running.process.poll() is not None:
            running.deaths = 1 if now - running.started_at > HEALTHY_SECONDS else running.deaths + 1
            delay = backoff_seconds(running.deaths)
            running.restart_at = now + delay
            ending = self._describe_end(name, running.process.returncode)
            self._notify(name, f"{ending}; restarts in {delay:g} s ({self._log(name)})")
        elif running.restart_at is None and not running.is_ready_again and running.program.is_ready():
            running.is_ready_again = True
            self._notify(name, "ready again")

    def _stop(self, running: _Running) -> None:
        program, process = running.program, running.process
        deadline = time.monotonic() + program.stop_seconds
        if process.poll() is None:
            process.send_signal(program.stop_signal)
        while process.poll() is None:
            taken = signal.sigtimedwait(STOP_SIGNALS, 0.05)
            self._is_hurried = self._is_hurried or (taken is not None and taken.si_signo == signal.SIGINT)
            if self._is_hurried or time.monotonic() > deadline:
                _kill(process, program.kill_signal)

    def _pids(self) -> set[int]:
        return {running.process.pid for running in self._running.values()}

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _describe_end(self, name: str, exit_code: int) -> str:
        if exit_code < 0:
            return f"was killed by {signal.Signals(-exit_code).name}"
        words = last_message(self._log(name))
        return f"ended with exit code {exit_code}{f': {words}' if words else ''}"


def _kill(process: subprocess.Popen[bytes], kill_signal: signal.Signals) -> None:
    process.send_signal(kill_signal)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(subreaper.KILL_SECONDS)
        return
    process.kill()


def backoff_seconds(deaths: int) -> float:
    """How long to wait before a restart, by the number of consecutive deaths."""
    return min(LAST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(deaths - 1, 16))


# PostgreSQL's word for what ended it, and how many of the last lines of a log may name it.
FAULT, FAULT_LINES = "FATAL: ", 8


def last_message(log: Path) -> str:
    """The last line of a log if it is a message for people, or a FATAL one near it; empty for a line below warning."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 65536))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    # Tidying up after a fault, a program may say more: the fault itself is what helps.
    message = next((line for line in reversed(lines[-FAULT_LINES:]) if FAULT in line), lines[-1] if lines else "")
    with contextlib.suppress(ValueError):
        entry = json.loads(message)
        message = entry.get("exception") or (entry["event"] if entry.get("level") in ("warning", "error") else "")
    return message.strip().rpartition("\n")[2][:300].rstrip(".")
