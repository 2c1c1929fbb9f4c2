"""The controller with a real Kueue, on a real Kubernetes: its words, its quotas, its preemption, and MultiKueue."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crease.jobs.v1 import job_pb2
from services import dev_issuer
from services.cli.runtime.kubectl import NOWHERE
from services.cli.runtime.prometheus import fetch_metrics
from testing.servers.kubernetes import IMAGE, Cluster, Namespace, start_kueue
from testing.servers.programs import free_port, running
from tests.integration.controller.test_kubernetes import Scene, accelerators, explained, idle, wait_for  # noqa: F401

pytestmark = pytest.mark.cluster
API = "kueue.x-k8s.io/v1beta2"
# What the pod of one analysis requests.
ONE = {"cpu": "5m", "memory": "16Mi", "ephemeral-storage": "8Mi"}
Crease = Callable[..., str]


@pytest.fixture(scope="session")
def kueue(kubernetes_cluster: Cluster) -> None:
    """Runs beside the cluster; skips, with the reason, where it is not built."""
    start_kueue(kubernetes_cluster)


def make(cluster: Cluster, kind: str, name: str, namespace: str = "", **fields: Any) -> None:
    where = {"namespace": namespace} if namespace else {}
    cluster.apply({"apiVersion": API, "kind": kind, "metadata": {"name": name, **where}, **fields})


def make_queue(namespace: Namespace, *, room: dict[str, str], checks: tuple[str, ...] = ()) -> None:
    """A queue `analyses` with room for these requests; a more important Job takes the place of another."""
    cluster, name = namespace.cluster, namespace.name
    make(cluster, "ResourceFlavor", name, spec={})
    for level, value in (("low", 1), ("high", 100)):
        make(cluster, "WorkloadPriorityClass", f"{name}-{level}", value=value)
    resources = [{"name": resource, "nominalQuota": quota} for resource, quota in room.items()]
    groups = [{"coveredResources": [*room], "flavors": [{"name": name, "resources": resources}]}]
    more = {"admissionChecksStrategy": {"admissionChecks": [{"name": one} for one in checks]}} if checks else {}
    preemption = {"withinClusterQueue": "LowerPriority"}
    spec = {"namespaceSelector": {}, "resourceGroups": groups, "preemption": preemption, **more}
    make(cluster, "ClusterQueue", name, spec=spec)
    make(cluster, "LocalQueue", "analyses", name, spec={"clusterQueue": name})


@pytest.fixture
def queued(idle: Scene, kueue: None) -> Scene:  # noqa: F811 (the fixture)
    """A scene whose analyses go through the queue `analyses`, which is not made yet."""
    queue = {"CREASE_QUEUE_NAME": "analyses", "CREASE_QUEUE_PRIORITY_CLASS": f"{idle.namespace.name}-low"}
    idle.controller.env = {**idle.controller.env, **queue}
    return idle


@pytest.fixture
def crease(queued: Scene, tmp_path: Path) -> Crease:
    """Runs `kubectl crease …` as an operator does; returns what it prints."""
    token = tmp_path / "sre.jwt"
    token.write_text(dev_issuer.person(queued.laptop.folder, "sre", role="superuser"))
    cluster = queued.namespace.cluster
    environment = {
        **os.environ,
        "PATH": f"{cluster.home / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "KUBECONFIG": str(cluster.admin),
        "CREASE_JOBS_ENDPOINT": queued.jobs.endpoint,
        "CREASE_UPLOAD_ENDPOINT": NOWHERE,
        "CREASE_TOKEN_FILE": str(token),
    }

    def run(*arguments: str) -> str:
        command = ["kubectl", "crease", *arguments, "-n", queued.namespace.name]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout

    return run


def test_kueues_words_are_in_explain_in_why_and_in_the_gauge(queued: Scene, crease: Crease) -> None:
    """The first takes the only place, with its priority; the second says which quota it waits for, and then runs."""
    make_queue(queued.namespace, room=ONE)
    listen = f"127.0.0.1:{free_port()}"
    queued.controller.env = {**queued.controller.env, "CREASE_METRICS_LISTEN": listen}
    with running(queued.controller):
        first = queued.queue()
        queued.started(f"analysis-{first}-1")
        [workload] = queued.namespace.cluster.get("workloads", "-n", queued.namespace.name)["items"]
        assert workload["spec"]["priorityClassRef"]["name"] == f"{queued.namespace.name}-low"
        second = queued.queue()
        wait_for(lambda: "insufficient unused quota for cpu" in explained(queued, second))
        assert "insufficient unused quota for cpu" in crease("why", second)
        wait_for(lambda: 'crease_workloads_pending{reason="suspended"} 1.0' in fetch_metrics(listen))
        queued.namespace.finish(f"analysis-{first}-1", 65)
        queued.started(f"analysis-{second}-1")


def test_a_missing_queue_is_named(queued: Scene) -> None:
    """By Kueue, and so by Explain."""
    queued.controller.env = {**queued.controller.env, "CREASE_QUEUE_PRIORITY_CLASS": ""}
    with running(queued.controller):
        job_id = queued.queue()
        wait_for(lambda: "LocalQueue analyses doesn't exist" in explained(queued, job_id))


def test_the_wait_for_a_gpu_runs_while_the_queue_holds_the_job(queued: Scene) -> None:
    """The launch on the GPU ends, and the next one passes the queue on the CPU."""
    make_queue(queued.namespace, room={**ONE, "nvidia.com/gpu": "0"})
    gpu = {"CREASE_GPU_RESOURCE": "nvidia.com/gpu", "CREASE_GPU_SCALES_UP": "true", "CREASE_GPU_WAIT_SECONDS": "3"}
    queued.controller.env = {**queued.controller.env, **gpu}
    with running(queued.controller):
        job_id = queued.queue()
        wait_for(lambda: accelerators(queued) == ["gpu"])
        queued.started(f"analysis-{job_id}-2")
        assert accelerators(queued) == ["cpu"]
        gave_up, took = queued.explain(job_id).launches
        assert "nvidia.com/gpu" in gave_up.ending_message
        assert "an earlier launch got no GPU" in took.placement_reason
    assert queued.namespace.control.starts == [f"analysis-{job_id}-2"]


def test_a_preemption_is_a_disruption(queued: Scene) -> None:
    """The launch ends with Kueue's words, costs no retry of the job's own, and the next one runs when there is room."""
    make_queue(queued.namespace, room=ONE)
    cluster, name = queued.namespace.cluster, queued.namespace.name
    with running(queued.controller):
        job_id = queued.queue()
        queued.start(job_id)
        container = {"name": "main", "image": IMAGE, "command": ["sleep", "600"], "resources": {"requests": ONE}}
        labels = {"kueue.x-k8s.io/queue-name": "analyses", "kueue.x-k8s.io/priority-class": f"{name}-high"}
        pod = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container]}
        cluster.apply({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": "important", "namespace": name, "labels": labels},
            "spec": {"suspend": True, "template": {"spec": pod}},
        })  # fmt: skip
        wait_for(lambda: len(queued.explain(job_id).launches) == 2)
        preempted = queued.explain(job_id).launches[0]
        assert preempted.ending_message.count("Preempted")
        assert job_pb2.LaunchEnding.Name(preempted.launch_ending) == "LAUNCH_ENDING_DISRUPTION"
        cluster.kubectl("delete", "job", "important", "-n", name)
        queued.started(f"analysis-{job_id}-2")
        assert queued.status(job_id) == "queued"


def test_doctor_names_a_stopped_queue_and_multikueue(queued: Scene, crease: Crease) -> None:
    """An analysis must run in the cluster of its controller."""
    namespace = queued.namespace
    cluster, name = namespace.cluster, namespace.name
    deploy_controller(namespace, {"CREASE_QUEUE_NAME": "analyses", "CREASE_CLUSTER": "nets"})
    with running(queued.controller):
        assert "analyses" in line_of(crease("doctor"), "references")
        make_queue(namespace, room=ONE)
        wait_for(lambda: "admits" in line_of(crease("doctor"), "queue"))
        cluster.kubectl("patch", "clusterqueue", name, "--type=merge", "-p", '{"spec": {"stopPolicy": "Hold"}}')
        wait_for(lambda: "ClusterQueueIsInactive" in line_of(shown := crease("doctor"), "queue")
                 and "Stopped: " in line_of(shown, "cluster queue"))  # fmt: skip
        make(cluster, "AdmissionCheck", name, spec={"controllerName": "kueue.x-k8s.io/multikueue"})
        make_queue(namespace, room=ONE, checks=(name,))
        assert f"by MultiKueue ({name})" in line_of(crease("doctor"), "cluster queue")


def test_an_analysis_that_multikueue_would_send_away_is_refused(queued: Scene) -> None:
    """By the clusters that Kueue nominates for it. The remote cluster is this one, which is reached in the same way."""
    cluster, name = queued.namespace.cluster, queued.namespace.name
    hand_over_to_multikueue(cluster, name)
    at = {"kubeConfig": {"locationType": "Path", "location": str(cluster.admin)}}
    make(cluster, "MultiKueueCluster", name, spec={"clusterSource": at})
    make(cluster, "MultiKueueConfig", name, spec={"clusters": [name]})
    parameters = {"apiGroup": "kueue.x-k8s.io", "kind": "MultiKueueConfig", "name": name}
    check = {"controllerName": "kueue.x-k8s.io/multikueue", "parameters": parameters}
    make(cluster, "AdmissionCheck", name, spec=check)
    make_queue(queued.namespace, room=ONE, checks=(name,))
    with running(queued.controller):
        job_id = queued.queue()
        wait_for(lambda: queued.status(job_id) == "failed")
        code, message = queued.failure(job_id)
        assert code == "IMAGE"
        assert f"in another cluster by MultiKueue ({name}), which is not supported" in message
    assert queued.namespace.control.starts == []


def hand_over_to_multikueue(cluster: Cluster, namespace: str) -> None:
    """Marks each Job for MultiKueue, as Kueue's webhook does, which is not registered here."""
    name = f"multikueue-{namespace}"
    api = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    rule = {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
    change = 'Object{spec: Object.spec{managedBy: "kueue.x-k8s.io/multikueue"}}'
    mutation = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": change}}
    spec = {"matchConstraints": {"resourceRules": [rule]}, "mutations": [mutation], "reinvocationPolicy": "Never"}
    cluster.apply({**api, "kind": "MutatingAdmissionPolicy", "spec": spec})
    match = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    binding = {"policyName": name, "matchResources": match}
    cluster.apply({**api, "kind": "MutatingAdmissionPolicyBinding", "spec": binding})


def line_of(shown: str, check: str) -> str:
    """The line of a check of `doctor`."""
    return next((line for line in shown.splitlines() if line.startswith(f"{check} ")), f"{check} -")


def deploy_controller(namespace: Namespace, variables: dict[str, str]) -> None:
    """The controller's Deployment, without a pod: `doctor` reads its settings."""
    environment = [{"name": key, "value": value} for key, value in variables.items()]
    container = {"name": "controller", "image": IMAGE, "env": environment}
    labels = {"app.kubernetes.io/name": "crease", "app.kubernetes.io/component": "controller"}
    template = {
        "metadata": {"labels": labels},
        "spec": {"serviceAccountName": "crease-controller", "containers": [container]},
    }
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    metadata = {"name": "crease-controller", "namespace": namespace.name, "labels": labels}
    namespace.cluster.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})
