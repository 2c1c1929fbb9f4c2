"""`crease up` as a process tree: nothing survives it, nothing is lost by it, and what dies in it comes back."""

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

import boto3
import psutil
import psycopg
import pytest
from botocore.config import Config

from services.cli.laptop.stack import BUCKET
from services.cli.laptop.state_dir import Laptop
from testing.servers.programs import ROOT

# For what only waits, on however slow a machine; nothing is measured by it.
PATIENCE_SECONDS = 60.0


class Up:
    """A `crease up` with stand-ins, as a process of its own."""

    def __init__(self, folder: Path, *what: str) -> None:
        self.here = Laptop(folder)
        command = (sys.executable, "-m", "tests.integration.cli.stand_in", str(folder), *what)
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, start_new_session=True)

    def ready(self) -> dict[str, str]:
        """What client.json says, once it is there."""
        wait_for(lambda: self.here.client_file.exists() or self.process.poll() is not None)
        assert self.process.poll() is None, self.process.communicate()
        content: dict[str, str] = json.loads(self.here.client_file.read_text())
        return content

    def kill(self) -> None:
        """Whatever a failed test left behind."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in [*psutil.Process(self.process.pid).children(recursive=True), self.process]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self.process.communicate()

    def keeper(self) -> psutil.Process:
        (keeper,) = psutil.Process(self.process.pid).children()
        return keeper

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
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
    """Every process that has to do with the folder, by command line, environment or working folder."""
    found = []
    for process in psutil.process_iter():
        try:
            known = f"{process.cmdline()} {process.environ()} {process.cwd()}"
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if str(folder) in known and process.status() != psutil.STATUS_ZOMBIE:
            found.append(f"{process.pid} {process.cmdline()}")
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One state folder for all tests, each of which so begins where another one ended."""
    folder = tmp_path_factory.mktemp("up") / "state"
    yield folder
    assert living(folder) == []


@pytest.fixture
def start(folder: Path) -> Iterator[Starter]:
    """Starts a `crease up` of the named parts on the folder."""
    started: list[Up] = []

    def start(*what: str) -> Up:
        started.append(Up(folder, *what))
        return started[-1]

    yield start
    for up in started:
        up.kill()


@pytest.mark.parametrize("whom", ["front", "keeper"])
def test_nothing_survives_whichever_of_its_processes_is_killed(folder: Path, start: Starter, whom: str) -> None:
    """SIGKILL of either process ends PostgreSQL, the S3 server, every program and what these had started."""
    up = start("postgres", "s3", "worker")
    up.ready()
    assert len(living(folder)) > 5
    victim = psutil.Process(up.process.pid) if whom == "front" else up.keeper()
    victim.kill()
    wait_for(lambda: not living(folder))
    up.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_being_told_to_stop_is_no_failure(folder: Path, start: Starter, number: int) -> None:
    """kill, Ctrl-C and a closed terminal end everything in good order, also what a program left behind."""
    up = start("worker")
    up.ready()
    code, out, err = up.stop(number)
    assert (code, out.splitlines()[-1], err) == (0, "Stopped.", "")
    assert living(folder) == []
    assert not up.here.client_file.exists()


def test_a_second_up_on_the_same_state_finds_its_data_again(start: Starter) -> None:
    """A row and an object outlive the end of everything, and the bucket is there from the start."""
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


def s3_of(answers: dict[str, str]):  # type: ignore[no-untyped-def]  # boto3's clients have no type at run time
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


def test_a_second_up_at_the_same_time_says_so_and_leaves_the_first_alone(folder: Path, start: Starter) -> None:
    """One sentence, with the process id of the first."""
    first = start("worker")
    first.ready()
    second = start("worker")
    _, err = second.process.communicate(timeout=PATIENCE_SECONDS)
    assert second.process.returncode != 0
    assert f"already runs on {folder} (process {first.process.pid})" in err
    assert first.stop()[0] == 0


def test_a_program_that_dies_is_started_again(folder: Path, start: Starter) -> None:
    """The user reads what happened, and what the dead one had started still ends with the rest."""
    up = start("worker")
    up.ready()
    pid_file = folder / "worker.pid"
    dead = pid_file.read_text()
    os.kill(int(dead), signal.SIGKILL)
    wait_for(lambda: pid_file.read_text() not in ("", dead))
    code, out, _ = up.stop()
    assert code == 0
    assert "was ended by SIGKILL; starts again in 0.5 s" in out
    assert living(folder) == []


def test_a_program_that_cannot_start_ends_everything_with_its_own_words(folder: Path, start: Starter) -> None:
    """One sentence on standard error: which program, what it said, where its log is."""
    up = start("worker", "broken")
    out, err = up.process.communicate(timeout=PATIENCE_SECONDS)
    assert up.process.returncode == 70
    log = folder / "logs" / "broken.log"
    assert err == f"crease: broken ended with exit code 1, saying: no such setting ({log}).\n"
    assert "ready" in out
    assert living(folder) == []
