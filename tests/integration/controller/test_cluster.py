"""The controller on an API server in memory, with lags and faults on demand, and a fake `jobs` on a real port."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import structlog
import yaml

from crease.analysis.v1 import launch_pb2 as wire
from crease.jobs.v1.job_pb2 import ACCELERATOR_AUTO, ACCELERATOR_CPU, ACCELERATOR_GPU, JOB_STATUS_QUICK_RUNNING
from services import naming
from services.cli.runtime.kubernetes import KubernetesRuntime
from services.controller.core import metrics
from services.controller.core.jobs_client import Jobs
from services.controller.core.launcher import name_of
from services.controller.core.reconciler import Reconciler
from services.controller.kubernetes import reflector
from services.controller.kubernetes.launcher import KubernetesLauncher
from services.controller.kubernetes.leader_election import Leader
from services.controller.kubernetes.release import Release
from services.controller.settings import KubernetesSettings
from testing.fakes.api_server import ApiServer, Client, Fault
from testing.fakes.controller import FakeJobs, launch, rounds, serving, until
from testing.fakes.kubectl import FakeKubectl
from testing.servers.kubernetes import ROLE

NEVER_SECONDS = 3600.0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortens the watches and the retries; no other behaviour depends on them."""
    monkeypatch.setattr(reflector, "WATCH_SECONDS", 0.2)
    monkeypatch.setattr(reflector, "RETRY_SECONDS", 0.05)


@dataclass
class Scene:
    jobs: FakeJobs
    server: ApiServer
    log: list[Any]
    reconcilers: list[Reconciler] = field(default_factory=list)

    def logged(self, event: str) -> list[Any]:
        return [line for line in self.log if line["event"] == event]

    def open(self, name: str) -> wire.Launch | None:
        return next((one for one in self.jobs.open_launches() if name_of(one) == name), None)

    async def confirmed(self, name: str) -> wire.Launch:
        await until(lambda: (one := self.open(name)) and one.kubernetes_uid)
        found = self.open(name)
        assert found
        return found

    def reason(self, name: str) -> str:
        found = self.open(name)
        return found.placement_reason if found else ""

    def add_node(self, *, gpus: int = 0, ready: bool = True) -> None:
        status = {"conditions": [{"type": "Ready", "status": str(ready)}], "allocatable": {"nvidia.com/gpu": str(gpus)}}
        body = {"metadata": {"name": "node"}, "spec": {}, "status": status}
        if "node" in self.server.objects["nodes"]:
            self.server.put("nodes", self.server.objects["nodes"]["node"] | body | {
                "metadata": self.server.objects["nodes"]["node"]["metadata"]})  # fmt: skip
        else:
            self.server.make("nodes", body)


@contextlib.asynccontextmanager
async def controlling(
    folder: Path,
    *,
    replicas: int = 1,
    lease: dict[str, Any] | None = None,
    server: ApiServer | None = None,
    **fields: Any,
) -> AsyncIterator[Scene]:
    """Running controllers, each with its own caches, on one `jobs` and one API server with an optional Lease."""
    scene = Scene(FakeJobs(), server or ApiServer(), [])
    if lease:
        scene.server.make("leases", lease)
    (folder / "token").write_text("a token")
    values = {
        "jobs_endpoint": "-", "upload_endpoint": "-", "token_file": folder / "token", "namespace": "x",
        "cluster": "nets", "analyzer_image": "analyzer:1", "capacity": 10, "tick_seconds": 0.05, "linger_seconds": 0,
        "orphan_grace_seconds": 0, "stale_seconds": 1, "leader_seconds": 0.6,
    }  # fmt: skip
    capture = structlog.testing.LogCapture()
    scene.log = capture.entries
    log = structlog.wrap_logger(None, processors=[capture])
    async with serving(scene.jobs) as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        running, reconcilers = list[asyncio.Task[None]](), scene.reconcilers
        for number in range(replicas):
            settings = KubernetesSettings.model_validate(values | {"identity": f"controller-{number}"} | fields)
            woken, api = asyncio.Event(), Client(scene.server)
            release = Release(api, settings)
            launcher, leader = (
                KubernetesLauncher(api, settings, release, woken.set),
                Leader(api, settings, release, log),
            )
            jobs = Jobs(channel, settings.token_file, settings.cluster, partial(getattr, launcher, "owner"))
            reconcilers.append(Reconciler(
                launcher, jobs, log, limits=settings.limits, tick_seconds=settings.tick_seconds,
                parallel=settings.parallel, woken=woken,
                leads=partial(getattr, leader, "leads"), drained=partial(getattr, leader, "drained"),
            ))  # fmt: skip
            running += [asyncio.create_task(one.run()) for one in (launcher, leader, reconcilers[-1])]
        try:
            yield scene
        finally:
            for one in reconcilers:
                one.stop()
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


