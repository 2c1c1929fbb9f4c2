"""The controller against a `jobs` behind a real server and a cluster in memory."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import structlog

from crease.analysis.v1 import launch_pb2 as wire
from services.controller.core import first_seen
from services.controller.core.jobs_client import Jobs
from services.controller.core.launcher import Observed, Placement, Unknown, labels_of, name_of
from services.controller.core.reconciler import Reconciler
from services.controller.settings import LocalSettings
from testing.fakes.controller import HERE, Elapsed, FakeJobs, FakeLauncher, launch, rounds, serving, until
from testing.servers.programs import free_port

NEVER_SECONDS = 3600.0


@dataclass
class Scene:
    """A running controller, its `jobs` and its cluster."""

    jobs: FakeJobs
    cluster: FakeLauncher
    log: list[Any]
    port: int

    def logged(self, event: str) -> list[Any]:
        return [line for line in self.log if line["event"] == event]

    def open(self, name: str) -> wire.Launch | None:
        return next((one for one in self.jobs.open_launches() if name_of(one) == name), None)

    async def confirmed(self, name: str) -> None:
        await until(lambda: (one := self.open(name)) and one.kubernetes_uid)


@contextlib.asynccontextmanager
async def controlling(
    folder: Path, *, serve: bool = True, capacity: int = 2, tick: float = 0.05, linger: float = 0
) -> AsyncIterator[Scene]:
    """A running controller; without `serve`, its `jobs` is unavailable."""
    scene = Scene(FakeJobs(), FakeLauncher(), [], free_port())
    (folder / "token").write_text("a token")
    settings = LocalSettings.model_validate({
        "jobs_endpoint": "-", "upload_endpoint": "-", "token_file": folder / "token", "state_folder": folder,
        "issuer_folder": folder, "capacity": capacity, "tick_seconds": tick, "linger_seconds": linger,
        "orphan_grace_seconds": linger,
    })  # fmt: skip
    capture = structlog.testing.LogCapture()
    scene.log = capture.entries
    # Its own wrapper class: another test in this process may have configured a filter.
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
    """`jobs` gets the uid and the placement."""
    async with controlling(tmp_path) as scene:
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        confirmed = scene.open("analysis-one-1")
        assert confirmed
        assert confirmed.kubernetes_uid == scene.cluster.workloads["analysis-one-1"].uid


async def test_an_event_wakes_it(tmp_path: Path) -> None:
    """Without a tick a job starts: the event is enough."""
    async with controlling(tmp_path, tick=NEVER_SECONDS) as scene:
        await until(lambda: scene.jobs.watched)
        # The stream exists now; earlier events are not sent.
        scene.jobs.queue("one")
        await until(lambda: scene.cluster.live() == ["analysis-one-1"])


async def test_a_queued_job_starts_without_a_whole_round(tmp_path: Path) -> None:
    """The open launches are not listed for it. Beyond the capacity the job waits for a whole round."""
    async with controlling(tmp_path, tick=NEVER_SECONDS) as scene:
        await until(lambda: scene.jobs.watched and scene.logged("reconcile"))
        for job_id in ("one", "two"):
            scene.jobs.queue(job_id)
            await scene.confirmed(f"analysis-{job_id}-1")
        assert scene.jobs.lists == 1
        scene.jobs.queue("three")
        await until(lambda: scene.jobs.lists == 2)
        assert scene.jobs.queued == ["three"]


async def test_a_row_without_an_event_is_found_by_the_tick(tmp_path: Path) -> None:
    """An operator's UPDATE sends no event."""
    async with controlling(tmp_path) as scene:
        scene.jobs.queued.append("one")
        await until(lambda: scene.cluster.live() == ["analysis-one-1"])


async def test_a_broken_stream_is_resumed_where_it_broke(tmp_path: Path) -> None:
    """No event between the two streams is missed."""
    async with controlling(tmp_path, tick=NEVER_SECONDS) as scene:
        # From now on only an event can start a job.
        await until(lambda: scene.jobs.watched and scene.logged("reconcile"))
        scene.jobs.queue("one")
        await until(lambda: scene.cluster.live() == ["analysis-one-1"])
        scene.jobs.hang_up()
        scene.jobs.queue("two")
        await until(lambda: "analysis-two-1" in scene.cluster.live())
        assert scene.jobs.watched == ["", "1"]


