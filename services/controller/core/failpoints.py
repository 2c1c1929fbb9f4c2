"""The numbered points between two writes at which a test kills the process.

both              jobs: launch opened ─1─ … ─ jobs: launch confirmed ─5─
                  workload ended and classified ─6─ jobs: launch ended ─7─
                  … ─ deletion requested ─9─
this machine      ─1─ record written ─2─ record named ─3─ process started ─4─      deletion recorded ─8─
Kubernetes        ─ Lease acquired ─10─      ─1─ Job created ─11─      status label written ─12─
"""

import os
import signal
from enum import IntEnum


class CrashPoint(IntEnum):
    """Each is named after the last write before it."""

    OPENED = 1
    RECORD_WRITTEN = 2
    RECORD_NAMED = 3
    PROCESS_STARTED = 4
    CONFIRMED = 5
    CLASSIFIED = 6
    ENDED = 7
    DELETION_RECORDED = 8
    DELETION_REQUESTED = 9
    LEASE_ACQUIRED = 10
    JOB_CREATED = 11
    STATUS_LABELLED = 12


ON_THIS_MACHINE = frozenset(
    {
        CrashPoint.RECORD_WRITTEN,
        CrashPoint.RECORD_NAMED,
        CrashPoint.PROCESS_STARTED,
        CrashPoint.DELETION_RECORDED,
    }
)
IN_KUBERNETES = frozenset({CrashPoint.LEASE_ACQUIRED, CrashPoint.JOB_CREATED, CrashPoint.STATUS_LABELLED})


def hit(point: CrashPoint) -> None:
    """Kills this process, as a power cut would, if CREASE_CRASH_AT names the point. Only tests set it."""
    if os.environ.get("CREASE_CRASH_AT") == point.name:
        os.kill(os.getpid(), signal.SIGKILL)
