"""Provokes each way in which an analysis can end early; docs/operating.md has a table of the results."""

import json
import os
from pathlib import Path

import pytest

from testing.servers.kubernetes import Cluster, home
from tests.e2e.cluster import Answer, Release, has_own_cluster, run, sv, timed, until


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample three times over, so that its analysis runs long enough to inject a fault."""
    import av

    from tests.chart.chart import ROOT

    made = tmp_path_factory.mktemp("slow") / "slow.mp4"
    with av.open(str(ROOT / "samples" / "batter.mp4")) as source, av.open(str(made), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.dts is not None]
        length = (packets[-1].dts or 0) - (packets[0].dts or 0) + (packets[0].duration or 0)
        for turn in range(3):
            source.seek(0)
            for packet in source.demux(stream):
                if packet.dts is None or packet.pts is None:
                    continue
                packet.pts += turn * length
                packet.dts += turn * length
                packet.stream = copy
                target.mux(packet)
    return made


@pytest.fixture(scope="module")
def at_hand(release: Release, slow: Path) -> str:
    """The slow video's path in the coach's pod."""
    return release.give(slow)


@pytest.fixture
def running(release: Release, at_hand: str) -> str:
    """A job whose pod is running."""
    (job_id,) = release.submit(at_hand)
    until(lambda: release.job(job_id)["status"] in ("JOB_STATUS_QUICK_RUNNING", "JOB_STATUS_DEEP_RUNNING"), "analysis")
    return job_id


def endings(release: Release, job_id: str) -> list[str]:
    """How the job's launches ended, in order."""
    return [launch.get("ending", "") for launch in release.explain(job_id).get("launches", [])]


def done(release: Release, job_id: str) -> Answer:
    (job,) = release.wait(job_id)
    assert job["status"] == "JOB_STATUS_DONE", job
    return job


def wait_for_second_launch(release: Release, job_id: str) -> None:
    """Waits until the job's second launch is running."""
    until(lambda: release.status(job_id, 2) not in ("", "queued"), "second running launch", seconds=300)


def test_a_deleted_pod_is_followed_by_a_new_launch(release: Release, running: str) -> None:
    with timed("pod deleted, until the second launch runs"):
        release.kubectl("delete", "pod", "--selector", f"crease.dev/job={running}", "--wait=false")
        wait_for_second_launch(release, running)
    done(release, running)
    assert len(endings(release, running)) == 2


def test_a_deleted_kubernetes_job_is_followed_by_a_new_launch(release: Release, running: str) -> None:
    with timed("Kubernetes Job deleted, until the second launch runs"):
        release.kubectl("delete", "jobs.batch", "--selector", f"crease.dev/job={running}", "--wait=false")
        wait_for_second_launch(release, running)
    done(release, running)
    assert len(endings(release, running)) == 2


def test_a_drained_node_is_a_disruption(release: Release, running: str) -> None:
    """The API evicts this pod alone, as `kubectl drain` does for all pods."""
    (pod,) = release.get("pods", "--selector", f"crease.dev/job={running}")
    name = pod["metadata"]["name"]
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": release.namespace},
    }
    path = f"/api/v1/namespaces/{release.namespace}/pods/{name}/eviction"
    with timed("pod evicted, until the second launch runs"):
        run("kubectl", "create", "--raw", path, "--filename", "-", stdin=json.dumps(eviction).encode())
        wait_for_second_launch(release, running)
    done(release, running)
    assert "disruption" in endings(release, running)[0].lower()


@pytest.mark.parametrize("program", ["jobs", "upload", "controller"])
def test_a_program_that_is_killed_loses_nothing(release: Release, running: str, program: str) -> None:
    """All replicas are killed at once; the analysis continues in the same launch."""
    with timed(f"{program} killed, until all its replicas are ready"):
        release.kill(program)
        release.kubectl("rollout", "status", f"deploy/{release.name}-{program}", "--timeout=280s")
    done(release, running)
    assert len(release.launches(running)) == 1


def test_postgresql_that_is_killed_loses_nothing(release: Release, running: str) -> None:
    """PostgreSQL is stopped without a checkpoint and recovers from its write-ahead log."""
    (pod,) = release.pods("postgres")
    kill = "import os, signal; os.kill(1, signal.SIGQUIT)"
    with timed("PostgreSQL killed, until the job can be read again"):
        release.kubectl("exec", pod["metadata"]["name"], "--", "python", "-c", kill, check=False)
        until(lambda: release.pods("postgres")[0]["status"]["containerStatuses"][0]["restartCount"] == 1, "restart")
        until(lambda: release.answers("get", running), "answer", seconds=300)
    done(release, running)
    assert len(release.launches(running)) == 1


def test_an_image_that_is_missing_fails_the_job_and_says_so(release: Release) -> None:
    registry = os.environ.get("REGISTRY") or run_registry()
    image = f"{registry}/analyzer:missing"
    with changed(release, f"CREASE_ANALYZER_IMAGE={image}", "CREASE_START_PATIENCE_SECONDS=5"):
        (job_id,) = release.submit()
        with timed("image missing, patience 5 s, until the job has failed"):
            (job,) = release.wait(job_id)
    assert (job["status"], job["failure_code"]) == ("JOB_STATUS_FAILED", "IMAGE"), job
    assert image in job["error_message"]


