"""Many jobs and several clusters on a real Kubernetes. No Kueue serves the queue, so the Jobs have no pods."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services import naming
from testing.servers.kubernetes import Cluster, Namespace, namespace
from testing.servers.programs import Program, running
from tests.integration.controller.test_kubernetes import Scene, idle, wait_for  # noqa: F401 (fixtures)

pytestmark = pytest.mark.cluster
HELD = {"CREASE_QUEUE_NAME": "not-served", "CREASE_CAPACITY": "1000"}
PULSE_SECONDS = 0.2


@pytest.fixture
def held(idle: Scene) -> Scene:  # noqa: F811 (the fixture)
    """A scene whose Kubernetes Jobs stay suspended."""
    idle.controller.env = {**idle.controller.env, **HELD}
    return idle


@contextlib.contextmanager
def slow(cluster: Cluster, program: str) -> Iterator[None]:
    """A program that hangs for PULSE_SECONDS again and again."""
    over = threading.Event()

    def pulse() -> None:
        while not over.wait(PULSE_SECONDS):
            cluster.sv("pause", program)
            time.sleep(PULSE_SECONDS)
            cluster.sv("cont", program)

    pulses = threading.Thread(target=pulse)
    pulses.start()
    try:
        yield
    finally:
        over.set()
        pulses.join()
        cluster.sv("cont", program)


def launched(*namespaces: Namespace) -> list[str]:
    """The job of each Kubernetes Job that is not being deleted."""
    metadata = [one["metadata"] for namespace in namespaces for one in namespace.jobs()]
    return sorted(one["labels"][naming.JOB_LABEL] for one in metadata if "deletionTimestamp" not in one)


def test_an_api_server_that_restarts_and_a_slow_etcd_lose_no_launch(held: Scene) -> None:
    """Each job has one Kubernetes Job, whose launch is confirmed."""
    cluster, job_ids = held.namespace.cluster, list[str]()
    with running(held.controller), slow(cluster, "etcd"):
        for _ in range(3):
            job_ids += [held.queue() for _ in range(40)]
            cluster.sv("kill", "kube-apiserver")
        wait_for(lambda: all("suspended" in held.explain(job_id).sentence for job_id in job_ids))
    assert launched(held.namespace) == sorted(job_ids)


def test_a_drained_and_a_silent_cluster_leave_the_jobs_to_the_other(held: Scene, tmp_path: Path) -> None:
    """No job runs in both. The silent one loses its launches, and deletes their Kubernetes Jobs when it is back."""
    first, here = held.controller, held.namespace
    with namespace(here.cluster, tmp_path) as there:
        elsewhere = {**first.env, **there.env, **HELD, "CREASE_CLUSTER": "elsewhere"}
        second = Program("controller", elsewhere, tmp_path / "elsewhere.log")
        lease = ("annotate", "--overwrite", "lease/crease-controller", "-n", there.name)
        with running(first), running(second):
            wait_for(lambda: '"leader_elected"' in second.log.read_text())
            there.cluster.kubectl(*lease, f"{naming.DRAINED_ANNOTATION}=by a test")
            wait_for(lambda: '"drained"' in second.log.read_text())
            job_ids = [held.queue() for _ in range(20)]
            wait_for(lambda: launched(here) == sorted(job_ids))
            assert launched(there) == []

            there.cluster.kubectl(*lease, f"{naming.DRAINED_ANNOTATION}-")
            first.kill()
            held.jobs.stop()
            held.jobs.env = {**held.jobs.env, "CREASE_CLUSTER_SILENCE_SECONDS": "10"}
            held.jobs.start()
            job_ids += [held.queue() for _ in range(20)]
            wait_for(lambda: launched(there) == sorted(job_ids))

            first.start()
            job_ids += [held.queue() for _ in range(20)]
            wait_for(lambda: launched(here, there) == sorted(job_ids))
