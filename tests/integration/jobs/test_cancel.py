"""Cancelling through a real `jobs`: final only with proof, and with one outcome in every race."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import LiteralString

import grpc
import psycopg
import pytest
from google.protobuf import json_format

from crease.analysis.v1 import launch_pb2
from crease.jobs.v1 import intake_pb2, job_pb2
from services import clients
from testing.servers.programs import Laptop, Program, lease
from tests.integration.jobs.test_lifecycle import Road, code_of

RACES = 10
QUICK, DEEP = job_pb2.STAGE_QUICK, job_pb2.STAGE_DEEP


@pytest.fixture
def road(shared_jobs: Program, laptop: Laptop, empty: str) -> Road:
    return Road(shared_jobs.endpoint, laptop)


def cancel(road: Road, job_id: str, who: tuple[tuple[str, str], ...] | None = None) -> job_pb2.Job:
    return road.jobs.CancelJob(job_pb2.CancelJobRequest(job_id=job_id), metadata=who or road.coach)


def listed(road: Road, owner: str = "") -> list[launch_pb2.Launch]:
    request = launch_pb2.ListLaunchesRequest(cluster="c1", owner=owner)
    return list(road.launches.ListLaunches(request, metadata=road.controller).launches)


def refusal(call: Callable[..., object], *arguments: object) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as refused:
        call(*arguments)
    return code_of(refused)


def at_once(*calls: Callable[[], object]) -> list[str]:
    """Makes the calls at the same moment; `ok` or the reason of each."""
    start = Barrier(len(calls))

    def make(call: Callable[[], object]) -> str:
        start.wait()
        try:
            call()
        except grpc.RpcError as error:
            return clients.reason(error)
        return "ok"

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(make, calls))


def run_sql(url: str, statement: LiteralString, *values: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement, values)


@pytest.mark.parametrize("status", ["awaiting_upload", "queued", "failed"])
def test_a_job_without_an_open_launch_is_cancelled_at_once(road: Road, empty: str, status: str) -> None:
    """A second CancelJob succeeds, and the job is never launched."""
    job_id = road.created()
    run_sql(empty, "UPDATE video_analysis_jobs SET status = %s", status)
    first = cancel(road, job_id)
    assert (first.status, first.stage) == (job_pb2.JOB_STATUS_CANCELLED, "CANCELLED")
    assert cancel(road, job_id) == first
    assert road.open() == []
    assert road.events_of(job_id, 2 if status == "awaiting_upload" else 3)[-1] == "JobCancelled"


def test_a_launch_that_was_not_started_ends_before_its_job_is_cancelled(road: Road, empty: str) -> None:
    """ListLaunches marks it; jobs does not hand it out again, lets no pod start it, and ends it only with proof."""
    job_id = road.queued()
    [launch] = road.open()
    assert not launch.HasField("cancel_requested_at")
    asked = cancel(road, job_id)
    assert (asked.status, asked.HasField("cancel_requested_at")) == (job_pb2.JOB_STATUS_QUEUED, True)
    assert cancel(road, job_id) == asked
    run_sql(empty, "UPDATE launches SET offered_at = offered_at - interval '1 hour'")
    assert road.open() == []
    assert [one.cancel_requested_at for one in listed(road)] == [asked.cancel_requested_at]
    assert refusal(road.start, launch) == ("FAILED_PRECONDITION", "JOB_CANCELLING")
    assert refusal(road.end, launch, launch_pb2.ENDING_DISRUPTION) == ("FAILED_PRECONDITION", "JOB_CANCELLING")
    for _ in range(2):
        assert road.end(launch, launch_pb2.ENDING_CANCELLED).ending == launch_pb2.ENDING_CANCELLED
    assert (road.status(job_id), listed(road), road.open()) == ("cancelled", [], [])
    assert refusal(road.start, launch) == ("FAILED_PRECONDITION", "LAUNCH_ENDED")


def test_the_lease_of_a_job_that_is_being_cancelled_writes_nothing_more(road: Road, empty: str) -> None:
    """An expired lease is no proof that the pod is gone; the quick result stays readable."""
    launch, secret = road.started()
    road.submit(launch, secret, QUICK)
    cancel(road, launch.job_id)
    fail = launch_pb2.FailLaunchRequest(job_id=launch.job_id, launch_no=1, ending=launch_pb2.ENDING_BAD_INPUT)
    sign = intake_pb2.AuthorizeLaunchRequest(job_id=launch.job_id, launch_no=1, lease=secret)
    for call in (
        lambda: road.beat(launch, secret, DEEP),
        lambda: road.submit(launch, secret, DEEP),
        lambda: road.submit(launch, secret, QUICK),
        lambda: road.launches.FailLaunch(fail, metadata=lease(secret)),
        lambda: road.intake.AuthorizeLaunch(sign, metadata=road.upload),
    ):
        assert refusal(call) == ("PERMISSION_DENIED", "LEASE_LOST")
    # A sweep ends the expired launch of the other job; it has seen the older lease by then.
    run_sql(empty, "UPDATE launches SET lease_expires_at = now() - interval '1 hour'")
    other, _ = road.started()
    run_sql(empty, "UPDATE launches SET lease_expires_at = now() WHERE job_id = %s", other.job_id)
    watch = road.jobs.WatchJob(job_pb2.WatchJobRequest(job_id=other.job_id), metadata=road.coach, timeout=60)
    assert any(job.status == job_pb2.JOB_STATUS_QUEUED for job in watch)
    assert road.status(launch.job_id) == "quick_done"
    road.end(launch, launch_pb2.ENDING_CANCELLED)
    job = road.job(launch.job_id)
    assert (job.status, job.results_stage) == (job_pb2.JOB_STATUS_CANCELLED, QUICK)
    assert json_format.MessageToDict(job.results)["pose"]["pose_summary"]["total_frames"] == 105


def test_a_watcher_sees_the_request_to_cancel_and_then_the_cancellation(road: Road) -> None:
    """The stream ends with the status cancelled."""
    launch, _ = road.started()
    watch = road.jobs.WatchJob(job_pb2.WatchJobRequest(job_id=launch.job_id), metadata=road.coach, timeout=60)
    assert not next(watch).HasField("cancel_requested_at")
    cancel(road, launch.job_id)
    assert next(watch).HasField("cancel_requested_at")
    road.end(launch, launch_pb2.ENDING_CANCELLED)
    assert [job.stage for job in watch] == ["CANCELLED"]


def test_a_done_job_cannot_be_cancelled(road: Road) -> None:
    """Its result is kept."""
    launch, secret = road.started()
    road.submit(launch, secret, QUICK)
    road.submit(launch, secret, DEEP)
    with pytest.raises(grpc.RpcError) as refused:
        cancel(road, launch.job_id)
    assert code_of(refused) == ("FAILED_PRECONDITION", "WRONG_STATE")
    assert refused.value.details() == "Cannot cancel a job in status: done"


def test_a_launch_without_a_request_to_cancel_does_not_end_as_cancelled(road: Road) -> None:
    """A controller can't cancel a person's job."""
    launch, secret = road.started()
    refused = refusal(road.end, launch, launch_pb2.ENDING_CANCELLED)
    assert refused == ("FAILED_PRECONDITION", "CANCEL_NOT_REQUESTED")
    road.beat(launch, secret, QUICK)


def test_only_a_person_who_may_see_a_job_may_cancel_it(road: Road) -> None:
    """Another coach's job is denied, an unknown one is not found."""
    job_id = road.created()
    assert refusal(cancel, road, job_id, road.laptop.person("coach-2")) == ("PERMISSION_DENIED", "JOB_ACCESS_DENIED")
    assert refusal(cancel, road, "x") == ("NOT_FOUND", "JOB_NOT_FOUND")
    assert cancel(road, job_id, road.laptop.person("root", role="superuser")).stage == "CANCELLED"


