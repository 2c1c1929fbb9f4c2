"""One S3 server, one fake jobs, and one upload program per set of settings."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import psycopg
import pytest

from crease.upload.v1 import orphan_pb2_grpc, upload_pb2_grpc
from services import dev_issuer
from services.auth import Verifier
from services.settings import Issuer
from testing.fakes.jobs import FakeJobs, serving_jobs
from testing.servers.postgres import Server, clear
from testing.servers.programs import Laptop, Program, running
from testing.servers.s3 import Endpoint
from tests.conftest import jobs_on
from tests.integration.jobs.test_lifecycle import Road
from tests.integration.upload.client import Client, Start
from tests.integration.upload.whole import Whole


@pytest.fixture(scope="session")
def s3(s3_server: Endpoint) -> Endpoint:
    """An S3 server with a plain and a versioned bucket."""
    s3_server.make_bucket("plain")
    s3_server.make_bucket("versioned", versioned=True)
    return s3_server


@pytest.fixture(scope="session")
def jobs(laptop: Laptop) -> Iterator[FakeJobs]:
    issuers = [Issuer.model_validate(one) for one in dev_issuer.issuers(laptop.folder)]
    # The stubs mark every RPC abstract; the generated base class answers those that the fake leaves out.
    with serving_jobs(FakeJobs(Verifier(issuers, "crease", 60.0))) as fake:  # type: ignore[abstract]
        yield fake


@pytest.fixture(scope="session")
def start(s3: Endpoint, laptop: Laptop, jobs: FakeJobs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts an upload. Keyword arguments replace default settings; None removes one."""
    folder = tmp_path_factory.mktemp("upload")
    usual = {
        **laptop.env,
        **s3.env,
        "S3_COACH_VIDEOS_BUCKET": "plain",
        "CREASE_JOBS_ENDPOINT": f"127.0.0.1:{jobs.port}",
        "CREASE_TOKEN_FILE": str(laptop.token_file("upload")),
        # The environment has no S3 keys but those of the test.
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
    """A client of the default upload, whose bucket has no versioning."""
    return start()


@pytest.fixture(scope="session")
def versioned(start: Start) -> Client:
    return start(S3_COACH_VIDEOS_BUCKET="versioned")


@pytest.fixture(scope="session")
def shared_whole(
    postgres_server: Server,
    laptop: Laptop,
    s3_server: Endpoint,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Whole]:
    folder, bucket = tmp_path_factory.mktemp("sweep"), s3_server.make_bucket("swept", versioned=True)
    with ExitStack() as stack:
        database_url = postgres_server.clone()
        env = jobs_on(database_url, laptop) | {"COACH_PLUS_DEEP_ANALYSIS_ENABLED": "false"}
        jobs = stack.enter_context(running(Program("jobs", env, Path(folder, "jobs.log"))))
        env = laptop.env | s3_server.env | {
            "S3_COACH_VIDEOS_BUCKET": bucket,
            "CREASE_JOBS_ENDPOINT": jobs.endpoint,
            "CREASE_TOKEN_FILE": str(laptop.token_file("upload")),
            "CREASE_SWEEP_SECONDS": "0.2",
            "CREASE_MULTIPART_FROM_BYTES": "2000",
        }  # fmt: skip
        upload = stack.enter_context(running(Program("upload", env, Path(folder, "upload.log"))))
        channel = stack.enter_context(grpc.insecure_channel(upload.endpoint))
        road = Road(jobs.endpoint, laptop)
        stub = upload_pb2_grpc.UploadServiceStub(channel)
        listing = orphan_pb2_grpc.OrphanServiceStub(channel)
        yield Whole(road, stub, listing, upload.endpoint, s3_server, bucket, database_url, laptop)


@pytest.fixture
def whole(shared_whole: Whole) -> Whole:
    with psycopg.connect(shared_whole.database_url) as connection:
        clear(connection)
    client = shared_whole.s3.client()
    for page in client.get_paginator("list_object_versions").paginate(Bucket=shared_whole.bucket):
        for found in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
            client.delete_object(Bucket=shared_whole.bucket, Key=found["Key"], VersionId=found["VersionId"])
    for found in client.list_multipart_uploads(Bucket=shared_whole.bucket).get("Uploads", []):
        client.abort_multipart_upload(Bucket=shared_whole.bucket, Key=found["Key"], UploadId=found["UploadId"])
    return shared_whole
