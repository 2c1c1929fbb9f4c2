"""The controller's metrics, with the balance of both sides: each open launch has its workload, and each workload its
open launch. A launch or a workload that is just starting or ending counts only after GRACE.
"""

from collections import Counter as Counts
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from crease.analysis.v1.launch_pb2 import Launch
from services import metrics
from services.controller.core.decide import Snapshot, only_open
from services.controller.core.first_seen import FirstSeen
from services.controller.core.launcher import Gpus, PendingReason, name_of

GRACE = timedelta(seconds=30)

QUEUE_TO_JOB = Histogram(
    "crease_queue_to_job_seconds",
    "From when a launch could be opened for a job until its workload was created, by two clocks",
    buckets=(0.005, 0.015, 0.03, 0.05, 0.1, 0.15, 0.3, 0.5, 1, 2.5, 5, 15, 30, 60, 300, 600, 3600),
)
KUBE_REQUESTS = Counter("crease_kube_requests_total", "Requests to the API server; code 0: no answer", ["verb", "code"])
GHOSTS = Gauge("crease_ghosts", "Workloads without an open launch, beyond the time they may take to end; must be 0")
ORPHANS = Gauge("crease_orphans", "Lost launches: open, without a workload though there is room; must be 0")
LEADER = Gauge("crease_leader", "1 if this replica is the leader")
PENDING = Gauge("crease_workloads_pending", "Workloads that have not started, by the obstacle", ["reason"])
GPUS_FREE = Gauge("crease_gpus_free", "Free GPUs that are not promised to a pod, on the nodes that are watched")
NONE_FREE = metrics.FALLBACKS.labels("none_free")
CLOCK_SKEW = Gauge("crease_clock_skew_seconds", "Seconds by which the API server's clock is ahead of this machine's")


class Balance:
    """Remembers since when each launch has had no workload, and exports the imbalance."""

    def __init__(self, linger: timedelta) -> None:
        # A workload may live this long after it has submitted its result.
        self._linger = linger
        self._lost = FirstSeen()

    def update(
        self, snapshot: Snapshot, now: datetime, *, has_room: bool, without_room: Collection[str] = frozenset()
    ) -> None:
        """Exports the ghosts and the lost launches that have outlasted their grace.

        `without_room` names launches that a quota has no room for: they wait, like jobs beyond the capacity.
        """
        ghosts = sum(since <= now - self._linger - GRACE for since in snapshot.ghosts_since.values())
        lost = {name_of(launch) for launch in _without_workload(snapshot, has_room)} - {*without_room}
        lost_since = self._lost.update(lost, now)
        GHOSTS.set(ghosts)
        ORPHANS.set(sum(since <= now - GRACE for since in lost_since.values()))
        GPUS_FREE.set(_count_free(snapshot.gpus))
        _set_pending(one.pending.reason for one in snapshot.workloads if one.pending)

    def reset(self) -> None:
        """Clears all, when another replica leads."""
        self._lost = FirstSeen()
        for gauge in (GHOSTS, ORPHANS, GPUS_FREE):
            gauge.set(0)
        _set_pending(())


def _without_workload(snapshot: Snapshot, has_room: bool) -> Iterator[Launch]:
    """Open launches that should have a workload: confirmed ones always, others once there is room."""
    names = {observed.name for observed in snapshot.workloads}
    busy_jobs = {observed.job_id for observed in snapshot.workloads if observed.is_live}
    for launch in only_open(snapshot.launches):
        if name_of(launch) in names or launch.HasField("cancel_requested_at"):
            continue
        if launch.kubernetes_uid or (has_room and launch.job_id not in busy_jobs):
            yield launch


def _set_pending(reasons: Iterable[PendingReason]) -> None:
    counts = Counts(reasons)
    for reason in PendingReason:
        PENDING.labels(reason.replace(" ", "_")).set(counts[reason])


def _count_free(gpus: Gpus | None) -> int:
    return max(sum(gpus.free.values()) - gpus.promised, 0) if gpus else 0


class _CacheAges(Collector):
    def __init__(self, ages: Callable[[], Mapping[str, float]]) -> None:
        self._ages = ages

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily("crease_view_age_seconds", "Age of the cache of each kind", labels=["kind"])
        for kind, seconds in self._ages().items():
            family.add_metric([kind], seconds)
        yield family


def export_cache_ages(ages: Callable[[], Mapping[str, float]]) -> None:
    """Exports the age of each cache, computed at each scrape."""
    if metrics.is_on():
        REGISTRY.register(_CacheAges(ages))
