"""The contract of launchers, proved on each: in memory, processes of this machine, Kubernetes Jobs on an API server in
memory and, marked `cluster`, on a real one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from services.controller.core.launcher import (
    FailureReason,
    Launcher,
    Observed,
    PermanentRejection,
    Phase,
    Unknown,
    labels_of,
    name_of,
)
from services.controller.kubernetes.api_client import Api, open_api
from services.controller.kubernetes.launcher import KubernetesLauncher
from services.controller.kubernetes.release import Release
from services.controller.settings import KubernetesSettings
from testing.fakes.api_server import ApiServer, Client
from testing.fakes.controller import HERE, FakeLauncher, StandIn, launch, until
from testing.servers.kubernetes import Line, Namespace

ONE = launch("one")
NAME = name_of(ONE)


def _launcher(api: Api, settings: KubernetesSettings) -> KubernetesLauncher:
    return KubernetesLauncher(api, settings, Release(api, settings), lambda: None)


class Rig(Protocol):
    """One kind of cluster, with the changes that a test makes to it without the launcher."""

    async def launcher(self) -> Launcher:
        """A new launcher without memory, as after a crash of the controller."""

    def finish(self, name: str, exit_code: int) -> None: ...
    def starts(self) -> list[str]: ...
    def cut(self) -> None: ...
    def squat(self, name: str) -> None: ...


class InMemory:
    def __init__(self) -> None:
        self._cluster = FakeLauncher()

    async def launcher(self) -> Launcher:
        return self._cluster

    def finish(self, name: str, exit_code: int) -> None:
        self._cluster.finish(name, exit_code)

    def starts(self) -> list[str]:
        return self._cluster.starts

    def cut(self) -> None:
        self._cluster.is_cut = True

    def squat(self, name: str) -> None:
        self._cluster.workloads[name] = replace(self._cluster.workloads[name], labels={"app": "other"})


class Local:
    def __init__(self, tmp_path: Path) -> None:
        self._stand_in = StandIn(tmp_path)
        self._folder = self._stand_in.state / "launches"

    async def launcher(self) -> Launcher:
        return self._stand_in.launcher()

    def finish(self, name: str, exit_code: int) -> None:
        self._stand_in.finish(name, exit_code)

    def starts(self) -> list[str]:
        return self._stand_in.starts()

    def cut(self) -> None:
        self._folder.rename(self._folder.with_name("moved"))

    def squat(self, name: str) -> None:
        record = self._stand_in.record(name).folder / "record.json"
        record.write_text(record.read_text().replace("crease.dev/", "other/"))

    def end_all(self) -> None:
        if (moved := self._folder.with_name("moved")).exists():
            moved.rename(self._folder)
        self._stand_in.end_all()


class Kubernetes:
    """On an API server in memory. Each launcher has its own caches."""

    def __init__(self, tmp_path: Path) -> None:
        self.server = ApiServer()
        self._tmp_path = tmp_path
        self._running: list[asyncio.Task[None]] = []

    async def launcher(self) -> Launcher:
        values = {"jobs_endpoint": "-", "upload_endpoint": "-", "token_file": self._tmp_path, "namespace": "x",
                  "cluster": "nets", "analyzer_image": "analyzer:1", "stale_seconds": 1}  # fmt: skip
        settings = KubernetesSettings.model_validate(values)
        return await self._started(_launcher(Client(self.server), settings))

    async def _started(self, launcher: KubernetesLauncher) -> Launcher:
        self._running.append(asyncio.create_task(launcher.run()))
        await until(lambda: max(launcher.cache_ages.values()) < 1000)
        return launcher

    def finish(self, name: str, exit_code: int) -> None:
        self.server.finish(name, exit_code)

    def starts(self) -> list[str]:
        return self.server.starts

    def cut(self) -> None:
        self.server.is_cut = True

    def squat(self, name: str) -> None:
        job = self.server.objects["jobs"][name]
        labels = job["metadata"]["labels"] | {"crease.dev/job": "other"}
        self.server.put("jobs", job | {"metadata": job["metadata"] | {"labels": labels}})

    async def end_all(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)


class RealKubernetes(Kubernetes):
    """On a real API server, through a connection that can be cut."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._line = Line(namespace.cluster)
        self._stack = contextlib.AsyncExitStack()
        self._running = []

    async def launcher(self) -> Launcher:
        if not self._line.is_open:
            await self._line.open()
        settings = self._namespace.settings(kubeconfig=self._line.kubeconfig(self._namespace), stale_seconds=5)
        api = await self._stack.enter_async_context(open_api(settings.kubeconfig, 8))
        return await self._started(_launcher(api, settings))

    def finish(self, name: str, exit_code: int) -> None:
        self._namespace.finish(name, exit_code)

    def starts(self) -> list[str]:
        return self._namespace.control.starts

    def cut(self) -> None:
        self._line.cut()

    def squat(self, name: str) -> None:
        self._namespace.cluster.kubectl(
            "label", "job", name, "-n", self._namespace.name, "--overwrite", "crease.dev/job=other"
        )

    async def end_all(self) -> None:
        await super().end_all()
        await self._stack.aclose()
        await self._line.close()


