"""All of Crease on one machine, without a fake."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import urllib3

from services.cli.api.endpoints import StateDir
from services.cli.errors import CommandError
from services.cli.laptop import lan
from testing.servers.programs import ROOT
from tests.integration.cli.test_up import living, wait_for


@pytest.mark.slow
def test_the_demo_leaves_a_report_and_no_process(tmp_path: Path) -> None:
    """From an empty folder to printed findings and files on the disk, without an escape sequence in a pipe."""
    video, state, out = ROOT / "samples" / "batter.mp4", tmp_path / "state", tmp_path / "out"
    places = ("--state", str(state), "--out", str(out))
    command = (sys.executable, "-m", "services.cli", "demo", str(video), "--discipline", "batting", *places)
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "Overall level" in ran.stdout
    assert "\x1b" not in ran.stdout
    assert "<html" in (out / "report.html").read_text()
    assert set(json.loads((out / "results.json").read_text())) >= {"pose", "metrics", "findings", "report"}
    assert living(state) == []


@pytest.mark.slow
def test_lan_opens_the_page_and_s3_alone(tmp_path: Path) -> None:
    """Every other program stays on the loopback address; what is open asks for a sign-in or a signature."""
    try:
        address = lan.find_address()
    except CommandError as error:
        pytest.skip(error.sentence)
    state = StateDir(tmp_path / "state")
    command = (sys.executable, "-m", "services.cli", "up", "--lan", "--port-base", "0", "--state", str(state.folder))
    up = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: state.client_file.exists() or up.poll() is not None)
        page = json.loads(state.client_file.read_text())["page"]
        tree = psutil.Process(up.pid).children(recursive=True)
        listening = [one.laddr for each in tree for one in each.net_connections() if one.status == psutil.CONN_LISTEN]
        opened = {(one.ip, one.port) for one in listening if not one.ip.endswith(("127.0.0.1", "::1"))}
        assert {ip for ip, _ in opened} == {address}
        [s3_port] = {port for _, port in opened} - {int(page.rpartition(":")[2])}
        assert urllib3.request("GET", f"{page}/library").status == 401
        s3 = f"http://{address}:{s3_port}/crease-videos"
        assert urllib3.request("GET", s3).status == 403
        refused = urllib3.request("GET", s3, headers={"host": "evil.example"})
        assert (refused.status, b"another Host" in refused.data) == (403, True)
    finally:
        up.send_signal(signal.SIGINT)
        said = up.communicate(timeout=120)[0]
    assert "use --lan only in a network that you trust" in said
    assert living(state.folder) == []
