"""The controller on an API server in memory that lags, forgets and refuses on demand, and a `jobs` on a real server."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import structlog
import yaml

from crease.analysis.v1 import launch_pb2 as wire
from crease.jobs.v1.job_pb2 import ACCELERATOR_AUTO, ACCELERATOR_CPU, ACCELERATOR_GPU, JOB_STATUS_QUICK_RUNNING
from services.cli.runtime.kubernetes import ClusterPlace
from services.controller.core.jobs_client import Jobs
from services.controller.core.launcher import name_of
from services.controller.core.reconciler import Reconciler
from services.controller.kubernetes import reflector
from services.controller.kubernetes.launcher import KubernetesLauncher
from services.controller.kubernetes.leader_election import DRAINED, Leader
from services.controller.settings import KubernetesSettings
from testing.fakes.api_server import ApiServer, Client, Fault
from testing.fakes.controller import FakeJobs, launch, serving, until
from testing.fakes.kubectl import FakeKubectl
from testing.servers.kubernetes import ROLE

NEVER_SECONDS = 3600.0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Watches end often and nobody waits long to list again: nothing else depends on these."""
    monkeypatch.setattr(reflector, "WATCH_SECONDS", 0.2)
    monkeypatch.setattr(reflector, "AGAIN_SECONDS", 0.05)


