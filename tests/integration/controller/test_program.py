"""The real program, over real processes: started, stopped, and killed at every numbered point."""

import asyncio
import contextlib
import functools
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from crease.analysis.v1 import launch_pb2 as wire
from services.controller.core.failpoints import IN_KUBERNETES, CrashPoint
from services.controller.core.launcher import name_of
from testing.fakes.controller import FakeJobs, StandIn, controller_env, serving, until
from testing.servers.programs import Program


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[StandIn]:
    stand_in = StandIn(tmp_path)
    yield stand_in
    stand_in.end_all()


@contextlib.asynccontextmanager
async def controller(folder: Path, stand_in: StandIn, jobs: FakeJobs, **env: str) -> AsyncIterator[Program]:
    """A running controller with its `jobs`."""
    async with serving(jobs) as port:
        program = Program("controller", controller_env(folder, stand_in, port) | env, folder / "controller.log")
        try:
            await asyncio.to_thread(program.start)
            yield program
        finally:
            program.kill()


def running_name(jobs: FakeJobs, stand_in: StandIn, job_id: str) -> str:
    """The name of the job's running and confirmed workload; empty if there is none."""
    names = [name_of(one) for one in jobs.open_launches() if one.job_id == job_id and one.kubernetes_uid]
    return names[0] if names and names[0] in stand_in.live() and names[0] in stand_in.starts() else ""


async def test_health_answers(tmp_path: Path, stand_in: StandIn) -> None:
    """As on every server of Crease."""
    async with (
        controller(tmp_path, stand_in, FakeJobs()) as program,
        grpc.aio.insecure_channel(program.endpoint) as channel,
    ):
        reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.slow
async def test_sigterm_ends_it_with_0_and_its_analyses_continue(tmp_path: Path, stand_in: StandIn) -> None:
    """The next controller adopts them: none starts twice, and their launches are ended."""
    jobs = FakeJobs()
    async with controller(tmp_path, stand_in, jobs) as program:
        jobs.queue("one")
        await until(lambda: running_name(jobs, stand_in, "one"))
        process = program.process
        await asyncio.to_thread(program.stop)
        assert process is not None
        assert process.returncode == 0
        assert stand_in.live() == ["analysis-one-1"]
        stand_in.finish("analysis-one-1", 65)
        await until(lambda: not stand_in.live())
        await asyncio.to_thread(program.start)
        await until(lambda: not jobs.open_launches())
    assert jobs.of("one")[0].ending == wire.ENDING_BAD_INPUT
    assert stand_in.starts() == ["analysis-one-1"]


async def test_it_starts_while_jobs_is_unavailable(tmp_path: Path, stand_in: StandIn) -> None:
    """Health answers, and the first job starts once `jobs` is available."""
    jobs = FakeJobs()
    async with serving(jobs) as port:
        pass
    program = Program("controller", controller_env(tmp_path, stand_in, port), tmp_path / "controller.log")
    try:
        await asyncio.to_thread(program.start)
        async with serving(jobs, port):
            jobs.queue("one")
            await until(lambda: running_name(jobs, stand_in, "one"))
    finally:
        program.kill()


def test_a_missing_setting_names_itself() -> None:
    """Exit code 78, one line each."""
    ended = subprocess.run(
        [sys.executable, "-m", "services.controller"], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True
    )
    assert ended.returncode == 78
    for name in ("JOBS_ENDPOINT", "UPLOAD_ENDPOINT", "TOKEN_FILE", "STATE_FOLDER", "ISSUER_FOLDER"):
        assert f"CREASE_{name}: " in ended.stderr


async def restart(program: Program, deaths: list[int]) -> None:
    """Restarts the program whenever it dies, without the crash, as Kubernetes or the laptop does."""
    while True:
        died = program.process
        assert died is not None
        await until(functools.partial(has_ended, died), seconds=60)
        program.env = {**program.env, "CREASE_CRASH_AT": ""}
        await asyncio.to_thread(program.start)
        # Appended last, so that after a death the test finds the next process serving.
        deaths.append(died.returncode)


def has_ended(process: "subprocess.Popen[bytes]") -> bool:
    return process.poll() is not None


@pytest.mark.slow
@pytest.mark.parametrize("point", sorted(set(CrashPoint) - IN_KUBERNETES), ids=lambda point: point.name)
async def test_killed_at_any_point_it_loses_no_job_and_runs_none_twice(
    tmp_path: Path, stand_in: StandIn, point: CrashPoint
) -> None:
    """The scenario passes every point: two jobs start, one fails and is launched again, one is cancelled."""
    jobs, deaths = FakeJobs(), list[int]()
    async with controller(tmp_path, stand_in, jobs, CREASE_CRASH_AT=point.name) as program:
        restarter = asyncio.create_task(restart(program, deaths))
        jobs.queue("one")
        jobs.queue("two")
        await until(lambda: running_name(jobs, stand_in, "one") and running_name(jobs, stand_in, "two"))
        broken = running_name(jobs, stand_in, "one")
        stand_in.finish(broken, 70)
        await until(lambda: running_name(jobs, stand_in, "one") not in ("", broken))
        jobs.cancel("two")
        await until(lambda: stand_in.live() == [running_name(jobs, stand_in, "one")])
        jobs.submit("one")
        stand_in.finish(stand_in.live()[0], 0)
        await until(lambda: deaths and not stand_in.live())
        restarter.cancel()
    assert deaths == [-9]
    assert set(Counter(stand_in.starts()).values()) == {1}
    assert jobs.open_launches() == jobs.queued == []
    assert jobs.launches[broken].ending == wire.ENDING_UNKNOWN
    assert [one.ending for one in jobs.of("one")][-1] == wire.ENDING_SUCCEEDED
    assert [one.ending for one in jobs.of("two")][-1] == wire.ENDING_CANCELLED
