"""`kubectl crease` as a plugin of kubectl, on a real Kubernetes with a real `jobs` and controller."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from services import dev_issuer
from services.cli.runtime.kubectl import NOWHERE, Kubectl, forward_services
from services.cli.runtime.kubernetes import KubernetesRuntime
from services.cli.runtime.prometheus import fetch_metrics
from testing.servers.kubernetes import IMAGE, Cluster, Namespace
from tests.integration.controller.test_kubernetes import Scene, idle, scene, wait_for  # noqa: F401 (fixtures)

pytestmark = pytest.mark.cluster
Crease = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def crease(scene: Scene, tmp_path: Path) -> Crease:  # noqa: F811 (the fixture)
    """Runs `kubectl crease …` as an operator does."""
    token = tmp_path / "sre.jwt"
    token.write_text(dev_issuer.person(scene.laptop.folder, "sre", role="superuser"))
    home = scene.namespace.cluster.home / "bin"
    environment = {
        **os.environ,
        "PATH": f"{home}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "KUBECONFIG": str(scene.namespace.cluster.admin),
        "CREASE_JOBS_ENDPOINT": scene.jobs.endpoint,
        "CREASE_UPLOAD_ENDPOINT": NOWHERE,
        "CREASE_TOKEN_FILE": str(token),
    }

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = ["kubectl", "crease", *arguments, "-n", scene.namespace.name]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return run


def test_why_and_logs_show_the_pod_and_its_events(scene: Scene, crease: Crease) -> None:  # noqa: F811
    """The pod, its node, and the controller's Kubernetes Event."""
    job_id = scene.queue()
    scene.started(f"analysis-{job_id}-1")
    wait_for(lambda: "Created  The launch is open" in crease("why", job_id).stdout)
    shown = crease("why", job_id).stdout
    assert "Launch 1 in nets was created and has not started yet" in shown
    assert f"job/analysis-{job_id}-1  Open" in shown
    assert "Running  on node" in shown
    assert crease("logs", job_id).returncode == 0
    assert "  1  nets  cpu" in crease("launches", job_id).stdout


def test_a_drained_controller_launches_nothing_until_undo(scene: Scene, crease: Crease) -> None:  # noqa: F811
    """A restarted controller launches nothing either; the running analysis continues."""
    before = scene.queue()
    scene.started(f"analysis-{before}-1")
    assert crease("drain").returncode == 0
    wait_for(lambda: '"drained"' in scene.controller.log.read_text())
    scene.controller.stop()
    scene.controller.start()
    waiting = scene.queue()
    wait_for(lambda: scene.controller.log.read_text().count('"event": "drained"') == 2)
    shown = crease("why", waiting).stdout
    assert "The job waits to be launched" in shown
    assert "The controller launches nothing new: drained by " in shown
    [running] = scene.namespace.pods()
    assert (running["metadata"]["labels"]["crease.dev/job"], running["status"]["phase"]) == (before, "Running")
    assert crease("drain", "--undo").returncode == 0
    scene.started(f"analysis-{waiting}-1")


def test_doctor_reads_the_controllers_rights_and_the_clocks_from_the_cluster(
    scene: Scene,  # noqa: F811
    crease: Crease,
) -> None:
    """By its Role; doctor names a missing right."""
    namespace = scene.namespace
    pod = {"serviceAccountName": "crease-controller", "containers": [{"name": "controller", "image": IMAGE}]}
    labels = {"app.kubernetes.io/name": "crease", "app.kubernetes.io/component": "controller"}
    spec = {
        "replicas": 0,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    metadata = {"name": "crease-controller", "namespace": namespace.name, "labels": labels}
    namespace.cluster.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})
    shown = crease("doctor").stdout
    for name in ("database", "clock", "nodes", "rights", "image", "gpus", "launching"):
        assert f"\n{name:<24}ok" in f"\n{shown}", shown
    role = f"role/crease-controller-{namespace.name}"
    patch = '[{"op": "replace", "path": "/rules/0/verbs", "value": ["get", "list", "watch"]}]'
    namespace.cluster.kubectl("patch", role, "-n", namespace.name, "--type=json", "-p", patch)
    wait_for(lambda: "may not create jobs.batch, patch jobs.batch, delete jobs.batch" in crease("doctor").stdout)


def test_services_and_metrics_are_reached_through_kubectl(
    kubernetes_namespace: Namespace, kubernetes_cluster: Cluster
) -> None:
    """By port-forward to a Service and to a pod; NOWHERE where no pod listens."""
    serve = "mkdir /tmp/x && echo 'crease_leader 1.0' >/tmp/x/metrics && exec httpd -f -p 9090 -h /tmp/x"
    labels = {"app.kubernetes.io/name": "crease", "app.kubernetes.io/component": "jobs"}
    container = {"name": "jobs", "image": IMAGE, "command": ["sh", "-c", serve],
                 "ports": [{"name": "metrics", "containerPort": 9090}]}  # fmt: skip
    where = {"namespace": kubernetes_namespace.name, "labels": labels}
    pod = {"containers": [container], "terminationGracePeriodSeconds": 0}
    kubernetes_cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": where | {"name": "jobs-a"}, "spec": pod})
    for name in ("jobs", "upload"):
        mine = labels | {"app.kubernetes.io/component": name}
        body = {"apiVersion": "v1", "kind": "Service", "metadata": where | {"name": name, "labels": mine},
                "spec": {"selector": mine, "ports": [{"port": 9090}]}}  # fmt: skip
        kubernetes_cluster.apply(body)
    kubectl = Kubectl(f"--namespace={kubernetes_namespace.name}", f"--kubeconfig={kubernetes_cluster.admin}")
    kubectl.command = (str(kubernetes_cluster.home / "bin" / "kubectl"), *kubectl.command[1:])
    wait_for(lambda: KubernetesRuntime(kubectl).read_metrics() == {"jobs-a": "crease_leader 1.0\n"})
    with forward_services(kubectl) as endpoints:
        assert fetch_metrics(endpoints["CREASE_JOBS_ENDPOINT"]) == "crease_leader 1.0\n"
        assert endpoints["CREASE_UPLOAD_ENDPOINT"] == NOWHERE
