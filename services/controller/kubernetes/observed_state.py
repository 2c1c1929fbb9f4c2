"""What is kept of Kubernetes' objects, and what they say together: a Job and its pods become one Seen. All pure.

Job    Pod                                      Seen
─────  ──────────────────────────────────────   ──────────────────────────────
open   none, or not begun                       pending, held by …
       running                                  running
       any, deleted by force or by hand         as it was, until no pod is left
ended  whose last words tell more than the Job  succeeded | failed, by reason
gone   living                                   as the pod is: it has yet to end
       ended, or none                           failed: deleted (where it was seen), else nothing at all
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from crease.jobs.v1.job_pb2 import ACCELERATOR_CPU, ACCELERATOR_GPU, ACCELERATOR_UNSPECIFIED
from services.controller.core.launcher import Hold, Holding, Phase, Reason, Seen
from services.controller.kubernetes.job_manifest import ACCELERATOR_LABEL, CONTAINER, PLACEMENT_REASON, STATUS_LABEL

JOB_NAME = "batch.kubernetes.io/job-name"
# What a container waits for that only takes its time.
ORDINARY = frozenset({"", "ContainerCreating", "PodInitializing"})
# What no waiting repairs.
FOR_GOOD = frozenset({"InvalidImageName", "ErrImageNeverPull"})
NOT_EXECUTABLE = frozenset({"StartError", "ContainerCannotRun"})
PLACED_ON = {"gpu": ACCELERATOR_GPU, "cpu": ACCELERATOR_CPU}
# Of the condition that podFailurePolicy leaves: it outlives the pod.
EXIT_CODE = re.compile(r"failed with exit code (\d+)")
DISRUPTION = "has condition DisruptionTarget"


@dataclass(frozen=True, slots=True)
class KubernetesJob:
    name: str
    uid: str
    labels: Mapping[str, str]
    created_at: datetime
    is_deleting: bool
    is_suspended: bool
    placement_reason: str
    # Complete, Failed, or empty while it is open; then why.
    finished: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Pod:
    name: str
    uid: str
    labels: Mapping[str, str]
    job_name: str
    job_uid: str
    created_at: datetime
    node: str
    phase: str
    # Of the pod as a whole: Evicted, DeadlineExceeded, NodeLost.
    reason: str
    message: str
    is_deleting: bool
    # Since when no node takes it, and why; None where one did.
    unscheduled: Hold | None
    # What stops it from starting; None where nothing does.
    hold: Hold | None
    # The reason and the words of its condition DisruptionTarget.
    disruption: str
    exit_code: int | None
    # Of its container: OOMKilled, Error, StartError; then what it said last.
    ended: str
    last_words: str
    # An init container that failed, and how.
    init_failed: str
    gpus: int

    @property
    def is_live(self) -> bool:
        """Whether anything of it may run."""
        return self.phase not in ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Node:
    uid: str
    name: str
    is_ready: bool
    is_schedulable: bool
    gpus: int


def parse_job(body: Mapping[str, Any]) -> KubernetesJob:
    """A Job, from the API's JSON."""
    metadata, status = body["metadata"], body.get("status", {})
    conditions = _true(status)
    final = conditions.get("Complete") or conditions.get("Failed") or {}
    why = final or conditions.get("FailureTarget") or {}
    return KubernetesJob(
        name=metadata["name"],
        uid=metadata["uid"],
        labels=metadata.get("labels", {}),
        created_at=_time(status.get("startTime") or metadata["creationTimestamp"]),
        is_deleting="deletionTimestamp" in metadata,
        is_suspended=bool(body["spec"].get("suspend")),
        placement_reason=metadata.get("annotations", {}).get(PLACEMENT_REASON, ""),
        finished=final.get("type", ""),
        reason=why.get("reason", ""),
        message=why.get("message", ""),
    )


