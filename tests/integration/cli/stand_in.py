"""`crease up` with stand-ins for the programs; front, keeper, supervisor, PostgreSQL and the S3 server are real.

`python -m tests.integration.cli.stand_in STATE NAME…`, each NAME one of PROGRAMS.
"""

import os
import sys
import urllib.parse
from collections.abc import Callable
from pathlib import Path

from services.cli.api.endpoints import Endpoints, StateDir
from services.cli.errors import CommandError
from services.cli.laptop import postgres, process_tree, stack
from services.cli.laptop.supervisor import Program, Supervisor

# Like the controller: its child process has a session of its own and outlives it.
WORKER = """
import pathlib, os, subprocess, sys, time
subprocess.Popen(["sleep", "1000"], start_new_session=True)
pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
time.sleep(1000)
"""
BROKEN = "import sys; sys.exit('no such setting')"


def _program(state: StateDir, name: str, code: str) -> Program:
    pid_file = state.folder / f"{name}.pid"
    pid_file.unlink(missing_ok=True)
    environment = {**os.environ, "STATE": str(state.folder)}
    command = (sys.executable, "-c", code, str(pid_file))
    return Program(name, command, environment, is_ready=lambda: pid_file.exists() and pid_file.read_text() != "")


def _postgres(supervisor: Supervisor, state: StateDir) -> str:
    return postgres.start(supervisor, state.folder / "postgres")


def _s3(supervisor: Supervisor, state: StateDir) -> str:
    store = stack.start_s3(supervisor, state)
    return f"{store.endpoint}?{urllib.parse.urlencode(store.variables)}"


def _starter(name: str, code: str) -> Callable[[Supervisor, StateDir], str]:
    def start(supervisor: Supervisor, state: StateDir) -> str:
        supervisor.start(_program(state, name, code))
        return ""

    return start


PROGRAMS: dict[str, Callable[[Supervisor, StateDir], str]] = {
    "postgres": _postgres,
    "s3": _s3,
    "worker": _starter("worker", WORKER),
    "broken": _starter("broken", BROKEN),
}


def start(supervisor: Supervisor, state: StateDir) -> Endpoints:
    """Starts the named programs; their addresses stand in place of the services' endpoints."""
    answers = {name: PROGRAMS[name](supervisor, state) for name in sys.argv[2:]}
    return Endpoints(answers.get("postgres", ""), answers.get("s3", ""), "")


if __name__ == "__main__":
    try:
        sys.exit(process_tree.run(Path(sys.argv[1]), start))
    except CommandError as error:
        sys.exit(error.sentence)