def test_a_cancelled_job_that_an_operator_queues_again_is_launched(road: Road, empty: str) -> None:
    """The operator's update clears the old request to cancel."""
    job_id = road.queued()
    [launch] = road.open()
    cancel(road, job_id)
    road.end(launch, launch_pb2.ENDING_CANCELLED)
    run_sql(empty, "UPDATE video_analysis_jobs SET status = 'queued', stage = 'QUEUED'")
    [again] = road.open()
    assert (again.launch_no, again.HasField("cancel_requested_at")) == (2, False)
    assert road.start(again).stage == QUICK


def test_a_job_cancelled_while_its_launch_starts_has_one_outcome(road: Road) -> None:
    """In either order the lease writes nothing, and the job is cancelled with proof."""
    for number in range(RACES):
        job_id = road.queued()
        [launch] = road.open()
        started, asked = at_once(
            partial(road.start, launch, uid=f"pod-{number}"),
            partial(cancel, road, job_id),
        )
        assert (asked, started) in {("ok", "ok"), ("ok", "JOB_CANCELLING")}
        assert road.status(job_id) == ("quick_running" if started == "ok" else "queued")
        road.end(launch, launch_pb2.ENDING_CANCELLED)
        assert road.status(job_id) == "cancelled"


def test_a_job_cancelled_while_its_last_result_is_submitted_is_done_or_cancelled(road: Road) -> None:
    """Exactly one of the two calls succeeds."""
    for _ in range(RACES):
        launch, secret = road.started()
        road.submit(launch, secret, QUICK)
        outcome = at_once(
            partial(road.submit, launch, secret, DEEP),
            partial(cancel, road, launch.job_id),
        )
        assert outcome in (["ok", "WRONG_STATE"], ["LEASE_LOST", "ok"])
        road.end(launch, launch_pb2.ENDING_CANCELLED)
        assert road.status(launch.job_id) == ("done" if outcome[0] == "ok" else "cancelled")


