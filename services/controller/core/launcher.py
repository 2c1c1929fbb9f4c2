"""The seam to whatever runs analyses: a Kubernetes namespace, or this machine. One contract suite runs on both.

create ─▶ pending ─▶ running ─▶ succeeded | failed          (a name is used once, for ever)
                └───── delete, by uid ──────┘

What runs for a launch is named after it, so that a second create finds the first: "already exists" is success.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from crease.analysis.v1.launch_pb2 import ENDING_UNKNOWN, Ending, Launch
from crease.jobs.v1.job_pb2 import Accelerator
from services import naming

JOB_LABEL = naming.JOB_LABEL
LAUNCH_LABEL = naming.LAUNCH_LABEL


@dataclass(frozen=True)
class Placement:
    """What a launch is to run on, and why; for people."""

    on: Accelerator.ValueType
    reason: str
    # It could have had a GPU, had one been free.
    is_fallback: bool = False


class Phase(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class Reason(StrEnum):
    """Why something failed, where the exit code alone does not tell."""

    # Its end was asked for, by us or by hand.
    DELETED = "Deleted"
    # Gone without an exit code: killed from outside, or its machine stopped.
    KILLED = "Killed"
    # Whoever created it died before it was started.
    NEVER_STARTED = "NeverStarted"
    # Its node was drained, died or was wanted for something else.
    DISRUPTED = "Disrupted"
    # It took more of the node's disk than it may, or the node was short of something.
    EVICTED = "Evicted"
    OUT_OF_MEMORY = "OutOfMemory"
    DEADLINE = "DeadlineExceeded"
    # What it was to run does not run.
    CANNOT_START = "CannotStart"
    # Something that was to run before it failed, which is not ours.
    INIT_FAILED = "InitFailed"


class Holding(StrEnum):
    """Why something that was created has not begun."""

    SUSPENDED = "suspended"
    # No node takes it, or no pod may be created for it.
    UNSCHEDULED = "unscheduled"
    # Its image or its configuration is wrong; it may be repaired.
    CANNOT_START = "cannot start"
    # It is wrong for good.
    NEVER_STARTS = "never starts"


@dataclass(frozen=True, slots=True)
class Hold:
    holding: Holding
    # What the cluster said.
    words: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Seen:
    """What runs, or ran, under one name."""

    name: str
    # Of this very thing: another one of the same name has another.
    uid: str
    phase: Phase
    labels: Mapping[str, str]
    # Since when its time counts.
    created_at: datetime
    placed_on: Accelerator.ValueType
    placement_reason: str
    # None while it lives, and where nobody was left to see it end.
    exit_code: int | None = None
    reason: Reason | None = None
    # What the cluster said of its end.
    message: str = ""
    # None where it has begun, and where nothing holds it up.
    hold: Hold | None = None
    # Its end was asked for, and has not come yet.
    is_deleting: bool = False
    # The node it sits on, where that does not answer: nobody can say whether it runs.
    dead_node: str = ""
    # It has ended, and something of it is still there to be deleted; a record is not.
    is_left: bool = False
    # What people read of it in the cluster; None where nobody looks.
    status: str | None = None

    @property
    def is_live(self) -> bool:
        """Whether it may still be at work."""
        return self.phase in (Phase.PENDING, Phase.RUNNING)

    @property
    def is_ours(self) -> bool:
        """Whether its labels say the same as its name."""
        return self.name == _name(self.labels.get(JOB_LABEL), self.labels.get(LAUNCH_LABEL))

    @property
    def job_id(self) -> str:
        """The job whose launch it is; empty for what is not ours."""
        return self.labels.get(JOB_LABEL, "")


@dataclass(frozen=True)
class Gpus:
    """What is known of GPUs: how many are `free` by node, how many of these are promised to what no node has taken yet,
    and whether a pool grows where none is free. An empty resource: there are none."""

    resource: str
    free: Mapping[str, int]
    promised: int = 0
    scales_up: bool = False


class Unknown(Exception):
    """The cluster gave no answer. Nothing follows from that: neither that something runs nor that nothing does."""


class NotNow(Unknown):
    """The cluster refused to run it this time; nothing runs, and asked again it may take it. `no_room`: a quota is used
    up; else we lack a right, or its rules changed."""

    def __init__(self, message: str, *, no_room: bool = False) -> None:
        super().__init__(message)
        self.no_room = no_room


class Rejected(Exception):
    """The cluster will never run the launch under its name; the message is a sentence for people."""

    def __init__(self, message: str, ending: Ending.ValueType = ENDING_UNKNOWN) -> None:
        super().__init__(message)
        self.ending = ending


class Launcher(Protocol):
    """Every call may be repeated, and raises Unknown where there was no answer."""

    def now(self) -> datetime:
        """The time by the clock that `list` speaks of."""

    def is_ready(self) -> bool:
        """Whether `list` has an answer now, as far as can be told without asking."""

    async def create(self, launch: Launch, placement: Placement) -> Seen:
        """Runs the launch, unless it was run before: then what became of that. Raises Rejected for a name that is
        taken by something else, and for what the cluster will never run."""

    async def list(self) -> Sequence[Seen]:
        """Everything of ours and nothing else; what has ended, as long as it is remembered. Never empty for want of
        an answer, but what was created just now may be missing: `look` tells."""

    async def look(self, name: str) -> Seen | None:
        """What lives under a name at this moment, or has ended and is left. None: nothing of it is there."""

    def gpus(self) -> Gpus | None:
        """The GPUs to place launches on; None where placing is not ours."""

    async def delete(self, seen: Seen, *, force: bool = False) -> None:
        """Asks for the end of exactly this thing. It is gone when `list` says so; until then, ask again. The name
        stays used. By force, it is forgotten without a proof that it ended."""

    async def mark(self, seen: Seen, status: str) -> None:
        """Writes where its job stands, for people who look at the cluster."""

    def tell(self, seen: Seen, what: str, why: str) -> None:
        """Notes what was done with it and why, for people who look at the cluster. May get lost."""


def name_of(launch: Launch) -> str:
    """The one name that a launch may run under."""
    return _name(launch.job_id, str(launch.launch_no))


def previous_name(launch: Launch) -> str:
    """The name that the launch before ran under; empty for the first one."""
    return _name(launch.job_id, str(launch.launch_no - 1)) if launch.launch_no > 1 else ""


def labels_of(launch: Launch) -> dict[str, str]:
    """The labels that prove that something runs for this launch and is ours."""
    return {JOB_LABEL: launch.job_id, LAUNCH_LABEL: str(launch.launch_no)}


def job_of(seen: Seen) -> tuple[str, int]:
    """The job and the number of the launch that something of ours runs for."""
    return seen.labels[JOB_LABEL], int(seen.labels[LAUNCH_LABEL])


def check_ours(seen: Seen) -> Seen:
    """What was found under a launch's name, if it is the launch's. Raises Rejected."""
    if seen.is_ours:
        return seen
    raise Rejected(f"The name {seen.name} is taken by something else: it carries the labels {dict(seen.labels)}")


def _name(job_id: str | None, launch_no: str | None) -> str:
    return naming.launch_name(job_id, launch_no)
