"""The limits that `decide` applies, made from the settings."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Limits:
    # The number of workloads that may live at once.
    capacity: int
    # The longest run of one workload.
    deadline: timedelta
    # The time that a workload gets to end by itself after its launch has ended.
    linger: timedelta
    # The same for a workload whose launch jobs never opened; None: it is never deleted.
    never_opened_grace: timedelta | None = None
    # The time that an image or a configuration may keep a workload from starting.
    start_patience: timedelta = timedelta(seconds=30)
    # The longest time from the creation of a workload to its start.
    wait: timedelta = timedelta(hours=4)
    # The longest wait for a GPU that the controller chose.
    gpu_wait: timedelta = timedelta(minutes=2)
    # A workload on a dead node is deleted by force after this long; None: never.
    force_after: timedelta | None = None
