"""The controller's program on a real Kubernetes, with the program `jobs` on a real PostgreSQL."""

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from crease.analysis.v1 import launch_pb2 as wire
from crease.analysis.v1.launch_pb2_grpc import LaunchServiceStub
from crease.jobs.v1 import intake_pb2, intake_pb2_grpc, job_pb2, job_pb2_grpc, session_pb2, session_pb2_grpc
from services.controller.core.failpoints import ON_THIS_MACHINE, CrashPoint
from testing.servers.kubernetes import Cluster, Namespace, namespace
from testing.servers.programs import Laptop, Program, lease, running

pytestmark = pytest.mark.cluster


def wait_for(holds: Callable[[], object], *, seconds: float = 150) -> None:
    """Waits for a condition; fails after the time limit."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@dataclass
class Scene:
    """Both programs, the namespace, and a coach with `upload` on the coach's behalf."""

    namespace: Namespace
    jobs: Program
    controller: Program
    laptop: Laptop

    def __post_init__(self) -> None:
        channel = grpc.insecure_channel(self.jobs.endpoint)
        self._sessions = session_pb2_grpc.SessionServiceStub(channel)
        self._intake = intake_pb2_grpc.IntakeServiceStub(channel)
        self._jobs = job_pb2_grpc.JobServiceStub(channel)
        self.launches = LaunchServiceStub(channel)
        self._coach = self.laptop.person()
        self._upload = self.laptop.program("upload", behind="coach-1")

    def queue(self) -> str:
        session = self._sessions.CreateSession(session_pb2.CreateSessionRequest(title="Nets"), metadata=self._coach)
        request = intake_pb2.CreateJobRequest(
            session_id=session.session_id, s3_bucket="videos", content_type="video/mp4", content_length=10
        )
        job_id = str(self._intake.CreateJob(request, metadata=self._upload).job_id)
        upload = intake_pb2.ConfirmUploadRequest(job_id=job_id, etag="abc", content_length=10)
        self._intake.ConfirmUpload(upload, metadata=self._upload)
        return job_id

    def status(self, job_id: str) -> str:
        job = self._jobs.GetJob(job_pb2.GetJobRequest(job_id=job_id), metadata=self._coach)
        return job_pb2.JobStatus.Name(job.status).removeprefix("JOB_STATUS_").lower()

    def failure(self, job_id: str) -> tuple[str, str]:
        job = self._jobs.GetJob(job_pb2.GetJobRequest(job_id=job_id), metadata=self._coach)
        return job.failure_code, job.error_message

    def cancel(self, job_id: str) -> None:
        self._jobs.CancelJob(job_pb2.CancelJobRequest(job_id=job_id), metadata=self._coach)

    def explain(self, job_id: str) -> job_pb2.ExplainJobResponse:
        return self._jobs.ExplainJob(job_pb2.ExplainJobRequest(job_id=job_id), metadata=self._coach)

    def started(self, name: str) -> str:
        """The token of the pod under a name, once it runs."""
        wait_for(lambda: name in self.namespace.control.starts)
        return self.namespace.control.tokens[name]

    def start(self, job_id: str, number: int = 1) -> wire.StartLaunchResponse:
        """StartLaunch with the pod's token."""
        token = self.started(f"analysis-{job_id}-{number}")
        request = wire.StartLaunchRequest(job_id=job_id, launch_no=number)
        reply: wire.StartLaunchResponse = self.launches.StartLaunch(
            request, metadata=(("authorization", f"Bearer {token}"),)
        )
        return reply


@pytest.fixture
def idle(kubernetes_namespace: Namespace, jobs_env: dict[str, str], laptop: Laptop, tmp_path: Path) -> Iterator[Scene]:
    """A scene whose controller is not started yet."""
    trusted = Laptop(laptop.folder, (kubernetes_namespace.issuer(),)).env
    jobs = Program(
        "jobs",
        jobs_env | trusted | {"CREASE_CONFIRM_SECONDS": "1"} | {"CREASE_LEASE_SECONDS": "20"},
        tmp_path / "jobs.log",
    )
    controller_env = kubernetes_namespace.env | {
        "CREASE_JOBS_ENDPOINT": jobs.endpoint,
        "CREASE_UPLOAD_ENDPOINT": "127.0.0.1:1",
        "CREASE_TOKEN_FILE": str(laptop.token_file("controller")),
    }
    with running(jobs):
        yield Scene(kubernetes_namespace, jobs, Program("controller", controller_env, tmp_path / "c.log"), laptop)


