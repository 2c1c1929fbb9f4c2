"""The life of a job, written down once.

    awaiting_upload ─▶ queued ─▶ quick_running ─▶ quick_done ─▶ deep_running ─▶ done
          │              ▲ │          │               │  └───(deep off)──────────▲
          │              │ └──────────┼──(quick result is in)──▶ deep_running
          │              └────────────┴── a launch was lost and tries are left ──┘
          ├─▶ failed ─▶ queued   (CompleteUpload again, or RetryJob)
          └─▶ cancelled          (from every state that is not final)

Every update of a status names the states it may come from, taken from this table; an update that moves no row is an
error the caller sees. The database adds an event to each transition by a trigger, so that none can go without one.
"""

AWAITING_UPLOAD = "awaiting_upload"
QUEUED = "queued"
QUICK_RUNNING = "quick_running"
QUICK_DONE = "quick_done"
DEEP_RUNNING = "deep_running"
DONE = "done"
FAILED = "failed"
CANCELLED = "cancelled"

# In the order of the database's enum. Databases made before two-phase uploads hold two more, which a CHECK refuses.
STATUSES = (AWAITING_UPLOAD, QUEUED, QUICK_RUNNING, QUICK_DONE, DEEP_RUNNING, DONE, FAILED, CANCELLED)

FINAL = frozenset({DONE, CANCELLED})
# A launch may be at work.
LAUNCHED = frozenset({QUEUED, QUICK_RUNNING, QUICK_DONE, DEEP_RUNNING})

# to: from
SOURCES: dict[str, frozenset[str]] = {
    QUEUED: frozenset({AWAITING_UPLOAD, FAILED, QUICK_RUNNING, QUICK_DONE, DEEP_RUNNING}),
    QUICK_RUNNING: frozenset({QUEUED}),
    QUICK_DONE: frozenset({QUICK_RUNNING}),
    DEEP_RUNNING: frozenset({QUICK_DONE, QUEUED}),
    DONE: frozenset({QUICK_DONE, DEEP_RUNNING}),
    FAILED: frozenset({AWAITING_UPLOAD, FAILED}) | LAUNCHED,
    CANCELLED: frozenset({AWAITING_UPLOAD, FAILED}) | LAUNCHED,
}

# What operators read in the column `stage`.
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

# Where progress_pct stands when a state is entered; None leaves it as it was.
PROGRESS = {
    AWAITING_UPLOAD: 0,
    QUEUED: 0,
    QUICK_RUNNING: 1,
    QUICK_DONE: 50,
    DEEP_RUNNING: 51,
    DONE: 100,
    FAILED: None,
    CANCELLED: None,
}
# While a stage runs, progress moves inside these bounds.
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


def event_type(to: str, failure_code: str) -> str:
    """The CloudEvents type of a transition."""
    return "JobDeadLettered" if to == FAILED and failure_code == DEAD_LETTERED else EVENT_TYPES[to]


def stage(status: str, results_stage: str | None) -> str:
    """The stage string of a status; a queued job whose quick result is in waits for deep."""
    return DEEP_QUEUED if status == QUEUED and results_stage == "quick" else STAGES[status]


def progress(status: str, results_stage: str | None) -> int | None:
    """progress_pct on entering a status, or None where it stays as it was."""
    return PROGRESS[QUICK_DONE] if status == QUEUED and results_stage == "quick" else PROGRESS[status]


def running_progress(status: str, fraction: float) -> int:
    """progress_pct while a stage runs, from the fraction (0..1) of the stage that is done."""
    low, high = RUNNING_PROGRESS[status]
    # In this order: max(0.0, NaN) is 0.0, max(NaN, 0.0) is NaN.
    return low + int((high - low) * min(max(0.0, fraction), 1.0))
