"""The interface to the system that runs analyses: a Kubernetes namespace, or processes of this machine.

create ─▶ pending ─▶ running ─▶ succeeded | failed
                └───── delete, by uid ──────┘

A launch has one workload: a Kubernetes Job or a local process. The workload has the launch's name, and a name is used
once: a second create finds the first workload, and "already exists" is success. tests/contract/test_launcher.py holds
every launcher to this interface.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from crease.analysis.v1.launch_pb2 import ENDING_UNKNOWN, Ending, Launch
from crease.jobs.v1.job_pb2 import Accelerator
from services import naming


@dataclass(frozen=True)
class Placement:
    """The accelerator that a launch is placed on, with the reason as a sentence for people."""

    on: Accelerator.ValueType
    reason: str
    # The launch could have used a GPU, but none was free.
    is_fallback: bool = False


class Phase(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class FailureReason(StrEnum):
    """Why a workload failed, where the exit code is not enough to tell."""

    # Deleted by the controller or by hand.
    DELETED = "Deleted"
    # Killed from outside, or its machine stopped: there is no exit code.
    KILLED = "Killed"
    # The controller died between the record and the start.
    NEVER_STARTED = "NeverStarted"
    # The node was drained, died or preempted the pod.
    DISRUPTED = "Disrupted"
    # The pod exceeded its disk limit, or the node ran short of a resource.
    EVICTED = "Evicted"
    OUT_OF_MEMORY = "OutOfMemory"
    DEADLINE = "DeadlineExceeded"
    # The container's command cannot be executed.
    CANNOT_START = "CannotStart"
    # The node failed to start the container.
    START_FAILED = "StartFailed"
    # An init container failed; a webhook of the cluster has injected it.
    INIT_FAILED = "InitFailed"


class PendingReason(StrEnum):
    """Why a created workload has not started."""

    SUSPENDED = "suspended"
    # No node accepts the pod, or a quota leaves no room for it.
    UNSCHEDULABLE = "unschedulable"
    # The cluster cannot create or start the pod at present, and retries: a registry, a volume or the network fails.
    DELAYED = "delayed"
    # The image or the configuration is wrong; a repair lets the pod start.
    START_ERROR = "start error"
    # The pod can never start, whatever is repaired.
    PERMANENT_START_ERROR = "permanent start error"


@dataclass(frozen=True, slots=True)
class Pending:
    """The state of a workload that waits."""

    reason: PendingReason
    # In the cluster's words.
    message: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Observed:
    """The observed state of the workload under one name."""

    name: str
    # Distinguishes this workload from any other of the same name.
    uid: str
    phase: Phase
    labels: Mapping[str, str]
    # The time to wait counts from here.
    created_at: datetime
    placed_on: Accelerator.ValueType
    placement_reason: str
    # None while the analyzer runs, and where no exit code was recorded. A workload may live on without its analyzer.
    exit_code: int | None = None
    failure: FailureReason | None = None
    # The failure in the cluster's words.
    message: str = ""
    # None once the workload has started, and where no obstacle is known.
    pending: Pending | None = None
    # Its deletion was requested and is not complete.
    is_deleting: bool = False
    # The node that it runs on, if that node does not answer: whether the workload still runs is unknown.
    dead_node: str = ""
    # The workload has ended, and pods of it still have to be deleted. A mere record does not count.
    has_leftovers: bool = False
    # The deadline counts from here; None before the start, or where it is created and started at once.
    started_at: datetime | None = None
    # No release is named on it, so it may belong to another one.
    is_unmarked: bool = False
    # The status label; None where the launcher has no labels for people.
    status_label: str | None = None

    @property
    def is_live(self) -> bool:
        """Whether the workload may still run."""
        return self.phase in (Phase.PENDING, Phase.RUNNING)

    @property
    def is_ours(self) -> bool:
        """Whether the labels match the name."""
        return self.name == naming.launch_name(self.labels.get(naming.JOB_LABEL), self.labels.get(naming.LAUNCH_LABEL))

    @property
    def job_id(self) -> str:
        """The job of the launch; empty for a workload that is not ours."""
        return self.labels.get(naming.JOB_LABEL, "")


@dataclass(frozen=True)
class Gpus:
    """The GPUs of the cluster: `free` counts them by node; `promised` of these belong to pods without a node.

    `scales_up`: the node pool grows when no GPU is free. An empty `resource`: the cluster has no GPUs.
    """

    resource: str
    free: Mapping[str, int]
    promised: int = 0
    scales_up: bool = False


class Unknown(Exception):
    """The cluster gave no answer, so the state of the workload is unknown: it may run or not."""


class RetryableRejection(Unknown):
    """The cluster rejected the creation for now; no workload runs, and a later attempt may succeed.

    `no_room`: a quota is exhausted. Otherwise the controller lacks a right, or the right has changed.
    """

    def __init__(self, message: str, *, no_room: bool = False) -> None:
        super().__init__(message)
        self.no_room = no_room


class PermanentRejection(Exception):
    """The cluster will never run the launch under its name; the message is a sentence for people."""

    def __init__(self, message: str, ending: Ending.ValueType = ENDING_UNKNOWN) -> None:
        super().__init__(message)
        self.ending = ending


class Launcher(Protocol):
    """Every call is idempotent, and raises Unknown without an answer."""

    def now(self) -> datetime:
        """The time by the clock that stamps the workloads."""

    def is_ready(self) -> bool:
        """Whether `list` can answer now, judged without a request."""

    async def create(self, launch: Launch, placement: Placement) -> Observed:
        """Creates the workload, or returns the existing one in its present state.

        Raises PermanentRejection if another object has the name, or if the cluster can never run the workload.
        """

    async def list(self) -> Sequence[Observed]:
        """Every workload of ours and no other, including ended ones for as long as they are remembered.

        Raises Unknown rather than return an empty list. The list may lag behind a recent create; `get` does not.
        """

    async def get(self, name: str) -> Observed | None:
        """The workload under a name, read from the source; None if it neither lives nor has leftovers."""

    def gpus(self) -> Gpus | None:
        """The GPUs that launches can be placed on; None where the launcher does not place them."""

    async def delete(self, observed: Observed, *, force: bool = False) -> None:
        """Requests the deletion of this uid; repeat until `list` shows the end. The name stays used.

        `force` removes the record without a proof that the workload ended.
        """

    async def set_status_label(self, observed: Observed, status: str) -> None:
        """Writes the job's status on the workload, for people who inspect the cluster."""

    def record_event(self, observed: Observed, reason: str, message: str) -> None:
        """Records an action and its reason, for people who inspect the cluster. Best effort."""


