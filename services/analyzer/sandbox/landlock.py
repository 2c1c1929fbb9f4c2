"""Limits a process to one readable file, and cuts it off from other processes: Landlock, since Linux 5.13.

What the rules cover grows with the kernel: files (ABI 1), TCP (4), devices (5), abstract sockets and signals (6). In
every version a process outside cannot be traced, and its memory in /proc not opened.
"""

import contextlib
import ctypes
import os
import struct
from pathlib import Path

# The numbers are the same on every architecture.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
GET_VERSION = 1
PATH_BENEATH = 1
READ_FILE = 1 << 2
# The rights that a version of the ABI knows: of files, of TCP ports, and towards processes outside.
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
TCP_ABI, TCP_RIGHTS = 4, 0b11
SCOPES_ABI, SCOPES = 6, 0b11


def restrict_files(libc: ctypes.CDLL, readable: Path) -> bool:
    """Deny this thread and its children all that Landlock controls, except to read one file; False if it is missing.

    The process must have no_new_privs. Open descriptors keep their rights. Raises OSError.
    """
    abi = libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), GET_VERSION)
    if abi < 1:
        return False
    file_rights = (1 << max(bits for since, bits in FILE_RIGHTS.items() if since <= abi)) - 1
    tcp_rights = TCP_RIGHTS if abi >= TCP_ABI else 0
    scopes = SCOPES if abi >= SCOPES_ABI else 0
    # An older kernel takes a longer structure if the rest is zero.
    ruleset = _call(libc, CREATE_RULESET, struct.pack("=QQQ", file_rights, tcp_rights, scopes), ctypes.c_size_t(24), 0)
    try:
        with contextlib.suppress(FileNotFoundError, PermissionError):  # the task then fails to open the file
            file = os.open(readable, os.O_PATH | os.O_CLOEXEC)
            try:
                _call(libc, ADD_RULE, ruleset, PATH_BENEATH, struct.pack("=Qi", READ_FILE, file), 0)
            finally:
                os.close(file)
        _call(libc, RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return True


def _call(libc: ctypes.CDLL, number: int, *arguments: object) -> int:
    result = int(libc.syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
