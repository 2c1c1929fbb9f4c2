"""Runs a program that the kernel signals when its parent dies: `pdeathsig.py PARENT SIGNAL USER COMMAND…`.

A step of its own instead of a `preexec_fn`, which would fork a process that has gRPC's threads in it. A bare
interpreter runs this file, so it imports only the standard library.
"""

import ctypes
import os
import pwd
import signal
import sys

PR_SET_PDEATHSIG = 1


def become(parent: int, death_signal: int, user: str, command: list[str]) -> None:
    """Replaces this process by `command`, run as `user` (empty: the same user). Never returns."""
    # `up` waits for its signals with all of them blocked, and a child inherits the mask.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    if user:
        _drop_to(user)
    # After the change of user, which clears the setting.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("pdeathsig: the parent died first")
    try:
        os.execvp(command[0], command)  # noqa: S606
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


def _drop_to(user: str) -> None:
    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


if __name__ == "__main__":
    become(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
