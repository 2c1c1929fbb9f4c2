"""The examples, and the lines of docs/clients.md, against a real `crease up`."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from crease.jobs.v1.session_pb2 import CreateSessionRequest
from crease.upload.v1.upload_pb2 import InitiateUploadRequest
from crease_client import connect, token_file
from services.cli.api import endpoints
from services.cli.api.endpoints import Endpoints, StateDir
from services.cli.laptop.postgres import SUPERUSER
from testing.data.clips import even, write_clip
from testing.servers.programs import ROOT

START_SECONDS = 180
BUILT = ROOT / "build" / "examples"
# With grpcurl, which `make examples` installs.
TOOLS = f"{BUILT / 'go' / 'bin'}:{os.environ['PATH']}"
JAVA = ["java", "-cp", f"{BUILT}/java/*:{BUILT}/java/dependency/*"]
# The commands of each language.
ANALYZE = {
    "python": [sys.executable, "examples/python/analyze.py"],
    "node": ["node", "examples/node/analyze.js"],
    "go": [str(BUILT / "go" / "example"), "analyze"],
    "java": [*JAVA, "dev.crease.example.Analyze"],
}
FOLLOW = {
    "python": [sys.executable, "examples/python/follow.py"],
    "node": ["node", "examples/node/follow.js"],
    "go": [str(BUILT / "go" / "example"), "follow"],
    "java": [*JAVA, "dev.crease.example.Follow"],
}
# The toolchain, and what `make examples` fetches before it builds. An example that is fetched must be built.
FETCHED = {
    "python": (sys.executable, ROOT / "client"),
    "node": ("node", ROOT / "examples" / "node" / "node_modules"),
    "go": ("go", BUILT / "go" / "bin" / "grpcurl"),
    "java": ("java", BUILT / "java" / "protoc-plugins"),
}


def skip_unless_fetched(language: str) -> None:
    program, folder = FETCHED[language]
    if not (shutil.which(program) and folder.exists()):
        pytest.skip(f"`make examples` has not fetched what the examples for {language} need")


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    """A whole Crease on random ports."""
    state = StateDir(tmp_path_factory.mktemp("examples") / "state")
    command = [sys.executable, "-m", "services.cli", "up", "--port-base", "0", "--state", str(state.folder)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not state.client_file.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline, "`crease up` is not ready"
            time.sleep(0.1)
        yield endpoints.read_announced(state)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short one without an athlete: its report says so."""
    return write_clip(tmp_path_factory.mktemp("video") / "clip.mp4", even(30, 30))


@pytest.mark.slow
@pytest.mark.parametrize("language", ANALYZE)
def test_an_example_sends_a_video_and_fetches_its_report(
    up: Endpoints, video: Path, language: str, tmp_path: Path
) -> None:
    """As docs/clients.md tells another team: endpoints and token by the environment."""
    skip_unless_fetched(language)
    report = tmp_path / "report.html"
    env = os.environ | {
        "CREASE_JOBS_ENDPOINT": up.jobs_endpoint,
        "CREASE_UPLOAD_ENDPOINT": up.upload_endpoint,
        "CREASE_TOKEN_FILE": up.token_file,
    }
    ran = subprocess.run(
        [*ANALYZE[language], str(video), str(report)], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "JOB_STATUS_DONE 100" in ran.stdout
    assert "<html" in report.read_text()


@pytest.fixture(scope="module")
def database(up: Endpoints) -> Iterator[psycopg.Connection[Any]]:
    """The database of this `crease up`, by the socket that PostgreSQL names in its folder."""
    [written] = Path(up.state_folder).rglob("postmaster.pid")
    url = f"postgresql://{SUPERUSER}@/postgres?host={written.read_text().split()[4]}"
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


# The subscription of a program, the events that it has not acknowledged, and how it falls behind all kept events.
EXISTS = "SELECT 1 FROM subscriptions WHERE name = %s"
UNACKNOWLEDGED = "SELECT 1 FROM deliveries JOIN subscriptions AS s ON s.id = subscription_id WHERE s.name = %s"
BEHIND = """
    WITH newest AS (SELECT xid, id FROM events ORDER BY xid DESC, id DESC LIMIT 1), purged AS (
        UPDATE event_positions AS at SET xid = newest.xid, id = newest.id FROM newest WHERE at.name = 'purged')
    UPDATE subscriptions SET xid = 0, event_id = 0 WHERE name = %s
"""


class Follower:
    """A program that follows the jobs of an owner and prints the job of each report. It is killed after the block."""

    def __init__(self, up: Endpoints, language: str, owner: str, folder: Path) -> None:
        self._folder = folder
        env = os.environ | {
            "CREASE_JOBS_ENDPOINT": up.jobs_endpoint,
            "CREASE_UPLOAD_ENDPOINT": up.upload_endpoint,
            "CREASE_TOKEN_FILE": str(Path(up.token_file).with_name("service")),
        }
        command = [*FOLLOW[language], owner, str(folder)]
        self._process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "Follower":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def fetches(self, *job_ids: str) -> None:
        """Waits until it has printed these jobs; their reports are there then."""
        left = set(job_ids)
        assert self._process.stdout is not None
        while left:
            line = self._process.stdout.readline()
            assert line, f"the program ended with {self._process.wait()}"
            left.discard(line.strip())
        assert all("<html" in (self._folder / f"{job_id}.html").read_text() for job_id in job_ids)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("language", FOLLOW)
def test_a_service_follows_the_jobs_of_an_owner(
    up: Endpoints, database: psycopg.Connection[Any], video: Path, language: str, tmp_path: Path
) -> None:
    """It misses no job: neither while it is down, nor where it fell behind the kept events."""
    skip_unless_fetched(language)
    name = [f"example-reports-{language}"]
    tokens = token_file(Path(up.token_file))
    with connect(jobs=up.jobs_endpoint, upload=up.upload_endpoint, token=tokens) as client:
        session = client.sessions.CreateSession(CreateSessionRequest(title="Nets"))
        request, owner = InitiateUploadRequest(session_id=session.session_id), f"coach:{session.owner_id}"

        def done() -> str:
            return client.wait(client.upload(video, request).job_id).job_id

        with Follower(up, language, owner, tmp_path / "reports"):
            wait_until(lambda: bool(database.execute(EXISTS, name).fetchall()))
        down = done()
        with Follower(up, language, owner, tmp_path / "reports") as follower:
            follower.fetches(down)
            follower.fetches(done())
            wait_until(lambda: not database.execute(UNACKNOWLEDGED, name).fetchall())
        lost = done()
        database.execute(BEHIND, name)
        with Follower(up, language, owner, tmp_path / "reports") as follower:
            follower.fetches(lost)
            follower.fetches(done())


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("grpcurl", path=TOOLS), reason="grpcurl is not installed: `make examples` with Go")
def test_the_lines_of_the_page_work_when_pasted(up: Endpoints) -> None:
    """Every line of the shell block, with the ports and the token of this `crease up`."""
    [block] = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs" / "clients.md").read_text(), re.MULTILINE | re.DOTALL)
    script = block.replace("127.0.0.1:7300", up.jobs_endpoint).replace("127.0.0.1:7301", up.upload_endpoint)
    script = script.replace("~/.local/state/crease/tokens/coach", up.token_file)
    ran = subprocess.run(
        ["bash", "-euc", script], env=os.environ | {"PATH": TOOLS}, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert all(word in ran.stdout for word in ("rpc WatchJob", '"title": "Nets"', "max_content_length"))
