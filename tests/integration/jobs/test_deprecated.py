"""Names that changed: the old ones work as the new ones do, for one release."""

from typing import Any

import pytest

from crease.analysis.v1 import launch_pb2
from crease.cleanup.v1 import cleanup_pb2
from crease.jobs.v1 import intake_pb2, job_pb2, library_pb2, sweep_pb2
from services import dev_issuer
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
    [claimed] = road.cleanup.ClaimCleanup(cleanup_pb2.ClaimCleanupRequest(limit=5), metadata=upload).cleanups
    sweep.SettleRubbish(sweep_pb2.SettleRubbishRequest(job_id=job_id), metadata=upload)
    left = road.cleanup.ClaimCleanup(cleanup_pb2.ClaimCleanupRequest(limit=5), metadata=upload).cleanups
    assert (taken.job_id, taken.s3_bucket, taken.prefix) == (claimed.job_id, claimed.s3_bucket, claimed.prefix)
    assert taken.job_id == job_id
    assert taken.HasField("age")
    assert list(left) == []


def test_both_services_list_the_same_videos(road: Road) -> None:
    """The same rows in the same pages."""
    for _ in range(3):
        road.queued()
    superuser = ("crease-user", dev_issuer.person(road.laptop.folder, "root", role="superuser"))
    caller: Any = {"metadata": (*road.laptop.program("upload"), superuser)}
    old = road.sweep.ListVideos(sweep_pb2.ListVideosRequest(s3_bucket="videos", page_size=2), **caller)
    new = road.cleanup.ListVideos(cleanup_pb2.ListVideosRequest(s3_bucket="videos", page_size=2), **caller)
    assert len(new.videos) == 2
    assert old.SerializeToString() == new.SerializeToString()


def test_upload_alone_reads_the_multipart_upload_and_the_trace(road: Road) -> None:
    """GetUpload has both. The two answers that `upload` of 0.2.0 reads have the id too; no other one has either."""
    job_id = road.created(part_bytes=5)
    record = intake_pb2.RecordMultipartRequest(job_id=job_id, upload_id="u-1")
    recorded = road.intake.RecordMultipart(record, metadata=road.upload)
    found = road.intake.GetUpload(intake_pb2.GetUploadRequest(job_id=job_id), metadata=road.upload)
    assert (found.upload_id, found.job.job_id) == ("u-1", job_id)
    read = road.jobs.GetJob(job_pb2.GetJobRequest(job_id=job_id), metadata=road.coach)
    assert [job.video.upload_id for job in (recorded, read)] == ["u-1", "u-1"]
    [listed] = road.jobs.ListJobs(job_pb2.ListJobsRequest(), metadata=road.coach).jobs
    [searched] = road.library.SearchJobs(library_pb2.SearchJobsRequest(), metadata=road.coach).jobs
    watched = next(iter(road.jobs.WatchJob(job_pb2.WatchJobRequest(job_id=job_id), metadata=road.coach)))
    assert [job.video.upload_id for job in (found.job, listed, searched.job, watched)] == [""] * 4
    assert [job.trace_parent for job in (recorded, read, found.job, listed, searched.job, watched)] == [""] * 6


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
