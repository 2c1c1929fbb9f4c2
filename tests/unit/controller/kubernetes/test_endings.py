"""Each way to end, recorded on a real Kubernetes by scripts/record_endings.py, and the resulting action."""

import copy
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from crease.analysis.v1 import launch_pb2 as wire
from crease.jobs.v1.job_pb2 import ACCELERATOR_AUTO, ACCELERATOR_GPU
from services.controller.core.decide import Action, Delete, End, Snapshot, decide
from services.controller.core.launcher import Observed, PendingReason, PermanentRejection, RetryableRejection, job_of
from services.controller.core.limits import Limits
from services.controller.kubernetes.api_client import Refusal
from services.controller.kubernetes.launcher import classify_refusal, find_obstacles
from services.controller.kubernetes.observed_state import (
    KubernetesJob,
    Pod,
    observe,
    observe_deleted,
    parse_job,
    parse_pod,
    recoverable,
)
from testing.fakes.controller import launch

RECORDS: dict[str, Any] = {
    path.stem: json.loads(path.read_text()) for path in Path(__file__).with_name("endings").glob("*.json")
}
LIMITS = Limits(
    1, timedelta(hours=4), timedelta(0), start_patience=timedelta(seconds=30), gpu_wait=timedelta(minutes=2)
)

# Ended workloads: the class and a part of the sentence; then the class if the pod is gone and only the Job is left.
ENDED = {
    "exit_65": (wire.ENDING_BAD_INPUT, "exit code 65", wire.ENDING_BAD_INPUT),
    "exit_69": (wire.ENDING_UNKNOWN, "exit code 69", wire.ENDING_UNKNOWN),
    "exit_70": (wire.ENDING_UNKNOWN, "exit code 70", wire.ENDING_UNKNOWN),
    "exit_75": (wire.ENDING_LEASE_LOST, "exit code 75", wire.ENDING_LEASE_LOST),
    "out_of_memory": (wire.ENDING_OUT_OF_MEMORY, "memory limit", wire.ENDING_OUT_OF_MEMORY),
    "deadline": (wire.ENDING_DEADLINE, "exceeded its deadline", wire.ENDING_DEADLINE),
    "drained": (wire.ENDING_DISRUPTION, "EvictionByEvictionAPI", wire.ENDING_DISRUPTION),
    "node_shut_down": (wire.ENDING_DISRUPTION, "TerminationByKubelet", wire.ENDING_DISRUPTION),
    # Without the pod the exit code is all that is left.
    "node_without_power": (wire.ENDING_DISRUPTION, "the node lost it", wire.ENDING_UNKNOWN),
    "node_gone": (wire.ENDING_DISRUPTION, "node no longer exists", wire.ENDING_DISRUPTION),
    "job_deleted_by_hand": (wire.ENDING_DISRUPTION, "deleted", None),
    "pod_deleted_by_hand": (wire.ENDING_DISRUPTION, "deleted", wire.ENDING_DISRUPTION),
    "not_executable": (wire.ENDING_IMAGE, "/nobody/made/it", wire.ENDING_IMAGE),
    "init_failed": (wire.ENDING_UNKNOWN, "An init container failed (before, exit code 3)", wire.ENDING_DISRUPTION),
    # The kubelet killed it: without the pod it looks like out of memory, which costs one more launch.
    "evicted": (wire.ENDING_DISRUPTION, 'EmptyDir volume "scratch" exceeds the limit', wire.ENDING_OUT_OF_MEMORY),
    "killed_at_grace_end": (wire.ENDING_DISRUPTION, "deleted", wire.ENDING_OUT_OF_MEMORY),
}
# Pending workloads: the seconds after which the launch ends (None: never), the class and a part of the sentence.
PENDING: dict[str, tuple[float | None, int, str]] = {
    # The registry is down: the kubelet pulls again.
    "image_pull_backoff": (None, 0, 'Back-off pulling image "localhost/nobody-made-it:1"'),
    "image_not_found": (30, wire.ENDING_IMAGE, "not found"),
    "no_such_volume": (30, wire.ENDING_IMAGE, 'FailedMount: MountVolume.SetUp failed for volume "authority"'),
    "no_such_account": (None, 0, 'serviceaccount "nobody" not found'),
    "err_image_never_pull": (0, wire.ENDING_IMAGE, "is not present with pull policy of Never"),
    "invalid_image_name": (0, wire.ENDING_IMAGE, "invalid reference format"),
    "create_container_config_error": (30, wire.ENDING_IMAGE, 'configmap "nobody-made-it" not found'),
    "pending_gpu": (120, wire.ENDING_UNSCHEDULABLE, "1 Insufficient nvidia.com/gpu"),
    "pending_cpu": (None, 0, "1 Insufficient cpu"),
    "pending_memory": (None, 0, "1 Insufficient memory"),
    "quota_on_pods": (None, 0, "exceeded quota: pods"),
}
# Live workloads whose analyzer has ended beside a container that runs on.
OUTLIVED = {
    "out_of_memory_beside_a_sidecar": (wire.ENDING_OUT_OF_MEMORY, "memory limit"),
    "exit_65_beside_a_sidecar": (wire.ENDING_BAD_INPUT, "exit code 65"),
}
REJECTED = {"quota_on_jobs", "admission_denied"}