def parse_pod(body: Mapping[str, Any], gpu_resource: str = "") -> Pod:
    """A pod, from the API's JSON."""
    metadata, spec, status = body["metadata"], body["spec"], body.get("status", {})
    labels = metadata.get("labels", {})
    started = _time(status.get("startTime") or metadata["creationTimestamp"])
    conditions = {one["type"]: one for one in status.get("conditions", ())}
    scheduled = conditions.get("PodScheduled", {})
    main = _container(status)
    ended = main.get("state", {}).get("terminated", {})
    owner = next((one["uid"] for one in metadata.get("ownerReferences", ()) if one.get("controller")), "")
    return Pod(
        name=metadata["name"],
        uid=metadata["uid"],
        labels=labels,
        job_name=labels.get(JOB_NAME, ""),
        job_uid=owner,
        created_at=_time(metadata["creationTimestamp"]),
        node=spec.get("nodeName", ""),
        phase=status.get("phase", "Pending"),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        is_deleting="deletionTimestamp" in metadata,
        unscheduled=_unscheduled(scheduled) if scheduled.get("status") == "False" else None,
        hold=_hold(status, started),
        disruption=_disruption(conditions.get("DisruptionTarget", {})),
        exit_code=ended.get("exitCode"),
        ended=ended.get("reason", ""),
        last_words=ended.get("message", "").strip(),
        init_failed=_init_failed(status),
        gpus=_gpus(spec, gpu_resource),
    )


def parse_node(body: Mapping[str, Any], gpu_resource: str = "") -> Node:
    """A node, from the API's JSON."""
    status = body.get("status", {})
    return Node(
        uid=body["metadata"]["uid"],
        name=body["metadata"]["name"],
        is_ready="Ready" in _true(status),
        is_schedulable=not body["spec"].get("unschedulable"),
        gpus=int(status.get("allocatable", {}).get(gpu_resource, 0)),
    )


def seen_of(
    job: KubernetesJob | None, pods: Sequence[Pod], dead_nodes: Collection[str] = (), refused: str = ""
) -> Seen | None:
    """What a Job and its pods say together; None where nothing of it is left.

    Without a Job, its pods speak for it. `refused` is why no pod could be created, where the cluster said so.
    """
    living = [pod for pod in pods if pod.is_live]
    if job is None:
        return _of_pod(living[0], dead_nodes) if living else None
    if job.finished and not living:
        return _ended(job, pods)
    dead = next((pod.node for pod in living if pod.node in dead_nodes), "")
    hold = _held(job, living, refused)
    return Seen(
        **_known(job),
        phase=Phase.RUNNING if any(pod.phase == "Running" for pod in living) else Phase.PENDING,
        placement_reason="; ".join(filter(None, (job.placement_reason, hold.words if hold else "", _silence(dead)))),
        hold=hold,
        is_deleting=job.is_deleting,
        dead_node=dead,
    )


def deleted(job: KubernetesJob, pods: Sequence[Pod]) -> Seen:
    """What is known of a Job that is gone: how its pod ended where it did, else that it was deleted."""
    if job.finished:
        return _ended(job, pods)
    return Seen(**_known(job) | {"status": None}, phase=Phase.FAILED, placement_reason=job.placement_reason,
                reason=Reason.DELETED)  # fmt: skip


def free_gpus(nodes: Iterable[Node], pods: Iterable[Pod]) -> dict[str, int]:
    """How many GPUs of each node that takes pods nobody holds, as far as the pods that are seen tell."""
    held: dict[str, int] = {}
    for pod in pods:
        if pod.node and pod.is_live:
            held[pod.node] = held.get(pod.node, 0) + pod.gpus
    fit = (node for node in nodes if node.gpus and node.is_ready and node.is_schedulable)
    return {node.name: free for node in fit if (free := node.gpus - held.get(node.name, 0)) > 0}


def _known(job: KubernetesJob) -> dict[str, Any]:
    return {
        "name": job.name,
        "uid": job.uid,
        "labels": job.labels,
        "created_at": job.created_at,
        "placed_on": PLACED_ON.get(job.labels.get(ACCELERATOR_LABEL, ""), ACCELERATOR_UNSPECIFIED),
        "status": job.labels.get(STATUS_LABEL, ""),
    }


def _of_pod(pod: Pod, dead_nodes: Collection[str]) -> Seen:
    return Seen(
        name=pod.job_name,
        uid=pod.job_uid,
        phase=Phase.RUNNING if pod.phase == "Running" else Phase.PENDING,
        labels=pod.labels,
        created_at=pod.created_at,
        placed_on=PLACED_ON.get(pod.labels.get(ACCELERATOR_LABEL, ""), ACCELERATOR_UNSPECIFIED),
        placement_reason="Its Kubernetes Job is gone, and its pod lives",
        is_deleting=pod.is_deleting,
        dead_node=pod.node if pod.node in dead_nodes else "",
    )


