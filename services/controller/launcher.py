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

from crease.analysis.v1.launch_pb2 import Launch
from crease.jobs.v1.job_pb2 import Accelerator

JOB_LABEL = "crease.dev/job"
LAUNCH_LABEL = "crease.dev/launch"


@dataclass(frozen=True)
class Placement:
    """What a launch is to run on, and why; for people."""

    on: Accelerator.ValueType
    reason: str


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


@dataclass(frozen=True)
class Seen:
    """What runs, or ran, under one name."""

    name: str
    # Of this very thing: another one of the same name has another.
    uid: str
    phase: Phase
    labels: Mapping[str, str]
    created_at: datetime
    placed_on: Accelerator.ValueType
    placement_reason: str
    # None while it lives, and where nobody was left to see it end.
    exit_code: int | None = None
    # A Reason of ours, or the cluster's own word.
    reason: str = ""

    @property
    def is_live(self) -> bool:
        """Whether it may still be at work."""
        return self.phase in (Phase.PENDING, Phase.RUNNING)

    @property
    def is_ours(self) -> bool:
        """Whether its labels say the same as its name."""
        return self.name == _name(self.labels.get(JOB_LABEL), self.labels.get(LAUNCH_LABEL))


class Unknown(Exception):
    """The cluster gave no answer. Nothing follows from that: neither that something runs nor that nothing does."""


class Rejected(Exception):
    """The cluster will never run the launch under its name; the message is a sentence for people."""


class Launcher(Protocol):
    """Every call may be repeated, and raises Unknown where there was no answer."""

    async def create(self, launch: Launch) -> Seen:
        """Runs the launch, unless it was run before: then what became of that. Raises Rejected for a name that is
        taken by something else."""

    async def list(self) -> Sequence[Seen]:
        """Everything of ours and nothing else; what has ended, as long as it is remembered. Never empty for want of
        an answer."""

    async def delete(self, name: str, uid: str) -> None:
        """Asks for the end of exactly this thing. It is gone when `list` says so; until then, ask again. The name
        stays used."""


def name_of(launch: Launch) -> str:
    """The one name that a launch may run under."""
    return _name(launch.job_id, str(launch.launch_no))


def labels_of(launch: Launch) -> dict[str, str]:
    """The labels that prove that something runs for this launch and is ours."""
    return {JOB_LABEL: launch.job_id, LAUNCH_LABEL: str(launch.launch_no)}


def check_ours(seen: Seen) -> Seen:
    """What was found under a launch's name, if it is the launch's. Raises Rejected."""
    if seen.is_ours:
        return seen
    raise Rejected(f"The name {seen.name} is taken by something else: it carries the labels {dict(seen.labels)}")


def _name(job_id: str | None, launch_no: str | None) -> str:
    return f"analysis-{job_id}-{launch_no}"
