"""Parses the cached part of Kubernetes objects, and combines a Job with its pods into one Observed. All pure.

Job    Pod                                           Observed
─────  ───────────────────────────────────────────   ─────────────────────────────────────────────────────────
open   none, or its analyzer has not started         pending, with its reason
       running                                       running
       running, its analyzer ended beside a sidecar  running, with the analyzer's exit code and failure
       any, being deleted                            unchanged, until no pod is left
ended  ended; its status says more than the Job's    succeeded | failed, with its reason
gone   live                                          as the pod is, until it ends
       ended, or none                                failed as deleted, if the Job was cached before; otherwise none
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from crease.jobs.v1.job_pb2 import ACCELERATOR_CPU, ACCELERATOR_GPU, ACCELERATOR_UNSPECIFIED, Accelerator
from services import naming
from services.controller.core.launcher import FailureReason, Observed, Pending, PendingReason, Phase
from services.controller.kubernetes.job_manifest import CONTAINER
from services.controller.kubernetes.kueue import Workload

JOB_NAME = "batch.kubernetes.io/job-name"
# Waiting reasons of a container whose start is in progress.
STARTING = frozenset({"", "ContainerCreating", "PodInitializing"})
# Waiting reasons that the kubelet does not recover from, even after a repair.
PERMANENT_START_ERRORS = frozenset({"InvalidImageName", "ErrImageNeverPull"})
# Waiting reasons of a pull, which the kubelet repeats; it fails for good only if the registry's answer says so. Older
# kubelets write no answer after their back-off.
PULL_ERRORS = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError"})
DEFINITE_PULL_ERROR = re.compile(
    r"not found|manifest unknown|no match for platform|unauthori[sz]ed|authentication|denied|forbidden"
    r'|insufficient_scope|^Back-off pulling image "[^"]*"$',
    re.IGNORECASE,
)
# A volume whose Secret or ConfigMap is missing waits for a repair, like a container with a wrong configuration.
MISSING_SOURCE = re.compile(r"(secret|configmap) \"[^\"]+\" not found", re.IGNORECASE)
# Reasons of a container that ended with its node: containerd's and the kubelet's. Its exit code is invented.
LOST_BY_NODE = frozenset({"Unknown", "ContainerStatusUnknown"})
NOT_STARTED = frozenset({"StartError", "ContainerCannotRun"})
# Waiting reasons of a start that failed; the kubelet repeats it.
FAILED_STARTS = frozenset({"CreateContainerError", "RunContainerError"})
# A container runtime about a command that it cannot execute. Any other failed start is the node's.
NOT_EXECUTABLE = re.compile(r"\bexec\b|executable file|no command specified", re.IGNORECASE)
PLACED_ON = {"gpu": ACCELERATOR_GPU, "cpu": ACCELERATOR_CPU}
# In the condition that podFailurePolicy leaves on the Job, which outlives the pod.
EXIT_CODE = re.compile(r"failed with exit code (\d+)")
DISRUPTION = "has condition DisruptionTarget"
# By the exit codes of SIGKILL and SIGTERM, a container was stopped from outside.
KILLED = frozenset({137, 143})

# A part of an object, in the API's JSON. Only the parsers below see it.
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class KubernetesJob:
    name: str
    uid: str
    labels: Mapping[str, str]
    created_at: datetime
    is_deleting: bool
    is_suspended: bool
    placement_reason: str
    # Complete or Failed; empty while the Job is open.
    finished: str
    # Of the condition that finished it, or is about to.
    reason: str
    message: str

    @property
    def placed_on(self) -> Accelerator.ValueType:
        return _placed_on(self.labels)


@dataclass(frozen=True, slots=True)
class Pod:
    name: str
    uid: str
    labels: Mapping[str, str]
    job_name: str
    job_uid: str
    created_at: datetime
    # Empty until the pod is scheduled.
    node: str
    phase: str
    # Of the whole pod: Evicted, DeadlineExceeded, NodeLost.
    reason: str
    message: str
    is_deleting: bool
    # Set while no node accepts the pod.
    unschedulable: Pending | None
    # Set while a container cannot start.
    start_error: Pending | None
    # Whether that is a failed pull of the image.
    is_pull_error: bool
    image: str
    # Whether its node has the image.
    has_image: bool
    # Whether its volumes and its network are ready; the kubelet reports no other error before.
    is_prepared: bool
    # When the analyzer's container started; None before.
    started_at: datetime | None
    # Whether the analyzer's container has ended while another one of the pod, which a webhook has injected, runs on.
    is_outlived: bool
    # Reason and message of the condition DisruptionTarget; empty without it.
    disruption: str
    exit_code: int | None
    # Of the terminated analyzer container: OOMKilled, Error, StartError; then its termination message.
    termination_reason: str
    termination_message: str
    # Name and exit code of a failed init container, as a phrase.
    failed_init_container: str
    gpus: int

    @property
    def is_live(self) -> bool:
        """Whether a container of the pod may run."""
        return self.phase not in ("Succeeded", "Failed")

    @property
    def is_running(self) -> bool:
        return self.phase == "Running" and self.start_error is None


@dataclass(frozen=True, slots=True)
class Node:
    uid: str
    name: str
    is_ready: bool
    is_schedulable: bool
    gpus: int


def parse_job(body: Json) -> KubernetesJob:
    """A Job, from the API's JSON."""
    metadata, status = body["metadata"], body.get("status", {})
    conditions = _true_conditions(status)
    final = conditions.get("Complete") or conditions.get("Failed") or {}
    cause = final or conditions.get("FailureTarget") or {}
    return KubernetesJob(
        name=metadata["name"],
        uid=metadata["uid"],
        labels=metadata.get("labels", {}),
        created_at=_parse_time(status.get("startTime") or metadata["creationTimestamp"]),
        is_deleting="deletionTimestamp" in metadata,
        is_suspended=bool(body["spec"].get("suspend")),
        placement_reason=metadata.get("annotations", {}).get(naming.PLACEMENT_REASON_ANNOTATION, ""),
        finished=final.get("type", ""),
        reason=cause.get("reason", ""),
        message=cause.get("message", ""),
    )


