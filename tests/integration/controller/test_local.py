"""Processes on this machine: what the contract of launchers leaves to them."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest

from crease.jobs.v1.job_pb2 import ACCELERATOR_CPU
from services.controller.core.launcher import Phase, Placement, Reason, Rejected, Seen, Unknown, name_of
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


async def only(launcher: LocalLauncher) -> Seen:
    (seen,) = await launcher.list()
    return seen


def environment(stand_in: StandIn, name: str) -> dict[str, str]:
    lines = (stand_in.control / f"{name}.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


async def test_a_process_gets_what_a_container_would_and_nothing_else(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The controller's own secrets and settings stay with it."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("CREASE_CRASH_AT", "NONE")
    await stand_in.launcher().create(ONE, Placement(ACCELERATOR_CPU, "Asked for"))
    await until(lambda: stand_in.starts())
    given = environment(stand_in, NAME)
    # The shell adds PWD and its like.
    assert given.keys() - {"PWD", "OLDPWD", "SHLVL", "_"} == {
        "PATH", "HOME", "TMPDIR", "CREASE_TOKEN_FILE", "CREASE_ACCELERATOR",
    }  # fmt: skip
    assert given["CREASE_ACCELERATOR"] == "cpu"
    assert os.listdir(given["TMPDIR"]) == []


async def test_its_token_says_which_pod_it_is_and_only_its_owner_reads_it(stand_in: StandIn) -> None:
    """The pod's name begins with the launch's, as in Kubernetes; two launches have two pods."""
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


async def test_what_ended_keeps_no_secret_and_no_scratch(stand_in: StandIn) -> None:
    """The record and the log stay."""
    launcher = stand_in.launcher()
    await launcher.create(ONE, HERE)
    stand_in.finish(NAME, 70)
    await until(lambda: stand_in.starts() and not stand_in.live())
    await launcher.list()
    left = {path.name for path in stand_in.record(NAME).folder.iterdir()}
    assert left == {"record.json", "lock", "pid", "log", "exit_code"}


async def test_a_process_that_ignores_sigterm_is_killed_after_the_grace(stand_in: StandIn) -> None:
    """Asked again once the grace is over, deletion doesn't ask any more."""
    launcher = stand_in.launcher()
    stubborn = launch("stubborn")
    seen = await launcher.create(stubborn, HERE)
    await until(lambda: stand_in.starts())
    await launcher.delete(seen)
    assert (await only(launcher)).is_live
    mark = stand_in.record(seen.name).folder / "deleted"
    os.utime(mark, (time.time(), time.time() - GRACE_SECONDS))
    await launcher.delete(seen)
    await until(lambda: not stand_in.live())
    assert (await only(launcher)).reason == Reason.DELETED


async def test_a_killed_process_is_seen_as_killed(stand_in: StandIn) -> None:
    """Nobody was left to write its exit code."""
    launcher = stand_in.launcher()
    await launcher.create(ONE, HERE)
    await until(lambda: stand_in.starts())
    stand_in.record(NAME).signal(signal.SIGKILL)
    await until(lambda: not stand_in.live())
    seen = await only(launcher)
    assert (seen.phase, seen.exit_code, seen.reason) == (Phase.FAILED, None, Reason.KILLED)


async def test_an_analyzer_that_lost_its_shell_still_lives_and_can_be_deleted(stand_in: StandIn) -> None:
    """Life is the lock that both inherited, not the first process."""
    launcher = stand_in.launcher()
    seen = await launcher.create(ONE, HERE)
    await until(lambda: stand_in.starts())
    os.kill(int((stand_in.record(NAME).folder / "pid").read_text()), signal.SIGKILL)
    assert (await only(launcher)).is_live
    await launcher.delete(seen)
    await until(lambda: not stand_in.live())


async def test_a_pid_that_belongs_to_somebody_else_by_now_is_left_alone(stand_in: StandIn) -> None:
    """A record whose lock is free is over, whoever has its number."""
    launcher = stand_in.launcher()
    seen = await launcher.create(ONE, HERE)
    stand_in.finish(NAME, 0)
    await until(lambda: stand_in.starts() and not stand_in.live())
    (stand_in.record(NAME).folder / "pid").write_text(str(os.getpid()))
    await launcher.delete(seen)
    assert (await only(launcher)).phase == Phase.SUCCEEDED


async def test_a_record_that_nothing_was_started_for_has_failed(stand_in: StandIn) -> None:
    """Who creates it holds the lock; when it dies before the start, the lock is free and there is no pid."""
    launcher = stand_in.launcher()
    await launcher.create(ONE, HERE)
    stand_in.finish(NAME, 0)
    await until(lambda: stand_in.starts() and not stand_in.live())
    for file in ("pid", "exit_code"):
        (stand_in.record(NAME).folder / file).unlink()
    seen = await only(stand_in.launcher())
    assert (seen.phase, seen.reason) == (Phase.FAILED, Reason.NEVER_STARTED)


async def test_a_torn_record_makes_the_list_unknown(stand_in: StandIn) -> None:
    """It is not for the launcher to guess what it said."""
    await stand_in.launcher().create(ONE, HERE)
    (stand_in.record(NAME).folder / "record.json").write_text("{")
    with pytest.raises(Unknown):
        await stand_in.launcher().list()


async def test_drafts_of_the_dead_are_swept(stand_in: StandIn) -> None:
    """A draft holds a token; it doesn't lie around. One whose maker lives is left to it."""
    stand_in.launcher()
    for maker in ("dead", "alive"):
        (stand_in.state / "launches" / f"{DRAFT}{maker}").mkdir()
    with Record(stand_in.state / "launches" / f"{DRAFT}alive").lock():
        assert await stand_in.launcher().list() == []
        assert os.listdir(stand_in.state / "launches") == [f"{DRAFT}alive"]


async def test_a_job_id_is_never_a_path(stand_in: StandIn, tmp_path: Path) -> None:
    """Names follow the cluster's rule, so that a `jobs` that was broken into writes nowhere else."""
    with pytest.raises(Rejected, match="is no valid name"):
        await stand_in.launcher().create(launch("x/../../../out"), HERE)
    assert "out" not in os.listdir(tmp_path)
