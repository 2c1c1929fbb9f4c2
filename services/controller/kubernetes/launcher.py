"""Runs launches as Kubernetes Jobs of one namespace.

    create, get, delete, set_status_label ──▶ API server ─── list, watch ──▶ reflectors ──▶ list
                                                  ▲                              │
            Kubernetes Events ◀── record_event ───┘                              └──▶ changed: wakes the reconciler

Reads come from caches, which may lag; writes are guarded by names and uids, so a stale cache costs a round. The state
is rebuilt from the cluster after a restart.
"""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from crease.analysis.v1.launch_pb2 import ENDING_IMAGE, Launch
from services import naming
from services.controller.core import failpoints
from services.controller.core.failpoints import CrashPoint
from services.controller.core.first_seen import FirstSeen
from services.controller.core.launcher import (
    Gpus,
    Observed,
    PermanentRejection,
    Placement,
    RetryableRejection,
    Unknown,
    check_ours,
    name_of,
)
from services.controller.kubernetes.api_client import Api, Object, Refusal, open_api
from services.controller.kubernetes.event_recorder import EventRecorder
from services.controller.kubernetes.job_manifest import (
    MANAGED_BY,
    MANAGER,
    build_manifest,
    build_selector,
)
from services.controller.kubernetes.kueue import GROUP, RESOURCE, VERSION, Workload, parse_workload
from services.controller.kubernetes.leader_election import Leader
from services.controller.kubernetes.observed_state import (
    JOB_NAME,
    KubernetesJob,
    Node,
    Pod,
    count_free_gpus,
    observe,
    observe_deleted,
    observe_pods,
    parse_job,
    parse_node,
    parse_pod,
    recoverable,
    waits_for_node,
)
from services.controller.kubernetes.reflector import Reflector
from services.controller.kubernetes.release import Release
from services.controller.settings import KubernetesSettings
from services.logs import Logger

# A Job normally gets its pod, and a pod its network, within this time. For one that waits longer, the Events are read.
POD_CREATION_SECONDS = 5.0
EVENTS_SECONDS = 10.0
# Events of a pod that may start all the same, or of an obstacle that its status has.
HARMLESS_EVENTS = frozenset({"FailedToRetrieveImagePullSecret", "FailedScheduling"})


