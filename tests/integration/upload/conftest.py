"""One S3 server, one fake `jobs`, and as many `upload` programs as there are ways to set one up."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from services import issuer
from services.auth import Verifier
from services.settings import Issuer
from tests.fakes import FakeJobs, serving_jobs
from tests.integration.upload.client import Client
from tests.programs import Laptop, Program, running
from tests.s3 import Endpoint


@pytest.fixture(scope="session")
def s3(s3_server: Endpoint) -> Endpoint:
    """With a bucket of each kind."""
    s3_server.make_bucket("plain")
    s3_server.make_bucket("versioned", versioned=True)
    return s3_server


@pytest.fixture(scope="session")
def jobs(laptop: Laptop) -> Iterator[FakeJobs]:
    issuers = [Issuer.model_validate(one) for one in issuer.issuers(laptop.folder)]
    with serving_jobs(FakeJobs(Verifier(issuers, "crease"))) as fake:
        yield fake


Start = Callable[..., Client]


@pytest.fixture(scope="session")
def start(s3: Endpoint, laptop: Laptop, jobs: FakeJobs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts an `upload`; keyword arguments are settings that differ from the usual, None leaves one out."""
    folder = tmp_path_factory.mktemp("upload")
    usual = {
        **laptop.env,
        **s3.env,
        "S3_COACH_VIDEOS_BUCKET": "plain",
        "CREASE_JOBS_ENDPOINT": f"127.0.0.1:{jobs.port}",
        "CREASE_TOKEN_FILE": str(laptop.token_file("upload")),
        # No keys but those of the test.
        "HOME": str(folder),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with ExitStack() as stack:

        def one(**settings: str | None) -> Client:
            env = {name: value for name, value in (usual | settings).items() if value is not None}
            program = stack.enter_context(running(Program("upload", env, Path(folder, "log"))))
            channel = stack.enter_context(grpc.insecure_channel(program.endpoint))
            return Client(program, channel, laptop, jobs, s3)

        yield one


@pytest.fixture(scope="session")
def client(start: Start) -> Client:
    """The usual one, whose bucket keeps no versions."""
    return start()


@pytest.fixture(scope="session")
def versioned(start: Start) -> Client:
    return start(S3_COACH_VIDEOS_BUCKET="versioned")
