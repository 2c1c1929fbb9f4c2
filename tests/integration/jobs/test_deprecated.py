"""Names that changed: the old ones work as the new ones do, for one release."""

import pytest

from crease.analysis.v1 import launch_pb2
from crease.jobs.v1 import job_pb2, sweep_pb2
from testing.servers.programs import Laptop, Program
from tests.integration.jobs.test_lifecycle import Road


@pytest.fixture
def road(shared_jobs: Program, laptop: Laptop, empty: str) -> Road:
    return Road(shared_jobs.endpoint, laptop)


def test_take_and_settle_rubbish_claim_and_complete_a_cleanup(road: Road) -> None:
    """The same job, bucket and prefix; a settled one is not claimed again."""
    job_id = road.created()
    road.jobs.CancelJob(job_pb2.CancelJobRequest(job_id=job_id), metadata=road.coach)
    sweep, upload = road.sweep, road.laptop.program("upload")
    [taken] = sweep.TakeRubbish(sweep_pb2.TakeRubbishRequest(limit=5), metadata=upload).rubbish
    due_again = sweep_pb2.SettleRubbishRequest(job_id=job_id)
    due_again.again_in.FromSeconds(0)
    sweep.SettleRubbish(due_again, metadata=upload)
    [claimed] = sweep.ClaimCleanup(sweep_pb2.ClaimCleanupRequest(limit=5), metadata=upload).cleanups
    sweep.SettleRubbish(sweep_pb2.SettleRubbishRequest(job_id=job_id), metadata=upload)
    left = sweep.ClaimCleanup(sweep_pb2.ClaimCleanupRequest(limit=5), metadata=upload).cleanups
    assert (taken.job_id, taken.s3_bucket, taken.prefix) == (claimed.job_id, claimed.s3_bucket, claimed.prefix)
    assert taken.job_id == job_id
    assert taken.HasField("age")
    assert list(left) == []


def test_the_endings_of_both_packages_are_the_same() -> None:
    """jobs.v1 cannot import analysis.v1, so it lists them too."""
    endings: dict[str, int] = {f"LAUNCH_{name}": number for name, number in launch_pb2.Ending.items()}
    assert dict[str, int](job_pb2.LaunchEnding.items()) == endings


def test_a_past_launch_has_its_ending_as_an_enum_and_as_a_word(road: Road) -> None:
    """Both are empty while the launch is open."""
    launch, _ = road.started()
    request = job_pb2.ExplainJobRequest(job_id=launch.job_id)
    [opened] = road.jobs.ExplainJob(request, metadata=road.coach).launches
    assert (opened.launch_ending, opened.ending) == (job_pb2.LAUNCH_ENDING_UNSPECIFIED, "")
    road.end(launch, launch_pb2.ENDING_BAD_INPUT)
    [ended] = road.jobs.ExplainJob(request, metadata=road.coach).launches
    assert (ended.launch_ending, ended.ending) == (job_pb2.LAUNCH_ENDING_BAD_INPUT, "bad_input")
