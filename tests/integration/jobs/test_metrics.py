"""The metrics of `jobs`, held against the database."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from crease.analysis.v1 import launch_pb2
from crease.jobs.v1 import job_pb2
from services import VERSION
from testing.metrics import labels_of, listening, names, scrape, value
from testing.servers.programs import Laptop, Program, free_port, running
from tests.integration.jobs.test_lifecycle import Road
from tests.integration.jobs.test_outbox import wait_until

FREQUENT = {"CREASE_GAUGE_SECONDS": "0.1"}


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def jobs(shared_jobs_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Program]:
    settings = {**shared_jobs_env, **FREQUENT, **listening(port)}
    with running(Program("jobs", settings, tmp_path_factory.mktemp("watched") / "log")) as program:
        yield program


def balance(port: int) -> tuple[float | None, ...]:
    series = scrape(port)
    rows = sum(labels_of(series, "crease_jobs", "status").values())
    parts = [value(series, f"crease_{name}") for name in ("launches_open", "jobs_waiting", "jobs_final")]
    return rows, *parts


def test_rows_are_open_launches_waiting_and_final_ones_wherever_jobs_stand(
    jobs: Program, port: int, laptop: Laptop, empty: str
) -> None:
    """Jobs in every status balance; a row that an operator moved without its launch does not."""
    road = Road(jobs.endpoint, laptop)
    road.created()
    launch, secret = road.started()
    road.submit(launch, secret, job_pb2.STAGE_QUICK)
    road.submit(launch, secret, job_pb2.STAGE_DEEP)
    running_one, _ = road.started()
    road.queued()
    wait_until(lambda: balance(port) == (4, 1, 2, 1))
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute("UPDATE video_analysis_jobs SET status = 'failed' WHERE id = %s", [running_one.job_id])
    wait_until(lambda: balance(port) == (4, 1, 2, 2))


def test_calls_stages_endings_and_ages_are_counted(jobs: Program, port: int, laptop: Laptop, empty: str) -> None:
    """With one finished job, one rejected call, one bad file and one late upload."""
    road = Road(jobs.endpoint, laptop)
    before = scrape(port)
    assert labels_of(before, "crease_fallbacks_total", "reason") == {"unschedulable": 0, "no_delegate": 0}
    launch, secret = road.started()
    road.submit(launch, secret, job_pb2.STAGE_QUICK)
    road.submit(launch, secret, job_pb2.STAGE_DEEP)
    bad, _ = road.started()
    road.end(bad, launch_pb2.ENDING_BAD_INPUT)
    late = road.created()
    with pytest.raises(Exception, match="not found"):
        road.job("00000000-0000-0000-0000-000000000000")
    with psycopg.connect(empty, autocommit=True) as connection:
        statement = "UPDATE video_analysis_jobs SET status_since = now() - interval '301 s' WHERE id = %s"
        connection.execute(statement, [late])
    wait_until(lambda: value(scrape(port), "crease_awaiting_upload_overdue") == 1)
    series = scrape(port)

    def increase(name: str, **labels: str) -> float:
        return (value(series, name, **labels) or 0) - (value(before, name, **labels) or 0)

    assert increase("crease_rpc_seconds_count", method="JobService/GetJob", code="NOT_FOUND") == 1
    assert increase("crease_rpc_seconds_count", method="LaunchService/SubmitResult", code="OK") == 2
    assert increase("crease_launches_ended_total", ending="succeeded", accelerator="unknown") == 1
    assert increase("crease_launches_ended_total", ending="bad_input", accelerator="unknown") == 1
    stages = labels_of(series, "crease_stage_seconds_count", "stage")
    assert {stage: increase("crease_stage_seconds_count", stage=stage) for stage in stages} == {
        "awaiting_upload": 2,
        "queued": 2,
        "quick_running": 2,
        "quick_done": 1,
        "deep_running": 1,
    }
    assert value(series, "crease_failures_last_hour") == 1
    assert 301 <= labels_of(series, "crease_oldest_job_age_seconds", "status")["awaiting_upload"] < 600
    assert value(series, "crease_pool_sessions", state="busy") is not None
    assert value(series, "crease_build_info", version=VERSION) == 1


@pytest.mark.slow
def test_one_replica_exports_the_gauges_of_all_jobs_and_another_after_its_death(
    jobs_env: dict[str, str], tmp_path: Path
) -> None:
    """Exported once, so that a sum over replicas is right; each replica exports its own calls."""
    ports = free_port(), free_port()
    with contextlib.ExitStack() as stack:
        replicas = {
            port: stack.enter_context(
                running(Program("jobs", {**jobs_env, **FREQUENT, **listening(port)}, tmp_path / str(port)))
            )
            for port in ports
        }

        exporters: list[int] = []

        def one_exports() -> bool:
            exporters[:] = [port for port in replicas if "crease_jobs" in names(scrape(port))]
            return len(exporters) == 1

        # Either may be the exporter: a replica that stalls for longer than its lease hands over.
        wait_until(one_exports)
        assert all("crease_pool_sessions" in names(scrape(port)) for port in ports)
        replicas.pop(exporters[0]).kill()
        wait_until(one_exports)
