"""Faults of a cluster in the words that Kubernetes has for them: each is in the controller's sentence.

test_endings.py has those that were recorded on a real cluster. These need a cloud, another runtime or a wrong admission
setting, so their words are put into a recorded pod. tests/integration/cli/test_naming_faults.py runs `why` on all.
"""

import copy
from typing import Any

import pytest

from crease.analysis.v1 import launch_pb2 as wire
from services.controller.core.decide import End
from services.controller.core.launcher import PendingReason
from tests.unit.controller.kubernetes.test_endings import RECORDS, decided, observed_in

DELAYED, START_ERROR, UNSCHEDULABLE = PendingReason.DELAYED, PendingReason.START_ERROR, PendingReason.UNSCHEDULABLE

# Warnings of the Job controller: it cannot create the pod. Reason FailedCreate.
NO_POD = {
    "the Pod Security level is too strict": 'violates PodSecurity "restricted:latest": runAsNonRoot != true',
    "a LimitRange allows less memory": "maximum memory usage per Container is 1Gi, but limit is 2Gi",
    "the RuntimeClass is missing": 'pod rejected: RuntimeClass "gvisor" not found',
    "the PriorityClass is missing": "no PriorityClass with name analyses was found",
    "a webhook is down": 'failed calling webhook "pods.policy.example": connect: connection refused',
    "a policy denies the pod": 'admission webhook "pods.policy.example" denied the request: no owner label',
}
# Warnings of the kubelet and of the volume controller, before any container: reason and message.
NOT_PREPARED = {
    "the network has no free address": (
        "FailedCreatePodSandBox", 'plugin type="aws-cni" failed (add): failed to assign an IP address to container',
    ),
    "the runtime handler is missing": ("FailedCreatePodSandBox", 'no runtime for "gvisor" is configured'),
    "the network plug-in is not ready": ("NetworkNotReady", "network is not ready: cni plugin not initialized"),
    "a volume is attached elsewhere": ("FailedAttachVolume", "Multi-Attach error for volume pvc-1: already used"),
    "a volume is not mounted in time": ("FailedMount", "Unable to attach or mount volumes: timed out waiting"),
}  # fmt: skip
# What the analyzer's container waits for: reason, message, and whether the kubelet overcomes it by itself.
WAITING = {
    "the runtime holds the container's name": ("CreateContainerError", "failed to reserve container name", DELAYED),
    "the image has no command": ("CreateContainerError", "failed to generate spec: no command specified", START_ERROR),
    "the GPU's hook fails": ("RunContainerError", "error running hook #0: nvidia-container-cli: device error", DELAYED),
    "the command cannot be executed": (
        "RunContainerError", 'exec: "crease": executable file not found in $PATH', START_ERROR,
    ),
    "the registry's certificate is unknown": (
        "ErrImagePull", "tls: failed to verify certificate: x509: certificate signed by unknown authority", DELAYED,
    ),
    "the registry has no address": ("ImagePullBackOff", "ErrImagePull: lookup registry: no such host", DELAYED),
    "the pull secret is wrong": ("ErrImagePull", "failed to authorize: 401 Unauthorized", START_ERROR),
    "the node's disk is full": ("ErrImagePull", "write layer: no space left on device", DELAYED),
}  # fmt: skip
# What the scheduler says of every node.
NO_NODE = {
    "no toleration for a taint": "3 node(s) had untolerated taint {dedicated: gpu}",
    "no node has the label": "3 node(s) didn't match Pod's node affinity/selector",
    "a volume claim is not bound": "pod has unbound immediate PersistentVolumeClaims",
    "the nodes are full of pods": "0/3 nodes are available: 3 Too many pods",
    "the spread cannot be kept": "3 node(s) didn't match pod topology spread constraints",
    "every node is cordoned": "3 node(s) were unschedulable",
}
# How a pod ended by its node: the pod's reason and message.
BY_NODE = {
    "the node is short of memory": ("Evicted", "The node was low on resource: memory. Threshold quantity: 100Mi"),
    "the node is short of disk": ("Evicted", "The node was low on resource: ephemeral-storage"),
    "the device plug-in failed": ("UnexpectedAdmissionError", "Allocate failed due to no healthy devices present"),
    "the node has less than the scheduler knew": ("OutOfcpu", "Node didn't have enough resource: cpu"),
    "the node changed its labels": ("NodeAffinity", "Predicate NodeAffinity failed"),
}
# How a pod ended by the cluster: reason and message of its condition DisruptionTarget.
BY_CLUSTER = {
    "a more important pod took its place": ("PreemptionByScheduler", "preempting to accommodate a higher priority pod"),
    "the node did not answer": ("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint"),
}


def warning(kind: str, uid: str, reason: str, message: str) -> dict[str, Any]:
    about = {"kind": kind, "uid": uid}
    return {"type": "Warning", "reason": reason, "message": message, "involvedObject": about, "lastTimestamp": "2026"}


def pending_record() -> Any:
    """A pod on a node whose containers have not started."""
    return copy.deepcopy(RECORDS["no_such_volume"])


