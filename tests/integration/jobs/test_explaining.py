"""ExplainJob through a real `jobs`; test_explanation.py has the table of its sentences."""

import grpc
import psycopg
import pytest

from crease.analysis.v1 import launch_pb2
from crease.jobs.v1 import intake_pb2, job_pb2
from testing.servers.programs import Laptop, Program
from tests.integration.jobs.test_lifecycle import Road, code_of


@pytest.fixture
def road(shared_jobs: Program, laptop: Laptop, empty: str) -> Road:
    return Road(shared_jobs.endpoint, laptop)


def explain(road: Road, job_id: str) -> job_pb2.ExplainJobResponse:
    return road.jobs.ExplainJob(job_pb2.ExplainJobRequest(job_id=job_id), metadata=road.coach)


def test_each_step_of_a_job_is_explained(road: Road, empty: str) -> None:
    """What the job waits for, from the upload until it is done; the history is kept."""
    job_id = road.created()
    seen = [explain(road, job_id)]
    road.intake.ConfirmUpload(intake_pb2.ConfirmUploadRequest(job_id=job_id, etag="abc"), metadata=road.upload)
    seen.append(explain(road, job_id))
    [launch] = road.open()
    road.confirm(launch)
    seen.append(explain(road, job_id))
    secret = road.start(launch).lease
    seen.append(explain(road, job_id))
    road.end(launch, launch_pb2.ENDING_UNKNOWN, "exit code 70")
    seen.append(explain(road, job_id))
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute("UPDATE video_analysis_jobs SET not_before = NULL")
    [again] = road.open()
    secret = road.start(again, uid="pod-2").lease
    road.submit(again, secret, job_pb2.STAGE_QUICK)
    road.submit(again, secret, job_pb2.STAGE_DEEP)
    seen.append(explain(road, job_id))
    waits = [job_pb2.WaitingFor.Name(one.waiting_for).removeprefix("WAITING_FOR_") for one in seen]
    assert waits == ["UPLOAD", "CAPACITY", "CAPACITY", "LEASE", "BACKOFF", "NOTHING"]
    assert all(one.sentence and one.since.seconds for one in seen)
    assert [(past.launch_no, past.ending, past.ending_message) for past in seen[-1].launches] == [
        (1, "unknown", "exit code 70"), (2, "succeeded", ""),
    ]  # fmt: skip
    endings = [job_pb2.LAUNCH_ENDING_UNKNOWN, job_pb2.LAUNCH_ENDING_SUCCEEDED]
    assert [past.launch_ending for past in seen[-1].launches] == endings
    assert seen[-1].status == job_pb2.JOB_STATUS_DONE
    assert seen[-1].sentence.startswith("The job is done, after 2 launches, ")


def test_only_a_person_who_may_see_a_job_gets_its_explanation(road: Road) -> None:
    """As GetJob."""
    request = job_pb2.ExplainJobRequest(job_id=road.created())
    with pytest.raises(grpc.RpcError) as refused:
        road.jobs.ExplainJob(request, metadata=road.laptop.person("coach-2"))
    assert code_of(refused) == ("PERMISSION_DENIED", "JOB_ACCESS_DENIED")


def test_a_launch_that_the_cluster_rejects_is_explained_and_handed_out_again(road: Road, empty: str) -> None:
    """ConfirmLaunch without a UID records the cluster's reason, a quota, and leaves the launch unconfirmed."""
    job_id = road.queued()
    road.open()
    refused = launch_pb2.ConfirmLaunchRequest(job_id=job_id, launch_no=1, placement_reason="exceeded quota: jobs")
    assert not road.launches.ConfirmLaunch(refused, metadata=road.controller).HasField("confirmed_at")
    assert explain(road, job_id).sentence == "Launch 1 in c1 cannot be created yet: exceeded quota: jobs"
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute("UPDATE launches SET offered_at = offered_at - interval '1 hour'")
    [again] = road.open()
    assert road.confirm(again).HasField("confirmed_at")
    assert explain(road, job_id).sentence == "Launch 1 in c1 was created and has not started yet"
