"""The process tree of the laptop: each program is started, waited for, started again when it dies, and ended in turn.

start ─▶ ready ─▶ watched ─▶ ended, the last started first
           ▲          │
           └─ backoff ┘  died by itself

One thread, no signal handlers: the stop signals stay blocked and are taken where the tree waits. Each program is a
group of its own, so that Ctrl-C does not reach it and the order of the end is ours.
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

from services.cli.errors import Trouble
from services.cli.laptop import subreaper

LEASH = Path(__file__).with_name("pdeathsig.py")
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
START_SECONDS = 60.0
# A program that lived this long was well: its next death is its first.
WELL_SECONDS = 60.0
FIRST_BACKOFF_SECONDS = 0.5
LAST_BACKOFF_SECONDS = 30.0
LOG_BYTES = 10 * 2**20

Say = Callable[[str, str], None]


class Stopped(Exception):
    """Somebody asked us to end."""


@dataclass(frozen=True)
class Program:
    """`name` is also its log's. `is_ready` is asked until it says yes, and never raises."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    is_ready: Callable[[], bool]
    # Runs as that user; empty: as we do.
    user: str = ""
    # How it is asked to end, and what ends it at once and in any case.
    stop_signal: signal.Signals = signal.SIGTERM
    kill_signal: signal.Signals = signal.SIGKILL
    stop_seconds: float = 10.0


@dataclass
class _Running:
    program: Program
    process: subprocess.Popen[bytes]
    started_at: float = field(default_factory=time.monotonic)
    # Deaths in a row, and when the next try is due; None while it runs.
    deaths: int = 0
    retry_at: float | None = None
    is_back: bool = True


class Tree:
    """`say(name, sentence)` tells the user what became of a program."""

    def __init__(self, logs: Path, say: Say) -> None:
        self._logs = logs
        self._say = say
        self._running: dict[str, _Running] = {}
        self._hurry = False
        logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        subreaper.adopt()

    def run(self, name: str, command: Sequence[str], environment: Mapping[str, str], *, user: str = "") -> None:
        """One step, to its end. Raises Trouble when it fails."""
        step = Program(name, command, environment, lambda: False, user=user)
        process = self._spawn(step)
        self._running[name] = _Running(step, process)
        while process.poll() is None:
            self.pause(0.05)
        del self._running[name]
        if process.returncode != 0:
            raise Trouble(f"{name} {self._ending(name, process.returncode)} ({self._log(name)}).")

    def start(self, program: Program) -> None:
        """Starts a program and waits until it is ready. Raises Trouble when it ends instead, or takes too long."""
        process = self._spawn(program)
        self._running[program.name] = _Running(program, process)
        deadline = time.monotonic() + START_SECONDS
        while not program.is_ready():
            if process.poll() is not None:
                ending = self._ending(program.name, process.returncode)
                raise Trouble(f"{program.name} {ending} ({self._log(program.name)}).")
            if time.monotonic() > deadline:
                raise Trouble(f"{program.name} was not ready after {START_SECONDS:.0f} s ({self._log(program.name)}).")
            self.pause(0.1)
        self._say(program.name, "ready")

    def watch(self, chore: Callable[[], None] = lambda: None) -> None:
        """Keeps every program running and does a chore now and then, until somebody asks us to end (Stopped)."""
        while True:
            for running in self._running.values():
                self._revive(running)
            chore()
            subreaper.reap(self._pids())
            self.pause(0.25)

    def end(self) -> None:
        """Ends every program and everything they left behind. A second Ctrl-C ends it all at once."""
        while self._running:
            _, running = self._running.popitem()
            self._stop(running)
            # What the controller left is ended while `jobs` can still be told.
            subreaper.end(self._pids(), patience_seconds=0.0 if self._hurry else 5.0)

    def pause(self, seconds: float) -> None:
        """Waits. Raises Stopped when a stop signal comes."""
        if signal.sigtimedwait(STOP_SIGNALS, seconds):
            raise Stopped

    def _spawn(self, program: Program) -> subprocess.Popen[bytes]:
        leash = (sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), str(int(program.kill_signal)), program.user)
        log = self._log(program.name)
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.rename(log.with_suffix(".log.1"))
        with log.open("ab") as output:
            return subprocess.Popen(
                (*leash, *program.command),
                env=dict(program.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                process_group=0,
            )

    def _revive(self, running: _Running) -> None:
        name, now = running.program.name, time.monotonic()
        if running.retry_at is not None and now >= running.retry_at:
            running.process = self._spawn(running.program)
            running.started_at, running.retry_at, running.is_back = now, None, False
        elif running.retry_at is None and running.process.poll() is not None:
            running.deaths = 1 if now - running.started_at > WELL_SECONDS else running.deaths + 1
            delay = backoff_seconds(running.deaths)
            running.retry_at = now + delay
            ending = self._ending(name, running.process.returncode)
            self._say(name, f"{ending}; starts again in {delay:g} s ({self._log(name)})")
        elif running.retry_at is None and not running.is_back and running.program.is_ready():
            running.is_back = True
            self._say(name, "ready again")

    def _stop(self, running: _Running) -> None:
        program, process = running.program, running.process
        deadline = time.monotonic() + program.stop_seconds
        if process.poll() is None:
            process.send_signal(program.stop_signal)
        while process.poll() is None:
            taken = signal.sigtimedwait(STOP_SIGNALS, 0.05)
            self._hurry = self._hurry or (taken is not None and taken.si_signo == signal.SIGINT)
            if self._hurry or time.monotonic() > deadline:
                _kill(process, program.kill_signal)

    def _pids(self) -> set[int]:
        return {running.process.pid for running in self._running.values()}

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _ending(self, name: str, exit_code: int) -> str:
        if exit_code < 0:
            return f"was ended by {signal.Signals(-exit_code).name}"
        words = last_words(self._log(name))
        return f"ended with exit code {exit_code}{f', saying: {words}' if words else ''}"


def _kill(process: subprocess.Popen[bytes], kill_signal: signal.Signals) -> None:
    process.send_signal(kill_signal)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(subreaper.KILL_SECONDS)
        return
    process.kill()


def backoff_seconds(deaths: int) -> float:
    """How long to wait after so many deaths in a row."""
    return min(LAST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(deaths - 1, 16))


def last_words(log: Path) -> str:
    """What a program said last, if it was meant for people: not one of its lines about calls that it answered."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 65536))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    said = lines[-1] if lines else ""
    with contextlib.suppress(ValueError):
        entry = json.loads(said)
        said = entry.get("exception") or (entry["event"] if entry.get("level") in ("warning", "error") else "")
    return said.strip().rpartition("\n")[2][:300].rstrip(".")
