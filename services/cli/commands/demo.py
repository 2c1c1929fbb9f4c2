"""`crease demo`: from nothing to a report and back to nothing, by the same steps that a user takes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from services.cli.api import client, video_file
from services.cli.api.resume_state import Notes
from services.cli.commands import analyze, reports
from services.cli.commands.analyze import Order
from services.cli.errors import FAILED, USAGE, Trouble
from services.cli.laptop import state_dir
from services.cli.laptop.state_dir import Laptop
from services.cli.ui import console

STATE = Path("build") / "demo-state"
START_SECONDS = 180.0


def demo(video: Path, out: Path, state: Path) -> int:
    """Exit code 0 when the report lies in `out` and nothing runs any more. Raises Trouble."""
    video_file.look(video)
    here = Laptop(state.resolve())
    _clear(here)
    console.line(f"$ crease up --state {state}", "bold")
    up = _start_up(here.folder)
    try:
        _await_ready(here, up)
        console.line()
        console.line(f"$ crease analyze {video}", "bold")
        found = state_dir.find(here)
        with client.connect(found) as services:
            notes = Notes(state / "uploads")
            job = analyze.analyze(services, video, Order(), notes=notes, largest_bytes=found.largest_video_bytes)
            console.results(job)
            console.report(reports.fetch(services, job, out))
    finally:
        console.line()
        _stop(up)
    return 0


def _clear(here: Laptop) -> None:
    """Empties the state folder, if it is one: the user may have named any folder."""
    if state_dir.is_up(here):
        raise Trouble(f"`crease up` runs on {here.folder}: stop it, or name another folder with --state.", USAGE)
    if here.folder.exists() and not here.lock.exists() and any(here.folder.iterdir()):
        raise Trouble(f"{here.folder} is no state folder of ours: name one that is empty or not there.", USAGE)
    shutil.rmtree(here.folder, ignore_errors=True)


def _start_up(folder: Path) -> subprocess.Popen[bytes]:
    # It must end with us, however we end.
    leash = Path(__file__).parents[1] / "laptop" / "pdeathsig.py"
    held = (sys.executable, "-I", "-S", str(leash), str(os.getpid()), str(int(signal.SIGTERM)), "")
    return subprocess.Popen((*held, sys.executable, "-m", "services.cli", "up", "--state", str(folder)))


def _await_ready(here: Laptop, up: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not here.client_file.exists():
        if up.poll() is not None:
            raise Trouble("`crease up` ended before it was ready.", up.returncode or FAILED)
        if time.monotonic() > deadline:
            raise Trouble(f"`crease up` was not ready after {START_SECONDS:.0f} s.")
        time.sleep(0.1)


def _stop(up: subprocess.Popen[bytes]) -> None:
    if up.poll() is None:
        up.terminate()
    up.wait()