@pytest.fixture(params=["in memory", "local", "Kubernetes", pytest.param("real Kubernetes", marks=pytest.mark.cluster)])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    match request.param:
        case "in memory":
            yield InMemory()
        case "local":
            local = Local(tmp_path)
            yield local
            await asyncio.to_thread(local.end_all)
        case "Kubernetes":
            kubernetes = Kubernetes(tmp_path)
            yield kubernetes
            await kubernetes.end_all()
        case _:
            real = RealKubernetes(request.getfixturevalue("kubernetes_namespace"))
            yield real
            await real.end_all()


async def ended(launcher: Launcher, name: str = NAME) -> Observed:
    """The state of a workload, once it no longer lives."""
    async with asyncio.timeout(30):
        while True:
            observed = {one.name: one for one in await launcher.list()}[name]
            if not observed.is_live:
                return observed
            await asyncio.sleep(0.02)


async def list_until_stale(launcher: Launcher) -> None:
    """Lists until the cache is stale, which raises Unknown; an empty list fails the test."""
    async with asyncio.timeout(30):
        while await launcher.list():  # noqa: ASYNC110 (the list itself is awaited)
            await asyncio.sleep(0.02)
    pytest.fail("The list was empty")


async def started(rig: Rig, launcher: Launcher) -> Observed:
    """The launch's workload, once it runs."""
    observed = await launcher.create(ONE, HERE)
    await until(lambda: NAME in rig.starts())
    return observed


async def test_a_created_workload_has_the_launchs_name_and_labels(rig: Rig) -> None:
    """Both identify the launch, and that the workload is ours."""
    launcher = await rig.launcher()
    created = await launcher.create(ONE, HERE)
    (listed,) = await launcher.list()
    assert (listed.name, listed.uid) == (NAME, created.uid)
    assert listed.is_live
    assert labels_of(ONE).items() <= listed.labels.items()


async def test_creating_again_finds_the_first(rig: Rig) -> None:
    """Already exists is success: the same uid, and one start."""
    launcher = await rig.launcher()
    first = await started(rig, launcher)
    assert (await launcher.create(ONE, HERE)).uid == first.uid
    assert rig.starts() == [NAME]


async def test_concurrent_creations_start_one_workload(rig: Rig) -> None:
    """Concurrent controllers get the same uid."""
    launchers = [await rig.launcher() for _ in range(4)]
    observed = await asyncio.gather(*(launcher.create(ONE, HERE) for launcher in launchers))
    assert len({one.uid for one in observed}) == 1
    rig.finish(NAME, 0)
    await ended(launchers[0])
    assert rig.starts() == [NAME]


async def test_a_new_launcher_finds_the_running_workload(rig: Rig) -> None:
    """The state is in the cluster."""
    created = await (await rig.launcher()).create(ONE, HERE)
    (found,) = await (await rig.launcher()).list()
    assert (found.uid, found.is_live) == (created.uid, True)


@pytest.mark.parametrize(("exit_code", "phase"), [(0, Phase.SUCCEEDED), (65, Phase.FAILED), (75, Phase.FAILED)])
async def test_the_exit_code_can_be_read(rig: Rig, exit_code: int, phase: Phase) -> None:
    """By a launcher that did not start it, too."""
    await started(rig, (await rig.launcher()))
    rig.finish(NAME, exit_code)
    observed = await ended(await rig.launcher())
    assert (observed.phase, observed.exit_code) == (phase, exit_code)