def test_a_job_cancelled_while_launches_are_opened_is_never_launched_afterwards(road: Road) -> None:
    """It is cancelled without a launch, or its one launch is to be deleted."""

    def open_into(opened: list[launch_pb2.Launch]) -> None:
        opened.extend(road.open())

    for _ in range(RACES):
        job_id = road.queued()
        opened: list[launch_pb2.Launch] = []
        calls = at_once(partial(open_into, opened), partial(cancel, road, job_id))
        assert calls == ["ok", "ok"]
        assert road.open() == []
        assert road.status(job_id) == ("queued" if opened else "cancelled")
        for launch in listed(road):
            road.end(launch, launch_pb2.ENDING_CANCELLED)
        assert (road.status(job_id), road.job(job_id).launch_count) == ("cancelled", len(opened))


@pytest.fixture
def cancelling(road: Road) -> launch_pb2.Launch:
    """A launch of a job that is being cancelled, on a cluster that has reported."""
    launch, _ = road.started()
    listed(road)
    cancel(road, launch.job_id)
    return launch


def silence(url: str, hours: int) -> None:
    run_sql(url, "UPDATE clusters SET seen_at = now() - %s::interval", f"{hours} hours")


def forget(road: Road, laptop: Laptop, cluster: str = "c1") -> None:
    request = job_pb2.ForgetClusterRequest(cluster=cluster)
    road.jobs.ForgetCluster(request, metadata=laptop.person("root", role="superuser"))


def ended_without_proof(road: Road, job_id: str) -> bool:
    """Whether the job is cancelled, Explain says what is not proved, and the job can be deleted."""
    watched = road.jobs.WatchJob(job_pb2.WatchJobRequest(job_id=job_id), metadata=road.coach, timeout=30)
    [*_, last] = watched
    explained = road.jobs.ExplainJob(job_pb2.ExplainJobRequest(job_id=job_id), metadata=road.coach)
    road.jobs.DeleteJob(job_pb2.DeleteJobRequest(job_id=job_id), metadata=road.coach)
    is_said = "Nothing proves that its workload has ended: the controller of cluster c1" in explained.sentence
    return is_said and last.status == job_pb2.JOB_STATUS_CANCELLED


def test_a_cancel_on_a_cluster_that_does_not_come_back_ends_a_day_after_it_counts_as_silent(
    road: Road, empty: str, cancelling: launch_pb2.Launch
) -> None:
    """Before, only the controller's proof ends it. A controller that returns is told that the launch is not open."""
    silence(empty, 23)
    time.sleep(0.5)  # several passes
    assert road.job(cancelling.job_id).HasField("cancel_requested_at")
    assert road.status(cancelling.job_id) != "cancelled"
    silence(empty, 25)
    assert ended_without_proof(road, cancelling.job_id)
    assert listed(road) == []


def test_an_operator_forgets_a_silent_cluster_and_no_other(
    road: Road, laptop: Laptop, empty: str, cancelling: launch_pb2.Launch
) -> None:
    """A cluster that reports is refused, and so is an unknown one. The forgotten name is free for another owner."""
    listed(road, "uid-1/crease")
    assert refusal(forget, road, laptop) == ("FAILED_PRECONDITION", "CLUSTER_REPORTS")
    assert refusal(forget, road, laptop, "c2") == ("NOT_FOUND", "CLUSTER_NOT_FOUND")
    silence(empty, 1)
    forget(road, laptop)
    assert ended_without_proof(road, cancelling.job_id)
    listed(road, "uid-2/crease")
    assert refusal(forget, road, laptop) == ("FAILED_PRECONDITION", "CLUSTER_REPORTS")
