"""The limits that `decide` works by, made from the settings."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Limits:
    # How much may run at once.
    capacity: int
    # How long one may run.
    deadline: timedelta
    # How long one may still run when its launch has ended.
    linger: timedelta
    # The same for what nobody ever opened a launch for; None: for ever.
    orphan_grace: timedelta | None = None
    # How long an image or a configuration may fail.
    start_patience: timedelta = timedelta(seconds=30)
    # How long a GPU of our choice may be waited for.
    gpu_wait: timedelta = timedelta(minutes=2)
    # After how long something on a dead node is deleted by force; None: never.
    force_after: timedelta | None = None
