"""Runs launches as Kubernetes Jobs of one namespace.

    create, look, delete, mark ──────────▶ API server ─── list, watch ──▶ reflectors ──▶ list
                                               ▲                              │
                                 Events ◀── tell: what was done, and why      └──▶ changed: look again

What is read is a copy that may lag; what is written is guarded by names and uids, so a copy that lags costs a look.
Nothing is remembered that the cluster does not hold.
"""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial

from crease.analysis.v1.launch_pb2 import ENDING_IMAGE, Launch
from services.controller.core import failpoints
from services.controller.core.failpoints import CrashPoint
from services.controller.core.launcher import Gpus, NotNow, Placement, Rejected, Seen, Unknown, check_ours, name_of
from services.controller.kubernetes.api_client import Api, Refusal, connected
from services.controller.kubernetes.event_recorder import Teller
from services.controller.kubernetes.job_manifest import (
    ACCELERATOR_LABEL,
    CLUSTER_LABEL,
    MANAGED_BY,
    MANAGER,
    STATUS_LABEL,
    manifest,
    selector,
)
from services.controller.kubernetes.leader_election import Leader
from services.controller.kubernetes.observed_state import (
    JOB_NAME,
    KubernetesJob,
    Node,
    Pod,
    deleted,
    free_gpus,
    parse_job,
    parse_node,
    parse_pod,
    seen_of,
)
from services.controller.kubernetes.reflector import Reflector
from services.controller.settings import KubernetesSettings
from services.logs import Logger

# A Job gets its pod in a moment; only for one that waits for longer the cluster is asked why.
PODLESS_SECONDS = 5.0
ASK_AGAIN_SECONDS = 10.0