def parse_pod(body: Json, gpu_resource: str = "") -> Pod:
    """A pod, from the API's JSON."""
    metadata, spec, status = body["metadata"], body["spec"], body.get("status", {})
    labels = metadata.get("labels", {})
    placed_at = _parse_time(status.get("startTime") or metadata["creationTimestamp"])
    conditions = {one["type"]: one for one in status.get("conditions", ())}
    analyzer = _analyzer_status(status)
    terminated = analyzer.get("state", {}).get("terminated", {})
    started_at = (terminated or analyzer.get("state", {}).get("running", {})).get("startedAt")
    start_error, is_pull_error = _parse_start_error(status, placed_at)
    owner = next((one["uid"] for one in metadata.get("ownerReferences", ()) if one.get("controller")), "")
    return Pod(
        name=metadata["name"],
        uid=metadata["uid"],
        labels=labels,
        job_name=labels.get(JOB_NAME, ""),
        job_uid=owner,
        created_at=_parse_time(metadata["creationTimestamp"]),
        node=spec.get("nodeName", ""),
        phase=status.get("phase", "Pending"),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        is_deleting="deletionTimestamp" in metadata,
        unschedulable=_parse_unschedulable(conditions.get("PodScheduled", {})),
        start_error=start_error,
        is_pull_error=is_pull_error,
        image=next((one.get("image", "") for one in spec.get("containers", ()) if one["name"] == CONTAINER), ""),
        has_image=bool(analyzer.get("imageID")),
        is_prepared=conditions.get("PodReadyToStartContainers", {}).get("status") == "True",
        started_at=_parse_time(started_at) if started_at else None,
        is_outlived=bool(terminated) and _has_running_container(status),
        disruption=_parse_disruption(conditions.get("DisruptionTarget", {})),
        exit_code=terminated.get("exitCode"),
        termination_reason=terminated.get("reason", ""),
        termination_message=terminated.get("message", "").strip(),
        failed_init_container=_parse_failed_init_container(status),
        gpus=_count_gpus(spec, gpu_resource),
    )


