"""Takes from a worker every power that decoding does not need, before it opens the untrusted file.

    descriptors ─▶ capabilities ─▶ no_new_privs ─▶ Landlock: one readable file ─▶ seccomp: few system calls

`python -m services.analyzer.sandbox.confinement` confines itself, or fails and names what the kernel lacks.
"""

import contextlib
import ctypes
import os
import struct
import sys
from pathlib import Path

from services.analyzer.sandbox.landlock import restrict_files
from services.analyzer.sandbox.seccomp import restrict_calls

PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 4, 38
CAPABILITY_VERSION = 0x20080522
# To read a file of another user, as root may be asked to. Landlock still allows one file only.
CAP_DAC_READ_SEARCH = 2


def confine(readable: Path) -> list[str]:
    """Confine this process, which must have one thread, to reading one file; returns what the kernel lacks for it."""
    libc = ctypes.CDLL(None, use_errno=True)
    _drop_capabilities(libc)
    _set(libc, PR_SET_NO_NEW_PRIVS, 1)
    return [
        name
        for name, is_there in (
            ("Landlock", restrict_files(libc, readable)),
            ("seccomp", restrict_calls(libc)),
        )
        if not is_there
    ]


def protect_memory() -> None:
    """Deny other processes of the same user the memory and the environment of this process and its forks."""
    _set(ctypes.CDLL(None, use_errno=True), PR_SET_DUMPABLE, 0)


def close_descriptors(kept: int) -> None:
    """Close all descriptors but one, and connect the standard ones to /dev/null: a worker writes to no log."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor not in (0, 1, 2, kept):
            with contextlib.suppress(OSError):  # the descriptor of this listing is closed already
                os.close(descriptor)


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    header = struct.pack("=Ii", CAPABILITY_VERSION, 0)
    held = ctypes.create_string_buffer(24)
    _check(libc.capget(header, held))
    _, permitted, *_ = struct.unpack("=6I", held.raw)
    kept = permitted & (1 << CAP_DAC_READ_SEARCH)
    _check(libc.capset(header, struct.pack("=6I", kept, kept, 0, 0, 0, 0)))


def _set(libc: ctypes.CDLL, option: int, value: int) -> None:
    _check(libc.prctl(option, *(ctypes.c_ulong(argument) for argument in (value, 0, 0, 0))))


def _check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    sys.exit(" and ".join(confine(Path(__file__))) or 0)