async def test_its_role_has_exactly_the_rights_that_it_uses(tmp_path: Path) -> None:
    """In a scenario that sends every kind of request."""
    async with controlling(
        tmp_path, gpu_resource="nvidia.com/gpu", release="crease-release", server=_with_release()
    ) as scene:
        scene.add_node()
        scene.jobs.queue("one")
        one = await scene.confirmed("analysis-one-1")
        one.job_status = JOB_STATUS_QUICK_RUNNING
        status = "crease.dev/status"
        await until(lambda: scene.server.objects["jobs"]["analysis-one-1"]["metadata"]["labels"][status] != "queued")
        # A pod that outlives its Job is deleted separately.
        scene.server.remove("jobs", "analysis-one-1")
        scene.jobs.request_cancellation("one")
        await until(lambda: not scene.jobs.open_launches())
        # For a Job without a pod the controller reads the Events.
        scene.server.starts_pods = False
        scene.jobs.queue("two")
        await scene.confirmed("analysis-two-1")
        scene.server.ahead = timedelta(minutes=1)
        await until(lambda: scene.server.used["", "events", "list"])
        await until(lambda: scene.server.used["coordination.k8s.io", "leases", "update"])
    async with controlling(tmp_path, queue_name="analyses") as queued:
        await until(lambda: queued.server.used["kueue.x-k8s.io", "workloads", "watch"])
    role = yaml.safe_load(ROLE.read_text())
    allowed = {
        (group, resource, verb)
        for rule in (*role["rules"], *role["queueRules"], *role["clusterRules"])
        for group in rule["apiGroups"] for resource in rule["resources"] for verb in rule["verbs"]
    }  # fmt: skip
    assert {*scene.server.used, *queued.server.used} == allowed


def _with_release(*names: str) -> ApiServer:
    """A server with the ConfigMap of each release."""
    server = ApiServer()
    for name in names or ("crease-release",):
        server.make("configmaps", {"metadata": {"name": name}})
    return server


async def test_two_releases_with_one_cluster_name_leave_each_others_jobs(tmp_path: Path) -> None:
    """In one namespace, each with its own `jobs`: neither knows the other's launches, and neither deletes them."""
    server = _with_release("here", "there")
    for folder in (tmp_path / "here", tmp_path / "there"):
        folder.mkdir()
    async with (
        controlling(tmp_path / "here", server=server, release="here", leader_lease="") as here,
        controlling(tmp_path / "there", server=server, release="there", leader_lease="") as there,
    ):
        here.jobs.queue("one")
        there.jobs.queue("two")
        await here.confirmed("analysis-one-1")
        await there.confirmed("analysis-two-1")
        await rounds(here.jobs, 3)
        await rounds(there.jobs, 3)
        assert sorted(server.live()) == ["analysis-one-1", "analysis-two-1"]
        uids = {name: server.objects["configmaps"][name]["metadata"]["uid"] for name in ("here", "there")}
        for job, name in (("analysis-one-1", "here"), ("analysis-two-1", "there")):
            [owner] = server.objects["jobs"][job]["metadata"]["ownerReferences"]
            assert (owner["kind"], owner["name"], owner["uid"]) == ("ConfigMap", name, uids[name])
    assert not here.logged("launch_never_opened")


async def test_a_job_that_names_no_release_is_not_deleted(tmp_path: Path) -> None:
    """An older version did not write the label, so another release may own the Job."""
    server = _with_release()
    async with controlling(tmp_path, server=server, leader_lease="") as old:
        old.jobs.queue("one")
        await old.confirmed("analysis-one-1")
    async with controlling(tmp_path, server=server, release="crease-release", leader_lease="") as new:
        await until(lambda: new.logged("launch_never_opened"))
        await rounds(new.jobs, 3)
        assert server.live() == ["analysis-one-1"]


