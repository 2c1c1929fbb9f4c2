"""`jobs` behind PgBouncer in transaction mode, where each transaction may meet another connection of PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from crease.jobs.v1 import job_pb2
from services.jobs.store.database import Database
from testing.servers.pgbouncer import MISSING, PGBOUNCER, pgbouncer
from testing.servers.programs import Laptop, Program, running
from tests.conftest import IMPATIENT
from tests.integration.jobs.test_lifecycle import Road

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PGBOUNCER is None, reason=MISSING),
]


@pytest.fixture
def bouncer_url(database_url: str, tmp_path: Path) -> Iterator[str]:
    """The database through a PgBouncer."""
    parts = urlsplit(database_url)
    [server], database = parse_qs(parts.query)["host"], parts.path.strip("/")
    for path in (tmp_path, *list(tmp_path.parents)[:2]):
        path.chmod(0o755)
    with pgbouncer(tmp_path, Path(server), database) as endpoint:
        yield f"postgresql://postgres@{endpoint}/{database}"


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
