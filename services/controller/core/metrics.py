"""What the controller counts, and whether both sides balance: each open launch has its Kubernetes Job, and each of
these its open launch. What is just being created or is just ending is no imbalance; what stays so for GRACE is.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime, timedelta

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from crease.analysis.v1.launch_pb2 import Launch
from services import metrics
from services.controller.core.decide import View, open_ones
from services.controller.core.launcher import Gpus, name_of

GRACE = timedelta(seconds=30)

QUEUE_TO_JOB = Histogram(
    "crease_queue_to_job_seconds",
    "From when a launch could be made for a job until what runs it was created, by two clocks",
    buckets=(0.005, 0.015, 0.03, 0.05, 0.1, 0.15, 0.3, 0.5, 1, 2.5, 5, 15, 30, 60, 300, 600, 3600),
)
KUBE_REQUESTS = Counter("crease_kube_requests_total", "Requests to the API server; 0: no answer", ["verb", "code"])
GHOSTS = Gauge("crease_ghosts", "What runs and has no open launch, for longer than it takes to end; must be 0")
ORPHANS = Gauge("crease_orphans", "Open launches that nothing runs for, though there is room; must be 0")
LEADER = Gauge("crease_leader", "Whether this replica works")
GPUS_FREE = Gauge("crease_gpus_free", "GPUs that are free and promised to nobody, as far as nodes are seen")
NONE_FREE = metrics.FALLBACKS.labels("none_free")
CLOCK_SKEW = Gauge("crease_clock_skew_seconds", "By how much the API server's clock is ahead of ours, to the second")


class Balance:
    """Since when what was seen has been out of balance."""

    def __init__(self, linger: timedelta) -> None:
        # What has submitted its result may still live for so long.
        self._linger = linger
        self._since: dict[str, datetime] = {}

    def note(self, view: View, now: datetime, *, has_room: bool, without_room: Collection[str] = frozenset()) -> None:
        """Counts what has been so for longer than it takes to mend by itself. `without_room`: the names that a quota
        has no room for; they wait, like jobs beyond our own capacity."""
        ghosts = sum(since <= now - self._linger - GRACE for since in view.unwanted_since.values())
        missing = {name_of(launch) for launch in _without_job(view, has_room)} - {*without_room}
        self._since = {name: self._since.get(name, now) for name in missing}
        GHOSTS.set(ghosts)
        ORPHANS.set(sum(since <= now - GRACE for since in self._since.values()))
        GPUS_FREE.set(_free(view.gpus))

    def forget(self) -> None:
        """Another replica looks now."""
        self._since = {}
        for gauge in (GHOSTS, ORPHANS, GPUS_FREE):
            gauge.set(0)


def _without_job(view: View, has_room: bool) -> Iterator[Launch]:
    """What is confirmed must be there in any case; the rest once it has its turn."""
    seen = {one.name for one in view.seen}
    at_work = {one.job_id for one in view.seen if one.is_live}
    for launch in open_ones(view.launches):
        if name_of(launch) in seen or launch.HasField("cancel_requested_at"):
            continue
        if launch.kubernetes_uid or (has_room and launch.job_id not in at_work):
            yield launch


def _free(gpus: Gpus | None) -> int:
    return max(sum(gpus.free.values()) - gpus.promised, 0) if gpus else 0


class _Ages(Collector):
    def __init__(self, ages: Callable[[], Mapping[str, float]]) -> None:
        self._ages = ages

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily("crease_view_age_seconds", "Since a copy was as the API server's", labels=["kind"])
        for kind, seconds in self._ages().items():
            family.add_metric([kind], seconds)
        yield family


def watch_ages(ages: Callable[[], Mapping[str, float]]) -> None:
    """Has the ages of copies read whenever somebody asks for them."""
    if metrics.is_on():
        REGISTRY.register(_Ages(ages))