async def test_without_its_release_a_controller_creates_nothing(tmp_path: Path) -> None:
    """Kubernetes would delete a Job whose owner is missing. A new ConfigMap is found without a restart."""
    server = _with_release("other")
    async with controlling(tmp_path, server=server, release="crease-release") as scene:
        scene.jobs.queue("one")
        await until(lambda: scene.logged("unavailable"))
        assert not server.objects["jobs"]
        server.make("configmaps", {"metadata": {"name": "crease-release"}})
        await scene.confirmed("analysis-one-1")


async def test_a_ready_replica_of_a_newer_rollout_takes_over(tmp_path: Path) -> None:
    """Launches follow the new template at once, although the old replica still runs; the old one never leads again."""
    async with controlling(tmp_path, replicas=2) as scene:

        def add_pod(number: int, template: str, *, ready: bool) -> None:
            labels = {"app.kubernetes.io/name": "crease", "app.kubernetes.io/component": "controller"}
            labels |= {"app.kubernetes.io/instance": "crease", "pod-template-hash": template}
            conditions = [{"type": "Ready", "status": str(ready)}]
            body = {"metadata": {"name": f"controller-{number}", "labels": labels}, "spec": {}}
            scene.server.make("pods", body | {"status": {"phase": "Running", "conditions": conditions}})

        def holder() -> object:
            return scene.server.objects["leases"]["crease-controller"]["spec"]["holderIdentity"]

        await until(lambda: scene.logged("leader_elected"))
        old = int(str(scene.logged("leader_elected")[0]["identity"]).removeprefix("controller-"))
        add_pod(old, "old", ready=True)
        scene.server.ahead = timedelta(seconds=2)
        add_pod(1 - old, "new", ready=False)
        await rounds(scene.jobs, 3)
        assert holder() == f"controller-{old}"
        new = scene.server.objects["pods"][f"controller-{1 - old}"]
        scene.server.put("pods", new | {"status": {"conditions": [{"type": "Ready", "status": "True"}]}})
        await until(lambda: holder() == f"controller-{1 - old}")
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        assert holder() == f"controller-{1 - old}"


async def test_a_creation_whose_answer_was_lost_is_found_and_not_done_again(tmp_path: Path) -> None:
    """The repeated creation finds the Job by its name."""
    async with controlling(tmp_path) as scene:
        scene.server.faults = [Fault("create", "jobs", late=True)]
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        assert scene.server.starts == ["analysis-one-1"]


@pytest.mark.parametrize("code", [409, 429, 500])
async def test_a_refused_creation_is_repeated_under_the_same_name(tmp_path: Path, code: int) -> None:
    """Unless the rejection concerns the Job itself."""
    async with controlling(tmp_path) as scene:
        scene.server.faults = [Fault("create", "jobs", code)] * 3
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        assert len(scene.jobs.of("one")) == 1


async def test_a_rejected_creation_is_reported_once(tmp_path: Path) -> None:
    """ExplainJob and one Event have the API server's message, however often the creation is repeated."""
    async with controlling(tmp_path) as scene:
        scene.server.faults = [Fault("create", "jobs", 403)] * 1000
        scene.jobs.queue("one")
        await until(lambda: scene.reason("analysis-one-1"))
        assert "rejected the Kubernetes Job for now: The API server answered 403" in scene.reason("analysis-one-1")
        await rounds(scene.jobs, 2)
        scene.server.faults.clear()
        await scene.confirmed("analysis-one-1")
        await until(
            lambda: [one["reason"] for one in scene.server.objects["events"].values()] == ["Refused", "Created"]
        )
        [refused, _] = scene.server.objects["events"].values()
        assert refused["involvedObject"]["name"] == "analysis-one-1"
        assert refused["type"] == "Warning"
        assert refused["message"] == "The cluster rejected the Kubernetes Job for now: The API server answered 403"