def objects(record: Any) -> tuple[KubernetesJob, list[Pod]]:
    return parse_job(record["job"]), [parse_pod(pod, "nvidia.com/gpu") for pod in record["pods"]]


def observed_in(record: Any) -> Observed:
    job, pods = objects(record)
    obstacles = find_obstacles(record["events"])
    obstacle = next((obstacles[uid] for uid in (job.uid, *(pod.uid for pod in pods)) if uid in obstacles), "")
    return observe_deleted(job, pods) if record["gone"] else observe(job, pods, obstacle=obstacle)


def decided(observed: Observed, seconds: float = 0) -> list[Action]:
    """The actions, so many seconds after the workload became pending."""
    job_id, number = job_of(observed)
    open_launch = launch(job_id, number, kubernetes_uid=observed.uid, accelerator=ACCELERATOR_AUTO,
                      placement_reason=observed.placement_reason)  # fmt: skip
    since = observed.pending.since if observed.pending else observed.created_at
    return decide(Snapshot([open_launch], [observed], {}), LIMITS, since + timedelta(seconds=seconds))


def test_every_record_is_expected_and_every_expectation_has_its_record() -> None:
    """The four tables and the folder have the same names."""
    assert RECORDS.keys() == ENDED.keys() | PENDING.keys() | OUTLIVED.keys() | REJECTED


@pytest.mark.parametrize("name", ENDED)
def test_an_ended_workload_gets_its_class(name: str) -> None:
    """The sentence has the cluster's details."""
    [end] = [one for one in decided(observed_in(RECORDS[name])) if isinstance(one, End)]
    assert (end.ending, end.if_not_found) == (ENDED[name][0], None)
    assert ENDED[name][1] in end.why


@pytest.mark.parametrize("name", [name for name, (_, _, alone) in ENDED.items() if alone is not None])
def test_the_job_alone_has_the_class_when_its_pod_is_gone(name: str) -> None:
    """In the condition that its podFailurePolicy leaves."""
    [end] = [one for one in decided(observe(objects(RECORDS[name])[0], [])) if isinstance(one, End)]
    assert end.ending == ENDED[name][2]


@pytest.mark.parametrize("name", PENDING)
def test_a_workload_that_cannot_start_ends_its_launch_after_its_patience(name: str) -> None:
    """Not a second earlier; until then the placement reason has the obstacle."""
    patience, ending, words = PENDING[name]
    observed = observed_in(RECORDS[name])
    assert observed.pending is not None
    assert words in observed.placement_reason
    if patience != 0:
        assert not any(isinstance(one, End | Delete) for one in decided(observed, (patience or 3000) - 1))
    if patience is not None:
        [end] = [one for one in decided(observed, patience) if isinstance(one, End)]
        assert (end.ending, end.then_delete) == (ending, observed)
        assert words in end.why


@pytest.mark.parametrize("name", OUTLIVED)
def test_an_analyzer_that_ended_beside_a_sidecar_gets_its_class(name: str) -> None:
    """Its pod lives on, so it is deleted too."""
    observed = observed_in(RECORDS[name])
    assert observed.is_live
    [end] = [one for one in decided(observed) if isinstance(one, End)]
    assert (end.ending, end.then_delete) == (OUTLIVED[name][0], observed)
    assert OUTLIVED[name][1] in end.why