async def test_a_position_that_is_no_longer_kept_is_given_up_with_one_warning(tmp_path: Path) -> None:
    """A whole round finds what the lost events were about; then the newest events wake the controller again."""
    async with controlling(tmp_path, tick=NEVER_SECONDS) as scene:
        await until(lambda: scene.jobs.watched and scene.logged("reconcile"))
        scene.jobs.queue("one")
        await until(lambda: scene.cluster.live() == ["analysis-one-1"])
        lists = scene.jobs.lists
        scene.jobs.events += scene.jobs.events * 9
        scene.jobs.purged = 10
        scene.jobs.hang_up()
        await until(lambda: scene.jobs.watched == ["", "1", ""])
        await until(lambda: scene.jobs.lists > lists)
        scene.jobs.queue("two")
        await until(lambda: "analysis-two-1" in scene.cluster.live())
        [warning] = [line for line in scene.logged("unavailable") if line["dependency"] == "events"]
        assert "OUT_OF_RANGE" in warning["error"]


async def test_a_stream_that_ends_with_its_token_is_no_outage(tmp_path: Path) -> None:
    """The controller opens it again where it ended, by the newest token of its file."""
    async with controlling(tmp_path, tick=NEVER_SECONDS) as scene:
        await until(lambda: scene.jobs.watched and scene.logged("reconcile"))
        for number in (1, 2):
            scene.jobs.queue(f"job{number}")
            await until(lambda name=f"analysis-job{number}-1": name in scene.cluster.live())  # type: ignore[misc]
            scene.jobs.expire_tokens()
            await until(lambda number=number: len(scene.jobs.watched) == number + 1)  # type: ignore[misc]
        assert scene.jobs.watched == ["", "1", "2"]
        assert scene.logged("unavailable") == []


async def test_an_outage_of_jobs_is_logged_once(tmp_path: Path) -> None:
    """The controller keeps running, and logs the recovery."""
    async with controlling(tmp_path, serve=False) as scene:
        await until(lambda: scene.logged("unavailable"))
        scene.jobs.queue("one")
        async with serving(scene.jobs, scene.port):
            await scene.confirmed("analysis-one-1")
            await until(lambda: scene.logged("recovered"))
            assert [line["dependency"] for line in scene.logged("recovered")] == ["jobs or the cluster"]
        assert (
            1 <= len([line for line in scene.logged("unavailable") if line["dependency"] == "jobs or the cluster"]) <= 3
        )


async def test_an_unreadable_token_is_an_outage(tmp_path: Path) -> None:
    """The file may reappear, as when the cluster renews it."""
    async with controlling(tmp_path) as scene:
        (tmp_path / "token").rename(tmp_path / "elsewhere")
        await until(lambda: scene.logged("unavailable"))
        scene.jobs.queue("one")
        (tmp_path / "elsewhere").rename(tmp_path / "token")
        await scene.confirmed("analysis-one-1")


async def test_an_unavailable_cluster_changes_nothing(tmp_path: Path) -> None:
    """Without an answer no launch is lost."""
    async with controlling(tmp_path) as scene:
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        scene.cluster.is_cut = True
        await until(lambda: scene.logged("unavailable"))
        scene.cluster.is_cut = False
        await until(lambda: scene.logged("recovered"))
        assert scene.open("analysis-one-1")
        assert scene.cluster.starts == ["analysis-one-1"]