async def test_a_stale_cache_leads_to_no_action(tmp_path: Path) -> None:
    """A silent watch stops the controller, until the API server answers a list."""
    # The Lease outlasts the cache: otherwise the controller would stop because it no longer leads.
    async with controlling(tmp_path, stale_seconds=0.3, leader_seconds=60) as scene:
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        scene.server.is_cut = True
        await until(lambda: "stale" in str(scene.logged("unavailable")))
        assert not any(one.is_ready() for one in scene.reconcilers)
        scene.jobs.queue("two")
        scene.server.is_cut = False
        await scene.confirmed("analysis-two-1")
        assert [one.ending for one in scene.jobs.of("one")] == [wire.ENDING_UNSPECIFIED]


@pytest.mark.slow
async def test_the_next_list_repairs_a_missed_event(tmp_path: Path) -> None:
    """The watch never sends the end; the list has it."""
    async with controlling(tmp_path, relist_seconds=0.5) as scene:
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        last = scene.server.history[-1][0]
        scene.server.unseen |= set(range(last, last + 10))
        scene.server.finish("analysis-one-1", 65)
        await until(lambda: not scene.jobs.open_launches())
        assert scene.jobs.of("one")[0].ending == wire.ENDING_BAD_INPUT


async def test_a_forgotten_version_is_followed_by_a_list(tmp_path: Path) -> None:
    """410 Gone costs only a list."""
    async with controlling(tmp_path) as scene:
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        lists = scene.server.used["batch", "jobs", "list"]
        scene.server.forgotten_before = 10**6
        await until(lambda: scene.server.used["batch", "jobs", "list"] > lists)
        scene.server.forgotten_before = 0
        scene.server.finish("analysis-one-1", 65)
        await until(lambda: not scene.jobs.open_launches())


@pytest.mark.slow
async def test_a_workload_that_the_watch_has_not_reported_is_not_lost(tmp_path: Path) -> None:
    """Before it ends a launch as lost, the controller asks the API server."""
    async with controlling(tmp_path, replicas=2, leader_lease="", stale_seconds=NEVER_SECONDS) as scene:
        await until(lambda: scene.server.used["batch", "jobs", "watch"] >= 2)
        scene.server.watches_held = True
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        await rounds(scene.jobs, 8)
        assert [one.ending for one in scene.jobs.of("one")] == [wire.ENDING_UNSPECIFIED]
        assert scene.server.starts == ["analysis-one-1"]


async def test_two_leaders_at_once_create_one_job_for_each_launch(tmp_path: Path) -> None:
    """Safety does not depend on the Lease."""
    async with controlling(tmp_path, replicas=2, leader_lease="") as scene:
        for n in range(10):
            scene.jobs.queue(f"j{n}")
        for n in range(10):
            await scene.confirmed(f"analysis-j{n}-1")
        assert Counter(scene.server.starts) == Counter({f"analysis-j{n}-1": 1 for n in range(10)})


@pytest.mark.slow
async def test_one_replica_works_and_another_takes_over(tmp_path: Path) -> None:
    """One replica leads, and stops when another holder takes its Lease."""
    async with controlling(tmp_path, replicas=2) as scene:
        await until(lambda: scene.logged("leader_elected"))
        assert len(scene.logged("leader_elected")) == 1
        lease = scene.server.objects["leases"]["crease-controller"]
        spec = lease["spec"] | {"holderIdentity": "another", "leaseDurationSeconds": 1}
        scene.server.put("leases", lease | {"spec": spec})
        await until(lambda: scene.logged("leadership_lost"))
        await until(lambda: len(scene.logged("leader_elected")) == 2)


async def test_each_launch_takes_its_own_gpu_and_the_rest_the_cpu(tmp_path: Path) -> None:
    """Free GPUs are those of the nodes, less those of pods and of earlier launches."""
    async with controlling(tmp_path, gpu_resource="nvidia.com/gpu") as scene:
        scene.add_node(gpus=2)
        await until(lambda: scene.server.used["", "nodes", "watch"] > 1)
        for n in range(3):
            scene.jobs.queue(f"j{n}")
        placed = [(await scene.confirmed(f"analysis-j{n}-1")).placed_on for n in range(3)]
        assert Counter(placed) == {ACCELERATOR_GPU: 2, ACCELERATOR_CPU: 1}
        [cpu] = [one for one in scene.jobs.open_launches() if one.placed_on == ACCELERATOR_CPU]
        assert cpu.placement_reason == "The CPU: no node has a free nvidia.com/gpu"


