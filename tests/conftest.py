"""Servers that tests share: one PostgreSQL and one issuer per run, one database per test."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from services import dev_issuer
from testing.servers.kubernetes import Cluster, Namespace, cluster, namespace
from testing.servers.postgres import Server, clear, postgres
from testing.servers.product import BUCKET, product
from testing.servers.programs import UNRETRIEVED, Laptop, Program, free_port, running
from testing.servers.s3 import Endpoint, ministack
from testing.servers.web import Site, web


@pytest.fixture(autouse=True)
def _no_unnoticed_fault(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fails a test in which a task of this process ended unnoticed, or PostgreSQL warned of its client."""
    server: Server | None = None
    if "postgres_server" in request.fixturenames:
        server = request.getfixturevalue("postgres_server")
    offset = server.log.stat().st_size if server else 0
    yield
    assert [record.message for record in caplog.get_records("call") if UNRETRIEVED in record.message] == []
    assert server is None or server.warnings(offset) == []


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    # Started by root, PostgreSQL runs as another user, who cannot read pytest's folders.
    with tempfile.TemporaryDirectory(prefix="crease-postgres-") as folder, postgres(Path(folder, "data")) as server:
        yield server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with ministack(tmp_path_factory.mktemp("s3")) as endpoint:
        endpoint.make_bucket(BUCKET)
        yield endpoint


@pytest.fixture
def database_url(postgres_server: Server) -> str:
    """An empty database at the newest migration."""
    return postgres_server.clone()


@pytest.fixture(scope="session")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Laptop:
    """An issuer that all programs trust."""
    folder = tmp_path_factory.mktemp("issuer")
    dev_issuer.create(folder)
    return Laptop(folder)


# Short intervals, so that tests wait less.
IMPATIENT = {"CREASE_SWEEP_SECONDS": "0.1", "CREASE_POLL_SECONDS": "0.1", "CREASE_WRITE_SECONDS": "1"}


def jobs_on(database_url: str, laptop: Laptop) -> dict[str, str]:
    """Settings of a jobs with this database."""
    return laptop.env | IMPATIENT | {"CREASE_DATABASE_URL": database_url}


@pytest.fixture
def jobs_env(database_url: str, laptop: Laptop) -> dict[str, str]:
    """Settings of a jobs with its own database."""
    return jobs_on(database_url, laptop)


@pytest.fixture(scope="session")
def shared_database_url(postgres_server: Server) -> str:
    """The database of the tests that share one jobs; each test finds it empty."""
    return postgres_server.clone()


@pytest.fixture(scope="module")
def shared_jobs_env(shared_database_url: str, laptop: Laptop) -> dict[str, str]:
    """Of a module: an upload or a controller that ran for longer would take the rows of other modules' tests."""
    return jobs_on(shared_database_url, laptop)


@pytest.fixture(scope="session")
def shared_jobs(
    shared_database_url: str, laptop: Laptop, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Program]:
    """One running jobs for all tests that do not break it: starting one takes longer than using it."""
    env = jobs_on(shared_database_url, laptop)
    with running(Program("jobs", env, tmp_path_factory.mktemp("jobs") / "log")) as program:
        yield program


@pytest.fixture
def empty(shared_database_url: str) -> str:
    """The shared database, empty; its URL."""
    with psycopg.connect(shared_database_url) as connection:
        clear(connection)
    return shared_database_url


@pytest.fixture(scope="session")
def shared_site(postgres_server: Server, laptop: Laptop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One page on real jobs, upload and S3; analyses come from the tests. A film of 1 MB is sent in parts."""
    folder, port, database_url = tmp_path_factory.mktemp("site"), free_port(), postgres_server.clone()
    with ministack(folder / "s3", f"http://127.0.0.1:{port}") as s3:
        s3.make_bucket(BUCKET)
        limits = {"CREASE_MULTIPART_FROM_BYTES": "1000000", "CREASE_MAX_CONTENT_LENGTH": "1000000000"}
        with (
            product(
                folder, jobs_on(database_url, laptop), laptop, s3, controlled=False, upload_settings=limits
            ) as made,
            web(folder / "web", port, made, s3) as page,
        ):
            yield Site(page, made, database_url)


@pytest.fixture
def site(shared_site: Site) -> Site:
    """The shared page of a coach without a film."""
    with psycopg.connect(shared_site.database_url) as connection:
        clear(connection)
    return shared_site


@pytest.fixture(scope="session")
def kubernetes_cluster() -> Iterator[Cluster]:
    """A real cluster with one node; skips, with the reason, where none can run."""
    with cluster() as made:
        yield made


@pytest.fixture
def kubernetes_namespace(kubernetes_cluster: Cluster, tmp_path: Path) -> Iterator[Namespace]:
    with namespace(kubernetes_cluster, tmp_path) as made:
        yield made
