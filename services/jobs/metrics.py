"""Counts transitions, launches and results after their commit.

Numbers of an analyzer's results are validated: they come from an untrusted file.
"""

import math
from collections.abc import Iterable
from typing import Any

from prometheus_client import Counter, Histogram

from services import metrics, traces
from services.jobs.domain import states
from services.jobs.domain.records import Accelerator, AssignedLaunch, Ending, Job, Launch

STAGE_SECONDS = Histogram(
    "crease_stage_seconds",
    "Time that jobs were in the status that they left",
    ["stage"],
    buckets=(0.005, 0.015, 0.05, 0.15, 0.5, 1.5, 5, 15, 30, 60, 150, 300, 600, 1800, 3600, 14400, 86400),
)
ENDED = Counter("crease_launches_ended_total", "Launches by ending and accelerator", ["ending", "accelerator"])
LEASES_LOST = Counter("crease_leases_lost_total", "Launches whose lease expired, or whose cluster fell silent")
CPU_PER_VIDEO_SECOND = Histogram(
    "crease_analyzer_cpu_per_video_second",
    "CPU seconds of a whole analysis per second of its video, by stage",
    ["stage"],
    buckets=(0.01, 0.03, 0.1, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30),
)
WAITED_IN_VAIN, NOT_USED = (metrics.FALLBACKS.labels(reason) for reason in ("unschedulable", "no_delegate"))
# The stages of CPU time that an analyzer reports (services/analyzer/cpu_time.py). Others are summed under OTHER_STAGE:
# the sum over all labels is the whole CPU time, and the labels stay few.
CPU_STAGES = ("fetch", "decode", "convert", "pose", "overlay", "rest")
OTHER_STAGE = "other"


def moved(before: Job, after: Job) -> None:
    """Observes how long a job was in the status that it left."""
    if metrics.is_on() and before.status not in states.FINAL:
        seconds = (after.status_since - before.status_since).total_seconds()
        STAGE_SECONDS.labels(before.status).observe(max(seconds, 0.0))


def opened(launches: Iterable[AssignedLaunch]) -> None:
    """Records the time in the queue of each opened launch, as a span of the job's trace."""
    if traces.is_on():
        for launch in launches:
            about: dict[str, Any] = {"job_id": str(launch.job_id), "launch_no": launch.launch_no}
            traces.record(
                "queue", launch.trace_parent, launch.job_queued_at or launch.opened_at, launch.opened_at, **about
            )


def ended(launch: Launch, ending: Ending) -> None:
    """Counts the ending of a launch."""
    if not metrics.is_on():
        return
    ENDED.labels(ending, launch.placed_on or "unknown").inc()
    if ending == Ending.LEASE_LOST:
        LEASES_LOST.inc()
    if ending == Ending.UNSCHEDULABLE and launch.placed_on == Accelerator.GPU:
        WAITED_IN_VAIN.inc()


def analysed(launch: Launch, results: Any) -> None:
    """Counts a final result: the CPU time of its stages, and a GPU that the analyzer could not use."""
    if not metrics.is_on():
        return
    summary = _part(_part(results, "pose"), "pose_summary")
    run, video_seconds = _part(summary, "run"), _number(summary.get("duration_seconds"))
    if launch.placed_on == Accelerator.GPU and run.get("accelerator") == "cpu":
        NOT_USED.inc()
    if not video_seconds:
        return
    for stage, cpu_seconds in _cpu_seconds_by_stage(run).items():
        CPU_PER_VIDEO_SECOND.labels(stage).observe(cpu_seconds / video_seconds)


def _cpu_seconds_by_stage(run: dict[str, Any]) -> dict[str, float]:
    """CPU seconds of all reported stages, by label."""
    reported = {stage: _number(value) for stage, value in _part(run, "cpu_seconds").items()}
    known = {stage: seconds for stage, seconds in reported.items() if stage in CPU_STAGES}
    other = sum(seconds for stage, seconds in reported.items() if stage not in CPU_STAGES)
    return known | ({OTHER_STAGE: other} if other else {})


def _part(of: dict[str, Any], name: str) -> dict[str, Any]:
    found = of.get(name)
    return found if isinstance(found, dict) else {}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and 0 < value < math.inf else 0.0
