"""The controller against a `jobs` behind a real server and a cluster in memory."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc.aio
import structlog

from crease.analysis.v1 import launch_pb2 as wire
from services.controller.core.jobs_client import Jobs
from services.controller.core.launcher import Placement, Unknown, labels_of, name_of
from services.controller.core.reconciler import Reconciler
from services.controller.settings import LocalSettings
from testing.fakes.controller import HERE, FakeJobs, FakeLauncher, launch, serving, until
from testing.servers.programs import free_port

NEVER_SECONDS = 3600.0


@dataclass
class Scene:
    """A controller at work, and both of its sides."""

    jobs: FakeJobs
    cluster: FakeLauncher
    log: list[Any]
    port: int

    def said(self, event: str) -> list[Any]:
        return [line for line in self.log if line["event"] == event]

    def open(self, name: str) -> wire.Launch | None:
        return next((one for one in self.jobs.open_launches() if name_of(one) == name), None)

    async def confirmed(self, name: str) -> None:
        await until(lambda: (one := self.open(name)) and one.kubernetes_uid)


@contextlib.asynccontextmanager
async def controlling(
    folder: Path, *, serve: bool = True, capacity: int = 2, tick: float = 0.05, linger: float = 0
) -> AsyncIterator[Scene]:
    """A running controller; with `serve` false, its `jobs` is away."""
    scene = Scene(FakeJobs(), FakeLauncher(), [], free_port())
    (folder / "token").write_text("a token")
    settings = LocalSettings(
        jobs_endpoint="-", upload_endpoint="-", token_file=folder / "token", state_folder=folder, issuer_folder=folder,
        capacity=capacity, tick_seconds=tick, linger_seconds=linger, orphan_grace_seconds=linger,
    )  # fmt: skip
    capture = structlog.testing.LogCapture()
    scene.log = capture.entries
    # What another test in this process has configured filters nothing here.
    log = structlog.wrap_logger(None, processors=[capture], wrapper_class=structlog.BoundLogger)
    backend = serving(scene.jobs, scene.port) if serve else contextlib.nullcontext()
    options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 100)]
    async with backend, grpc.aio.insecure_channel(f"127.0.0.1:{scene.port}", options=options) as channel:
        reconciler = Reconciler(
            scene.cluster, Jobs(channel, settings.token_file, "laptop"), log,
            limits=settings.limits, tick_seconds=settings.tick_seconds, parallel=settings.parallel,
        )  # fmt: skip
        running = asyncio.create_task(reconciler.run())
        try:
            yield scene
        finally:
            reconciler.stop()
            await running


async def test_a_queued_job_runs_and_is_confirmed(tmp_path: Path) -> None:
    """`jobs` learns the uid, where it was placed and that it is at work."""
    async with controlling(tmp_path) as scene:
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        assert scene.open("analysis-one-1").kubernetes_uid == scene.cluster.things["analysis-one-1"].uid


async def test_an_event_wakes_it(tmp_path: Path) -> None:
    """With a tick that never comes, a job still starts: the event is enough."""
    async with controlling(tmp_path, tick=NEVER_SECONDS) as scene:
        await until(lambda: scene.jobs.watched)
        # The stream is there once an event has come through; the ones before its start are not sent.
        scene.jobs.queue("one")
        await until(lambda: scene.cluster.live() == ["analysis-one-1"])


async def test_a_queued_job_starts_without_a_look_at_all_others(tmp_path: Path) -> None:
    """However many are open, they are not listed for it; nor is there room for more than may run at once."""
    async with controlling(tmp_path, tick=NEVER_SECONDS) as scene:
        await until(lambda: scene.jobs.watched and scene.said("reconcile"))
        for job_id in ("one", "two"):
            scene.jobs.queue(job_id)
            await scene.confirmed(f"analysis-{job_id}-1")
        assert scene.jobs.lists == 1
        scene.jobs.queue("three")
        await until(lambda: scene.jobs.lists == 2)
        assert scene.jobs.queued == ["three"]


async def test_a_row_without_an_event_is_found_by_the_tick(tmp_path: Path) -> None:
    """The row is the truth: an operator's UPDATE sends no event."""
    async with controlling(tmp_path) as scene:
        scene.jobs.queued.append("one")
        await until(lambda: scene.cluster.live() == ["analysis-one-1"])


