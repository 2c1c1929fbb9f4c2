"""The words for a job's stage: the client and the page say the same."""

# By the column `stage` of a job.
STAGES = {
    "AWAITING_UPLOAD": "waiting for its video",
    "QUEUED": "queued",
    "QUICK": "quick analysis",
    "QUICK_DONE": "quick result ready",
    "DEEP_QUEUED": "queued for the deep analysis",
    "DEEP": "deep analysis",
    "DONE": "done",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
}


def describe(stage: str) -> str:
    """A stage, for people."""
    return STAGES.get(stage, stage.lower() or "unknown")