def test_out_of_memory_is_retried_once_with_half_as_much_again(release: Release) -> None:
    with changed(release, "CREASE_ANALYZER_MEMORY=96Mi"):
        (job_id,) = release.submit()
        (job,) = release.wait(job_id)
        limits = [
            one["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
            for one in release.launches(job_id)
        ]
    assert (job["status"], job["failure_code"]) == ("JOB_STATUS_FAILED", "OUT_OF_MEMORY"), job
    assert sorted(limits) == ["144Mi", "96Mi"]


def test_past_its_deadline_a_job_fails(release: Release, at_hand: str) -> None:
    with changed(release, "CREASE_DEADLINE_SECONDS=4"):
        (job_id,) = release.submit(at_hand)
        (job,) = release.wait(job_id)
    assert (job["status"], job["failure_code"]) == ("JOB_STATUS_FAILED", "DEADLINE"), job


def test_a_quota_delays_and_is_named(release: Release) -> None:
    """The API server rejects the creation; Explain names the quota; the job runs once the quota is deleted."""
    release.kubectl("create", "quota", "full", "--hard=count/jobs.batch=0")
    try:
        (job_id,) = release.submit()
        until(
            lambda: "quota" in json.dumps(release.explain(job_id)).lower() or "exceeded" in logs(release),
            "explanation that names the quota",
        )
        assert release.job(job_id)["status"] == "JOB_STATUS_QUEUED"
    finally:
        release.kubectl("delete", "quota", "full")
    with timed("quota deleted, until the Kubernetes Job exists"):
        until(lambda: release.launches(job_id), "Kubernetes Job", seconds=300)
    done(release, job_id)


def test_without_a_free_gpu_the_job_runs_on_the_cpu(release: Release) -> None:
    """A GPU pool that never grows: after the wait a new launch runs on the CPU, without using up a retry."""
    with changed(
        release, "CREASE_GPU_RESOURCE=nvidia.com/gpu", "CREASE_GPU_SCALES_UP=true", "CREASE_GPU_WAIT_SECONDS=5"
    ):
        (job_id,) = release.submit()
        with timed("GPU that never appears, wait 5 s, until the launch on the CPU runs"):
            wait_for_second_launch(release, job_id)
        done(release, job_id)
    launches = release.explain(job_id)["launches"]
    assert [launch["placedOn"] for launch in launches] == ["ACCELERATOR_GPU", "ACCELERATOR_CPU"]


def test_one_gpu_serves_one_of_two(release: Release, at_hand: str) -> None:
    """Two jobs and one GPU: one job gets it, the other runs on the CPU."""
    give_gpus(1)
    try:
        with changed(release, "CREASE_GPU_RESOURCE=nvidia.com/gpu", "CREASE_GPU_WAIT_SECONDS=20"):
            jobs = release.submit(at_hand, 2)
            assert {job["status"] for job in release.wait(*jobs)} == {"JOB_STATUS_DONE"}
        placed = sorted(release.explain(job_id)["launches"][-1]["placedOn"] for job_id in jobs)
    finally:
        give_gpus(0)
    assert placed == ["ACCELERATOR_CPU", "ACCELERATOR_GPU"]


def test_a_kubelet_that_stops_loses_no_job(release: Release, running: str) -> None:
    """The kubelet is paused during an analysis; the pod and the job continue."""
    if not has_own_cluster():
        pytest.skip("stopping a kubelet needs the cluster of testing/cluster")
    before = release.status(running, 1)
    sv("pause", "kubelet")
    try:
        until(lambda: release.status(running, 1) != before, "progress without a kubelet", seconds=300)
    finally:
        sv("cont", "kubelet")
        with timed("kubelet back, until node and programs are ready"):
            release.await_programs()
    done(release, running)


def run_registry() -> str:
    """Serves a registry without images on the node of testing/cluster; returns its address."""
    if not has_own_cluster():
        pytest.skip("REGISTRY is not set, and only testing/cluster can serve a registry on its node")
    cluster = Cluster(int(os.environ["CREASE_CLUSTER"]), home())
    cluster.run_registry()
    return cluster.registry


def logs(release: Release) -> str:
    return release.kubectl("logs", "--selector", "app.kubernetes.io/component=controller", "--tail=200")


def give_gpus(count: int) -> None:
    """Sets the number of GPUs on each node."""
    amount = {"nvidia.com/gpu": str(count)}
    patch = json.dumps({"status": {"capacity": amount, "allocatable": amount}})
    for node in json.loads(run("kubectl", "get", "nodes", "--output", "json"))["items"]:
        name = node["metadata"]["name"]
        run("kubectl", "patch", "node", name, "--subresource=status", "--type=merge", "--patch", patch)


class changed:
    """Runs the controller with changed settings until the block ends."""

    def __init__(self, release: Release, *settings: str) -> None:
        self._release, self._settings = release, settings
        self._deployment = f"deploy/{release.name}-controller"

    def __enter__(self) -> None:
        self._set(*self._settings)

    def __exit__(self, *_: object) -> None:
        self._release.kubectl("rollout", "undo", self._deployment)
        self._roll()

    def _set(self, *settings: str) -> None:
        self._release.kubectl("set", "env", self._deployment, *settings)
        self._roll()

    def _roll(self) -> None:
        # The old pods may still be terminating; they create nothing any more.
        self._release.kubectl("rollout", "status", self._deployment, "--timeout=280s")