async def test_a_workload_on_a_dead_node_is_waited_for_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it still runs is unknown."""
    async with controlling(tmp_path) as scene:
        scene.add_node()
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        # Without a kubelet no deletion completes.
        monkeypatch.setattr(scene.server, "delete", partial(_set_deleting, scene.server))
        scene.add_node(ready=False)
        scene.jobs.request_cancellation("one")
        await until(lambda: "does not answer" in scene.reason("analysis-one-1"))
        assert scene.jobs.open_launches()


@pytest.mark.slow
async def test_a_workload_on_a_dead_node_is_deleted_by_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time of the settings, without proof of its end."""
    async with controlling(tmp_path, force_after_seconds=0.5) as scene:
        scene.add_node()
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        delete = scene.server.delete

        def stuck(resource: str, name: str) -> None:
            if resource == "jobs":
                _set_deleting(scene.server, resource, name)
                return
            delete(resource, name)
            for job in list(scene.server.objects["jobs"]):
                scene.server.remove("jobs", job)

        monkeypatch.setattr(scene.server, "delete", stuck)
        scene.add_node(ready=False)
        scene.jobs.request_cancellation("one")
        await until(lambda: not scene.jobs.open_launches())
        assert any("does not answer" in line["why"] for line in scene.logged("delete"))
        assert scene.jobs.of("one")[0].ending == wire.ENDING_CANCELLED


def _set_deleting(server: ApiServer, resource: str, name: str) -> None:
    """Accepts a deletion that never completes."""
    body = server.objects[resource][name]
    metadata = body["metadata"] | {"deletionTimestamp": "2026-11-01T00:00:00Z"}
    server.put(resource, body | {"metadata": metadata})


async def test_kueue_may_hold_a_launch_for_any_time(tmp_path: Path) -> None:
    """The Job is created suspended, its launch is confirmed with the reason, and no deadline runs."""
    async with controlling(tmp_path, queue_name="analyses", deadline_seconds=1) as scene:
        scene.jobs.queue("one")
        await until(lambda: "suspended" in scene.reason("analysis-one-1"))
        scene.server.ahead = timedelta(hours=1)
        await rounds(scene.jobs, 3)
        assert scene.server.objects["jobs"]["analysis-one-1"]["spec"]["suspend"]
        assert scene.server.starts == []
        assert scene.jobs.open_launches()


def hold(server: ApiServer, name: str, *conditions: dict[str, str], **status: Any) -> None:
    """Writes Kueue's Workload of a Kubernetes Job."""
    owner = {"uid": server.objects["jobs"][name]["metadata"]["uid"], "controller": True}
    body = {
        "metadata": {"name": f"job-{name}", "ownerReferences": [owner]},
        "status": {"conditions": conditions} | status,
    }
    if f"job-{name}" in server.objects["workloads"]:
        body["metadata"] = server.objects["workloads"][f"job-{name}"]["metadata"]
        server.put("workloads", body)
    else:
        server.make("workloads", body)


NO_QUOTA = {"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": "insufficient unused quota"}


async def test_kueues_words_are_the_reason_of_a_suspended_launch(tmp_path: Path) -> None:
    """First that there is no Workload, then the Workload's reason and message, and then none."""
    async with controlling(tmp_path, queue_name="analyses") as scene:
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        scene.server.ahead = timedelta(seconds=30)
        await until(lambda: "Kueue has made no Workload for it" in scene.reason("analysis-one-1"))
        hold(scene.server, "analysis-one-1", NO_QUOTA)
        await until(lambda: "admits it: Pending: insufficient unused quota" in scene.reason("analysis-one-1"))
        assert metrics.PENDING.labels("suspended")._value.get() == 1
        job = scene.server.objects["jobs"]["analysis-one-1"]
        scene.server.put("jobs", job | {"spec": {**job["spec"], "suspend": False}})
        await until(lambda: "suspended" not in scene.reason("analysis-one-1"))
        assert metrics.PENDING.labels("suspended")._value.get() == 0


