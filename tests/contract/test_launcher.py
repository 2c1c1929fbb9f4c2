"""What every launcher promises, proved on each: in memory, and processes of this machine."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from services.controller.launcher import Launcher, Phase, Reason, Rejected, Seen, Unknown, labels_of, name_of
from tests.controller_fakes import HERE, FakeLauncher, StandIn, launch, until

ONE = launch("one")
NAME = name_of(ONE)


class Rig(Protocol):
    """One kind of cluster, and what a test may do to it behind the launcher's back."""

    def launcher(self) -> Launcher:
        """A launcher that remembers nothing, as after a crash of the controller."""

    def finish(self, name: str, exit_code: int) -> None: ...
    def starts(self) -> list[str]: ...
    def cut(self) -> None: ...
    def squat(self, name: str) -> None: ...


class InMemory:
    def __init__(self) -> None:
        self._cluster = FakeLauncher()

    def launcher(self) -> Launcher:
        return self._cluster

    def finish(self, name: str, exit_code: int) -> None:
        self._cluster.finish(name, exit_code)

    def starts(self) -> list[str]:
        return self._cluster.starts

    def cut(self) -> None:
        self._cluster.is_cut = True

    def squat(self, name: str) -> None:
        self._cluster.things[name] = replace(self._cluster.things[name], labels={"app": "other"})


class Local(StandIn):
    def cut(self) -> None:
        (self.state / "launches").rename(self.state / "away")

    def squat(self, name: str) -> None:
        record = self.record(name).folder / "record.json"
        record.write_text(record.read_text().replace("crease.dev/", "other/"))

    def end_all(self) -> None:
        if (self.state / "away").exists():
            (self.state / "away").rename(self.state / "launches")
        super().end_all()


@pytest.fixture(params=["in memory", "local"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    if request.param == "in memory":
        yield InMemory()
        return
    local = Local(tmp_path)
    yield local
    local.end_all()


async def ended(launcher: Launcher, name: str = NAME) -> Seen:
    """What is seen under a name, once it no longer lives."""
    async with asyncio.timeout(30):
        while True:
            seen = {one.name: one for one in await launcher.list()}[name]
            if not seen.is_live:
                return seen
            await asyncio.sleep(0.02)


async def started(rig: Rig, launcher: Launcher) -> Seen:
    """The launch's thing, once it is at work."""
    seen = await launcher.create(ONE, HERE)
    await until(lambda: NAME in rig.starts())
    return seen


async def test_what_is_created_runs_under_the_launchs_name_and_labels(rig: Rig) -> None:
    """The name and the labels say which launch it is, and that it is ours."""
    launcher = rig.launcher()
    created = await launcher.create(ONE, HERE)
    (listed,) = await launcher.list()
    assert (listed.name, listed.uid) == (NAME, created.uid)
    assert listed.is_live
    assert labels_of(ONE).items() <= listed.labels.items()


async def test_creating_again_finds_the_first(rig: Rig) -> None:
    """Already exists is success: the same uid, and one start."""
    launcher = rig.launcher()
    first = await started(rig, launcher)
    assert (await launcher.create(ONE, HERE)).uid == first.uid
    assert rig.starts() == [NAME]


async def test_creating_at_once_starts_one(rig: Rig) -> None:
    """Two controllers that don't know of each other get the same uid."""
    launchers = [rig.launcher() for _ in range(4)]
    seen = await asyncio.gather(*(launcher.create(ONE, HERE) for launcher in launchers))
    assert len({one.uid for one in seen}) == 1
    rig.finish(NAME, 0)
    await ended(launchers[0])
    assert rig.starts() == [NAME]


async def test_a_launcher_that_forgot_everything_finds_what_runs(rig: Rig) -> None:
    """The cluster is the memory."""
    created = await rig.launcher().create(ONE, HERE)
    (found,) = await rig.launcher().list()
    assert (found.uid, found.is_live) == (created.uid, True)


@pytest.mark.parametrize(("exit_code", "phase"), [(0, Phase.SUCCEEDED), (65, Phase.FAILED), (75, Phase.FAILED)])
async def test_the_exit_code_can_be_read(rig: Rig, exit_code: int, phase: Phase) -> None:
    """Also by a launcher that did not start it."""
    await started(rig, rig.launcher())
    rig.finish(NAME, exit_code)
    seen = await ended(rig.launcher())
    assert (seen.phase, seen.exit_code) == (phase, exit_code)


async def test_an_ended_name_is_never_run_again(rig: Rig) -> None:
    """Creating it gives what became of it, and starts nothing."""
    launcher = rig.launcher()
    first = await started(rig, launcher)
    rig.finish(NAME, 70)
    await ended(launcher)
    again = await rig.launcher().create(ONE, HERE)
    assert (again.uid, again.phase, again.exit_code) == (first.uid, Phase.FAILED, 70)
    assert rig.starts() == [NAME]


async def test_another_launch_of_the_job_runs_beside(rig: Rig) -> None:
    """The number is part of the name."""
    launcher = rig.launcher()
    await launcher.create(ONE, HERE)
    await launcher.create(launch("one", 2), HERE)
    assert {one.name for one in await launcher.list()} == {"analysis-one-1", "analysis-one-2"}


async def test_a_list_that_fails_is_unknown(rig: Rig) -> None:
    """Never empty: from empty follows that everything is lost."""
    launcher = rig.launcher()
    await launcher.create(ONE, HERE)
    rig.cut()
    with pytest.raises(Unknown):
        await launcher.list()


async def test_a_create_that_fails_is_unknown(rig: Rig) -> None:
    """It may have worked or not; the same call again tells."""
    launcher = rig.launcher()
    rig.cut()
    with pytest.raises(Unknown):
        await launcher.create(ONE, HERE)


async def test_deletion_ends_it_and_keeps_the_name_used(rig: Rig) -> None:
    """It is seen as deleted, and creating it again starts nothing."""
    launcher = rig.launcher()
    seen = await started(rig, launcher)
    await launcher.delete(seen)
    assert (await ended(launcher)).reason == Reason.DELETED
    assert not (await rig.launcher().create(ONE, HERE)).is_live
    assert rig.starts() == [NAME]


async def test_deletion_of_another_uid_touches_nothing(rig: Rig) -> None:
    """Who deletes says exactly what."""
    launcher = rig.launcher()
    running = await started(rig, launcher)
    await launcher.delete(replace(running, uid="another"))
    (seen,) = await launcher.list()
    assert seen.is_live


async def test_deletion_of_what_is_gone_is_success(rig: Rig) -> None:
    """And what has ended stays as it ended."""
    launcher = rig.launcher()
    seen = await started(rig, launcher)
    await launcher.delete(replace(seen, name="analysis-nobody-1"))
    rig.finish(NAME, 65)
    await ended(launcher)
    await launcher.delete(seen)
    (seen,) = await rig.launcher().list()
    assert (seen.exit_code, seen.reason) == (65, None)


async def test_a_name_taken_by_something_else_is_rejected(rig: Rig) -> None:
    """Other labels under our name are an alarm, not success."""
    await rig.launcher().create(ONE, HERE)
    rig.squat(NAME)
    with pytest.raises(Rejected, match=f"The name {NAME} is taken by something else"):
        await rig.launcher().create(ONE, HERE)


async def test_what_is_not_ours_is_not_listed(rig: Rig) -> None:
    """What is not listed is never deleted."""
    await rig.launcher().create(ONE, HERE)
    rig.squat(NAME)
    assert list(await rig.launcher().list()) == []