class KubernetesLauncher:
    """Its copies have to be kept by `run`; `changed` is called whenever they change."""

    def __init__(self, api: Api, settings: KubernetesSettings, changed: Callable[[], None]) -> None:
        self._api = api
        self._settings = settings
        self._jobs_path = f"/apis/batch/v1/namespaces/{settings.namespace}/jobs"
        self._pods_path = f"/api/v1/namespaces/{settings.namespace}/pods"
        reflect = partial(Reflector, api, changed=changed, relist_seconds=settings.relist_seconds)
        ours = selector(settings)
        self._jobs: Reflector[KubernetesJob] = reflect(path=self._jobs_path, parse=parse_job, selector=ours)
        parse = partial(parse_pod, gpu_resource=settings.gpu_resource)
        self._pods: Reflector[Pod] = reflect(path=self._pods_path, parse=parse, selector=ours)
        self._nodes: Reflector[Node] | None = None
        if settings.watch_nodes:
            to_node = partial(parse_node, gpu_resource=settings.gpu_resource)
            self._nodes = reflect(path="/api/v1/nodes", parse=to_node)
        self._teller = Teller(api, settings.namespace, settings.identity)
        # The label that each Job was given last.
        self._marked: dict[str, str] = {}
        # Why no pod could be created, by the Job's uid; and when that was asked.
        self._refusals: dict[str, str] = {}
        self._refusals_at = float("-inf")

    async def run(self) -> None:
        """Keeps the copies and tells what was done, for ever."""
        async with asyncio.TaskGroup() as group:
            for reflector in self._reflectors():
                group.create_task(reflector.run())
            group.create_task(self._teller.run())

    @property
    def ages(self) -> dict[str, float]:
        """How old each copy is, in seconds."""
        nodes = {"nodes": self._nodes.age_seconds} if self._nodes else {}
        return {"jobs": self._jobs.age_seconds, "pods": self._pods.age_seconds} | nodes

    def now(self) -> datetime:
        """As the seam says: the API server's clock."""
        return self._api.now

    def is_ready(self) -> bool:
        """As the seam says: both copies that decisions rest on are fresh enough."""
        return max(self._jobs.age_seconds, self._pods.age_seconds) <= self._settings.stale_seconds

    async def create(self, launch: Launch, placement: Placement) -> Seen:
        """As the seam says. What this process saw being deleted stays so, even where its name is free again."""
        name = name_of(launch)
        if (last := self._tombstone(name)) is not None:
            return last
        try:
            made = await self._api.post(self._jobs_path, manifest(launch, placement, self._settings))
        except Refusal as error:
            if error.reason == "AlreadyExists":
                return await self._found(name)
            raise rejection(error) from error
        failpoints.here(CrashPoint.CREATED)
        job = parse_job(made)
        self._jobs.add(job)
        seen = seen_of(job, ())
        assert seen is not None  # noqa: S101 (a Job always is)
        return seen

    async def list(self) -> Sequence[Seen]:
        """As the seam says."""
        self._check_fresh()
        pods = _by_job(self._pods.items)
        last_words = _by_job(self._pods.gone)
        dead = self._dead_nodes()
        refusals = await self._why_podless(pods)
        seen = [
            _left(seen_of(job, (*pods[uid], *last_words[uid]), dead, refusals.get(uid, "")), pods[uid])
            for uid, job in self._jobs.items.items()
        ]
        left = [seen_of(None, pods[uid], dead) for uid in pods if uid not in self._jobs.items]
        names = {one.name for one in (*seen, *left) if one}
        gone = [
            deleted(job, last_words[uid])
            for uid, job in self._jobs.gone.items()
            if uid not in self._jobs.items and job.name not in names
        ]
        return [one for one in (*gone, *seen, *left) if one and one.is_ours]

    async def look(self, name: str) -> Seen | None:
        """As the seam says: asked of the API server, not of the copy."""
        job = await self._job(name)
        query = {"labelSelector": f"{JOB_NAME}={name}"}
        with _answered():
            found = (await self._api.get(self._pods_path, **query)).get("items") or ()
        pods = [parse_pod(pod) for pod in found]
        mine = [pod for pod in pods if job is None or pod.job_uid == job.uid]
        seen = _left(seen_of(job, mine, self._dead_nodes()), mine)
        return seen if seen and (seen.is_live or seen.is_left) else None

    def gpus(self) -> Gpus | None:
        """As the seam says; of nodes that are not seen nothing is free."""
        settings, nodes = self._settings, self._nodes
        free = free_gpus(nodes.items.values(), self._pods.items.values()) if nodes else {}
        placed = {pod.job_uid for pod in self._pods.items.values() if pod.node}
        waiting = (job for uid, job in self._jobs.items.items() if not job.finished and uid not in placed)
        promised = sum(job.labels.get(ACCELERATOR_LABEL) == "gpu" for job in waiting)
        return Gpus(settings.gpu_resource, free, promised, settings.gpu_scales_up)

    async def delete(self, seen: Seen, *, force: bool = False) -> None:
        """As the seam says. The Job stays until its pods are gone; by force, neither waits for a node."""
        grace = {"gracePeriodSeconds": 0} if force else {}
        await self._delete(f"{self._jobs_path}/{seen.name}", seen.uid, {"propagationPolicy": "Foreground"})
        for pod in [pod for pod in self._pods.items.values() if pod.job_uid == seen.uid]:
            if force or (not pod.is_deleting and seen.uid not in self._jobs.items):
                await self._delete(f"{self._pods_path}/{pod.name}", pod.uid, grace)
        failpoints.here(CrashPoint.TOLD)

    async def mark(self, seen: Seen, status: str) -> None:
        """As the seam says: a label. A Job that is gone by now needs none; a copy that lags asks for no second one."""
        if self._marked.get(seen.uid) == status:
            return
        body = {"metadata": {"uid": seen.uid, "labels": {STATUS_LABEL: status}}}
        try:
            await self._api.patch(f"{self._jobs_path}/{seen.name}", body)
        except Refusal as error:
            if error.code not in (404, 409):
                raise Unknown(str(error)) from error
        self._marked = {uid: one for uid, one in self._marked.items() if uid in self._jobs.items} | {seen.uid: status}
        failpoints.here(CrashPoint.LABELLED)

    def tell(self, seen: Seen, what: str, why: str) -> None:
        """As the seam says: a Kubernetes Event on the Job."""
        self._teller.tell(seen, what, why)

    async def _found(self, name: str) -> Seen:
        job = await self._job(name)
        if job is None:
            # It was there a moment ago.
            raise Unknown(f"{name} exists and cannot be found")
        ours = job.labels.get(MANAGED_BY) == MANAGER
        if ours and job.labels.get(CLUSTER_LABEL) != self._settings.cluster:
            raise Rejected(f"The name {name} is taken by a controller of another cluster's name")
        pods = [pod for pod in self._pods.items.values() if pod.job_uid == job.uid]
        seen = seen_of(job, pods, self._dead_nodes())
        assert seen is not None  # noqa: S101 (a Job always is)
        checked = check_ours(seen)
        self._jobs.add(job)
        return checked

    async def _job(self, name: str) -> KubernetesJob | None:
        with _answered():
            try:
                return parse_job(await self._api.get(f"{self._jobs_path}/{name}"))
            except Refusal as error:
                if error.code != 404:
                    raise
        return None

    def _tombstone(self, name: str) -> Seen | None:
        gone = [job for job in self._jobs.gone.values() if job.name == name]
        if not gone or any(job.name == name for job in self._jobs.items.values()):
            return None
        return deleted(gone[0], _by_job(self._pods.gone)[gone[0].uid])

    async def _delete(self, path: str, uid: str, options: Mapping[str, object]) -> None:
        try:
            await self._api.delete(path, {"preconditions": {"uid": uid}, **options})
        except Refusal as error:
            # Gone, or another of the same name: either way this one is not there.
            if error.code not in (404, 409):
                raise Unknown(str(error)) from error

    def _check_fresh(self) -> None:
        for name, reflector in (("Jobs", self._jobs), ("pods", self._pods)):
            if reflector.age_seconds > self._settings.stale_seconds:
                raise Unknown(f"What is known of {name} is too old: {reflector.trouble or 'the API server is silent'}")

    def _reflectors(self) -> Iterable["Reflector[KubernetesJob] | Reflector[Pod] | Reflector[Node]"]:
        return filter(None, (self._jobs, self._pods, self._nodes))

    def _dead_nodes(self) -> frozenset[str]:
        """The nodes that pods sit on and that do not answer; none where nodes are not seen."""
        nodes = self._nodes
        if nodes is None or nodes.age_seconds > self._settings.stale_seconds:
            return frozenset()
        ready = {node.name for node in nodes.items.values() if node.is_ready}
        return frozenset(pod.node for pod in self._pods.items.values() if pod.node and pod.node not in ready)

    async def _why_podless(self, pods: Mapping[str, object]) -> Mapping[str, str]:
        """Why Jobs that wait for a pod get none. One request, now and then, and none where all have one."""
        now = self._api.now
        waiting = {
            uid
            for uid, job in self._jobs.items.items()
            if not (uid in pods or job.finished or job.is_suspended or job.is_deleting)
            and (now - job.created_at).total_seconds() > PODLESS_SECONDS
        }
        if waiting and time.monotonic() - self._refusals_at > ASK_AGAIN_SECONDS:
            self._refusals_at = time.monotonic()
            self._refusals = await self._failed_creations()
        return {uid: self._refusals.get(uid, "no pod has been created for it yet") for uid in waiting}

    async def _failed_creations(self) -> dict[str, str]:
        path = f"/api/v1/namespaces/{self._settings.namespace}/events"
        with _answered():
            found = await self._api.get(path, fieldSelector="involvedObject.kind=Job,reason=FailedCreate", limit=500)
        return {one["involvedObject"]["uid"]: one.get("message", "") for one in found.get("items") or ()}


