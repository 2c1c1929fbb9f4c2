"""`jobs` behind PgBouncer in transaction mode, where each transaction may meet another connection of PostgreSQL."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from crease.jobs.v1 import job_pb2
from services.jobs.store.database import Database
from testing.servers.programs import Laptop, Program, free_port, running
from tests.conftest import IMPATIENT
from tests.integration.jobs.test_lifecycle import Road

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
READY_SECONDS = 30

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed (Debian: apt-get install pgbouncer)"),
]


@pytest.fixture
def bouncer_url(database_url: str, tmp_path: Path) -> Iterator[str]:
    """The database through a PgBouncer with default settings except the mode: it ignores no startup parameter."""
    parts = urlsplit(database_url)
    [folder], database, port = parse_qs(parts.query)["host"], parts.path.strip("/"), free_port()
    (tmp_path / "users").write_text('"postgres" ""\n')
    (tmp_path / "ini").write_text(f"""
[databases]
{database} = host={folder} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {tmp_path / "users"}
pool_mode = transaction
default_pool_size = 2
""")
    # PgBouncer does not run as root; PostgreSQL's user may enter the folder of its socket.
    as_user = ["-u", Path(folder).owner()] if os.geteuid() == 0 else []
    for path in (tmp_path, *list(tmp_path.parents)[:2]):
        path.chmod(0o755)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([str(PGBOUNCER), *as_user, str(tmp_path / "ini")], stdout=log, stderr=log)
    url = f"postgresql://postgres@127.0.0.1:{port}/{database}"
    try:
        _wait_until_ready(url, process, tmp_path / "log")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    give_up = time.monotonic() + READY_SECONDS
    while True:
        try:
            psycopg.connect(url, autocommit=True, connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.05)


def test_the_whole_life_of_a_job_passes_through_pgbouncer(bouncer_url: str, laptop: Laptop, tmp_path: Path) -> None:
    """Every kind of statement: created, queued, launched, run, done, watched and read as events."""
    env = laptop.env | IMPATIENT | {"CREASE_DATABASE_URL": bouncer_url}
    with running(Program("jobs", env, tmp_path / "jobs.log")) as program:
        road = Road(program.endpoint, laptop)
        launch, secret = road.started()
        road.beat(launch, secret, job_pb2.STAGE_QUICK)
        for stage in (job_pb2.STAGE_QUICK, job_pb2.STAGE_DEEP):
            road.submit(launch, secret, stage)
        watch = road.jobs.WatchJob(job_pb2.WatchJobRequest(job_id=launch.job_id), metadata=road.coach, timeout=60)
        assert list(watch)[-1].status == job_pb2.JOB_STATUS_DONE
        assert road.events_of(launch.job_id, 6)[-1] == "JobDone"


async def test_no_statement_runs_without_its_limits(bouncer_url: str, database_url: str) -> None:
    """Each transaction sets its time limits, with PgBouncer and without."""
    for url in (bouncer_url, database_url):
        database = Database(url, 3)
        for _ in range(3):
            async with database.transaction() as connection:
                shown = [await connection.value(f"SHOW {name}_timeout") for name in LIMITS]
            assert shown == ["10s", "5s", "7s"]
        await database.close()


LIMITS = ("statement", "lock", "idle_in_transaction_session")
