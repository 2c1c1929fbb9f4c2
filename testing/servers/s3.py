"""Real S3 servers for tests, each on a free port with its data under a folder.

ministack   checks signatures; the S3 server of the laptop
versitygw   the strictest; built once from its Go module, where there is Go, and kept in the user's cache
moto        checks no signature; another reading of the rest
"""

import os
import shutil
import signal
import subprocess
import sys
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

from services.cli.laptop import s3 as laptop_s3
from testing.servers.programs import free_port

READY_SECONDS = 60
VERSITYGW = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"


@dataclass(frozen=True)
class Endpoint:
    """A running server and the keys of its owner."""

    url: str
    region: str
    access_key: str
    secret_key: str

    @property
    def env(self) -> dict[str, str]:
        """The settings of upload for this server, except the bucket."""
        return {
            "CREASE_S3_ENDPOINT": self.url,
            "AWS_REGION": self.region,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }

    def client(self) -> Any:
        """A boto3 client with the owner's keys."""
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
def ministack(folder: Path, page_origin: str = "") -> Iterator[Endpoint]:
    """A running server, until the block ends. The folder keeps buckets and objects.

    `page_origin`: the page whose browsers may call it.
    """
    python = laptop_s3.find_python()
    if not python.exists():
        pytest.skip(f"no S3 server: {python} is absent")
    endpoint = Endpoint(f"http://127.0.0.1:{free_port()}", "eu-west-1", "crease", "the-secret-of-the-tests")
    for name in ("objects", "server", "tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    command, env = list(laptop_s3.command(python)), _environment(folder, endpoint) | {"PAGE_ORIGIN": page_origin}
    with _running(command, env, folder / "ministack.log", endpoint, "/_ministack/health"):
        yield endpoint


@contextmanager
def versitygw(folder: Path) -> Iterator[Endpoint]:
    """A running server, until the block ends."""
    program = _built(VERSITYGW)
    endpoint = Endpoint(f"http://127.0.0.1:{free_port()}", "eu-west-1", "crease", "the-secret-of-the-tests")
    for name in ("objects", "versions", "iam"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    command = [program, "--port", endpoint.url.removeprefix("http://"), "--region", endpoint.region, "--quiet"]
    command += ["--health", "/health"]
    command += ["--access", endpoint.access_key, "--secret", endpoint.secret_key, "--iam-dir", str(folder / "iam")]
    command += ["posix", "--versioning-dir", str(folder / "versions"), str(folder / "objects")]
    with _running(command, dict(os.environ), folder / "versitygw.log", endpoint, "/health"):
        yield endpoint


@contextmanager
def moto(folder: Path) -> Iterator[Endpoint]:
    """A running server, in memory, until the block ends."""
    endpoint = Endpoint(f"http://127.0.0.1:{free_port()}", "eu-west-1", "crease", "the-secret-of-the-tests")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", endpoint.url.rpartition(":")[2]]
    with _running(command, dict(os.environ), folder / "moto.log", endpoint, "/moto-api/data.json"):
        yield endpoint


def _built(module: str) -> str:
    """The program of a Go module, built on the first call: about 3 minutes of CPU time. Skips without Go."""
    name = module.partition("@")[0].rpartition("/")[2]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "crease", module.rpartition("/")[2])
    if not (folder / name).exists():
        go = shutil.which("go") or "/usr/local/go/bin/go"
        if not Path(go).exists():
            pytest.skip(f"no {name}: it is built from its Go module, and there is no Go")
        draft = folder.with_name(f"{folder.name}.{os.getpid()}")
        env = dict(os.environ) | {"GOBIN": str(draft), "CGO_ENABLED": "0", "GOFLAGS": "-modcacherw"}
        built = subprocess.run([go, "install", "-trimpath", "-ldflags=-s -w", module], env=env, capture_output=True)
        if built.returncode:
            pytest.skip(f"no {name}: its Go module cannot be built here: {built.stderr.decode()[-300:]}")
        folder.mkdir(parents=True, exist_ok=True)
        (draft / name).replace(folder / name)
        draft.rmdir()
    return str(folder / name)


@contextmanager
def _running(command: list[str], env: dict[str, str], log: Path, endpoint: Endpoint, ready: str) -> Iterator[None]:
    with log.open("ab") as out:
        process = subprocess.Popen(command, env=env, stdout=out, stderr=out, start_new_session=True)
    try:
        _wait_until_ready(process, endpoint.url + ready, log)
        yield
    finally:
        _end(process)


def _environment(folder: Path, endpoint: Endpoint) -> dict[str, str]:
    """The environment of the laptop's server, in a region that is no client's default."""
    environment = laptop_s3.environment(folder, int(endpoint.url.rpartition(":")[2]), endpoint.secret_key)
    return environment | {"AWS_ACCESS_KEY_ID": endpoint.access_key, "MINISTACK_REGION": endpoint.region}


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    give_up = time.monotonic() + READY_SECONDS
    while True:
        try:
            if urllib3.request("GET", url, timeout=5, retries=False).status == 200:
                return
        except urllib3.exceptions.HTTPError:
            pass
        assert process.poll() is None, f"the S3 server ended:\n{log.read_text()}"
        assert time.monotonic() < give_up, f"the S3 server is not ready:\n{log.read_text()}"
        time.sleep(0.05)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends its process group, and so all its children."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=15)
    except ProcessLookupError:
        return
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