async def test_a_broken_stream_is_resumed_where_it_broke(tmp_path: Path) -> None:
    """No event between two streams is missed."""
    async with controlling(tmp_path, tick=NEVER_SECONDS) as scene:
        # From then on only an event can start something.
        await until(lambda: scene.jobs.watched and scene.said("reconcile"))
        scene.jobs.queue("one")
        await until(lambda: scene.cluster.live() == ["analysis-one-1"])
        scene.jobs.hang_up()
        scene.jobs.queue("two")
        await until(lambda: "analysis-two-1" in scene.cluster.live())
        assert scene.jobs.watched == ["", "1"]


async def test_jobs_being_away_is_one_line_and_no_end(tmp_path: Path) -> None:
    """It keeps going, says so once, and says when it is back."""
    async with controlling(tmp_path, serve=False) as scene:
        await until(lambda: scene.said("away"))
        scene.jobs.queue("one")
        async with serving(scene.jobs, scene.port):
            await scene.confirmed("analysis-one-1")
            await until(lambda: scene.said("back"))
            assert [line["what"] for line in scene.said("back")] == ["jobs or the cluster"]
        assert 1 <= len([line for line in scene.said("away") if line["what"] == "jobs or the cluster"]) <= 3


async def test_an_unreadable_token_is_an_outage(tmp_path: Path) -> None:
    """The file may be back in a moment, as when the cluster renews it."""
    async with controlling(tmp_path) as scene:
        (tmp_path / "token").rename(tmp_path / "elsewhere")
        await until(lambda: scene.said("away"))
        scene.jobs.queue("one")
        (tmp_path / "elsewhere").rename(tmp_path / "token")
        await scene.confirmed("analysis-one-1")


async def test_a_cluster_that_gives_no_answer_changes_nothing(tmp_path: Path) -> None:
    """Unknown is not empty: what runs is not taken for lost."""
    async with controlling(tmp_path) as scene:
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        scene.cluster.is_cut = True
        await until(lambda: scene.said("away"))
        scene.cluster.is_cut = False
        await until(lambda: scene.said("back"))
        assert scene.open("analysis-one-1")
        assert scene.cluster.starts == ["analysis-one-1"]


async def test_a_launch_that_the_cluster_cannot_answer_for_stops_no_other(tmp_path: Path) -> None:
    """The others start, and it is tried again under the same name."""
    async with controlling(tmp_path) as scene:

        async def create(asked: wire.Launch, placement: Placement) -> Any:
            if asked.job_id == "one" and not scene.said("away"):
                raise Unknown("No answer in time")
            return await FakeLauncher.create(scene.cluster, asked, placement)

        scene.cluster.create = create  # type: ignore[method-assign]
        scene.jobs.queue("one")
        scene.jobs.queue("two")
        await scene.confirmed("analysis-two-1")
        await scene.confirmed("analysis-one-1")
        await until(lambda: scene.said("back"))


async def test_no_more_run_at_once_than_allowed(tmp_path: Path) -> None:
    """The third waits until the first has ended, and then runs."""
    async with controlling(tmp_path, capacity=2) as scene:
        for job_id in ("one", "two", "three"):
            scene.jobs.queue(job_id)
        await scene.confirmed("analysis-two-1")
        assert scene.jobs.queued == ["three"]
        scene.jobs.submit("one")
        scene.cluster.finish("analysis-one-1", 0)
        await scene.confirmed("analysis-three-1")
        assert scene.cluster.live() == ["analysis-two-1", "analysis-three-1"]


