"""Every place where a crash can fall between two writes, numbered; a test kills the process at each.

in both           jobs: launch opened ─1─ … ─ jobs: launch confirmed ─5─
                  process or pod ended and judged ─6─ jobs: launch ended ─7─
                  … ─ asked to end ─9─
on this machine   ─1─ record written ─2─ record has its name ─3─ process started ─4─      record marked as deleted ─8─
in Kubernetes     ─ Lease taken ─10─      ─1─ Job created ─11─      label with the status written ─12─
"""

import os
import signal
from enum import IntEnum


class CrashPoint(IntEnum):
    """Named by what was written last."""

    OPENED = 1
    WRITTEN = 2
    NAMED = 3
    STARTED = 4
    CONFIRMED = 5
    JUDGED = 6
    ENDED = 7
    MARKED = 8
    TOLD = 9
    LED = 10
    CREATED = 11
    LABELLED = 12


ON_THIS_MACHINE = frozenset({CrashPoint.WRITTEN, CrashPoint.NAMED, CrashPoint.STARTED, CrashPoint.MARKED})
IN_KUBERNETES = frozenset({CrashPoint.LED, CrashPoint.CREATED, CrashPoint.LABELLED})


def here(point: CrashPoint) -> None:
    """Dies on the spot, as by a power cut, where CREASE_CRASH_AT names the point. Only tests set it."""
    if os.environ.get("CREASE_CRASH_AT") == point.name:
        os.kill(os.getpid(), signal.SIGKILL)