async def test_a_gpu_is_given_up_while_the_queue_holds_the_job(tmp_path: Path) -> None:
    """The wait for a GPU of the controller's choice runs from the Job's creation."""
    gpu: dict[str, Any] = {"gpu_resource": "nvidia.com/gpu", "gpu_scales_up": True, "gpu_wait_seconds": 20}
    async with controlling(tmp_path, queue_name="analyses", **gpu) as scene:
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        hold(scene.server, "analysis-one-1", NO_QUOTA)
        await until(lambda: "insufficient unused quota" in scene.reason("analysis-one-1"))
        await rounds(scene.jobs, 3)
        assert scene.open("analysis-one-1")
        scene.server.ahead = timedelta(seconds=21)
        await scene.confirmed("analysis-one-2")
        first = scene.jobs.of("one")[0]
        assert (first.ending, first.placed_on) == (wire.ENDING_UNSCHEDULABLE, ACCELERATOR_GPU)


async def test_a_launch_that_its_queue_suspends_again_is_disrupted(tmp_path: Path) -> None:
    """Kueue would start a second pod later, to which `jobs` gives no lease. The next launch queues anew."""
    async with controlling(tmp_path, queue_name="analyses") as scene:
        scene.jobs.queue("one")
        one = await scene.confirmed("analysis-one-1")
        one.started_at.GetCurrentTime()
        evicted = {"type": "Evicted", "status": "True", "reason": "Preempted", "message": "Preempted"}
        why = {"type": "Preempted", "status": "True", "reason": "InClusterQueue", "message": "to make room for x"}
        hold(scene.server, "analysis-one-1", evicted, why, NO_QUOTA)
        await scene.confirmed("analysis-one-2")
        ended = scene.jobs.of("one")[0]
        assert ended.ending == wire.ENDING_DISRUPTION
        assert any("Preempted: InClusterQueue: to make room for x" in line["why"] for line in scene.logged("end"))
        assert "analysis-one-1" not in scene.server.objects["jobs"]


async def test_a_stale_cache_disrupts_no_launch_that_its_queue_has_admitted(tmp_path: Path) -> None:
    """The cache still shows the Job as suspended, while its analysis has started."""
    async with controlling(tmp_path, queue_name="analyses", stale_seconds=60) as scene:
        scene.jobs.queue("one")
        one = await scene.confirmed("analysis-one-1")
        scene.server.watches_held = True
        job = scene.server.objects["jobs"]["analysis-one-1"]
        scene.server.put("jobs", job | {"spec": {**job["spec"], "suspend": False}})
        one.started_at.GetCurrentTime()
        await until(lambda: scene.logged("end"))
        await rounds(scene.jobs, 3)
        assert scene.open("analysis-one-1")
        assert "analysis-one-1" in scene.server.objects["jobs"]


async def test_a_queue_of_another_cluster_is_refused(tmp_path: Path) -> None:
    """MultiKueue would run the analysis where its controller does not see it."""
    async with controlling(tmp_path, queue_name="analyses") as scene:
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        hold(scene.server, "analysis-one-1", NO_QUOTA, nominatedClusterNames=["far"])
        await until(lambda: scene.jobs.of("one")[0].ending == wire.ENDING_IMAGE)
        assert any("in another cluster by MultiKueue (far)" in line["why"] for line in scene.logged("end"))


async def test_a_failed_pod_creation_is_reported(tmp_path: Path) -> None:
    """As by a quota: only an Event of the Job controller has the cause."""
    async with controlling(tmp_path) as scene:
        scene.server.starts_pods = False
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        uid = scene.server.objects["jobs"]["analysis-one-1"]["metadata"]["uid"]
        scene.server.make("events", {
            "metadata": {"name": "e"}, "reason": "FailedCreate", "message": "exceeded quota: pods", "type": "Warning",
            "involvedObject": {"kind": "Job", "uid": uid},
        })  # fmt: skip
        scene.server.ahead = timedelta(seconds=30)
        await until(lambda: "exceeded quota: pods" in scene.reason("analysis-one-1"))