@pytest.mark.parametrize(
    ("answer", "is_definite"),
    [
        ("pulling from host registry.example failed with status code [manifests 1]: 401 Unauthorized", True),
        ("pull access denied, repository does not exist or may require authorization", True),
        ("no match for platform in manifest: not found", True),
        ("failed to do request: Head https://registry.example: dial tcp: lookup registry.example: no such host", False),
        ("unexpected status from HEAD request: 503 Service Unavailable", False),
        ("toomanyrequests: You have reached your pull rate limit", False),
        ("net/http: TLS handshake timeout", False),
    ],
)
def test_a_pull_fails_for_good_only_by_the_answer_of_the_registry(answer: str, *, is_definite: bool) -> None:
    """A registry that is down or throttles heals; a missing image and a missing right do not."""
    record = copy.deepcopy(RECORDS["image_not_found"])
    for status in record["pods"][0]["status"]["containerStatuses"]:
        status["state"]["waiting"]["message"] = f'Back-off pulling image "x": ErrImagePull: {answer}'
    observed = observed_in(record)
    ends = [one for one in decided(observed, 3000) if isinstance(one, End)]
    assert [one.ending for one in ends] == ([wire.ENDING_IMAGE] if is_definite else [])
    assert answer in observed.placement_reason


def test_an_image_that_another_pod_has_is_pulled_again() -> None:
    """The registry answered otherwise before, so its answer is not final."""
    [pod] = objects(RECORDS["image_not_found"])[1]
    assert pod.start_error
    assert pod.start_error.reason == PendingReason.START_ERROR
    again = recoverable(pod)
    assert again.start_error
    assert (again.start_error.reason, again.start_error.message) == (PendingReason.DELAYED, pod.start_error.message)
    [wrong] = objects(RECORDS["create_container_config_error"])[1]
    assert recoverable(wrong) == wrong


def test_only_a_gpu_of_the_controllers_choice_is_given_up() -> None:
    """A launch that requested a GPU waits for it."""
    observed = observed_in(RECORDS["pending_gpu"])
    job_id, number = job_of(observed)
    requested = launch(job_id, number, kubernetes_uid=observed.uid, accelerator=ACCELERATOR_GPU)
    actions = decide(Snapshot([requested], [observed], {}), LIMITS, observed.created_at + timedelta(hours=3))
    assert not any(isinstance(one, End | Delete) for one in actions)


def test_an_exhausted_quota_is_retried_and_a_denied_admission_is_not() -> None:
    """The denial fails the job with the cluster's message."""
    quota, denied = (classify_refusal(Refusal(**RECORDS[name])) for name in ("quota_on_jobs", "admission_denied"))
    assert isinstance(quota, RetryableRejection)
    assert quota.no_room
    assert "exceeded quota" in str(quota)
    assert isinstance(denied, PermanentRejection)
    assert denied.ending == wire.ENDING_IMAGE
    assert "denied request" in str(denied)


@pytest.mark.parametrize("exit_code", [137, 255])
def test_a_container_that_its_node_lost_is_disrupted_whatever_its_exit_code(exit_code: int) -> None:
    """The kubelet invents 137, which otherwise means out of memory, and containerd invents 255."""
    record = copy.deepcopy(RECORDS["node_without_power"])
    for status in record["pods"][0]["status"]["containerStatuses"]:
        status["state"]["terminated"] |= {
            "exitCode": exit_code, "reason": "ContainerStatusUnknown", "message": "The container could not be located",
        }  # fmt: skip
    [end] = [one for one in decided(observed_in(record)) if isinstance(one, End)]
    assert end.ending == wire.ENDING_DISRUPTION
    assert "The container could not be located" in end.why


@pytest.mark.parametrize(
    ("answer", "is_definite"),
    [
        ('OCI runtime create failed: exec: "analyze": executable file not found in $PATH', True),
        ("OCI runtime create failed: container_linux.go: exec /analyze: exec format error", True),
        ("crun: executable file `analyze` not found: No such file or directory", True),
        # Of a kubelet that crashed between the request and the answer.
        ("failed to create containerd task: failed to create shim task: context canceled", False),
        (
            "failed to create containerd task: failed to start shim: write /run/containerd: no space left on device",
            False,
        ),
        ("OCI runtime create failed: runc create failed: unable to apply cgroup configuration: device busy", False),
    ],
)
def test_a_command_cannot_be_started_only_by_the_word_of_the_runtime(answer: str, *, is_definite: bool) -> None:
    """Otherwise the node failed, and the next launch may start."""
    record = copy.deepcopy(RECORDS["not_executable"])
    for status in record["pods"][0]["status"]["containerStatuses"]:
        status["state"]["terminated"]["message"] = answer
    [end] = [one for one in decided(observed_in(record)) if isinstance(one, End)]
    assert end.ending == (wire.ENDING_IMAGE if is_definite else wire.ENDING_DISRUPTION)
    assert answer in end.why


def test_a_webhooks_denial_is_permanent() -> None:
    """With any status code."""
    words = 'admission webhook "images.example" denied the request: unsigned'
    assert isinstance(classify_refusal(Refusal(403, "Forbidden", words)), PermanentRejection)
