"""Processes of this machine: the promises beyond the contract of launchers."""

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest

from crease.jobs.v1.job_pb2 import ACCELERATOR_CPU
from services.controller.core.launcher import (
    FailureReason,
    Observed,
    PermanentRejection,
    Phase,
    Placement,
    Unknown,
    labels_of,
    name_of,
)
from services.controller.local.launcher import GRACE_SECONDS, LocalLauncher
from services.controller.local.process_record import DRAFT, Record
from testing.fakes.controller import HERE, StandIn, launch, until

ONE = launch("one")
NAME = name_of(ONE)


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[StandIn]:
    stand_in = StandIn(tmp_path)
    yield stand_in
    stand_in.end_all()


async def only(launcher: LocalLauncher) -> Observed:
    (observed,) = await launcher.list()
    return observed


def environment(stand_in: StandIn, name: str) -> dict[str, str]:
    lines = (stand_in.control / f"{name}.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


async def test_a_process_gets_the_environment_of_a_container_and_no_more(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The controller's secrets and settings are not passed on."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("CREASE_CRASH_AT", "NONE")
    await stand_in.launcher().create(ONE, Placement(ACCELERATOR_CPU, "The CPU, as requested"))
    await until(lambda: stand_in.starts())
    given = environment(stand_in, NAME)
    # The shell adds PWD and the others.
    assert given.keys() - {"PWD", "OLDPWD", "SHLVL", "_"} == {
        "PATH", "HOME", "TMPDIR", "CREASE_TOKEN_FILE", "CREASE_ACCELERATOR",
    }  # fmt: skip
    assert given["CREASE_ACCELERATOR"] == "cpu"
    assert os.listdir(given["TMPDIR"]) == []


async def test_its_token_names_its_pod_and_only_the_owner_can_read_it(stand_in: StandIn) -> None:
    """The pod's name begins with the launch's, as in Kubernetes; each launch has its own."""
    launcher = stand_in.launcher()
    names = []
    for one in (ONE, launch("two")):
        await launcher.create(one, HERE)
        token = stand_in.record(name_of(one)).folder / "token"
        assert token.stat().st_mode & 0o777 == 0o600
        claims = jwt.decode(token.read_text(), options={"verify_signature": False})
        names.append(claims["kubernetes.io"]["pod"]["name"])
    assert [name.rpartition("-")[0] for name in names] == ["analysis-one-1", "analysis-two-1"]
    assert all(len(name.rpartition("-")[2]) == 5 for name in names)


async def test_an_ended_launch_keeps_no_secret_and_no_scratch_file(stand_in: StandIn) -> None:
    """The record and the log stay."""
    launcher = stand_in.launcher()
    await launcher.create(ONE, HERE)
    stand_in.finish(NAME, 70)
    await until(lambda: stand_in.starts() and not stand_in.live())
    await launcher.list()
    left = {path.name for path in stand_in.record(NAME).folder.iterdir()}
    assert left == {"record.json", "lock", "pid", "log", "exit_code"}


async def test_the_record_of_an_old_ended_launch_is_removed(stand_in: StandIn) -> None:
    """With its log. A younger one stays, and so does an old one that runs or that no list has shown as ended yet."""
    launcher = stand_in.launcher(keep=timedelta(days=1))
    old, young, running = ONE, launch("young"), launch("running")
    for one in (old, young, running):
        await launcher.create(one, HERE)
    for one in (old, young):
        stand_in.finish(name_of(one), 0)
    await until(lambda: stand_in.live() == [name_of(running)])
    for one in (old, running):
        file = stand_in.record(name_of(one)).folder / "record.json"
        created = datetime.now(UTC) - timedelta(days=2)
        file.write_text(json.dumps(json.loads(file.read_text()) | {"created_at": created.isoformat()}))
    assert {observed.name for observed in await launcher.list()} == {name_of(one) for one in (old, young, running)}
    assert {observed.name for observed in await launcher.list()} == {name_of(one) for one in (young, running)}
    assert sorted(os.listdir(stand_in.state / "launches")) == sorted(name_of(one) for one in (young, running))


class Slow(datetime):
    """A moment that takes its time to be compared."""

    def __sub__(self, other: Any) -> Any:
        made = super().__sub__(other)
        return Slow.fromtimestamp(made.timestamp(), UTC) if isinstance(made, datetime) else made

    def __gt__(self, other: Any) -> bool:
        time.sleep(0.001)
        return super().__gt__(other)


async def test_reads_at_once_agree(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """The actions of a round run in threads of their own, and each may read all records."""
    await stand_in.launcher().create(ONE, HERE)
    stand_in.finish(NAME, 0)
    await until(lambda: stand_in.starts() and not stand_in.live())
    others = [launch("one", number) for number in range(2, 50)]
    for other in others:
        copy = shutil.copytree(stand_in.record(NAME).folder, stand_in.record(name_of(other)).folder)
        made = json.loads((copy / "record.json").read_text())
        (copy / "record.json").write_text(json.dumps(made | {"labels": labels_of(other)}))
    observe = Record.observe

    def observe_slowly(record: Record) -> Observed:
        time.sleep(0.001)
        return observe(record)

    monkeypatch.setattr(Record, "observe", observe_slowly)
    launcher = stand_in.launcher(keep=timedelta(hours=1))
    monkeypatch.setattr(launcher, "now", lambda: Slow.now(UTC))
    reads = []
    for _ in range(3):
        reads.append(asyncio.create_task(launcher.list()))
        await asyncio.sleep(0.01)
    for seen in await asyncio.gather(*reads):
        assert {one.name for one in seen} == {NAME, *map(name_of, others)}


async def test_a_process_that_ignores_sigterm_is_killed_after_the_grace(stand_in: StandIn) -> None:
    """By the second deletion, once the grace is over."""
    launcher = stand_in.launcher()
    stubborn = launch("stubborn")
    observed = await launcher.create(stubborn, HERE)
    await until(lambda: stand_in.starts())
    await launcher.delete(observed)
    assert (await only(launcher)).is_live
    file = stand_in.record(observed.name).folder / "deleted"
    os.utime(file, (time.time(), time.time() - GRACE_SECONDS))
    await launcher.delete(observed)
    await until(lambda: not stand_in.live())
    assert (await only(launcher)).failure == FailureReason.DELETED


async def test_a_killed_process_is_observed_as_killed(stand_in: StandIn) -> None:
    """Its shell died with it, so there is no exit code."""
    launcher = stand_in.launcher()
    await launcher.create(ONE, HERE)
    await until(lambda: stand_in.starts())
    stand_in.record(NAME).signal(signal.SIGKILL)
    await until(lambda: not stand_in.live())
    observed = await only(launcher)
    assert (observed.phase, observed.exit_code, observed.failure) == (Phase.FAILED, None, FailureReason.KILLED)


async def test_an_analyzer_that_lost_its_shell_still_lives_and_can_be_deleted(stand_in: StandIn) -> None:
    """The inherited lock decides, not the first process."""
    launcher = stand_in.launcher()
    observed = await launcher.create(ONE, HERE)
    await until(lambda: stand_in.starts())
    os.kill(int((stand_in.record(NAME).folder / "pid").read_text()), signal.SIGKILL)
    assert (await only(launcher)).is_live
    await launcher.delete(observed)
    await until(lambda: not stand_in.live())


async def test_a_reused_pid_is_not_signalled(stand_in: StandIn) -> None:
    """A record with a free lock has ended, whatever process has its pid."""
    launcher = stand_in.launcher()
    observed = await launcher.create(ONE, HERE)
    stand_in.finish(NAME, 0)
    await until(lambda: stand_in.starts() and not stand_in.live())
    (stand_in.record(NAME).folder / "pid").write_text(str(os.getpid()))
    await launcher.delete(observed)
    assert (await only(launcher)).phase == Phase.SUCCEEDED


async def test_a_record_without_a_process_has_failed(stand_in: StandIn) -> None:
    """If the controller dies before the start, the lock is free and there is no pid."""
    launcher = stand_in.launcher()
    await launcher.create(ONE, HERE)
    stand_in.finish(NAME, 0)
    await until(lambda: stand_in.starts() and not stand_in.live())
    for file in ("pid", "exit_code"):
        (stand_in.record(NAME).folder / file).unlink()
    observed = await only(stand_in.launcher())
    assert (observed.phase, observed.failure) == (Phase.FAILED, FailureReason.NEVER_STARTED)


async def test_a_torn_record_makes_the_list_unknown(stand_in: StandIn) -> None:
    """The launcher does not guess its content."""
    await stand_in.launcher().create(ONE, HERE)
    (stand_in.record(NAME).folder / "record.json").write_text("{")
    with pytest.raises(Unknown):
        await stand_in.launcher().list()


async def test_stale_drafts_are_removed(stand_in: StandIn) -> None:
    """A draft holds a token. A draft whose creator lives stays."""
    stand_in.launcher()
    for creator in ("dead", "alive"):
        (stand_in.state / "launches" / f"{DRAFT}{creator}").mkdir()
    with Record(stand_in.state / "launches" / f"{DRAFT}alive").lock():
        assert await stand_in.launcher().list() == []
        assert os.listdir(stand_in.state / "launches") == [f"{DRAFT}alive"]


async def test_a_job_id_is_never_a_path(stand_in: StandIn, tmp_path: Path) -> None:
    """Names follow the cluster's rule, so that a compromised `jobs` cannot write elsewhere."""
    with pytest.raises(PermanentRejection, match="is not a valid name"):
        await stand_in.launcher().create(launch("x/../../../out"), HERE)
    assert "out" not in os.listdir(tmp_path)
