"""The examples, and the lines of docs/clients.md, against a real `crease up`."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crease.events.v1.event_pb2 import WatchEventsRequest
from crease.jobs.v1.session_pb2 import CreateSessionRequest
from crease.upload.v1.upload_pb2 import InitiateUploadRequest
from crease_client import connect, token_file
from services.cli.api import endpoints
from services.cli.api.endpoints import Endpoints, StateDir
from testing.data.clips import even, write_clip
from testing.servers.programs import ROOT

START_SECONDS = 180
BUILT = ROOT / "build" / "examples"
# The command of each language, and a file that `make examples` writes.
COMMANDS = {
    "python": ([sys.executable, "examples/python/analyze.py"], ROOT / "client"),
    "node": (["node", "examples/node/analyze.js"], ROOT / "examples" / "node" / "node_modules"),
    "go": ([str(BUILT / "go" / "analyze")], BUILT / "go" / "analyze"),
    "java": (
        ["java", "-cp", f"{BUILT}/java/*:{BUILT}/java/dependency/*", "dev.crease.example.Analyze"],
        BUILT / "java" / "dependency",
    ),
}


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
@pytest.mark.parametrize("language", COMMANDS)
def test_an_example_sends_a_video_and_fetches_its_report(
    up: Endpoints, video: Path, language: str, tmp_path: Path
) -> None:
    """As docs/clients.md tells another team: endpoints and token by the environment."""
    command, built = COMMANDS[language]
    if not (shutil.which(command[0]) and built.exists()):
        pytest.skip(f"`make examples` has not built the example for {language}")
    report = tmp_path / "report.html"
    env = os.environ | {
        "CREASE_JOBS_ENDPOINT": up.jobs_endpoint,
        "CREASE_UPLOAD_ENDPOINT": up.upload_endpoint,
        "CREASE_TOKEN_FILE": up.token_file,
    }
    ran = subprocess.run(
        [*command, str(video), str(report)], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "JOB_STATUS_DONE 100" in ran.stdout
    assert "<html" in report.read_text()


@pytest.mark.slow
def test_a_service_follows_the_jobs_of_an_owner(up: Endpoints, video: Path, tmp_path: Path) -> None:
    """Also those that were done while its program did not run. `crease up` writes the token of a service."""
    service = str(Path(up.token_file).with_name("service"))
    env = {"CREASE_JOBS_ENDPOINT": up.jobs_endpoint, "CREASE_UPLOAD_ENDPOINT": up.upload_endpoint}
    tokens = token_file(Path(up.token_file))
    with connect(jobs=up.jobs_endpoint, upload=up.upload_endpoint, token=tokens) as client:
        session = client.sessions.CreateSession(CreateSessionRequest(title="Nets"))
        command = [sys.executable, "examples/python/follow.py", f"coach:{session.owner_id}", str(tmp_path / "reports")]
        request = InitiateUploadRequest(session_id=session.session_id)
        # Makes the subscription, as the first run of the program does.
        with connect(jobs=up.jobs_endpoint, upload=up.upload_endpoint, token=token_file(Path(service))) as calling:
            stream = calling.on_behalf_of(f"coach:{session.owner_id}").events.WatchEvents(
                WatchEventsRequest(subscription="example-reports", types=["JobDone"])
            )
            assert stream.initial_metadata()
            stream.cancel()
        for _ in range(2):
            job = client.wait(client.upload(video, request).job_id)
            follower = subprocess.Popen(
                command, cwd=ROOT, env=os.environ | env | {"CREASE_TOKEN_FILE": service}, stdout=subprocess.PIPE
            )
            with follower:
                assert follower.stdout is not None
                fetched = follower.stdout.readline().decode().strip()
                follower.terminate()
            assert fetched == job.job_id
            assert "<html" in (tmp_path / "reports" / f"{fetched}.html").read_text()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("grpcurl"), reason="grpcurl is not installed")
def test_the_lines_of_the_page_work_when_pasted(up: Endpoints) -> None:
    """Every line of the shell block, with the ports and the token of this `crease up`."""
    [block] = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs" / "clients.md").read_text(), re.MULTILINE | re.DOTALL)
    script = block.replace("127.0.0.1:7300", up.jobs_endpoint).replace("127.0.0.1:7301", up.upload_endpoint)
    script = script.replace("~/.local/state/crease/tokens/coach", up.token_file)
    ran = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert all(word in ran.stdout for word in ("rpc WatchJob", '"title": "Nets"', "max_content_length"))
