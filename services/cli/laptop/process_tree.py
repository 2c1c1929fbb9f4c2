"""The two processes of `crease up`: whichever of them is killed, the other ends every program.

front    the process that the user started: passes signals on, and ends what remains if the keeper was killed
└─ keeper    starts, watches and stops every program; the kernel sends it SIGTERM when the front dies
   ├─ postgres, s3, jobs, upload, controller, web   killed by the kernel when the keeper dies
   └─ analyzers whose controller died               adopted by the keeper, else by the front

If both are killed in the same instant, an analyzer may survive them: it ends when its lease ends.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from services.cli.api.endpoints import Endpoints, StateDir
from services.cli.errors import INTERNAL, CommandError
from services.cli.laptop import lan, state_dir, subreaper
from services.cli.laptop.supervisor import STOP_SIGNALS, StopRequested, Supervisor
from services.cli.ui import console

# Tokens are valid for 30 days; a `crease up` that runs longer needs new ones.
RENEW_SECONDS = 86400.0
STRAY_PATIENCE_SECONDS = 5.0

Start = Callable[[Supervisor, StateDir], Endpoints]


def run(folder: Path, start: Start) -> int:
    """The front. The keeper calls `start`. Returns the exit code; raises CommandError."""
    state = state_dir.create(folder)
    lock = state_dir.lock(state)
    signal.pthread_sigmask(signal.SIG_BLOCK, (*STOP_SIGNALS, signal.SIGCHLD))
    subreaper.become_subreaper()
    front = os.getpid()
    keeper = os.fork()
    if keeper == 0:
        os._exit(_run_keeper(front, state, start))
    exit_code = _wait_for_keeper(keeper)
    state.client_file.unlink(missing_ok=True)
    os.close(lock)
    if exit_code < 0:
        name = signal.Signals(-exit_code).name
        raise CommandError(f"`crease up` was killed by {name}; every program that it had started was ended.")
    return exit_code


def _wait_for_keeper(keeper: int) -> int:
    """Waits for the keeper, then ends stray processes. Returns its exit code, negative if a signal ended it."""
    while True:
        taken = signal.sigtimedwait((*STOP_SIGNALS, signal.SIGCHLD), 1.0)
        if taken and taken.si_signo in STOP_SIGNALS:
            os.kill(keeper, taken.si_signo)
        subreaper.reap({keeper})
        dead, status = os.waitpid(keeper, os.WNOHANG)
        if dead:
            break
    subreaper.end_strays((), patience_seconds=STRAY_PATIENCE_SECONDS)
    return os.waitstatus_to_exitcode(status)


def _run_keeper(front: int, state: StateDir, start: Start) -> int:
    """The keeper. Returns its exit code and raises nothing: it must not return into the front's code."""
    try:
        # A process group of its own: Ctrl-C reaches only the front, which passes it on once.
        os.setpgid(0, 0)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        subreaper.end_with_parent(front)
        return _supervise(state, start)
    except CommandError as error:
        console.print_error(error.sentence)
        return error.exit_code
    except BaseException as error:
        console.print_unexpected(error)
        return INTERNAL
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _supervise(state: StateDir, start: Start) -> int:
    supervisor = Supervisor(state.logs, console.print_program)
    try:
        endpoints = start(supervisor, state)
        state_dir.announce(state, endpoints)
        page = state_dir.mint_sign_in(state, endpoints.page) if endpoints.page else ""
        is_open = bool(page) and lan.is_open(page)
        console.print_ready(state.folder, endpoints.jobs_endpoint, endpoints.upload_endpoint, page, is_open=is_open)
        if is_open:
            lan.print_code(page)
        supervisor.watch(_token_renewal(state))
    except StopRequested:
        console.print_line("Stopping.")
    finally:
        state.client_file.unlink(missing_ok=True)
        supervisor.stop()
    console.print_line("Stopped.")
    return 0


def _token_renewal(state: StateDir) -> Callable[[], None]:
    """A chore that mints new tokens once a day."""
    due = time.monotonic() + RENEW_SECONDS

    def renew() -> None:
        nonlocal due
        if time.monotonic() > due:
            due = time.monotonic() + RENEW_SECONDS
            state_dir.mint_tokens(state)

    return renew