def _silence(dead_node: str) -> str:
    return f"its node {dead_node} does not answer: nobody can say whether it runs" if dead_node else ""


def _held(job: KubernetesJob, living: Sequence[Pod], refused: str) -> Hold | None:
    if job.is_suspended:
        return Hold(Holding.SUSPENDED, "it is suspended, until its queue lets it begin", job.created_at)
    if not living:
        return Hold(Holding.UNSCHEDULED, refused, job.created_at) if refused else None
    pod = living[0]
    return None if pod.phase == "Running" else pod.unscheduled or pod.hold


def _ended(job: KubernetesJob, pods: Sequence[Pod]) -> Seen:
    if job.finished == "Complete":
        return Seen(
            **_known(job),
            phase=Phase.SUCCEEDED,
            placement_reason=job.placement_reason,
            exit_code=0,
            is_deleting=job.is_deleting,
        )
    # The newest; there is one, unless somebody has written into the Job.
    pod = max(pods, key=lambda one: one.created_at, default=None)
    reason, message = _why(job, pod)
    found = EXIT_CODE.search(job.message)
    exit_code = pod.exit_code if pod and pod.exit_code is not None else int(found[1]) if found else None
    return Seen(
        **_known(job),
        phase=Phase.FAILED,
        placement_reason=job.placement_reason,
        exit_code=exit_code,
        reason=reason,
        message=message,
        is_deleting=job.is_deleting,
    )


def _why(job: KubernetesJob, pod: Pod | None) -> tuple[Reason | None, str]:
    """The first that holds; what the pod says goes before what the Job says, but for the Job's own deadline."""
    if job.reason == "DeadlineExceeded":
        return Reason.DEADLINE, ""
    if pod is None:
        return (Reason.DISRUPTED, job.message) if DISRUPTION in job.message else (None, _job_words(job))
    if pod.disruption:
        return Reason.DISRUPTED, pod.disruption
    if pod.reason:
        return Reason.EVICTED, f"{pod.reason}, {pod.message}"
    if pod.ended == "OOMKilled":
        return Reason.OUT_OF_MEMORY, ""
    if pod.ended in NOT_EXECUTABLE:
        return Reason.CANNOT_START, pod.last_words
    if pod.init_failed:
        return Reason.INIT_FAILED, pod.init_failed
    if pod.is_deleting:
        return Reason.DELETED, ""
    return None, "" if pod.exit_code is not None else _job_words(job)


def _job_words(job: KubernetesJob) -> str:
    return "" if EXIT_CODE.search(job.message) else f"{job.reason}, {job.message}"


def _true(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The conditions that hold, by type."""
    return {one["type"]: one for one in status.get("conditions", ()) if one["status"] == "True"}


def _container(status: Mapping[str, Any]) -> Mapping[str, Any]:
    found = status.get("containerStatuses", ())
    return next((one for one in found if one["name"] == CONTAINER), found[0] if found else {})


def _unscheduled(condition: Mapping[str, Any]) -> Hold:
    since = _time(condition["lastTransitionTime"])
    return Hold(Holding.UNSCHEDULED, f"no node takes it: {condition.get('message', '')}", since)


def _hold(status: Mapping[str, Any], since: datetime) -> Hold | None:
    for one in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waiting = one.get("state", {}).get("waiting", {})
        reason = waiting.get("reason", "")
        if reason not in ORDINARY:
            holding = Holding.NEVER_STARTS if reason in FOR_GOOD else Holding.CANNOT_START
            return Hold(holding, ": ".join(filter(None, (reason, waiting.get("message", "")))), since)
    return None


def _disruption(condition: Mapping[str, Any]) -> str:
    if condition.get("status") != "True":
        return ""
    return f"{condition.get('reason', 'disrupted')}, {condition.get('message', '')}"


def _init_failed(status: Mapping[str, Any]) -> str:
    for one in status.get("initContainerStatuses", ()):
        ended = one.get("state", {}).get("terminated", {})
        if ended.get("exitCode"):
            return f"{one['name']} ended with exit code {ended['exitCode']}"
    return ""


def _gpus(spec: Mapping[str, Any], resource: str) -> int:
    limits = (one.get("resources", {}).get("limits", {}) for one in spec.get("containers", ()))
    return sum(int(limit.get(resource, 0)) for limit in limits)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
