"""Adopts stray processes: descendants whose parent died. Reaps them when they end, and ends them with `crease up`.

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
# A process inside the kernel may survive SIGKILL; it is not waited for longer than this.
KILL_SECONDS = 5.0


def become_subreaper() -> None:
    """From now on every descendant whose parent dies becomes this process's child."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_with_parent(parent: int) -> None:
    """From now on the kernel sends SIGTERM to this process when `parent` dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def reap(owned: Collection[int]) -> None:
    """Reaps dead stray children; the dead among `owned` (process ids) are left to their owner."""
    with contextlib.suppress(ChildProcessError):
        while dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if dead.si_pid in owned:
                return
            os.waitpid(dead.si_pid, 0)


def end_strays(owned: Collection[int], *, patience_seconds: float) -> None:
    """Ends every child outside `owned`, and its descendants: SIGTERM, and SIGKILL after the patience."""
    patience_ends = time.monotonic() + patience_seconds
    terminated: set[int] = set()
    while (strays := _strays(owned)) and time.monotonic() < patience_ends + KILL_SECONDS:
        for stray in strays:
            with contextlib.suppress(psutil.NoSuchProcess):
                if time.monotonic() > patience_ends:
                    stray.kill()
                elif stray.pid not in terminated:
                    stray.terminate()
        terminated.update(stray.pid for stray in strays)
        time.sleep(0.05)


def _strays(owned: Collection[int]) -> list[psutil.Process]:
    reap(owned)
    strays = [child for child in psutil.Process().children() if child.pid not in owned]
    # Descendants too: a shell around a program waits for it, and passes no signal on.
    for stray in list(strays):
        with contextlib.suppress(psutil.NoSuchProcess):
            strays.extend(stray.children(recursive=True))
    return strays