async def test_an_unanswered_creation_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others start, and it is repeated under the same name."""
    async with controlling(tmp_path) as scene:

        async def create(wanted: wire.Launch, placement: Placement) -> Observed:
            if wanted.job_id == "one" and not scene.logged("unavailable"):
                raise Unknown("No answer in time")
            return await FakeLauncher.create(scene.cluster, wanted, placement)

        monkeypatch.setattr(scene.cluster, "create", create)
        scene.jobs.queue("one")
        scene.jobs.queue("two")
        await scene.confirmed("analysis-two-1")
        await scene.confirmed("analysis-one-1")
        await until(lambda: scene.logged("recovered"))


async def test_no_more_run_than_the_capacity(tmp_path: Path) -> None:
    """The third job starts after the first has ended."""
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
    """`jobs` gets the class and the sentence."""
    async with controlling(tmp_path) as scene:
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        scene.cluster.finish("analysis-one-1", 65)
        await until(lambda: not scene.jobs.open_launches())
        (ended,) = scene.jobs.of("one")
        assert ended.ending == wire.ENDING_BAD_INPUT
        assert ended.ending_message == "The video cannot be analysed (exit code 65)"


async def test_a_lost_workload_is_launched_again_under_the_next_number(tmp_path: Path) -> None:
    """A confirmed launch without a workload ends as lost."""
    async with controlling(tmp_path) as scene:
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        del scene.cluster.workloads["analysis-one-1"]
        await scene.confirmed("analysis-one-2")
        assert scene.jobs.of("one")[0].ending == wire.ENDING_DISRUPTION
        assert scene.cluster.starts == ["analysis-one-1", "analysis-one-2"]


async def test_a_ghost_is_deleted(tmp_path: Path) -> None:
    """After a cancellation, and if its launch was never opened."""
    async with controlling(tmp_path) as scene:
        await scene.cluster.create(launch("ghost"), HERE)
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        scene.jobs.cancel("one")
        await until(lambda: not scene.cluster.live())
        assert scene.jobs.of("one")[0].ending == wire.ENDING_CANCELLED


async def test_a_ghost_is_deleted_though_the_clock_leapt_when_it_was_first_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour ahead for a moment, as a clock that is set."""
    elapsed = Elapsed()
    monkeypatch.setattr(first_seen, "time", elapsed)
    async with controlling(tmp_path, linger=5) as scene:
        scene.cluster.ahead = timedelta(hours=1)
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        scene.jobs.cancel("one")
        await rounds(scene.jobs, 2)
        assert scene.cluster.live()
        scene.cluster.ahead = timedelta()
        elapsed.seconds += 10
        await until(lambda: not scene.cluster.live())


async def test_an_analyzer_with_its_result_submitted_may_end_by_itself(tmp_path: Path) -> None:
    """The launch ended with the result; a deletion would only cost the log."""
    async with controlling(tmp_path, capacity=1, linger=NEVER_SECONDS) as scene:
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        scene.jobs.submit("one")
        await rounds(scene.jobs, 2)
        assert scene.cluster.live() == ["analysis-one-1"]


async def test_a_taken_name_ends_the_launch(tmp_path: Path) -> None:
    """The next launch has another name."""
    async with controlling(tmp_path) as scene:
        other = await scene.cluster.create(launch("one"), HERE)
        scene.cluster.workloads["analysis-one-1"] = replace(other, labels=labels_of(launch("two")))
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-2")


async def test_all_pages_of_launches_are_read(tmp_path: Path) -> None:
    """With a part of the list, the workloads of the other launches would be deleted."""
    async with controlling(tmp_path, capacity=5) as scene:
        scene.jobs.page_size = 2
        for n in range(5):
            scene.jobs.queue(f"j{n}")
        for n in range(5):
            await scene.confirmed(f"analysis-j{n}-1")
        assert len(scene.cluster.live()) == 5
        assert not scene.logged("delete")


async def test_a_refused_confirmation_is_left_to_the_next_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The launch was cancelled during the creation: its workload is deleted."""
    async with controlling(tmp_path) as scene:

        async def create(wanted: wire.Launch, placement: Placement) -> Observed:
            scene.jobs.cancel(wanted.job_id)
            return await FakeLauncher.create(scene.cluster, wanted, placement)

        monkeypatch.setattr(scene.cluster, "create", create)
        scene.jobs.queue("one")
        await until(lambda: any(line.get("outcome") == "refused" for line in scene.log))
        await until(lambda: scene.cluster.starts and not scene.cluster.live())


async def test_a_cancelled_workload_is_deleted_without_linger_and_then_the_launch_ends(tmp_path: Path) -> None:
    """The launch stays open until its workload is gone."""
    async with controlling(tmp_path, linger=NEVER_SECONDS) as scene:
        scene.jobs.queue("one")
        await scene.confirmed("analysis-one-1")
        scene.jobs.request_cancellation("one")
        await until(lambda: not scene.jobs.open_launches())
        assert scene.cluster.live() == []
        [launch] = scene.jobs.of("one")
        assert launch.ending == wire.ENDING_CANCELLED
        # The fake ends the launch before the controller logs the answer.
        await until(lambda: any(line["event"] == "end" for line in scene.log))
        assert [line["event"] for line in scene.log if line["event"] in ("delete", "end")] == ["delete", "end"]