class KubernetesLauncher:
    """A Launcher, as long as `run` keeps its caches fresh. `changed` is called after each change of a cache."""

    def __init__(self, api: Api, settings: KubernetesSettings, release: Release, changed: Callable[[], None]) -> None:
        self._api = api
        self._release = release
        self._settings = settings
        self._jobs_path = f"/apis/batch/v1/namespaces/{settings.namespace}/jobs"
        self._pods_path = f"/api/v1/namespaces/{settings.namespace}/pods"
        reflect = partial(Reflector, api, changed=changed, relist_seconds=settings.relist_seconds)
        ours = build_selector(settings)
        self._jobs: Reflector[KubernetesJob] = reflect(path=self._jobs_path, parse=parse_job, selector=ours)
        to_pod = partial(parse_pod, gpu_resource=settings.gpu_resource)
        self._pods: Reflector[Pod] = reflect(path=self._pods_path, parse=to_pod, selector=ours)
        self._nodes: Reflector[Node] | None = None
        if settings.watch_nodes:
            to_node = partial(parse_node, gpu_resource=settings.gpu_resource)
            self._nodes = reflect(path="/api/v1/nodes", parse=to_node)
        self._workloads: Reflector[Workload] | None = None
        if settings.queue_name:
            path = f"/apis/{GROUP}/{VERSION}/namespaces/{settings.namespace}/{RESOURCE}"
            self._workloads = reflect(path=path, parse=parse_workload)
        self._recorder = EventRecorder(api, settings.namespace, settings.identity)
        # The status label last written to each Job, by uid.
        self._status_labels: dict[str, str] = {}
        # By the Events, why a Job has no pod or a pod does not start, by the uid of the Job or the pod; and when read.
        self._obstacles: dict[str, str] = {}
        self._obstacles_at = float("-inf")
        # The pods with an error at their start, by uid: the status has no time of it.
        self._start_errors = FirstSeen()

    async def run(self) -> None:
        """Keeps the caches fresh and sends the events, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for reflector in self._reflectors():
                group.create_task(reflector.run())
            group.create_task(self._recorder.run())
            group.create_task(self._release.run())

    @property
    def cache_ages(self) -> dict[str, float]:
        """The age of each cache, in seconds."""
        nodes = {"nodes": self._nodes.age_seconds} if self._nodes else {}
        return {"jobs": self._jobs.age_seconds, "pods": self._pods.age_seconds} | nodes

    @property
    def owner(self) -> str:
        """The owner of the cluster's name. Raises Unknown."""
        return self._release.owner

    def now(self) -> datetime:
        """As Launcher: the API server's clock."""
        return self._api.now

    def is_ready(self) -> bool:
        """As Launcher: whether the caches of Jobs and pods are fresh."""
        return max(self._jobs.age_seconds, self._pods.age_seconds) <= self._settings.stale_seconds

    async def create(self, launch: Launch, placement: Placement) -> Observed:
        """As Launcher. A Job that this process saw deleted is not created again, although its name is free."""
        name = name_of(launch)
        if (deleted := self._find_deleted(name)) is not None:
            return deleted
        try:
            created = await self._api.post(self._jobs_path, self._build_manifest(launch, placement))
        except Refusal as error:
            if error.reason == "AlreadyExists":
                return await self._read_existing(name)
            raise classify_refusal(error) from error
        failpoints.hit(CrashPoint.JOB_CREATED)
        job = parse_job(created)
        self._jobs.add(job)
        return observe(job, ())

    async def list(self) -> Sequence[Observed]:
        """As Launcher, from the caches."""
        self._check_fresh()
        pods = _by_job(self._judged_pods())
        deleted_pods = _by_job(self._pods.tombstones.values())
        dead_nodes = self._dead_nodes()
        queued = self._queued()
        obstacles = await self._find_obstacles(pods) | self._find_holds(queued)
        with_job = [
            _with_leftovers(
                observe(job, (*pods[uid], *deleted_pods[uid]), dead_nodes, obstacles.get(uid, ""), queued.get(uid)),
                pods[uid],
            )
            for uid, job in self._jobs.items.items()
        ]
        without_job = [observe_pods(pods[uid], dead_nodes) for uid in pods if uid not in self._jobs.items]
        names = {one.name for one in (*with_job, *without_job) if one}
        deleted = [
            observe_deleted(job, deleted_pods[uid])
            for uid, job in self._jobs.tombstones.items()
            if uid not in self._jobs.items and job.name not in names
        ]
        found = (one for one in (*deleted, *with_job, *without_job) if one and one.is_ours)
        return [self._marked(one) for one in found if not self._release.is_other(one.labels)]

    async def get(self, name: str) -> Observed | None:
        """As Launcher: from the API server, not from the caches."""
        job = await self._read_job(name)
        query = {"labelSelector": f"{JOB_NAME}={name}"}
        with _refusal_as_unknown():
            found = (await self._api.get(self._pods_path, **query)).get("items") or ()
        pods = [parse_pod(pod) for pod in found]
        dead_nodes = self._dead_nodes()
        if job is None:
            return observe_pods(pods, dead_nodes)
        of_job = [pod for pod in pods if pod.job_uid == job.uid]
        observed = _with_leftovers(observe(job, of_job, dead_nodes), of_job)
        return observed if observed.is_live or observed.has_leftovers else None

    def gpus(self) -> Gpus | None:
        """As Launcher. On nodes that are not watched no GPU counts as free."""
        settings, nodes = self._settings, self._nodes
        free = count_free_gpus(nodes.items.values(), self._pods.items.values()) if nodes else {}
        scheduled = {pod.job_uid for pod in self._pods.items.values() if pod.node}
        waiting = (job for uid, job in self._jobs.items.items() if not job.finished and uid not in scheduled)
        promised = sum(job.labels.get(naming.ACCELERATOR_LABEL) == "gpu" for job in waiting)
        return Gpus(settings.gpu_resource, free, promised, settings.gpu_scales_up)

    async def delete(self, observed: Observed, *, force: bool = False) -> None:
        """As Launcher. The Job stays until its pods are deleted; by force, neither waits for the node."""
        grace = {"gracePeriodSeconds": 0} if force else {}
        await self._delete(f"{self._jobs_path}/{observed.name}", observed.uid, {"propagationPolicy": "Foreground"})
        for pod in [pod for pod in self._pods.items.values() if pod.job_uid == observed.uid]:
            if force or (not pod.is_deleting and observed.uid not in self._jobs.items):
                await self._delete(f"{self._pods_path}/{pod.name}", pod.uid, grace)
        failpoints.hit(CrashPoint.DELETION_REQUESTED)

    async def set_status_label(self, observed: Observed, status: str) -> None:
        """As Launcher. A deleted Job needs no label; a stale cache causes no second request."""
        if self._status_labels.get(observed.uid) == status:
            return
        body = {"metadata": {"uid": observed.uid, "labels": {naming.STATUS_LABEL: status}}}
        try:
            await self._api.patch(f"{self._jobs_path}/{observed.name}", body)
        except Refusal as error:
            if error.code not in (404, 409):
                raise Unknown(str(error)) from error
        current = {uid: label for uid, label in self._status_labels.items() if uid in self._jobs.items}
        self._status_labels = current | {observed.uid: status}
        failpoints.hit(CrashPoint.STATUS_LABELLED)

    def record_event(self, observed: Observed, reason: str, message: str) -> None:
        """As Launcher: a Kubernetes Event on the Job."""
        self._recorder.record(observed, reason, message)

    def _build_manifest(self, launch: Launch, placement: Placement) -> Object:
        release = self._release
        return build_manifest(launch, placement, self._settings, release.labels, release.owner_references)

    def _marked(self, observed: Observed) -> Observed:
        return replace(observed, is_unmarked=True) if self._release.is_unmarked(observed.labels) else observed

    async def _read_existing(self, name: str) -> Observed:
        job = await self._read_job(name)
        if job is None:
            # Deleted between the two requests.
            raise Unknown(f"The Job {name} exists, but cannot be read")
        is_managed = job.labels.get(MANAGED_BY) == MANAGER
        if is_managed and job.labels.get(naming.CLUSTER_LABEL) != self._settings.cluster:
            raise PermanentRejection(f"The name {name} is taken by a controller with another CREASE_CLUSTER")
        if self._release.is_other(job.labels):
            raise PermanentRejection(f"The name {name} is taken by a Kubernetes Job of another release")
        pods = [pod for pod in self._pods.items.values() if pod.job_uid == job.uid]
        observed = check_ours(observe(job, pods, self._dead_nodes()))
        self._jobs.add(job)
        return observed

    async def _read_job(self, name: str) -> KubernetesJob | None:
        with _refusal_as_unknown():
            try:
                return parse_job(await self._api.get(f"{self._jobs_path}/{name}"))
            except Refusal as error:
                if error.code != 404:
                    raise
        return None

    def _find_deleted(self, name: str) -> Observed | None:
        deleted = [job for job in self._jobs.tombstones.values() if job.name == name]
        if not deleted or any(job.name == name for job in self._jobs.items.values()):
            return None
        return observe_deleted(deleted[0], _by_job(self._pods.tombstones.values())[deleted[0].uid])

    async def _delete(self, path: str, uid: str, options: Mapping[str, object]) -> None:
        try:
            await self._api.delete(path, {"preconditions": {"uid": uid}, **options})
        except Refusal as error:
            # 404: deleted. 409: another object has the name. Either way this one does not exist.
            if error.code not in (404, 409):
                raise Unknown(str(error)) from error

    def _check_fresh(self) -> None:
        for kind, reflector in (("Jobs", self._jobs), ("pods", self._pods)):
            if reflector.age_seconds > self._settings.stale_seconds:
                cause = reflector.error or "the API server sends no events"
                raise Unknown(f"The cache of {kind} is stale: {cause}")

    def _reflectors(
        self,
    ) -> Iterable["Reflector[KubernetesJob] | Reflector[Pod] | Reflector[Node] | Reflector[Workload]"]:
        return filter(None, (self._jobs, self._pods, self._nodes, self._workloads))

    def _queued(self) -> dict[str, Workload]:
        """Kueue's Workloads, by the uid of the Job."""
        return {one.job_uid: one for one in self._workloads.items.values()} if self._workloads else {}

    def _find_holds(self, queued: Mapping[str, Workload]) -> dict[str, str]:
        """Why Kueue holds the suspended Jobs, by their uids."""
        if self._workloads is None:
            return {}
        error = self._workloads.error
        unknown = f"Kueue's Workloads cannot be read: {error}" if error else "Kueue has made no Workload for it"
        late = self._api.now - timedelta(seconds=POD_CREATION_SECONDS)
        suspended = [job for job in self._jobs.items.values() if job.is_suspended and not job.finished]
        known = {job.uid: queued[job.uid].obstacle for job in suspended if job.uid in queued}
        return {job.uid: unknown for job in suspended if job.created_at < late} | known

    def _dead_nodes(self) -> frozenset[str]:
        """The nodes with pods of ours that are not ready; empty if nodes are not watched."""
        nodes = self._nodes
        if nodes is None or nodes.age_seconds > self._settings.stale_seconds:
            return frozenset()
        ready = {node.name for node in nodes.items.values() if node.is_ready}
        return frozenset(pod.node for pod in self._pods.items.values() if pod.node and pod.node not in ready)

    def _judged_pods(self) -> Iterator[Pod]:
        """The cached pods. An error at the start counts from when it was first seen; a pull elsewhere excuses it."""
        found = self._pods.items.values()
        failing = {pod.uid for pod in found if pod.start_error}
        failing_since = self._start_errors.update(failing, self._api.now)
        pulled = {pod.image for pod in found if pod.has_image} if failing else frozenset[str]()
        for pod in found:
            if pod.start_error:
                pod = recoverable(pod) if pod.image in pulled else pod
                pod = replace(
                    pod, start_error=pod.start_error and replace(pod.start_error, since=failing_since[pod.uid])
                )
            yield pod

    async def _find_obstacles(self, pods: Mapping[str, Sequence[Pod]]) -> dict[str, str]:
        """Why Jobs have no pod, or pods no running container, after POD_CREATION_SECONDS; by the uid of the Job.

        Sends at most two requests every EVENTS_SECONDS, and none while every Job has a started pod.
        """
        late = self._api.now - timedelta(seconds=POD_CREATION_SECONDS)
        without_pod = {
            uid
            for uid, job in self._jobs.items.items()
            if not (uid in pods or job.finished or job.is_suspended or job.is_deleting) and job.created_at < late
        }
        waiting = (pod for of_job in pods.values() for pod in of_job if waits_for_node(pod))
        not_started = {pod.job_uid: pod.uid for pod in waiting if pod.created_at < late}
        if (without_pod or not_started) and time.monotonic() - self._obstacles_at > EVENTS_SECONDS:
            self._obstacles_at = time.monotonic()
            self._obstacles = await self._read_obstacles(pods_too=bool(not_started))
        found = {uid: self._obstacles.get(uid, "no pod has been created yet") for uid in without_pod}
        return found | {uid: self._obstacles.get(pod, "") for uid, pod in not_started.items()}

    async def _read_obstacles(self, *, pods_too: bool) -> dict[str, str]:
        path = f"/api/v1/namespaces/{self._settings.namespace}/events"
        selectors = ["involvedObject.kind=Job,reason=FailedCreate"]
        if pods_too:
            selectors.append("involvedObject.kind=Pod,type=Warning")
        events: list[Object] = []
        for selector in selectors:
            with _refusal_as_unknown():
                events += (await self._api.get(path, fieldSelector=selector, limit=500)).get("items") or ()
        return find_obstacles(events)