@pytest.fixture
def scene(idle: Scene) -> Iterator[Scene]:
    with running(idle.controller):
        yield idle


def test_a_queued_job_becomes_one_kubernetes_job_whose_pod_authenticates_and_reports(scene: Scene) -> None:
    """From the row to the pod and back, by the projected token, which the API server rejects."""
    job_id = scene.queue()
    name = f"analysis-{job_id}-1"
    begun = scene.start(job_id)
    wait_for(lambda: scene.namespace.jobs()[0]["metadata"]["labels"]["crease.dev/status"] == "quick_running")
    token = scene.namespace.control.tokens[name]
    refused = subprocess.run(
        ["curl", "-sk", "-H", f"Authorization: Bearer {token}", f"{scene.namespace.cluster.server}/api"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(refused.stdout)["code"] == 401
    fail = wire.FailLaunchRequest(
        job_id=job_id, launch_no=1, ending=wire.ENDING_BAD_INPUT, failure_code="NOT_A_VIDEO", error_message="No video"
    )
    scene.launches.FailLaunch(fail, metadata=lease(begun.lease))
    scene.namespace.finish(name, 65)
    wait_for(lambda: scene.namespace.jobs()[0]["metadata"]["labels"]["crease.dev/status"] == "failed")
    assert scene.failure(job_id) == ("NOT_A_VIDEO", "No video")
    assert len(scene.namespace.jobs()) == 1
    assert scene.namespace.control.starts == [name]


def test_the_class_of_an_exit_code_decides(scene: Scene) -> None:
    """65 fails the job at once; 70 launches it again, under the next number."""
    bad, broken = scene.queue(), scene.queue()
    scene.started(f"analysis-{bad}-1")
    scene.started(f"analysis-{broken}-1")
    scene.namespace.finish(f"analysis-{bad}-1", 65)
    scene.namespace.finish(f"analysis-{broken}-1", 70)
    wait_for(lambda: scene.status(bad) == "failed")
    assert scene.failure(bad) == ("BAD_INPUT", "The video cannot be analysed (exit code 65)")
    scene.started(f"analysis-{broken}-2")


def test_a_job_is_cancelled_when_no_pod_is_left(scene: Scene) -> None:
    """Not before."""
    job_id = scene.queue()
    scene.started(f"analysis-{job_id}-1")
    scene.cancel(job_id)
    wait_for(lambda: scene.status(job_id) == "cancelled")
    assert scene.namespace.pods() == []


def test_an_action_is_recorded_on_the_job(scene: Scene) -> None:
    """`kubectl describe` shows the reason."""
    job_id = scene.queue()
    wait_for(lambda: [one for one in scene.namespace.events() if one["reason"] == "Created"])
    [event] = [one for one in scene.namespace.events() if one["reason"] == "Created"]
    assert event["involvedObject"]["name"] == f"analysis-{job_id}-1"
    assert event["message"].startswith("The launch is open and has no workload. The CPU: this cluster has no GPUs")


def test_a_job_whose_launch_was_never_opened_is_logged_and_deleted(scene: Scene) -> None:
    """As after the restore of an older database."""
    job_id = scene.queue()
    scene.started(f"analysis-{job_id}-1")
    [job] = scene.namespace.jobs()
    labels = {**job["metadata"]["labels"], "crease.dev/launch": "7"}
    pod = job["spec"]["template"]["spec"]
    scene.namespace.cluster.apply({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": f"analysis-{job_id}-7", "namespace": scene.namespace.name, "labels": labels},
        "spec": {"template": {"metadata": {"labels": {"crease.dev/launch": "7"}}, "spec": pod}},
    })  # fmt: skip
    wait_for(lambda: '"event": "launch_never_opened"' in scene.controller.log.read_text())
    wait_for(lambda: [one["metadata"]["name"] for one in scene.namespace.jobs()] == [f"analysis-{job_id}-1"])
    assert scene.status(job_id) == "queued"


# --- GPUs


def set_gpus(cluster: Cluster, count: int) -> None:
    patch = json.dumps({"status": {"capacity": {"nvidia.com/gpu": str(count)}}})
    cluster.kubectl("patch", "node", "node", "--subresource=status", "--type=merge", "-p", patch)
    # The capacity counts once the kubelet has taken it over.
    wait_for(lambda: cluster.get("node", "node")["status"]["allocatable"].get("nvidia.com/gpu") == str(count))


@pytest.fixture
def gpu(kubernetes_cluster: Cluster) -> Iterator[None]:
    """The node has one."""
    set_gpus(kubernetes_cluster, 1)
    yield
    set_gpus(kubernetes_cluster, 0)


def accelerators(scene: Scene) -> list[str]:
    return sorted(one["metadata"]["labels"]["crease.dev/accelerator"] for one in scene.namespace.jobs())


@pytest.mark.usefixtures("gpu")
def test_the_first_takes_the_gpu_and_the_second_the_cpu(idle: Scene) -> None:
    """Both run."""
    idle.controller.env = {**idle.controller.env, "CREASE_GPU_RESOURCE": "nvidia.com/gpu"}
    with running(idle.controller):
        first = idle.queue()
        idle.started(f"analysis-{first}-1")
        second = idle.queue()
        idle.started(f"analysis-{second}-1")
        assert accelerators(idle) == ["cpu", "gpu"]


def test_a_missing_gpu_is_replaced_by_the_cpu_and_costs_no_retry(idle: Scene) -> None:
    """The launch on the GPU ends and is deleted; the next runs on the CPU, and ExplainJob has the reason."""
    more = {"CREASE_GPU_RESOURCE": "nvidia.com/gpu", "CREASE_GPU_SCALES_UP": "true", "CREASE_GPU_WAIT_SECONDS": "2"}
    idle.controller.env = {**idle.controller.env, **more}
    with running(idle.controller):
        job_id = idle.queue()
        wait_for(lambda: accelerators(idle) == ["gpu"])
        idle.started(f"analysis-{job_id}-2")
        assert accelerators(idle) == ["cpu"]
        explained = idle.explain(job_id)
        assert "Insufficient nvidia.com/gpu" in explained.launches[0].ending_message
        assert "an earlier launch got no GPU" in explained.launches[1].placement_reason
    assert idle.namespace.control.starts == [f"analysis-{job_id}-2"]


# --- Obstacles of the cluster


def explained(scene: Scene, job_id: str) -> str:
    return scene.explain(job_id).sentence


def test_a_registry_that_is_down_delays_and_a_missing_image_fails(idle: Scene) -> None:
    """Explain has the registry's answer in either case; the job fails only by an answer that will not change."""
    cluster = idle.namespace.cluster
    more = {"CREASE_ANALYZER_IMAGE": f"{cluster.registry}/nobody-made-it:1", "CREASE_START_PATIENCE_SECONDS": "0"}
    idle.controller.env = {**idle.controller.env, **more}
    with running(idle.controller):
        job_id = idle.queue()
        wait_for(lambda: "connection refused" in explained(idle, job_id))
        assert idle.status(job_id) == "queued"
        cluster.run_registry()
        wait_for(lambda: idle.status(job_id) == "failed")
        code, message = idle.failure(job_id)
        assert code == "IMAGE"
        assert "not found" in message


def test_the_deadline_begins_when_the_container_starts(idle: Scene) -> None:
    """A missing ConfigMap is explained; the wait for it takes nothing from the deadline."""
    more = {"CREASE_ANALYZER_CA_CONFIG_MAP": "authority", "CREASE_DEADLINE_SECONDS": "5"}
    idle.controller.env = {**idle.controller.env, **more, "CREASE_START_PATIENCE_SECONDS": "600"}
    space = idle.namespace
    with running(idle.controller):
        job_id = idle.queue()
        wait_for(lambda: 'configmap "authority" not found' in explained(idle, job_id))
        created_at = datetime.fromisoformat(space.jobs()[0]["metadata"]["creationTimestamp"])
        wait_for(lambda: datetime.now(UTC) - created_at > timedelta(seconds=6))
        assert idle.status(job_id) == "queued"
        space.cluster.kubectl("create", "configmap", "authority", "--from-literal=ca.crt=", "-n", space.name)
        idle.started(f"analysis-{job_id}-1")
        wait_for(lambda: idle.status(job_id) == "failed")
        assert idle.failure(job_id) == ("DEADLINE", "The analysis exceeded its deadline")


# --- Crashes and outages


def restart(program: Program, deaths: list[int], over: threading.Event) -> None:
    """Restarts the program whenever it dies, without the crash, as Kubernetes does."""
    while not over.wait(0.05):
        died = program.process
        if died is None or died.poll() is not None:
            deaths.append(died.returncode if died else -9)
            program.env = {**program.env, "CREASE_CRASH_AT": ""}
            program.start()


@contextlib.contextmanager
def restarted(program: Program, point: CrashPoint) -> Iterator[list[int]]:
    """A program that dies once at the point, and is restarted; yields the exit statuses of its deaths."""
    program.env = {**program.env, "CREASE_CRASH_AT": point.name}
    deaths, over = list[int](), threading.Event()
    with contextlib.suppress(AssertionError):
        # It may die before it serves.
        program.start()
    restarter = threading.Thread(target=restart, args=(program, deaths, over))
    restarter.start()
    try:
        yield deaths
    finally:
        over.set()
        restarter.join()
        program.kill()


@pytest.mark.parametrize("point", sorted(set(CrashPoint) - ON_THIS_MACHINE), ids=lambda point: point.name)
def test_killed_at_any_point_it_loses_no_job_and_creates_none_twice(idle: Scene, point: CrashPoint) -> None:
    """The scenario passes every point: one job fails, one is cancelled, one is launched again."""
    bad, cancelled, again = idle.queue(), idle.queue(), idle.queue()
    with restarted(idle.controller, point) as deaths:
        idle.start(bad)
        idle.started(f"analysis-{cancelled}-1")
        idle.started(f"analysis-{again}-1")
        idle.cancel(cancelled)
        idle.namespace.finish(f"analysis-{bad}-1", 65)
        idle.namespace.finish(f"analysis-{again}-1", 70)
        idle.started(f"analysis-{again}-2")
        idle.namespace.finish(f"analysis-{again}-2", 65)
        finals = {bad: "failed", cancelled: "cancelled", again: "failed"}
        wait_for(lambda: {job_id: idle.status(job_id) for job_id in finals} == finals)
        wait_for(lambda: deaths)
    assert deaths == [-9]
    names = [f"analysis-{bad}-1", f"analysis-{cancelled}-1", f"analysis-{again}-1", f"analysis-{again}-2"]
    assert sorted(idle.namespace.control.starts) == sorted(names)


def test_two_leaders_at_once_create_one_kubernetes_job_for_each_launch(idle: Scene, tmp_path: Path) -> None:
    """Safety does not depend on the Lease."""
    idle.controller.env = {**idle.controller.env, "CREASE_LEADER_LEASE": ""}
    other = Program("controller", idle.controller.env, tmp_path / "other.log")
    with running(idle.controller), running(other):
        names = [f"analysis-{idle.queue()}-1" for _ in range(8)]
        wait_for(lambda: len(idle.namespace.control.starts) == 8)
    assert sorted(idle.namespace.control.starts) == sorted(names)
    assert len(idle.namespace.jobs()) == 8


def test_the_next_replica_takes_over_when_the_leader_is_killed(idle: Scene, tmp_path: Path) -> None:
    """After the Lease has expired; the leader's Jobs stay."""
    second = Program("controller", {**idle.controller.env, "CREASE_IDENTITY": "second"}, tmp_path / "second.log")
    with running(idle.controller), running(second):
        wait_for(lambda: '"event": "leader_elected"' in idle.controller.log.read_text() + second.log.read_text())
        leader = idle.controller if '"event": "leader_elected"' in idle.controller.log.read_text() else second
        first = idle.queue()
        idle.started(f"analysis-{first}-1")
        leader.kill()
        after = idle.queue()
        idle.started(f"analysis-{after}-1")
    assert idle.namespace.control.starts == [f"analysis-{first}-1", f"analysis-{after}-1"]


def test_the_api_server_is_unavailable_for_a_minute_and_etcd_dies(scene: Scene) -> None:
    """Running workloads continue; jobs queued meanwhile are launched once after the recovery.

    Kubernetes' own controllers take up to a minute more to recover.
    """
    before = scene.queue()
    scene.started(f"analysis-{before}-1")
    cluster = scene.namespace.cluster
    cluster.sv("down", "kube-apiserver")
    cluster.sv("kill", "kube-apiserver")
    meanwhile = [scene.queue() for _ in range(3)]
    time.sleep(60)
    cluster.sv("up", "kube-apiserver")
    for job_id in meanwhile:
        scene.started(f"analysis-{job_id}-1")
    cluster.sv("kill", "etcd")
    after = scene.queue()
    scene.started(f"analysis-{after}-1")
    scene.namespace.finish(f"analysis-{before}-1", 65)
    wait_for(lambda: scene.status(before) == "failed")
    assert sorted(scene.namespace.control.starts) == sorted(f"analysis-{one}-1" for one in [before, *meanwhile, after])


def test_a_node_without_power_costs_each_of_its_analyses_one_launch(scene: Scene) -> None:
    """As a disruption: after the boot the next launch begins at once, and no retry of another cause is used."""
    job_ids = [scene.queue() for _ in range(3)]
    for job_id in job_ids:
        scene.started(f"analysis-{job_id}-1")
    scene.namespace.cluster.lose_power()
    scene.namespace.cluster.boot_node()
    for job_id in job_ids:
        scene.started(f"analysis-{job_id}-2")
        [first, _] = scene.explain(job_id).launches
        assert first.launch_ending == job_pb2.LAUNCH_ENDING_DISRUPTION, first.ending_message
    assert len(scene.namespace.control.starts) == 2 * len(job_ids)


def test_jobs_is_unavailable_for_a_minute(scene: Scene) -> None:
    """No workload is deleted or launched again; an end during the outage is reported after it."""
    ends, stays = scene.queue(), scene.queue()
    for job_id in (ends, stays):
        scene.started(f"analysis-{job_id}-1")
    scene.jobs.kill()
    scene.namespace.finish(f"analysis-{ends}-1", 65)
    time.sleep(60)
    scene.jobs.start()
    wait_for(lambda: scene.status(ends) == "failed")
    assert scene.failure(ends)[0] == "BAD_INPUT"
    assert scene.status(stays) == "queued"
    assert len(scene.namespace.pods()) == 2
    assert len(scene.namespace.control.starts) == 2


def test_a_silent_cluster_loses_its_launches_after_their_leases_and_another_takes_them(
    idle: Scene, tmp_path: Path
) -> None:
    """Never before: a launch belongs to one cluster until the lease of its pod expires."""
    with running(idle.controller):
        job_id = idle.queue()
        begun = idle.start(job_id)
    with namespace(idle.namespace.cluster, tmp_path) as other:
        elsewhere = {**idle.controller.env, **other.env, "CREASE_CLUSTER": "elsewhere"}
        with running(Program("controller", elsewhere, tmp_path / "elsewhere.log")):
            heartbeat = wire.HeartbeatRequest(job_id=job_id, launch_no=1, stage=job_pb2.STAGE_QUICK, progress=0.1)
            held_until = time.monotonic() + 2
            while time.monotonic() < held_until:
                idle.launches.Heartbeat(heartbeat, metadata=lease(begun.lease))
                time.sleep(0.2)
            assert other.control.starts == []
            wait_for(lambda: other.control.starts == [f"analysis-{job_id}-2"])
