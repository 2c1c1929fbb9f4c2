"""`crease demo`: from nothing to a report by the same commands that a user runs, and stops everything again."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from services.cli.api import client, endpoints, video_file
from services.cli.api.endpoints import StateDir
from services.cli.api.resume_state import ResumeStates
from services.cli.commands import analyze, reports
from services.cli.commands.analyze import AnalysisOptions
from services.cli.commands.options import Arguments, Commands
from services.cli.errors import INTERNAL, USAGE, CommandError
from services.cli.ui import console, job_results

STATE = Path("build") / "demo-state"
START_SECONDS = 180.0


def add_to(commands: Commands) -> None:
    summary = "analyse one video on this machine, from an empty state folder to the report"
    command = commands.add_parser("demo", help=summary, description=f"{summary.capitalize()}.")
    command.set_defaults(run=_run, calls_services=False)
    command.add_argument("video", type=Path, metavar="VIDEO")
    analyze.add_discipline(command)
    command.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="(default: ./demo)")
    command.add_argument(
        "--state", type=Path, default=STATE, metavar="DIR", help="state folder, emptied first (default: %(default)s)"
    )


def _run(arguments: Arguments) -> int:
    video_file.check(arguments.video)
    demo(arguments.video, arguments.out, arguments.state, analyze.stated_discipline(arguments))
    return 0


def demo(video: Path, out: Path, folder: Path, discipline: str) -> None:
    """Leaves the report in `out` and no running process. Raises CommandError."""
    state = StateDir(folder.resolve())
    _empty(state)
    console.print_line(f"$ crease up --state {folder}", "bold")
    up = _start_up(state.folder)
    try:
        _wait_until_ready(state, up)
        console.print_line()
        console.print_line(f"$ crease analyze {video} --discipline {discipline}", "bold")
        found = endpoints.read_announced(state)
        with client.connect(found) as services:
            states = ResumeStates(folder / "uploads")
            largest = found.largest_video_bytes
            job = analyze.analyze(services, video, AnalysisOptions(discipline), states=states, largest_bytes=largest)
            job_results.print_results(job)
            console.print_report_path(reports.fetch(services, job, out))
    finally:
        console.print_line()
        _stop(up)


def _empty(state: StateDir) -> None:
    """Deletes the folder, but only if it is a state folder: the user may have named any folder."""
    if endpoints.is_up(state):
        raise CommandError(f"`crease up` runs on {state.folder}: stop it, or name another folder with --state.", USAGE)
    if state.folder.exists() and not state.lock.exists() and any(state.folder.iterdir()):
        raise CommandError(f"{state.folder} is not a state folder: name one that is empty or does not exist.", USAGE)
    shutil.rmtree(state.folder, ignore_errors=True)


def _start_up(folder: Path) -> subprocess.Popen[bytes]:
    # SIGTERM stops it when this process dies, for whatever reason.
    pdeathsig = Path(__file__).parents[1] / "laptop" / "pdeathsig.py"
    wrapper = (sys.executable, "-I", "-S", str(pdeathsig), str(os.getpid()), str(int(signal.SIGTERM)), "")
    return subprocess.Popen(
        (*wrapper, sys.executable, "-m", "services.cli", "up", "--port-base", "0", "--state", str(folder))
    )


def _wait_until_ready(state: StateDir, up: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not state.client_file.exists():
        if up.poll() is not None:
            raise CommandError("`crease up` ended before it was ready.", up.returncode or INTERNAL)
        if time.monotonic() > deadline:
            raise CommandError(f"`crease up` was not ready after {START_SECONDS:.0f} s.")
        time.sleep(0.1)


def _stop(up: subprocess.Popen[bytes]) -> None:
    if up.poll() is None:
        up.terminate()
    up.wait()
