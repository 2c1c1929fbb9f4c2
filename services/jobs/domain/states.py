"""The states of a job: which follows which, and the stage, progress and event that belong to each.

    awaiting_upload ─▶ queued ─▶ quick_running ─▶ quick_done ─▶ deep_running ─▶ done
          │              ▲ │          │               │  └───(deep off)──────────▲
          │              │ └──────────┼──(quick result is in)──▶ deep_running
          │              └────────────┴── a launch was lost and tries are left ──┘
          ├─▶ failed ─▶ queued   (CompleteUpload again, or RetryJob)
          └─▶ cancelled          (from every state that is not final)

Every update of a status names the states that it may come from, taken from this table; an update that moves no row is
an error for the caller. A trigger of the database adds an event to each transition, so that none lacks one.
"""

from enum import StrEnum


class Status(StrEnum):
    """The column `status`, in the order of the database's enum.

    That enum has two labels more, from before two-phase uploads; a CHECK refuses them.
    """

    AWAITING_UPLOAD = "awaiting_upload"
    QUEUED = "queued"
    QUICK_RUNNING = "quick_running"
    QUICK_DONE = "quick_done"
    DEEP_RUNNING = "deep_running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ResultStage(StrEnum):
    """The stages of an analysis, each of which has a result."""

    QUICK = "quick"
    DEEP = "deep"


class SessionStatus(StrEnum):
    PENDING = "pending"
    UPLOADED = "uploaded"
    PROCESSING = "processing"
    READY = "ready"
    FAILED = "failed"


# Callers write `states.QUEUED`.
AWAITING_UPLOAD = Status.AWAITING_UPLOAD
QUEUED = Status.QUEUED
QUICK_RUNNING = Status.QUICK_RUNNING
QUICK_DONE = Status.QUICK_DONE
DEEP_RUNNING = Status.DEEP_RUNNING
DONE = Status.DONE
FAILED = Status.FAILED
CANCELLED = Status.CANCELLED

STATUSES = tuple(Status)

FINAL = frozenset({DONE, CANCELLED})
# A state that changes only on request.
SETTLED = FINAL | {FAILED}
# A launch may be open.
LAUNCHED = frozenset({QUEUED, QUICK_RUNNING, QUICK_DONE, DEEP_RUNNING})
# The job counts against its owner's quota.
IN_FLIGHT = LAUNCHED | {AWAITING_UPLOAD}
# The upload may still be completed.
UPLOADABLE = frozenset({AWAITING_UPLOAD, FAILED})

# target: the states that it may come from
SOURCES: dict[Status, frozenset[Status]] = {
    QUEUED: frozenset({AWAITING_UPLOAD, FAILED, QUICK_RUNNING, QUICK_DONE, DEEP_RUNNING}),
    QUICK_RUNNING: frozenset({QUEUED}),
    QUICK_DONE: frozenset({QUICK_RUNNING}),
    DEEP_RUNNING: frozenset({QUICK_DONE, QUEUED}),
    DONE: frozenset({QUICK_DONE, DEEP_RUNNING}),
    FAILED: UPLOADABLE | LAUNCHED,
    CANCELLED: UPLOADABLE | LAUNCHED,
}

# The status of the job that decides for its session, and the status that the session then has.
SESSION_STATUSES = {
    QUEUED: SessionStatus.UPLOADED,
    QUICK_RUNNING: SessionStatus.PROCESSING,
    QUICK_DONE: SessionStatus.PROCESSING,
    DEEP_RUNNING: SessionStatus.PROCESSING,
    DONE: SessionStatus.READY,
    FAILED: SessionStatus.FAILED,
}

# The column `stage`, which operators read.
STAGES = {
    AWAITING_UPLOAD: "AWAITING_UPLOAD",
    QUEUED: "QUEUED",
    QUICK_RUNNING: "QUICK",
    QUICK_DONE: "QUICK_DONE",
    DEEP_RUNNING: "DEEP",
    DONE: "DONE",
    FAILED: "FAILED",
    CANCELLED: "CANCELLED",
}
DEEP_QUEUED = "DEEP_QUEUED"

# progress_pct on entering a state; None keeps the value.
PROGRESS: dict[Status, int | None] = {
    AWAITING_UPLOAD: 0,
    QUEUED: 0,
    QUICK_RUNNING: 1,
    QUICK_DONE: 50,
    DEEP_RUNNING: 51,
    DONE: 100,
    FAILED: None,
    CANCELLED: None,
}
# Bounds of progress_pct while a stage runs.
RUNNING_PROGRESS = {QUICK_RUNNING: (1, 49), DEEP_RUNNING: (51, 99)}

EVENT_TYPES = {
    AWAITING_UPLOAD: "JobCreated",
    QUEUED: "JobQueued",
    QUICK_RUNNING: "JobQuickStarted",
    QUICK_DONE: "JobQuickDone",
    DEEP_RUNNING: "JobDeepStarted",
    DONE: "JobDone",
    FAILED: "JobFailed",
    CANCELLED: "JobCancelled",
}
DEAD_LETTERED = "DEAD_LETTERED"
EVENT_NAMES = (*EVENT_TYPES.values(), "JobDeadLettered")


def event_type(to: Status, failure_code: str) -> str:
    """The CloudEvents type of a transition."""
    return "JobDeadLettered" if to == FAILED and failure_code == DEAD_LETTERED else EVENT_TYPES[to]


def stage(status: Status, results_stage: ResultStage | None) -> str:
    """The stage string of a status; a queued job that has a result waits for deep."""
    return DEEP_QUEUED if status == QUEUED and results_stage else STAGES[status]


def progress(status: Status, results_stage: ResultStage | None) -> int | None:
    """progress_pct on entering a status; None keeps the value."""
    return PROGRESS[QUICK_DONE if status == QUEUED and results_stage else status]


def running_progress(status: Status, fraction: float) -> int:
    """progress_pct while a stage runs, from the fraction (0..1) of the stage that is done."""
    low, high = RUNNING_PROGRESS[status]
    # In this order: max(0.0, NaN) is 0.0, max(NaN, 0.0) is NaN.
    return low + int((high - low) * min(max(0.0, fraction), 1.0))
