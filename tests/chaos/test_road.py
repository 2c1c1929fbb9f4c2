"""A real video through every real program; a crash costs at most a launch, never a job."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from crease.jobs.v1 import job_pb2
from services.rules import film_limits
from testing.servers.product import SAMPLE, Product, product
from testing.servers.programs import Laptop
from testing.servers.s3 import Endpoint


@pytest.fixture
def road(tmp_path: Path, jobs_env: dict[str, str], laptop: Laptop, s3_server: Endpoint) -> Iterator[Product]:
    with product(tmp_path, jobs_env | {"CREASE_LEASE_SECONDS": "5"}, laptop, s3_server) as made:
        yield made


def launches(database_url: str, job_id: str) -> list[str]:
    """The endings of a job's launches, in order."""
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT ending FROM launches WHERE job_id = %s ORDER BY launch_no", [job_id])
        return [ending for (ending,) in rows.fetchall()]


def count_done_events(database_url: str, job_id: str) -> int:
    """The number of transitions of a job to done."""
    with psycopg.connect(database_url) as connection:
        query = "SELECT count(*) FROM events WHERE job_id = %s AND to_status = 'done'"
        row = connection.execute(query, [job_id]).fetchone()
        assert row is not None
        return int(row[0])


def wait_for_status(road: Product, job_id: str, status: int) -> None:
    """Waits until a job reaches a status."""
    assert any(job.status == status for job in road.watch(job_id)), road.job(job_id)


@pytest.mark.slow
def test_a_video_becomes_a_report_through_every_real_part(road: Product, database_url: str) -> None:
    """One launch, one result, and a report that can be downloaded."""
    job_id = road.uploaded(SAMPLE.read_bytes(), include_frames=True)
    statuses = [job.status for job in road.watch(job_id)]
    job = road.job(job_id)
    assert job.status == job_pb2.JOB_STATUS_DONE, job.error_message
    assert statuses == sorted(statuses)
    assert launches(database_url, job_id) == ["succeeded"]
    results = json.loads(road.download(job_id, "results.json"))
    assert results["pose"]["pose_summary"]["detection_rate_percent"] == 100.0
    assert len(results["pose"]["frames"]) == results["pose"]["pose_summary"]["sampled_frames"]
    assert results["metrics"]["head_stability_score"]["value"] > 0
    assert road.download(job_id, "report.html").lstrip().lower().startswith(b"<!doctype html>")
    assert {artifact.name for artifact in job.artifacts} == {
        "results.json", "report.html", "frames.parquet", "overlay.mp4", "landmarks.npz", "thumbnail.jpg",
    }  # fmt: skip


@pytest.mark.slow
def test_a_killed_analyzer_is_followed_by_a_second_launch_and_one_result(road: Product, database_url: str) -> None:
    """SIGKILL while it runs, as by the kernel's OOM killer: the next launch finishes."""
    job_id = road.uploaded(SAMPLE.read_bytes())
    wait_for_status(road, job_id, job_pb2.JOB_STATUS_QUICK_RUNNING)
    for process in road.analyzers():
        process.send_signal(signal.SIGKILL)
    wait_for_status(road, job_id, job_pb2.JOB_STATUS_DONE)
    endings = launches(database_url, job_id)
    assert len(endings) == 2
    assert endings[0] in ("disruption", "out_of_memory", "lease_lost")
    assert endings[1] == "succeeded"
    assert count_done_events(database_url, job_id) == 1


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["jobs", "upload", "controller"])
def test_a_killed_and_restarted_program_loses_no_result(road: Product, database_url: str, victim: str) -> None:
    """SIGKILL while an analysis runs, then a restart: one result, by any launch."""
    job_id = road.uploaded(SAMPLE.read_bytes())
    wait_for_status(road, job_id, job_pb2.JOB_STATUS_QUICK_RUNNING)
    program = getattr(road, victim)
    program.kill()
    program.start()
    wait_for_status(road, job_id, job_pb2.JOB_STATUS_DONE)
    assert launches(database_url, job_id)[-1] == "succeeded"
    assert count_done_events(database_url, job_id) == 1


@pytest.mark.slow
def test_a_job_cancelled_while_its_analyzer_runs_leaves_no_process_and_no_result(
    road: Product, database_url: str
) -> None:
    """The status is cancelled once no process of it is left, and jobs does not launch it again."""
    job_id = road.uploaded(SAMPLE.read_bytes())
    wait_for_status(road, job_id, job_pb2.JOB_STATUS_QUICK_RUNNING)
    assert road.analyzers()
    cancelling = road.job_stub.CancelJob(job_pb2.CancelJobRequest(job_id=job_id), metadata=road.coach)
    assert cancelling.HasField("cancel_requested_at")
    wait_for_status(road, job_id, job_pb2.JOB_STATUS_CANCELLED)
    assert road.analyzers() == []
    assert launches(database_url, job_id) == ["cancelled"]
    assert not road.job(job_id).artifacts
    assert road.open_launches() == []


@pytest.mark.slow
def test_a_file_that_is_no_video_fails_with_a_sentence_and_without_a_retry(road: Product, database_url: str) -> None:
    """Bad input: one launch, a failure code, a sentence for people."""
    job_id = road.uploaded(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"<html>not a video</html>" * 50)
    wait_for_status(road, job_id, job_pb2.JOB_STATUS_FAILED)
    job = road.job(job_id)
    assert launches(database_url, job_id) == ["bad_input"]
    assert (job.failure_code, job.error_message) == ("NOT_A_VIDEO", film_limits.no_index("The video"))


@pytest.mark.slow
def test_an_operators_queued_row_without_a_video_fails_with_a_sentence(road: Product, database_url: str) -> None:
    """The repair SQL of the runbook on a job without an upload."""
    begun = road.initiate(1000)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE video_analysis_jobs SET status = 'queued', stage = 'QUEUED'")
    wait_for_status(road, begun.job_id, job_pb2.JOB_STATUS_FAILED)
    assert road.job(begun.job_id).error_message == "Failed to download video from S3: 404 Not Found"