async def test_a_bad_video_ends_its_launch_with_a_sentence(tmp_path: Path) -> None:
    """`jobs` gets the class and what was seen."""
    async with controlling(tmp_path) as scene:
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        scene.cluster.finish("analysis-one-1", 65)
        await until(lambda: not scene.jobs.open_launches())
        (ended,) = scene.jobs.of("one")
        assert ended.ending == wire.ENDING_BAD_INPUT
        assert ended.ending_message == "The video cannot be analysed (exit code 65)"


async def test_what_vanished_is_launched_again_under_the_next_number(tmp_path: Path) -> None:
    """A confirmed launch whose thing is gone is lost, not forgotten."""
    async with controlling(tmp_path) as scene:
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        del scene.cluster.things["analysis-one-1"]
        await scene.confirmed("analysis-one-2")
        assert scene.jobs.of("one")[0].ending == wire.ENDING_DISRUPTION
        assert scene.cluster.starts == ["analysis-one-1", "analysis-one-2"]


async def test_what_runs_without_an_open_launch_is_deleted(tmp_path: Path) -> None:
    """A cancelled job's analysis, and one that nobody ever opened."""
    async with controlling(tmp_path) as scene:
        await scene.cluster.create(launch("stray"), HERE)
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        scene.jobs.cancel("one")
        await until(lambda: not scene.cluster.live())
        assert scene.jobs.of("one")[0].ending == wire.ENDING_CANCELLED


async def test_who_has_submitted_the_result_may_end_by_itself(tmp_path: Path) -> None:
    """Its launch ended with the result; to delete it now would only cost its log."""
    async with controlling(tmp_path, capacity=1, linger=NEVER_SECONDS) as scene:
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        scene.jobs.submit("one")
        await until(lambda looks=scene.jobs.lists: scene.jobs.lists > looks + 2)
        assert scene.cluster.live() == ["analysis-one-1"]


async def test_a_taken_name_is_an_alarm_and_ends_the_launch(tmp_path: Path) -> None:
    """The next number has a name of its own."""
    async with controlling(tmp_path) as scene:
        other = await scene.cluster.create(launch("one"), HERE)
        scene.cluster.things["analysis-one-1"] = replace(other, labels=labels_of(launch("two")))
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-2")


async def test_all_pages_of_launches_are_read(tmp_path: Path) -> None:
    """Half a list would look like launches that are gone, and what runs for them would be deleted."""
    async with controlling(tmp_path, capacity=5) as scene:
        scene.jobs.page_size = 2
        for n in range(5):
            scene.jobs.queue(f"j{n}")
        for n in range(5):
            await scene.confirmed(f"analysis-j{n}-1")
        assert len(scene.cluster.live()) == 5
        assert not scene.said("delete")


async def test_a_refused_confirmation_is_left_to_the_next_look(tmp_path: Path) -> None:
    """A launch that was cancelled while it was started: what runs for it is deleted."""
    async with controlling(tmp_path) as scene:

        async def create(asked: wire.Launch, placement: Placement) -> Any:
            scene.jobs.cancel(asked.job_id)
            return await FakeLauncher.create(scene.cluster, asked, placement)

        scene.cluster.create = create  # type: ignore[method-assign]
        scene.jobs.queue("one")
        await until(lambda: any(line.get("outcome") == "refused" for line in scene.log))
        await until(lambda: scene.cluster.starts and not scene.cluster.live())


async def test_what_is_being_cancelled_is_deleted_without_lingering_and_then_said_to_be_gone(tmp_path: Path) -> None:
    """The launch stays open until nothing lives under its name."""
    async with controlling(tmp_path, linger=NEVER_SECONDS) as scene:
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        scene.jobs.ask_to_cancel("one")
        await until(lambda: not scene.jobs.open_launches())
        assert scene.cluster.live() == []
        [launch] = scene.jobs.of("one")
        assert launch.ending == wire.ENDING_CANCELLED
        # The fake knows of the end before the controller has its answer and writes it down.
        await until(lambda: any(line["event"] == "end" for line in scene.log))
        assert [line["event"] for line in scene.log if line["event"] in ("delete", "end")] == ["delete", "end"]
