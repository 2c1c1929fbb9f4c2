"""All of Crease on one machine, without a fake."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from testing.servers.programs import ROOT
from tests.integration.cli.test_up import living


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
