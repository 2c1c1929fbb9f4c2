"""A dump taken during work is restored into another server: its jobs continue, and none is analysed twice."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from services.cli.laptop.postgres import find_binaries
from testing.servers.postgres import Server, postgres
from testing.servers.product import put
from testing.servers.programs import running
from tests.gameday.arena import VIDEO, Arena, arena
from tests.gameday.faults import sql_of

pytestmark = pytest.mark.slow


@pytest.fixture
def at_work(folder: Path) -> Iterator[Arena]:
    with arena(folder / "arena") as made:
        yield made


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="crease-restore-") as folder:
        Path(folder).chmod(0o711)
        Path(folder, "arena").mkdir(mode=0o711)
        yield Path(folder)


@pytest.fixture
def another_server(folder: Path) -> Iterator[Server]:
    with postgres(folder / "another") as server:
        yield server


def tool(name: str, *arguments: str) -> None:
    binaries = find_binaries()
    assert binaries is not None
    subprocess.run([str(binaries / name), *arguments], check=True, capture_output=True)


def running_now(arena: Arena) -> int:
    return len(arena.sql("SELECT job_id FROM launches WHERE started_at IS NOT NULL AND ended_at IS NULL"))


def test_jobs_of_the_dump_continue_and_later_jobs_are_unknown(
    at_work: Arena, another_server: Server, folder: Path
) -> None:
    """Done jobs stay done. Running jobs are analysed again, once. An awaited upload can be completed again. Later jobs
    are unknown. Events of the new server reach their readers."""
    [done] = at_work.queued()
    at_work.until(at_work.all_done, "the first job")
    awaited = at_work.product.initiate(len(VIDEO))
    put(awaited, VIDEO)
    at_work.mode("hold")
    busy = at_work.queued(3)
    at_work.until(lambda: running_now(at_work) == 3, "three running analyses")
    tool("pg_dump", "--format=custom", f"--file={folder / 'dump'}", at_work.database_url)

    at_work.mode("work")
    at_work.product.complete(awaited.job_id)
    [later] = at_work.queued()
    at_work.until(at_work.all_done, "the jobs after the dump")

    at_work.crease("drain")
    at_work.product.jobs.stop()
    restored = another_server.url("restored")
    another_server.run("CREATE DATABASE restored")
    tool("pg_restore", "--no-owner", f"--dbname={restored}", str(folder / "dump"))
    at_work.database_url = restored
    for statement in sql_of("After a restore into another server"):
        at_work.sql(statement)
    at_work.product.jobs.env = {**at_work.product.jobs.env, "CREASE_DATABASE_URL": restored}
    with running(at_work.product.jobs):
        at_work.product.controller.stop()
        with running(at_work.product.controller):
            assert at_work.product.status(done) == "done"
            with pytest.raises(grpc.RpcError) as unknown:
                at_work.product.job(later)
            assert unknown.value.code() == grpc.StatusCode.NOT_FOUND
            assert at_work.product.status(awaited.job_id) == "awaiting_upload"
            at_work.crease("drain", "--undo")
            at_work.product.complete(awaited.job_id)
            at_work.until(at_work.all_done, "all jobs to finish")
            assert {at_work.product.status(job_id) for job_id in (*busy, awaited.job_id)} == {"done"}
            # One launch published each job; an earlier run under the same number was found and counts as its end.
            succeeded = "SELECT job_id, count(*) FILTER (WHERE ending = 'succeeded') FROM launches GROUP BY job_id"
            assert set(at_work.sql(succeeded)) == {
                (row[0], 1) for row in at_work.sql("SELECT id FROM video_analysis_jobs")
            }
            seen = "SELECT count(*) FROM events WHERE xid >= pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
            at_work.until(lambda: at_work.sql(seen) == [(0,)], "events to be readable")
