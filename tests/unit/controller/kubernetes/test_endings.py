"""How each way to end looked on a real Kubernetes (scripts/record_endings.py took it down), and what is made of it."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from crease.analysis.v1 import launch_pb2 as wire
from crease.jobs.v1.job_pb2 import ACCELERATOR_AUTO, ACCELERATOR_GPU
from services.controller.core.decide import Action, Delete, End, View, decide
from services.controller.core.launcher import NotNow, Rejected, Seen, job_of
from services.controller.core.limits import Limits
from services.controller.kubernetes.api_client import Refusal
from services.controller.kubernetes.launcher import rejection
from services.controller.kubernetes.observed_state import KubernetesJob, Pod, deleted, parse_job, parse_pod, seen_of
from testing.fakes.controller import launch

RECORDS = {path.stem: json.loads(path.read_text()) for path in Path(__file__).with_name("endings").glob("*.json")}
LIMITS = Limits(
    1, timedelta(hours=4), timedelta(0), start_patience=timedelta(seconds=30), gpu_wait=timedelta(minutes=2)
)

# What has ended: the class, and what a person reads; then the class where only the Job is left to be asked.
ENDED = {
    "exit_65": (wire.ENDING_BAD_INPUT, "exit code 65", wire.ENDING_BAD_INPUT),
    "exit_69": (wire.ENDING_UNKNOWN, "exit code 69", wire.ENDING_UNKNOWN),
    "exit_70": (wire.ENDING_UNKNOWN, "exit code 70", wire.ENDING_UNKNOWN),
    "exit_75": (wire.ENDING_LEASE_LOST, "exit code 75", wire.ENDING_LEASE_LOST),
    "out_of_memory": (wire.ENDING_OUT_OF_MEMORY, "more memory", wire.ENDING_OUT_OF_MEMORY),
    "deadline": (wire.ENDING_DEADLINE, "longer than it may", wire.ENDING_DEADLINE),
    "drained": (wire.ENDING_DISRUPTION, "EvictionByEvictionAPI", wire.ENDING_DISRUPTION),
    "node_gone": (wire.ENDING_DISRUPTION, "node no longer exists", wire.ENDING_DISRUPTION),
    "job_deleted_by_hand": (wire.ENDING_DISRUPTION, "deleted", None),
    "pod_deleted_by_hand": (wire.ENDING_DISRUPTION, "deleted", wire.ENDING_DISRUPTION),
    "not_executable": (wire.ENDING_IMAGE, "/nobody/made/it", wire.ENDING_IMAGE),
    "init_failed": (wire.ENDING_UNKNOWN, "before ended with exit code 3", wire.ENDING_DISRUPTION),
    # Killed by the kubelet: without its pod it looks as if memory had run out, which costs one more launch.
    "evicted": (wire.ENDING_DISRUPTION, 'EmptyDir volume "scratch" exceeds the limit', wire.ENDING_OUT_OF_MEMORY),
    "killed_at_grace_end": (wire.ENDING_DISRUPTION, "deleted", wire.ENDING_OUT_OF_MEMORY),
}
# What lives and cannot begin: after how many seconds its launch ends, how, and what a person reads. None: never.
HELD: dict[str, tuple[float | None, int, str]] = {
    "image_pull_backoff": (30, wire.ENDING_IMAGE, 'Back-off pulling image "localhost/nobody-made-it:1"'),
    "err_image_never_pull": (0, wire.ENDING_IMAGE, "is not present with pull policy of Never"),
    "invalid_image_name": (0, wire.ENDING_IMAGE, "invalid reference format"),
    "create_container_config_error": (30, wire.ENDING_IMAGE, 'configmap "nobody-made-it" not found'),
    "pending_gpu": (120, wire.ENDING_UNSCHEDULABLE, "1 Insufficient nvidia.com/gpu"),
    "pending_cpu": (None, 0, "1 Insufficient cpu"),
    "pending_memory": (None, 0, "1 Insufficient memory"),
    "quota_on_pods": (None, 0, "exceeded quota: pods"),
}
REFUSED = {"quota_on_jobs", "admission_denied"}


def objects(record: Any) -> tuple[KubernetesJob, list[Pod]]:
    return parse_job(record["job"]), [parse_pod(pod, "nvidia.com/gpu") for pod in record["pods"]]


def seen_in(record: Any) -> Seen:
    job, pods = objects(record)
    refused = next((one["message"] for one in record["events"] if one["reason"] == "FailedCreate"), "")
    seen = deleted(job, pods) if record["gone"] else seen_of(job, pods, refused=refused)
    assert seen is not None
    return seen


def decided(seen: Seen, seconds: float = 0) -> list[Action]:
    """On the seen, so many seconds after what holds it began."""
    job_id, number = job_of(seen)
    open_one = launch(job_id, number, kubernetes_uid=seen.uid, accelerator=ACCELERATOR_AUTO,
                      placement_reason=seen.placement_reason)  # fmt: skip
    since = seen.hold.since if seen.hold else seen.created_at
    return decide(View([open_one], [seen], {}), LIMITS, since + timedelta(seconds=seconds))


def test_every_record_is_judged_and_every_judgement_has_its_record() -> None:
    """The three tables and the folder name the same."""
    assert RECORDS.keys() == ENDED.keys() | HELD.keys() | REFUSED


@pytest.mark.parametrize("name", ENDED)
def test_what_has_ended_is_classed_as_it_ended(name: str) -> None:
    """And the sentence says what the cluster said."""
    [end] = [one for one in decided(seen_in(RECORDS[name])) if isinstance(one, End)]
    assert (end.ending, end.if_gone) == (ENDED[name][0], None)
    assert ENDED[name][1] in end.why


@pytest.mark.parametrize("name", [name for name, (_, _, alone) in ENDED.items() if alone is not None])
def test_the_job_alone_still_tells_the_class_when_its_pod_is_gone(name: str) -> None:
    """By the condition that its podFailurePolicy leaves."""
    seen = seen_of(objects(RECORDS[name])[0], [])
    assert seen is not None
    [end] = [one for one in decided(seen) if isinstance(one, End)]
    assert end.ending == ENDED[name][2]


@pytest.mark.parametrize("name", HELD)
def test_what_cannot_begin_ends_its_launch_in_its_time_and_is_deleted_then(name: str) -> None:
    """Not a second earlier; and meanwhile its place says what holds it."""
    patience, ending, words = HELD[name]
    seen = seen_in(RECORDS[name])
    assert seen.hold is not None
    assert words in seen.placement_reason
    if patience != 0:
        assert not any(isinstance(one, End | Delete) for one in decided(seen, (patience or 3000) - 1))
    if patience is not None:
        [end] = [one for one in decided(seen, patience) if isinstance(one, End)]
        assert (end.ending, end.then_delete) == (ending, seen)
        assert words in end.why


def test_only_a_gpu_that_we_chose_is_given_up() -> None:
    """Who asked for a GPU waits for it."""
    seen = seen_in(RECORDS["pending_gpu"])
    job_id, number = job_of(seen)
    asked = launch(job_id, number, kubernetes_uid=seen.uid, accelerator=ACCELERATOR_GPU)
    actions = decide(View([asked], [seen], {}), LIMITS, seen.created_at + timedelta(hours=3))
    assert not any(isinstance(one, End | Delete) for one in actions)


def test_a_full_quota_is_waited_for_and_an_admission_that_says_no_is_not() -> None:
    """The one passes by itself; the other fails the job with what the cluster said."""
    quota, denied = (rejection(Refusal(**RECORDS[name])) for name in ("quota_on_jobs", "admission_denied"))
    assert isinstance(quota, NotNow)
    assert quota.no_room
    assert "exceeded quota" in str(quota)
    assert isinstance(denied, Rejected)
    assert denied.ending == wire.ENDING_IMAGE
    assert "denied request" in str(denied)


def test_a_webhook_that_says_no_is_believed() -> None:
    """It may say so with any code."""
    words = 'admission webhook "images.example" denied the request: unsigned'
    assert isinstance(rejection(Refusal(403, "Forbidden", words)), Rejected)
