"""A real S3 server that checks signatures, for tests: ministack on a free port, with its data under a folder."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import urllib3
from botocore.config import Config

from services.cli import s3 as laptop_s3
from tests.programs import free_port

READY_SECONDS = 60


@dataclass(frozen=True)
class Endpoint:
    """A running server and the keys of its owner."""

    url: str
    region: str
    access_key: str
    secret_key: str

    @property
    def env(self) -> dict[str, str]:
        """What `upload` must be told of it, beside a bucket."""
        return {
            "CREASE_S3_ENDPOINT": self.url,
            "AWS_REGION": self.region,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }

    def client(self) -> Any:
        """boto3's, with the owner's keys."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )

    def make_bucket(self, name: str, *, versioned: bool = False) -> str:
        client = self.client()
        client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": self.region})
        if versioned:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name


@contextmanager
def ministack(folder: Path) -> Iterator[Endpoint]:
    """Runs for as long as the block; the same folder again finds its buckets and objects again."""
    python = laptop_s3.find_python()
    if not python.exists():
        pytest.skip(f"no S3 server: {python} is absent")
    endpoint = Endpoint(f"http://127.0.0.1:{free_port()}", "eu-west-1", "crease", "the-secret-of-the-tests")
    for name in ("objects", "server", "tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with (folder / "ministack.log").open("ab") as log:
        command = [str(python), "-P", "-m", "ministack"]
        process = subprocess.Popen(
            command, env=_environment(folder, endpoint), stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait_until_ready(process, endpoint, folder / "ministack.log")
        yield endpoint
    finally:
        _end(process)


def _environment(folder: Path, endpoint: Endpoint) -> dict[str, str]:
    """As on the laptop, in a region that is not the default of any client."""
    told = laptop_s3.environment(folder, int(endpoint.url.rpartition(":")[2]), endpoint.secret_key)
    return told | {"AWS_ACCESS_KEY_ID": endpoint.access_key, "MINISTACK_REGION": endpoint.region}


def _wait_until_ready(process: "subprocess.Popen[bytes]", endpoint: Endpoint, log: Path) -> None:
    give_up = time.monotonic() + READY_SECONDS
    while True:
        try:
            if urllib3.request("GET", f"{endpoint.url}/_ministack/ready", timeout=5, retries=False).status == 200:
                return
        except urllib3.exceptions.HTTPError:
            pass
        assert process.poll() is None, f"ministack ended:\n{log.read_text()}"
        assert time.monotonic() < give_up, f"ministack is not ready:\n{log.read_text()}"
        time.sleep(0.05)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Its group: what it started ends with it."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=15)
    except ProcessLookupError:
        return
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