async def test_an_obstacle_on_the_node_is_reported(tmp_path: Path) -> None:
    """As a missing volume: the pod's status stays silent, and only an Event of the kubelet has the cause."""
    async with controlling(tmp_path) as scene:
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        [pod] = scene.server.pods_of("analysis-one-1")
        scene.server.put("pods", pod | {"status": {"phase": "Pending", "startTime": scene.server.now}})
        about = {"kind": "Pod", "uid": pod["metadata"]["uid"]}
        for at, reason, message in (("10", "FailedScheduling", "no node"), ("09", "FailedMount", 'secret "s" is late')):
            scene.server.make("events", {
                "metadata": {"name": reason}, "type": "Warning", "reason": reason, "message": message,
                "involvedObject": about, "lastTimestamp": f"2026-11-29T20:00:{at}Z",
            })  # fmt: skip
        scene.server.ahead = timedelta(seconds=30)
        await until(lambda: 'FailedMount: secret "s" is late' in scene.reason("analysis-one-1"))


async def test_a_never_opened_workload_stays_if_the_settings_say_so(tmp_path: Path) -> None:
    """It is logged in any case."""
    async with controlling(tmp_path, delete_orphans=False) as scene:
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        job = scene.server.objects["jobs"]["analysis-one-1"]
        labels = job["metadata"]["labels"] | {"crease.dev/launch": "7"}
        scene.server.make("jobs", job | {"metadata": {"name": "analysis-one-7", "labels": labels}})
        await until(lambda: scene.logged("launch_never_opened"))
        await rounds(scene.jobs, 3)
        assert "analysis-one-7" in scene.server.objects["jobs"]


async def test_two_clusters_do_not_touch_each_others_workloads(tmp_path: Path) -> None:
    """Even in one namespace: the Jobs of another CREASE_CLUSTER are not listed."""
    async with controlling(tmp_path) as scene:
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        job = scene.server.objects["jobs"]["analysis-one-1"]
        labels = job["metadata"]["labels"] | {"crease.dev/cluster": "other", "crease.dev/launch": "7"}
        scene.server.make("jobs", job | {"metadata": {"name": "analysis-one-7", "labels": labels}})
        await rounds(scene.jobs, 5)
        assert "analysis-one-7" in scene.server.objects["jobs"]
        assert not scene.logged("launch_never_opened")


@pytest.mark.slow
async def test_a_wrong_clock_ends_no_launch_early(tmp_path: Path) -> None:
    """All ages are measured by the API server's clock, here five minutes behind or ahead."""
    for minutes in (-5, 5):
        async with controlling(tmp_path, gpu_resource="nvidia.com/gpu", gpu_scales_up=True) as scene:
            scene.server.ahead = timedelta(minutes=minutes)
            scene.server.starts_pods = False
            queued = launch("one", accelerator=ACCELERATOR_AUTO)
            scene.jobs.queue(queued.job_id)
            await scene.confirmed("analysis-one-1")
            await rounds(scene.jobs, 5)
            assert scene.jobs.open_launches()
            assert len(scene.jobs.of("one")) == 1


async def test_a_drained_controller_opens_no_launch_and_keeps_the_open_ones(tmp_path: Path) -> None:
    """The annotation of the Lease outlives its renewals; without it, launches are opened again."""
    async with controlling(tmp_path) as scene:
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        place = KubernetesRuntime(FakeKubectl(scene.server))
        place.drain("by an operator")
        await until(lambda: any(line["event"] == "drained" for line in scene.log))
        scene.jobs.queue("two")
        renewals = scene.server.used["coordination.k8s.io", "leases", "update"]
        await until(lambda: scene.server.used["coordination.k8s.io", "leases", "update"] > renewals + 1)
        assert place.drained_by() == "by an operator"
        assert list(scene.server.objects["jobs"]) == ["analysis-one-1"]
        assert scene.server.live() == ["analysis-one-1"]
        place.undo_drain()
        await scene.confirmed("analysis-two-1")


async def test_a_controller_that_starts_drained_opens_no_launch(tmp_path: Path) -> None:
    """It leads only after it has read the Lease with its annotation."""
    lease = {
        "metadata": {"name": "crease-controller", "annotations": {naming.DRAINED_ANNOTATION: "by an operator"}},
        "spec": {},
    }
    async with controlling(tmp_path, lease=lease) as scene:
        scene.jobs.queue("one")
        await until(lambda: any(line["event"] == "drained" for line in scene.log))
        assert scene.jobs.queued == ["one"]