def parse_node(body: Json, gpu_resource: str = "") -> Node:
    """A node, from the API's JSON."""
    status = body.get("status", {})
    return Node(
        uid=body["metadata"]["uid"],
        name=body["metadata"]["name"],
        is_ready="Ready" in _true_conditions(status),
        is_schedulable=not body["spec"].get("unschedulable"),
        gpus=int(status.get("allocatable", {}).get(gpu_resource, 0)),
    )


def observe(
    job: KubernetesJob,
    pods: Sequence[Pod],
    dead_nodes: Collection[str] = (),
    obstacle: str = "",
    queued: Workload | None = None,
) -> Observed:
    """The state of a Job and its pods.

    `obstacle`: by the Events, why the Job controller cannot create the pod or the node cannot start it; by Kueue, why
    the Job is suspended. `queued`: Kueue's Workload of the Job.
    """
    live = [pod for pod in pods if pod.is_live]
    if job.finished and not live:
        return _observe_ended(job, pods, queued)
    dead_node = next((pod.node for pod in live if pod.node in dead_nodes), "")
    pending = _pending(job, live, obstacle, queued)
    outlived = next((pod for pod in live if pod.is_outlived), None)
    failure, message = _pod_failure(outlived) if outlived and outlived.exit_code else (None, "")
    reasons = (job.placement_reason, pending.message if pending else "", _describe_dead_node(dead_node))
    return Observed(
        name=job.name,
        uid=job.uid,
        phase=Phase.RUNNING if any(pod.is_running for pod in live) else Phase.PENDING,
        labels=job.labels,
        created_at=job.created_at,
        placed_on=job.placed_on,
        started_at=next((pod.started_at for pod in live if pod.started_at), None),
        placement_reason="; ".join(filter(None, reasons)),
        exit_code=outlived.exit_code if outlived else None,
        failure=failure,
        message=message,
        pending=pending,
        is_deleting=job.is_deleting,
        dead_node=dead_node,
        status_label=job.labels.get(naming.STATUS_LABEL, ""),
    )


def observe_pods(pods: Sequence[Pod], dead_nodes: Collection[str] = ()) -> Observed | None:
    """The state of pods whose Job is gone; None if none of them lives."""
    pod = next((pod for pod in pods if pod.is_live), None)
    if pod is None:
        return None
    return Observed(
        name=pod.job_name,
        uid=pod.job_uid,
        phase=Phase.RUNNING if pod.is_running else Phase.PENDING,
        labels=pod.labels,
        created_at=pod.created_at,
        started_at=pod.started_at,
        placed_on=_placed_on(pod.labels),
        placement_reason="Its Kubernetes Job is gone, and its pod lives",
        is_deleting=pod.is_deleting,
        dead_node=pod.node if pod.node in dead_nodes else "",
    )


def observe_deleted(job: KubernetesJob, pods: Sequence[Pod]) -> Observed:
    """The state of a Job that is gone: as its pod ended, otherwise as deleted."""
    if job.finished:
        return _observe_ended(job, pods)
    return Observed(
        name=job.name,
        uid=job.uid,
        phase=Phase.FAILED,
        labels=job.labels,
        created_at=job.created_at,
        placed_on=job.placed_on,
        placement_reason=job.placement_reason,
        failure=FailureReason.DELETED,
    )


def count_free_gpus(nodes: Iterable[Node], pods: Iterable[Pod]) -> dict[str, int]:
    """The free GPUs of each ready and schedulable node, less those of the known pods. Full nodes are left out."""
    used: dict[str, int] = {}
    for pod in pods:
        if pod.node and pod.is_live:
            used[pod.node] = used.get(pod.node, 0) + pod.gpus
    usable = (node for node in nodes if node.gpus and node.is_ready and node.is_schedulable)
    return {node.name: free for node in usable if (free := node.gpus - used.get(node.name, 0)) > 0}


