"""Replicas of `jobs` stop and start again under their watchers; clients lose nothing."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from crease.events.v1.event_pb2 import Event, WatchEventsRequest
from crease.jobs.v1 import job_pb2
from crease_client import aio
from testing.servers.programs import Laptop, Program, running
from tests.integration.jobs.test_lifecycle import Road
from tests.integration.jobs.test_outbox import sql

# 100 watchers of jobs and 100 of events; one caller may have 100 streams in a replica.
JOBS, WATCHERS_OF_A_JOB = 25, 4
READERS, SUBSCRIPTIONS, SHARERS = 80, 4, 5
# Further jobs, made while a replica restarts.
MEANWHILE = 15


class Scene:
    """Two replicas on one database, as clients reach them: at the first address that answers."""

    def __init__(self, one: Program, other: Program, laptop: Laptop) -> None:
        self.replicas = (one, other)
        self.roads = (Road(one.endpoint, laptop), Road(other.endpoint, laptop))
        self.targets = [f"ipv4:{one.endpoint},{other.endpoint}", f"ipv4:{other.endpoint},{one.endpoint}"]

    def restart(self, number: int) -> None:
        self.replicas[number].stop()
        self.replicas[number].start()


@pytest.fixture
def scene(jobs_env: dict[str, str], laptop: Laptop, tmp_path: Path) -> Iterator[Scene]:
    with (
        running(Program("jobs", jobs_env, tmp_path / "one.log")) as one,
        running(Program("jobs", jobs_env, tmp_path / "other.log")) as other,
    ):
        yield Scene(one, other, laptop)


class Watchers:
    """The clients, and what each has read."""

    def __init__(self, scene: Scene, laptop: Laptop, stack: contextlib.AsyncExitStack) -> None:
        self._scene = scene
        self._laptop = laptop
        self._stack = stack
        self.read: list[list[str]] = [[] for _ in range(READERS)]
        self.shared: list[list[str]] = [[] for _ in range(SUBSCRIPTIONS)]

    async def client(self, number: int, metadata: tuple[tuple[str, str], ...]) -> aio.Client:
        """A client of one caller; every other one prefers the other replica."""
        token = metadata[0][1].removeprefix("Bearer ")
        target = self._scene.targets[number % 2]
        return await self._stack.enter_async_context(aio.connect(jobs=target, upload=target, token=lambda: token))

    async def reads(self, number: int, client: aio.Client, last: str) -> None:
        """Reads all events with a position of its own, to the end of the job `last`."""
        async for event in client.watch_events(WatchEventsRequest(after="0-0")):
            self.read[number].append(event.id)
            if is_end(event, last):
                return

    async def shares(self, number: int, client: aio.Client) -> None:
        """Reads a share of a subscription's events, until it is cancelled."""
        name = f"reports-{number}"
        async for event in client.watch_events(WatchEventsRequest(after="0-0", subscription=name)):
            self.shared[number].append(event.id)
            await client.acknowledge(name, [event])


def is_end(event: Event, job_id: str) -> bool:
    return (event.subject, event.type) == (job_id, "JobCancelled")


async def watches(client: aio.Client, job_id: str) -> list[int]:
    """The statuses of a job, to its end."""
    return [job.status async for job in client.watch(job_id)]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  # the condition changes in many tasks
        await asyncio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_every_watcher_reads_everything_through_a_rolling_restart(scene: Scene, laptop: Laptop) -> None:
    """Each reader gets each event once and in order, each subscription each event, each watcher the end of its job.

    Jobs are made and cancelled before, while and after the replicas restart, at the one that serves.
    """
    one, other = scene.roads
    jobs = [one.queued() for _ in range(JOBS)]
    last = other.created()
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(500):
        watchers = Watchers(scene, laptop, stack)
        people = [await watchers.client(number, laptop.person("coach-1")) for number in range(2)]
        services = [await watchers.client(number, laptop.service("everything")) for number in range(2)]
        listeners = [await watchers.client(number, laptop.service("listener")) for number in range(2)]
        async with asyncio.TaskGroup() as group:
            ended = [
                group.create_task(watches(people[number % 2], job_id))
                for job_id in jobs
                for number in range(WATCHERS_OF_A_JOB)
            ]
            for number in range(READERS):
                group.create_task(watchers.reads(number, services[number % 2], last))
            sharing = [
                group.create_task(watchers.shares(number, listeners[sharer % 2]))
                for number in range(SUBSCRIPTIONS)
                for sharer in range(SHARERS)
            ]
            await until(lambda: all(watchers.read) and all(watchers.shared))
            for restarted, road in ((0, other), (1, one)):
                restart = asyncio.create_task(asyncio.to_thread(scene.restart, restarted))
                more = [await asyncio.to_thread(road.queued) for _ in range(MEANWHILE)]
                for job_id in (*more, *jobs[restarted::2]):
                    request = job_pb2.CancelJobRequest(job_id=job_id)
                    await asyncio.to_thread(road.jobs.CancelJob, request, metadata=road.coach)
                await restart
            await asyncio.to_thread(one.jobs.CancelJob, job_pb2.CancelJobRequest(job_id=last), metadata=one.coach)
            everything = [event.id for event in events(one, last)]
            await until(lambda: all(set(read) == set(everything) for read in watchers.shared))
            for task in sharing:
                task.cancel()
    assert len(everything) == 3 * (JOBS + 2 * MEANWHILE) + 2
    assert watchers.read == [everything] * READERS
    assert {statuses[-1] for statuses in (task.result() for task in ended)} == {job_pb2.JOB_STATUS_CANCELLED}


def events(road: Road, last: str) -> Iterator[Event]:
    """All events, to the end of the job `last`."""
    request = WatchEventsRequest(after="0-0")
    stream = road.events.WatchEvents(request, metadata=road.controller, timeout=60)
    for event in stream:
        yield event
        if is_end(event, last):
            stream.cancel()
            return


def test_a_server_that_stops_ends_its_watches_without_an_error(
    jobs_env: dict[str, str], database_url: str, laptop: Laptop, tmp_path: Path
) -> None:
    """What a stream of a subscription did not acknowledge is free for the next stream at once, not after its lease."""
    with running(Program("jobs", jobs_env, tmp_path / "log")) as program:
        road = Road(program.endpoint, laptop)
        job_id = road.created()
        request = WatchEventsRequest(after="0-0", subscription="reports")
        streams: list[Any] = [
            road.events.WatchEvents(request, metadata=laptop.service(), timeout=60),
            road.jobs.WatchJob(job_pb2.WatchJobRequest(job_id=job_id), metadata=road.coach, timeout=60),
        ]
        for stream in streams:
            next(stream)
        program.stop()
        for stream in streams:
            list(stream)
            assert stream.code() == grpc.StatusCode.OK
        assert sql(database_url, "SELECT until::text FROM deliveries") == [("-infinity",)]