@dataclass
class Scene:
    jobs: FakeJobs
    server: ApiServer
    log: list[Any]
    reconcilers: list[Reconciler] = field(default_factory=list)

    def said(self, event: str) -> list[Any]:
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
    folder: Path, *, replicas: int = 1, lease: dict[str, Any] | None = None, **fields: Any
) -> AsyncIterator[Scene]:
    """Running controllers, each with copies of its own, on one `jobs` and one API server, which may hold a Lease."""
    scene = Scene(FakeJobs(), ApiServer(), [])
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
            settings = KubernetesSettings(**values | {"identity": f"controller-{number}"} | fields)
            woken, api = asyncio.Event(), Client(scene.server)
            launcher, leader = KubernetesLauncher(api, settings, woken.set), Leader(api, settings, log)
            jobs = Jobs(channel, settings.token_file, settings.cluster)
            leads = lambda leader=leader: leader.leads  # noqa: E731
            drained = lambda leader=leader: leader.drained  # noqa: E731
            reconcilers.append(Reconciler(
                launcher, jobs, log, limits=settings.limits, tick_seconds=settings.tick_seconds,
                parallel=settings.parallel, woken=woken, leads=leads, drained=drained,
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


async def test_all_that_it_does_is_in_its_role_and_all_of_its_role_is_used(tmp_path: Path) -> None:
    """Through a life that does everything: nobody need give it more, and nothing is given for nothing."""
    async with controlling(tmp_path, gpu_resource="nvidia.com/gpu") as scene:
        scene.add_node()
        scene.jobs.queue("one")
        one = await scene.confirmed("analysis-one-1")
        one.job_status = JOB_STATUS_QUICK_RUNNING
        status = "crease.dev/status"
        await until(lambda: scene.server.objects["jobs"]["analysis-one-1"]["metadata"]["labels"][status] != "queued")
        # A pod that outlived its Job has to be deleted by itself.
        scene.server.remove("jobs", "analysis-one-1")
        scene.jobs.ask_to_cancel("one")
        await until(lambda: not scene.jobs.open_launches())
        # And a Job that gets no pod makes it ask why.
        scene.server.starts_pods = False
        scene.jobs.queue("two")
        await scene.confirmed("analysis-two-1")
        scene.server.ahead = timedelta(minutes=1)
        await until(lambda: scene.server.used["", "events", "list"])
        await until(lambda: scene.server.used["coordination.k8s.io", "leases", "update"])
    role = yaml.safe_load(ROLE.read_text())
    allowed = {
        (group, resource, verb)
        for rule in (*role["rules"], *role["clusterRules"])
        for group in rule["apiGroups"] for resource in rule["resources"] for verb in rule["verbs"]
    }  # fmt: skip
    assert set(scene.server.used) == allowed


async def test_a_creation_whose_answer_was_lost_is_found_and_not_done_again(tmp_path: Path) -> None:
    """It has happened; the same name tells."""
    async with controlling(tmp_path) as scene:
        scene.server.faults = [Fault("create", "jobs", late=True)]
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        assert scene.server.starts == ["analysis-one-1"]


@pytest.mark.parametrize("code", [409, 429, 500])
async def test_a_refused_creation_is_tried_again_under_the_same_name(tmp_path: Path, code: int) -> None:
    """Whatever the API server says that is no verdict on the Job itself."""
    async with controlling(tmp_path) as scene:
        scene.server.faults = [Fault("create", "jobs", code)] * 3
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        assert len(scene.jobs.of("one")) == 1


async def test_what_the_cluster_refuses_is_told_once_under_the_name_of_what_does_not_run(tmp_path: Path) -> None:
    """Who asks why a job is not launched reads the API server's words, however often it was tried."""
    async with controlling(tmp_path) as scene:
        scene.server.faults = [Fault("create", "jobs", 403)] * 1000
        scene.jobs.queue("one")
        await until(lambda: scene.reason("analysis-one-1"))
        assert "does not take it now: The API server answered 403" in scene.reason("analysis-one-1")
        await until(lambda looks=scene.jobs.lists: scene.jobs.lists > looks + 2)
        scene.server.faults.clear()
        await scene.confirmed("analysis-one-1")
        await until(
            lambda: [one["reason"] for one in scene.server.objects["events"].values()] == ["Refused", "Created"]
        )
        [refused, _] = scene.server.objects["events"].values()
        assert refused["involvedObject"]["name"] == "analysis-one-1"
        assert refused["message"] == "The cluster does not take it now: The API server answered 403"


async def test_nothing_is_decided_from_a_copy_that_is_too_old(tmp_path: Path) -> None:
    """A watch that tells nothing any more stops the controller, until a list is answered again."""
    # It still leads when its copy is too old: a Lease that it could not renew would stop it before.
    async with controlling(tmp_path, stale_seconds=0.3, leader_seconds=60) as scene:
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        scene.server.is_cut = True
        await until(lambda: "too old" in str(scene.said("away")))
        assert not any(one.is_ready() for one in scene.reconcilers)
        scene.jobs.queue("two")
        looks = scene.jobs.lists
        scene.server.is_cut = False
        await scene.confirmed("analysis-two-1")
        assert scene.jobs.lists > looks
        assert [one.ending for one in scene.jobs.of("one")] == [wire.ENDING_UNSPECIFIED]


@pytest.mark.slow
async def test_a_missed_event_is_made_up_for_by_the_next_list(tmp_path: Path) -> None:
    """The watch never tells that it ended; the list does."""
    async with controlling(tmp_path, relist_seconds=0.5) as scene:
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        last = scene.server.history[-1][0]
        scene.server.unseen |= set(range(last, last + 10))
        scene.server.finish("analysis-one-1", 65)
        await until(lambda: not scene.jobs.open_launches())
        assert scene.jobs.of("one")[0].ending == wire.ENDING_BAD_INPUT


async def test_a_watch_whose_version_is_forgotten_is_begun_again_by_a_list(tmp_path: Path) -> None:
    """410 Gone costs a list, no more."""
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
async def test_what_was_created_while_the_watch_is_held_back_is_not_lost(tmp_path: Path) -> None:
    """What looks gone is looked for before its launch is ended."""
    async with controlling(tmp_path, replicas=2, leader_lease="", stale_seconds=NEVER_SECONDS) as scene:
        await until(lambda: scene.server.used["batch", "jobs", "watch"] >= 2)
        scene.server.watches_held = True
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        await until(lambda looks=scene.jobs.lists: scene.jobs.lists > looks + 8)
        assert [one.ending for one in scene.jobs.of("one")] == [wire.ENDING_UNSPECIFIED]
        assert scene.server.starts == ["analysis-one-1"]


async def test_two_leaders_at_once_create_one_job_for_each_launch(tmp_path: Path) -> None:
    """Safety does not rest on the Lease."""
    async with controlling(tmp_path, replicas=2, leader_lease="") as scene:
        for n in range(10):
            scene.jobs.queue(f"j{n}")
        for n in range(10):
            await scene.confirmed(f"analysis-j{n}-1")
        assert Counter(scene.server.starts) == Counter({f"analysis-j{n}-1": 1 for n in range(10)})


@pytest.mark.slow
async def test_one_replica_works_and_another_takes_over(tmp_path: Path) -> None:
    """One says that it leads; when the Lease is taken from it, it stops."""
    async with controlling(tmp_path, replicas=2) as scene:
        await until(lambda: scene.said("leads"))
        assert len(scene.said("leads")) == 1
        lease = scene.server.objects["leases"]["crease-controller"]
        spec = lease["spec"] | {"holderIdentity": "somebody", "leaseDurationSeconds": 1}
        scene.server.put("leases", lease | {"spec": spec})
        await until(lambda: scene.said("stands by"))
        await until(lambda: len(scene.said("leads")) == 2)


async def test_each_launch_takes_a_gpu_of_its_own_and_the_rest_the_cpu(tmp_path: Path) -> None:
    """Counted from what nodes have less what pods hold and what was promised."""
    async with controlling(tmp_path, gpu_resource="nvidia.com/gpu") as scene:
        scene.add_node(gpus=2)
        await until(lambda: scene.server.used["", "nodes", "watch"] > 1)
        for n in range(3):
            scene.jobs.queue(f"j{n}")
        placed = [(await scene.confirmed(f"analysis-j{n}-1")).placed_on for n in range(3)]
        assert Counter(placed) == {ACCELERATOR_GPU: 2, ACCELERATOR_CPU: 1}
        [cpu] = [one for one in scene.jobs.open_launches() if one.placed_on == ACCELERATOR_CPU]
        assert cpu.placement_reason == "The CPU: no node has a free nvidia.com/gpu"


async def test_what_a_dead_node_holds_is_waited_for_and_said_unless_force_is_allowed(tmp_path: Path) -> None:
    """Nobody can say whether it still runs there."""
    async with controlling(tmp_path) as scene:
        scene.add_node()
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        # The kubelet is gone: what is deleted stays.
        scene.server.delete = lambda resource, name: scene.server.put(  # type: ignore[method-assign]
            resource, _deleting(scene.server.objects[resource][name])
        )
        scene.add_node(ready=False)
        scene.jobs.ask_to_cancel("one")
        await until(lambda: "does not answer" in scene.reason("analysis-one-1"))
        assert scene.jobs.open_launches()


@pytest.mark.slow
async def test_force_ends_what_a_dead_node_holds(tmp_path: Path) -> None:
    """After the time that was set, without a proof."""
    async with controlling(tmp_path, force_after_seconds=0.5) as scene:
        scene.add_node()
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        removed = scene.server.delete

        def stuck(resource: str, name: str) -> None:
            if resource == "jobs":
                scene.server.put(resource, _deleting(scene.server.objects[resource][name]))
                return
            removed(resource, name)
            for job in list(scene.server.objects["jobs"]):
                scene.server.remove("jobs", job)

        scene.server.delete = stuck  # type: ignore[method-assign]
        scene.add_node(ready=False)
        scene.jobs.ask_to_cancel("one")
        await until(lambda: not scene.jobs.open_launches())
        assert any("does not answer" in line["why"] for line in scene.said("delete"))
        assert scene.jobs.of("one")[0].ending == wire.ENDING_CANCELLED


def _deleting(body: Any) -> Any:
    return body | {"metadata": body["metadata"] | {"deletionTimestamp": "2026-11-01T00:00:00Z"}}


async def test_a_queue_of_kueue_holds_a_launch_for_as_long_as_it_likes(tmp_path: Path) -> None:
    """It is created suspended, counts as at work, and says what it waits for; no deadline runs."""
    async with controlling(tmp_path, queue_name="analyses", deadline_seconds=1) as scene:
        scene.jobs.queue("one")
        await until(lambda: "suspended" in scene.reason("analysis-one-1"))
        scene.server.ahead = timedelta(hours=1)
        await until(lambda looks=scene.jobs.lists: scene.jobs.lists > looks + 3)
        assert scene.server.objects["jobs"]["analysis-one-1"]["spec"]["suspend"]
        assert scene.server.starts == []
        assert scene.jobs.open_launches()


async def test_why_no_pod_could_be_created_is_told(tmp_path: Path) -> None:
    """As by a quota: only an Event of the Job controller says it."""
    async with controlling(tmp_path) as scene:
        scene.server.starts_pods = False
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        uid = scene.server.objects["jobs"]["analysis-one-1"]["metadata"]["uid"]
        scene.server.make("events", {
            "metadata": {"name": "e"}, "reason": "FailedCreate", "message": "exceeded quota: pods",
            "involvedObject": {"kind": "Job", "uid": uid},
        })  # fmt: skip
        scene.server.ahead = timedelta(seconds=30)
        await until(lambda: "exceeded quota: pods" in scene.reason("analysis-one-1"))


async def test_an_orphan_stays_where_that_is_wished(tmp_path: Path) -> None:
    """It is reported in any case."""
    async with controlling(tmp_path, delete_orphans=False) as scene:
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        job = scene.server.objects["jobs"]["analysis-one-1"]
        labels = job["metadata"]["labels"] | {"crease.dev/launch": "7"}
        scene.server.make("jobs", job | {"metadata": {"name": "analysis-one-7", "labels": labels}})
        await until(lambda: scene.said("orphan"))
        await until(lambda looks=scene.jobs.lists: scene.jobs.lists > looks + 3)
        assert "analysis-one-7" in scene.server.objects["jobs"]


async def test_two_clusters_leave_each_others_work_alone(tmp_path: Path) -> None:
    """Even in one namespace: what another name has created is not seen, so it is never deleted."""
    async with controlling(tmp_path) as scene:
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        job = scene.server.objects["jobs"]["analysis-one-1"]
        labels = job["metadata"]["labels"] | {"crease.dev/cluster": "other", "crease.dev/launch": "7"}
        scene.server.make("jobs", job | {"metadata": {"name": "analysis-one-7", "labels": labels}})
        await until(lambda looks=scene.jobs.lists: scene.jobs.lists > looks + 5)
        assert "analysis-one-7" in scene.server.objects["jobs"]
        assert not scene.said("orphan")


@pytest.mark.slow
async def test_a_clock_that_is_minutes_off_ends_nothing_early(tmp_path: Path) -> None:
    """All times are told by the API server's clock: its own stamps are five minutes behind or ahead of ours."""
    for minutes in (-5, 5):
        async with controlling(tmp_path, gpu_resource="nvidia.com/gpu", gpu_scales_up=True) as scene:
            scene.server.ahead = timedelta(minutes=minutes)
            scene.server.starts_pods = False
            queued = launch("one", accelerator=ACCELERATOR_AUTO)
            scene.jobs.queue(queued.job_id)
            await scene.confirmed("analysis-one-1")
            await until(lambda looks=scene.jobs.lists, scene=scene: scene.jobs.lists > looks + 5)
            assert scene.jobs.open_launches()
            assert len(scene.jobs.of("one")) == 1


async def test_drained_it_launches_nothing_new_and_lets_run_what_runs(tmp_path: Path) -> None:
    """The annotation on the Lease outlives the controller that read it first, and its renewals; undone, all goes on."""
    async with controlling(tmp_path) as scene:
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        place = ClusterPlace(FakeKubectl(scene.server))
        place.drain("by somebody")
        await until(lambda: any(line["event"] == "drained" for line in scene.log))
        scene.jobs.queue("two")
        renewals = scene.server.used["coordination.k8s.io", "leases", "update"]
        await until(lambda: scene.server.used["coordination.k8s.io", "leases", "update"] > renewals + 1)
        assert place.drained() == "by somebody"
        assert list(scene.server.objects["jobs"]) == ["analysis-one-1"]
        assert scene.server.live() == ["analysis-one-1"]
        place.drain("")
        await scene.confirmed("analysis-two-1")


async def test_a_controller_that_starts_where_it_is_drained_launches_nothing(tmp_path: Path) -> None:
    """It leads only once it has read the Lease, and with it the wish."""
    lease = {"metadata": {"name": "crease-controller", "annotations": {DRAINED: "by somebody"}}, "spec": {}}
    async with controlling(tmp_path, lease=lease) as scene:
        scene.jobs.queue("one")
        await until(lambda: any(line["event"] == "drained" for line in scene.log))
        assert scene.jobs.queued == ["one"]
