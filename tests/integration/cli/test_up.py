"""`crease up` as a process tree: no process survives it, no data is lost, and dead programs restart."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import psutil
import psycopg
import pytest
from botocore.config import Config

from services.cli.api.endpoints import StateDir
from services.cli.laptop.stack import BUCKET
from testing.servers.programs import ROOT

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

# An upper bound for waits on a slow machine; it measures nothing.
PATIENCE_SECONDS = 60.0


class Up:
    """A `crease up` with stand-ins, as a process of its own."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.state = StateDir(folder)
        command = (sys.executable, "-m", "tests.integration.cli.stand_in", str(folder), *names)
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, start_new_session=True)

    def ready(self) -> dict[str, str]:
        """Waits for client.json; returns its content."""
        wait_for(lambda: self.state.client_file.exists() or self.process.poll() is not None)
        assert self.process.poll() is None, self.process.communicate()
        content: dict[str, str] = json.loads(self.state.client_file.read_text())
        return content

    def kill(self) -> None:
        """Kills every process that a failed test left behind."""
        with contextlib.suppress(psutil.NoSuchProcess):
            up = psutil.Process(self.process.pid)
            for process in [*up.children(recursive=True), up]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self.process.communicate()

    def keeper(self) -> psutil.Process:
        (keeper,) = psutil.Process(self.process.pid).children()
        return keeper

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Sends a signal; returns exit code, standard output and standard error."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode, out, err


Starter = Callable[..., Up]


def wait_for(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def living(folder: Path) -> list[str]:
    """Every process whose command line, environment or working folder names the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            known = f"{process.cmdline()} {process.environ()} {process.cwd()}"
            if str(folder) in known and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {process.cmdline()}")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One state folder for all tests, so that each starts on the state that another one left."""
    folder = tmp_path_factory.mktemp("up") / "state"
    yield folder
    assert living(folder) == []


@pytest.fixture
def start(folder: Path) -> Iterator[Starter]:
    """Starts a `crease up` of the named programs on the folder."""
    started: list[Up] = []

    def start(*names: str) -> Up:
        started.append(Up(folder, *names))
        return started[-1]

    yield start
    for up in started:
        up.kill()


@pytest.mark.parametrize("killed", ["front", "keeper"])
def test_no_process_survives_a_kill_of_front_or_keeper(folder: Path, start: Starter, killed: str) -> None:
    """SIGKILL of either process ends PostgreSQL, the S3 server, every program and their child processes."""
    up = start("postgres", "s3", "worker")
    up.ready()
    assert len(living(folder)) > 5
    victim = psutil.Process(up.process.pid) if killed == "front" else up.keeper()
    victim.kill()
    wait_for(lambda: not living(folder))
    up.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stop_signal_is_no_failure(folder: Path, start: Starter, number: int) -> None:
    """kill, Ctrl-C and a closed terminal stop everything in order, stray processes too."""
    up = start("worker")
    up.ready()
    code, out, err = up.stop(number)
    assert (code, out.splitlines()[-1], err) == (0, "Stopped.", "")
    assert living(folder) == []
    assert not up.state.client_file.exists()


def test_a_second_up_on_the_same_state_finds_its_data(start: Starter) -> None:
    """A row and an object survive the stop, and the bucket exists from the start."""
    up = start("postgres", "s3")
    answers = up.ready()
    with psycopg.connect(answers["jobs_endpoint"], autocommit=True) as database:
        database.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    s3_of(answers).put_object(Bucket=BUCKET, Key="a/key", Body=b"bytes", ContentType="video/mp4")
    up.stop()

    up = start("postgres", "s3")
    answers = up.ready()
    with psycopg.connect(answers["jobs_endpoint"]) as database:
        assert database.execute("SELECT answer FROM kept").fetchall() == [(42,)]
    found = s3_of(answers).get_object(Bucket=BUCKET, Key="a/key")
    assert (found["Body"].read(), found["ContentType"]) == (b"bytes", "video/mp4")
    up.stop()


def s3_of(answers: dict[str, str]) -> "S3Client":
    url, _, access = answers["upload_endpoint"].partition("?")
    keys = dict(urllib.parse.parse_qsl(access))
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name=keys["AWS_REGION"],
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )


def test_a_second_up_at_the_same_time_fails_and_leaves_the_first_running(folder: Path, start: Starter) -> None:
    """One sentence with the process id of the first."""
    first = start("worker")
    first.ready()
    second = start("worker")
    _, err = second.process.communicate(timeout=PATIENCE_SECONDS)
    assert second.process.returncode != 0
    assert f"already runs on {folder} (process {first.process.pid})" in err
    assert first.stop()[0] == 0


def test_a_program_that_dies_is_restarted(folder: Path, start: Starter) -> None:
    """The user reads what happened, and the dead program's child process still ends with the others."""
    up = start("worker")
    up.ready()
    pid_file = folder / "worker.pid"
    dead = pid_file.read_text()
    os.kill(int(dead), signal.SIGKILL)
    wait_for(lambda: pid_file.read_text() not in ("", dead))
    code, out, _ = up.stop()
    assert code == 0
    assert "was killed by SIGKILL; restarts in 0.5 s" in out
    assert living(folder) == []


def test_a_program_that_cannot_start_ends_everything_with_its_message(folder: Path, start: Starter) -> None:
    """One sentence on standard error: the program, its last message, its log."""
    up = start("worker", "broken")
    out, err = up.process.communicate(timeout=PATIENCE_SECONDS)
    assert up.process.returncode == 70
    log = folder / "logs" / "broken.log"
    assert err == f"crease: broken ended with exit code 1: no such setting ({log}).\n"
    assert "ready" in out
    assert living(folder) == []