def _describe_dead_node(dead_node: str) -> str:
    return f"node {dead_node} does not answer, so whether the pod runs is unknown" if dead_node else ""


def recoverable(pod: Pod) -> Pod:
    """The pod, with a failed pull as transient: the same image was pulled for another pod."""
    if pod.start_error is None or not pod.is_pull_error or pod.start_error.reason != PendingReason.START_ERROR:
        return pod
    return replace(pod, start_error=replace(pod.start_error, reason=PendingReason.DELAYED))


def waits_for_node(pod: Pod) -> bool:
    """Whether only the Events can say why the pod does not start: its node prepares it, and reports no error."""
    return bool(pod.node) and pod.phase == "Pending" and not (pod.is_prepared or pod.start_error)


def _pending(job: KubernetesJob, live: Sequence[Pod], obstacle: str, queued: Workload | None) -> Pending | None:
    if queued and queued.remote_clusters:
        clusters = ", ".join(queued.remote_clusters)
        message = f"its queue would run the Job in another cluster by MultiKueue ({clusters}), which is not supported"
        return Pending(PendingReason.PERMANENT_START_ERROR, message, job.created_at)
    if job.is_suspended:
        message = ": ".join(filter(None, ("the Job is suspended until its queue admits it", obstacle)))
        return Pending(PendingReason.SUSPENDED, message, job.created_at)
    if not live:
        reason = PendingReason.UNSCHEDULABLE if "exceeded quota" in obstacle else PendingReason.DELAYED
        return Pending(reason, obstacle, job.created_at) if obstacle else None
    pod = live[0]
    if pod.is_running:
        return None
    if (known := pod.unschedulable or pod.start_error) or not obstacle:
        return known
    reason = PendingReason.START_ERROR if MISSING_SOURCE.search(obstacle) else PendingReason.DELAYED
    return Pending(reason, obstacle, pod.created_at)


def _observe_ended(job: KubernetesJob, pods: Sequence[Pod], queued: Workload | None = None) -> Observed:
    is_complete = job.finished == "Complete"
    # The newest pod; there is one, unless the Job's status was edited by hand.
    pod = max(pods, key=lambda one: one.created_at, default=None)
    failure, message = (None, "") if is_complete else _failure(job, pod)
    exit_code = 0 if is_complete else _exit_code(job, pod)
    if queued and queued.eviction and (failure == FailureReason.DELETED or exit_code in KILLED):
        failure, message = FailureReason.DISRUPTED, queued.eviction
    return Observed(
        name=job.name,
        uid=job.uid,
        phase=Phase.SUCCEEDED if is_complete else Phase.FAILED,
        labels=job.labels,
        created_at=job.created_at,
        placed_on=job.placed_on,
        placement_reason=job.placement_reason,
        exit_code=exit_code,
        failure=failure,
        message=message,
        is_deleting=job.is_deleting,
        status_label=job.labels.get(naming.STATUS_LABEL, ""),
    )


def _exit_code(job: KubernetesJob, pod: Pod | None) -> int | None:
    if pod and pod.exit_code is not None:
        return pod.exit_code
    found = EXIT_CODE.search(job.message)
    return int(found[1]) if found else None


def _failure(job: KubernetesJob, pod: Pod | None) -> tuple[FailureReason | None, str]:
    """The first match, with its details. The pod's status goes before the Job's, except for the Job's own deadline."""
    if job.reason == "DeadlineExceeded":
        return FailureReason.DEADLINE, ""
    if pod is None:
        return (FailureReason.DISRUPTED, job.message) if DISRUPTION in job.message else (None, _job_details(job))
    failure, message = _pod_failure(pod)
    return failure, message if failure or pod.exit_code is not None else _job_details(job)