def name_of(launch: Launch) -> str:
    """The name of the launch's workload."""
    return naming.launch_name(launch.job_id, launch.launch_no)


def previous_name(launch: Launch) -> str:
    """The name of the previous launch's workload; empty for the first launch."""
    return naming.launch_name(launch.job_id, launch.launch_no - 1) if launch.launch_no > 1 else ""


def labels_of(launch: Launch) -> dict[str, str]:
    """The labels that identify the launch's workload as ours."""
    return {naming.JOB_LABEL: launch.job_id, naming.LAUNCH_LABEL: str(launch.launch_no)}


def accelerator_word(accelerator: Accelerator.ValueType) -> str:
    """`gpu`, `cpu` or `auto`, for labels and settings."""
    return Accelerator.Name(accelerator).removeprefix("ACCELERATOR_").lower()


def job_of(observed: Observed) -> tuple[str, int]:
    """The job id and the launch number of a workload of ours."""
    return observed.labels[naming.JOB_LABEL], int(observed.labels[naming.LAUNCH_LABEL])


def check_ours(observed: Observed) -> Observed:
    """Returns the workload if its labels match its name. Raises PermanentRejection."""
    if observed.is_ours:
        return observed
    labels = dict(observed.labels)
    raise PermanentRejection(f"The name {observed.name} is taken by another object, which carries the labels {labels}")
