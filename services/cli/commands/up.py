"""`crease up`: two processes, so that nothing survives whichever of them is killed.

front    the process the user started: passes signals on, and ends what is left if the keeper was killed
└─ keeper    starts, watches and ends every program; gets SIGTERM from the kernel when the front dies
   ├─ postgres, s3, jobs, upload, controller     killed by the kernel when the keeper dies
   └─ analyzers whose controller died            the keeper's by adoption, else the front's

Both killed in the same instant, an analyzer alone is left: it ends by itself when its lease does.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from services.cli.errors import FAILED, Trouble
from services.cli.laptop import prerequisites, stack, state_dir, subreaper
from services.cli.laptop.state_dir import Client, Laptop
from services.cli.laptop.supervisor import STOP_SIGNALS, Stopped, Tree
from services.cli.ui import console

# Tokens live for thirty days; who leaves `up` running for longer finds fresh ones.
RENEW_SECONDS = 86400.0


def up(folder: Path, s3_endpoint: str | None) -> int:
    """Runs everything until it is told to stop; returns the exit code. Raises Trouble before anything has started."""
    prerequisites.check(own_s3=s3_endpoint is None)
    return run(folder, lambda tree, here: stack.start(tree, here, s3_endpoint))


def run(folder: Path, start: Callable[[Tree, Laptop], Client]) -> int:
    """The front: `start` is called in the keeper."""
    here = state_dir.create(folder)
    lock = state_dir.claim(here)
    signal.pthread_sigmask(signal.SIG_BLOCK, (*STOP_SIGNALS, signal.SIGCHLD))
    subreaper.adopt()
    front = os.getpid()
    keeper = os.fork()
    if keeper == 0:
        os._exit(_keep_safely(front, here, start))
    exit_code = _attend(keeper)
    here.client_file.unlink(missing_ok=True)
    os.close(lock)
    if exit_code < 0:
        raise Trouble(f"`crease up` was killed by {signal.Signals(-exit_code).name}; what it had started was ended.")
    return exit_code


def _attend(keeper: int) -> int:
    """Waits for the keeper's end and ends what it left; its exit code, or less than 0 where a signal ended it."""
    while True:
        taken = signal.sigtimedwait((*STOP_SIGNALS, signal.SIGCHLD), 1.0)
        if taken and taken.si_signo in STOP_SIGNALS:
            os.kill(keeper, taken.si_signo)
        subreaper.reap({keeper})
        dead, status = os.waitpid(keeper, os.WNOHANG)
        if dead:
            break
    subreaper.end((), patience_seconds=5.0)
    return os.waitstatus_to_exitcode(status)


def _keep_safely(front: int, here: Laptop, start: Callable[[Tree, Laptop], Client]) -> int:
    """The keeper's whole life. It never returns into the front's code, whatever happens."""
    try:
        # A group of its own: Ctrl-C reaches the front alone, which passes it on once.
        os.setpgid(0, 0)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        subreaper.end_with_parent(front)
        return _keep(here, start)
    except Trouble as trouble:
        console.trouble(trouble.sentence)
        return trouble.exit_code
    except BaseException as error:
        console.surprise(error)
        return FAILED
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _keep(here: Laptop, start: Callable[[Tree, Laptop], Client]) -> int:
    tree = Tree(here.logs, console.part)
    try:
        state_dir.announce(here, start(tree, here))
        console.ready(here.folder)
        tree.watch(_renewal(here))
    except Stopped:
        console.line("Stopping.")
    finally:
        here.client_file.unlink(missing_ok=True)
        tree.end()
    console.line("Stopped.")
    return 0


def _renewal(here: Laptop) -> Callable[[], None]:
    """A chore that gives out fresh tokens once a day."""
    due = time.monotonic() + RENEW_SECONDS

    def renew() -> None:
        nonlocal due
        if time.monotonic() > due:
            due = time.monotonic() + RENEW_SECONDS
            state_dir.mint_tokens(here)

    return renew
