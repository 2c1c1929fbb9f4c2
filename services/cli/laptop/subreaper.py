"""Descendants that lost their parent: they become ours, are reaped when they end, and ended when we do.

An analyzer outlives the controller that started it, as a pod does; it must not outlive `crease up`.
"""

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Collection

import psutil

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
# A process in the kernel's hands may not even die of SIGKILL; it is not waited for longer than this.
KILL_SECONDS = 5.0


def adopt() -> None:
    """From now on every descendant whose parent dies becomes this process's child."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_with_parent(parent: int) -> None:
    """From now on this process gets SIGTERM when `parent` dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def reap(ours: Collection[int]) -> None:
    """Takes the exit codes of dead children that nobody else waits for; those of `ours` are left to their owner."""
    with contextlib.suppress(ChildProcessError):
        while dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if dead.si_pid in ours:
                return
            os.waitpid(dead.si_pid, 0)


def end(ours: Collection[int], *, patience_seconds: float) -> None:
    """Ends every child that is not one of `ours`, and theirs: SIGTERM, then SIGKILL when patience ends."""
    patience_ends = time.monotonic() + patience_seconds
    told: set[int] = set()
    while (strays := _strays(ours)) and time.monotonic() < patience_ends + KILL_SECONDS:
        for stray in strays:
            with contextlib.suppress(psutil.NoSuchProcess):
                if time.monotonic() > patience_ends:
                    stray.kill()
                elif stray.pid not in told:
                    stray.terminate()
        told.update(stray.pid for stray in strays)
        time.sleep(0.05)


def _strays(ours: Collection[int]) -> list[psutil.Process]:
    reap(ours)
    strays = [child for child in psutil.Process().children() if child.pid not in ours]
    # Theirs too: a shell around a program waits for it, and passes no signal on.
    for stray in list(strays):
        with contextlib.suppress(psutil.NoSuchProcess):
            strays.extend(stray.children(recursive=True))
    return strays