def _pod_failure(pod: Pod) -> tuple[FailureReason | None, str]:
    if pod.disruption:
        return FailureReason.DISRUPTED, pod.disruption
    if pod.reason:
        return FailureReason.EVICTED, f"{pod.reason}: {pod.message}"
    if pod.termination_reason == "OOMKilled":
        return FailureReason.OUT_OF_MEMORY, ""
    if pod.termination_reason in LOST_BY_NODE:
        return FailureReason.KILLED, pod.termination_message or "the node lost it, as without power"
    if pod.termination_reason in NOT_STARTED:
        is_command = NOT_EXECUTABLE.search(pod.termination_message)
        return FailureReason.CANNOT_START if is_command else FailureReason.START_FAILED, pod.termination_message
    if pod.failed_init_container:
        return FailureReason.INIT_FAILED, pod.failed_init_container
    if pod.is_deleting:
        return FailureReason.DELETED, ""
    return None, ""


def _job_details(job: KubernetesJob) -> str:
    return "" if EXIT_CODE.search(job.message) else f"{job.reason}: {job.message}"


def _placed_on(labels: Mapping[str, str]) -> Accelerator.ValueType:
    return PLACED_ON.get(labels.get(naming.ACCELERATOR_LABEL, ""), ACCELERATOR_UNSPECIFIED)


def _true_conditions(status: Json) -> dict[str, Json]:
    """The conditions whose status is True, by type."""
    return {one["type"]: one for one in status.get("conditions", ()) if one["status"] == "True"}


def _analyzer_status(status: Json) -> Json:
    statuses: Sequence[Json] = status.get("containerStatuses", ())
    return next((one for one in statuses if one["name"] == CONTAINER), statuses[0] if statuses else {})


def _parse_unschedulable(scheduled: Json) -> Pending | None:
    """From the condition PodScheduled."""
    if scheduled.get("status") != "False":
        return None
    since = _parse_time(scheduled["lastTransitionTime"])
    return Pending(PendingReason.UNSCHEDULABLE, f"no node accepts the pod: {scheduled.get('message', '')}", since)


def _parse_start_error(status: Json, since: datetime) -> tuple[Pending | None, bool]:
    """With whether it is a failed pull."""
    for one in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waiting = one.get("state", {}).get("waiting", {})
        cause, message = waiting.get("reason", ""), waiting.get("message", "")
        if cause not in STARTING:
            sentence = ": ".join(filter(None, (cause, message)))
            return Pending(_start_error_reason(cause, message), sentence, since), cause in PULL_ERRORS
    return None, False


def _start_error_reason(cause: str, message: str) -> PendingReason:
    if cause in PERMANENT_START_ERRORS:
        return PendingReason.PERMANENT_START_ERROR
    heals = (cause in PULL_ERRORS and not DEFINITE_PULL_ERROR.search(message)) or (
        cause in FAILED_STARTS and not NOT_EXECUTABLE.search(message)
    )
    return PendingReason.DELAYED if heals else PendingReason.START_ERROR


def _has_running_container(status: Json) -> bool:
    return any("running" in one.get("state", {}) for one in status.get("containerStatuses", ()))


def _parse_disruption(condition: Json) -> str:
    """From the condition DisruptionTarget."""
    if condition.get("status") != "True":
        return ""
    return f"{condition.get('reason', 'disrupted')}: {condition.get('message', '')}"


def _parse_failed_init_container(status: Json) -> str:
    for one in status.get("initContainerStatuses", ()):
        terminated = one.get("state", {}).get("terminated", {})
        if terminated.get("exitCode"):
            return f"{one['name']}, exit code {terminated['exitCode']}"
    return ""


def _count_gpus(spec: Json, resource: str) -> int:
    limits = (one.get("resources", {}).get("limits", {}) for one in spec.get("containers", ()))
    return sum(int(limit.get(resource, 0)) for limit in limits)


def _parse_time(text: str) -> datetime:
    return datetime.fromisoformat(text)
