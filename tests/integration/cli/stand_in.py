"""`crease up` with stand-ins for the programs; front, keeper, tree, PostgreSQL and the S3 server are the real ones.

`python -m tests.integration.cli.stand_in STATE WHAT…`, each WHAT one of PARTS.
"""

import os
import sys
import urllib.parse
from collections.abc import Callable
from pathlib import Path

from services.cli.commands import up
from services.cli.errors import Trouble
from services.cli.laptop import postgres, stack
from services.cli.laptop.state_dir import Client, Laptop
from services.cli.laptop.supervisor import Program, Tree

# Like the controller: what it starts is in a session of its own and outlives it.
WORKER = """
import pathlib, os, subprocess, sys, time
subprocess.Popen(["sleep", "1000"], start_new_session=True)
pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
time.sleep(1000)
"""
BROKEN = "import sys; sys.exit('no such setting')"


def _program(here: Laptop, name: str, code: str) -> Program:
    pid_file = here.folder / f"{name}.pid"
    pid_file.unlink(missing_ok=True)
    environment = {**os.environ, "STATE": str(here.folder)}
    command = (sys.executable, "-c", code, str(pid_file))
    return Program(name, command, environment, is_ready=lambda: pid_file.exists() and pid_file.read_text() != "")


def _postgres(tree: Tree, here: Laptop) -> str:
    return postgres.start(tree, here.folder / "postgres")


def _s3(tree: Tree, here: Laptop) -> str:
    store = stack.start_s3(tree, here)
    return f"{store.endpoint}?{urllib.parse.urlencode(store.access)}"


def _starter(name: str, code: str) -> Callable[[Tree, Laptop], str]:
    def start(tree: Tree, here: Laptop) -> str:
        tree.start(_program(here, name, code))
        return ""

    return start


PARTS: dict[str, Callable[[Tree, Laptop], str]] = {
    "postgres": _postgres,
    "s3": _s3,
    "worker": _starter("worker", WORKER),
    "broken": _starter("broken", BROKEN),
}


def start(tree: Tree, here: Laptop) -> Client:
    """What the parts answered to stands where clients find endpoints."""
    answers = {name: PARTS[name](tree, here) for name in sys.argv[2:]}
    return Client(answers.get("postgres", ""), answers.get("s3", ""), "")


if __name__ == "__main__":
    try:
        sys.exit(up.run(Path(sys.argv[1]), start))
    except Trouble as trouble:
        sys.exit(trouble.sentence)