def _left(seen: Seen | None, pods: Sequence[Pod]) -> Seen | None:
    """With a word on whether pods are left of what has ended."""
    return replace(seen, is_left=bool(pods)) if seen and not seen.is_live else seen


def _by_job(pods: Mapping[str, Pod]) -> defaultdict[str, list[Pod]]:
    found: defaultdict[str, list[Pod]] = defaultdict(list)
    for pod in pods.values():
        found[pod.job_uid].append(pod)
    return found


@contextlib.contextmanager
def _answered() -> Iterator[None]:
    """For reading: a refusal tells nothing of what is there."""
    try:
        yield
    except Refusal as error:
        raise Unknown(str(error)) from error


def rejection(error: Refusal) -> Exception:
    """What a refused creation means: the cluster's rules forbid this very Job, or it has no room or no rights now."""
    denied = "admission webhook" in str(error) and "denied the request" in str(error)
    if denied or error.code in (400, 422):
        return Rejected(f"The cluster refuses it: {error}", ENDING_IMAGE)
    return NotNow(f"The cluster does not take it now: {error}", no_room="exceeded quota" in str(error))


@asynccontextmanager
async def kubernetes(
    settings: KubernetesSettings, changed: Callable[[], None], log: Logger
) -> AsyncIterator[tuple[KubernetesLauncher, Leader]]:
    """A launcher whose copies are kept, and whether to use it, for as long as the block runs."""
    async with connected(settings.kubeconfig, settings.parallel + 8) as api:
        launcher, leader = KubernetesLauncher(api, settings, changed), Leader(api, settings, log)
        running = [asyncio.create_task(one.run()) for one in (launcher, leader)]
        try:
            yield launcher, leader
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