async def test_an_ended_name_is_never_run_again(rig: Rig) -> None:
    """A second create returns the ended workload, and starts none."""
    launcher = await rig.launcher()
    first = await started(rig, launcher)
    rig.finish(NAME, 70)
    await ended(launcher)
    again = await (await rig.launcher()).create(ONE, HERE)
    assert (again.uid, again.phase, again.exit_code) == (first.uid, Phase.FAILED, 70)
    assert rig.starts() == [NAME]


async def test_two_launches_of_a_job_have_two_workloads(rig: Rig) -> None:
    """The launch number is part of the name."""
    launcher = await rig.launcher()
    await launcher.create(ONE, HERE)
    await launcher.create(launch("one", 2), HERE)
    assert {one.name for one in await launcher.list()} == {"analysis-one-1", "analysis-one-2"}


async def test_a_list_that_fails_is_unknown(rig: Rig) -> None:
    """An empty list would end every launch as lost."""
    launcher = await rig.launcher()
    await launcher.create(ONE, HERE)
    rig.cut()
    with pytest.raises(Unknown):
        await list_until_stale(launcher)


async def test_a_launcher_that_answers_is_ready(rig: Rig) -> None:
    """From the first list on."""
    launcher = await rig.launcher()
    await launcher.list()
    assert launcher.is_ready()


async def test_a_create_that_fails_is_unknown(rig: Rig) -> None:
    """The workload may exist; a repeated create finds out."""
    launcher = await rig.launcher()
    rig.cut()
    with pytest.raises(Unknown):
        await launcher.create(ONE, HERE)


async def test_deletion_ends_it_and_keeps_the_name_used(rig: Rig) -> None:
    """The workload is listed as deleted, and a later create starts none."""
    launcher = await rig.launcher()
    observed = await started(rig, launcher)
    await launcher.delete(observed)
    assert (await ended(launcher)).failure == FailureReason.DELETED
    assert not (await launcher.create(ONE, HERE)).is_live
    assert rig.starts() == [NAME]


async def test_get_reads_the_source_at_this_moment(rig: Rig) -> None:
    """By a launcher with an empty cache, too."""
    launcher = await rig.launcher()
    observed = await started(rig, launcher)
    found = await (await rig.launcher()).get(NAME)
    assert found is not None
    assert (found.uid, found.is_live) == (observed.uid, True)
    rig.finish(NAME, 0)
    await ended(launcher)
    left = await launcher.get(NAME)
    assert left is None or not left.is_live


async def test_deletion_of_another_uid_touches_nothing(rig: Rig) -> None:
    """A deletion names one uid."""
    launcher = await rig.launcher()
    running = await started(rig, launcher)
    await launcher.delete(replace(running, uid="another"))
    found = await launcher.get(NAME)
    assert found is not None
    assert not found.is_deleting


async def test_deletion_of_a_missing_or_ended_workload_succeeds(rig: Rig) -> None:
    """An ended workload keeps its exit code."""
    launcher = await rig.launcher()
    observed = await started(rig, launcher)
    await launcher.delete(replace(observed, name="analysis-missing-1", uid="missing"))
    rig.finish(NAME, 65)
    await ended(launcher)
    await launcher.delete(observed)
    (observed,) = await launcher.list()
    assert (observed.exit_code, observed.failure) == (65, None)


async def test_a_name_taken_by_another_object_is_rejected(rig: Rig) -> None:
    """Labels that do not match the name are an error."""
    await (await rig.launcher()).create(ONE, HERE)
    rig.squat(NAME)
    with pytest.raises(PermanentRejection, match=f"The name {NAME} is taken by another object"):
        await (await rig.launcher()).create(ONE, HERE)


async def test_a_workload_of_others_is_not_listed(rig: Rig) -> None:
    """So it is never deleted."""
    await (await rig.launcher()).create(ONE, HERE)
    rig.squat(NAME)
    assert list(await (await rig.launcher()).list()) == []