def without_pod(fault: str) -> Any:
    record = copy.deepcopy(RECORDS["no_such_account"])
    message = f'Error creating: pods "analysis-x" is forbidden: {NO_POD[fault]}'
    record["events"] = [warning("Job", record["job"]["metadata"]["uid"], "FailedCreate", message)]
    return record


def not_prepared(fault: str) -> Any:
    record, (reason, message) = pending_record(), NOT_PREPARED[fault]
    record["events"] = [warning("Pod", record["pods"][0]["metadata"]["uid"], reason, message)]
    return record


def waiting(fault: str) -> Any:
    record, (reason, message, _) = copy.deepcopy(RECORDS["image_not_found"]), WAITING[fault]
    for status in record["pods"][0]["status"]["containerStatuses"]:
        status["state"]["waiting"] = {"reason": reason, "message": message}
    return record


def on_no_node(fault: str) -> Any:
    record = copy.deepcopy(RECORDS["pending_cpu"])
    for condition in record["pods"][0]["status"]["conditions"]:
        if condition["type"] == "PodScheduled":
            condition["message"] = NO_NODE[fault]
    return record


def ended_by_node(fault: str) -> Any:
    record, (reason, message) = copy.deepcopy(RECORDS["evicted"]), BY_NODE[fault]
    # A kubelet that rejects a pod writes no more than this.
    record["pods"][0]["status"] = {"phase": "Failed", "reason": reason, "message": message}
    return record


def ended_by_cluster(fault: str) -> Any:
    record, (reason, message) = copy.deepcopy(RECORDS["drained"]), BY_CLUSTER[fault]
    for condition in record["pods"][0]["status"]["conditions"]:
        if condition["type"] == "DisruptionTarget":
            condition |= {"reason": reason, "message": message}
    return record


# Each fault with its objects, and the words that name it.
FAULTS: dict[str, tuple[Any, str]] = {
    **{fault: (without_pod(fault), words) for fault, words in NO_POD.items()},
    **{fault: (not_prepared(fault), ": ".join(words)) for fault, words in NOT_PREPARED.items()},
    **{fault: (waiting(fault), f"{reason}: {message}") for fault, (reason, message, _) in WAITING.items()},
    **{fault: (on_no_node(fault), words) for fault, words in NO_NODE.items()},
    **{fault: (ended_by_node(fault), ": ".join(words)) for fault, words in BY_NODE.items()},
    **{fault: (ended_by_cluster(fault), ": ".join(words)) for fault, words in BY_CLUSTER.items()},
}


def test_there_are_thirty_faults() -> None:
    """Beside the recorded ones."""
    assert len(FAULTS) >= 30


@pytest.mark.parametrize("fault", NO_POD)
def test_a_pod_that_cannot_be_created_names_the_rule(fault: str) -> None:
    """The launch waits: an operator repairs the rule, and the Job controller tries again."""
    observed = observed_in(without_pod(fault))
    assert NO_POD[fault] in observed.placement_reason
    assert observed.pending
    assert observed.pending.reason == DELAYED


@pytest.mark.parametrize("fault", NOT_PREPARED)
def test_a_pod_that_its_node_cannot_prepare_names_the_obstacle(fault: str) -> None:
    """The kubelet tries again by itself."""
    reason, message = NOT_PREPARED[fault]
    observed = observed_in(not_prepared(fault))
    assert f"{reason}: {message}" in observed.placement_reason
    assert observed.pending
    assert observed.pending.reason == DELAYED


@pytest.mark.parametrize("fault", WAITING)
def test_a_container_that_cannot_start_names_the_cause(fault: str) -> None:
    """Of a pull only the registry's own no is final."""
    reason, message, expected = WAITING[fault]
    observed = observed_in(waiting(fault))
    assert f"{reason}: {message}" in observed.placement_reason
    assert observed.pending
    assert observed.pending.reason == expected
    ends = [one.ending for one in decided(observed, 3000) if isinstance(one, End)]
    assert ends == ([wire.ENDING_IMAGE] if expected == START_ERROR else [])


@pytest.mark.parametrize("fault", NO_NODE)
def test_a_pod_that_fits_on_no_node_names_the_scheduler_s_reason(fault: str) -> None:
    """The launch waits for room."""
    observed = observed_in(on_no_node(fault))
    assert NO_NODE[fault] in observed.placement_reason
    assert observed.pending
    assert observed.pending.reason == UNSCHEDULABLE


@pytest.mark.parametrize("fault", BY_NODE)
def test_a_pod_that_its_node_ended_names_the_node_s_reason(fault: str) -> None:
    """A disruption, which costs no retry of the job's own."""
    reason, message = BY_NODE[fault]
    [end] = [one for one in decided(observed_in(ended_by_node(fault))) if isinstance(one, End)]
    assert end.ending == wire.ENDING_DISRUPTION
    assert f"{reason}: {message}" in end.why


@pytest.mark.parametrize("fault", BY_CLUSTER)
def test_a_pod_that_the_cluster_ended_names_the_disruption(fault: str) -> None:
    """From the condition, which every such end leaves."""
    reason, message = BY_CLUSTER[fault]
    [end] = [one for one in decided(observed_in(ended_by_cluster(fault))) if isinstance(one, End)]
    assert end.ending == wire.ENDING_DISRUPTION
    assert f"{reason}: {message}" in end.why