def find_obstacles(events: Iterable[Object]) -> dict[str, str]:
    """What keeps a Job from its pod or a pod from its start: the newest such Event of each, by uid."""
    relevant = [one for one in events if one["type"] == "Warning" and one["reason"] not in HARMLESS_EVENTS]
    relevant.sort(key=lambda one: str(one.get("lastTimestamp") or one.get("eventTime") or ""))
    return {one["involvedObject"]["uid"]: _describe_event(one) for one in relevant}


def _describe_event(event: Object) -> str:
    message = str(event.get("message", ""))
    return message if event["involvedObject"]["kind"] == "Job" else f"{event['reason']}: {message}"


def _with_leftovers(observed: Observed, pods: Sequence[Pod]) -> Observed:
    """Adds whether an ended workload still has pods."""
    return observed if observed.is_live else replace(observed, has_leftovers=bool(pods))


def _by_job(pods: Iterable[Pod]) -> defaultdict[str, list[Pod]]:
    found: defaultdict[str, list[Pod]] = defaultdict(list)
    for pod in pods:
        found[pod.job_uid].append(pod)
    return found


@contextlib.contextmanager
def _refusal_as_unknown() -> Iterator[None]:
    """A refused read leaves the state unknown."""
    try:
        yield
    except Refusal as error:
        raise Unknown(str(error)) from error


def classify_refusal(error: Refusal) -> Exception:
    """The meaning of a refused creation: permanent if the cluster's rules forbid this Job, otherwise retryable."""
    is_denied = "admission webhook" in str(error) and "denied the request" in str(error)
    if is_denied or error.code in (400, 422):
        return PermanentRejection(f"The cluster rejected the Kubernetes Job: {error}", ENDING_IMAGE)
    no_room = "exceeded quota" in str(error)
    return RetryableRejection(f"The cluster rejected the Kubernetes Job for now: {error}", no_room=no_room)


@asynccontextmanager
async def start_kubernetes(
    settings: KubernetesSettings, changed: Callable[[], None], log: Logger
) -> AsyncIterator[tuple[KubernetesLauncher, Leader]]:
    """A launcher with fresh caches, and the leader election, for as long as the block runs."""
    async with open_api(settings.kubeconfig, settings.parallel + 8) as api:
        release = Release(api, settings)
        launcher = KubernetesLauncher(api, settings, release, changed)
        leader = Leader(api, settings, release, log)
        running = [asyncio.create_task(one.run()) for one in (launcher, leader)]
        try:
            yield launcher, leader
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
