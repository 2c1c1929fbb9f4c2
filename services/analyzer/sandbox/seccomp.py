"""Limits a process to the system calls of decoding: a seccomp filter, which no process can take off again.

    hostile ─▶ the kernel ends the process (SIGSYS)
    needed ─▶ allowed, some only with harmless arguments; otherwise EPERM
    any other ─▶ ENOSYS, as from a kernel without the call, so that a library takes its other way

The list was recorded with strace while the decoders of the test suite ran.
"""

import ctypes
import errno
import os
import platform
import struct

# The architecture's number in the kernel's audit.h, and the column of its call numbers below.
ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
# Numbers on x86_64 and aarch64. A library may probe none of these calls.
HOSTILE = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "execve": (59, 221),
    "execveat": (322, 281),
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    "mount": (165, 40),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "io_uring_setup": (425, 425),
}
NEEDED = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "poll": (7, None),
    "lseek": (8, 62),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "pread64": (17, 67),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "getpid": (39, 172),
    "exit": (60, 93),
    "sigaltstack": (131, 132),
    "gettid": (186, 178),
    "futex": (202, 98),
    "sched_getaffinity": (204, 123),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "newfstatat": (262, 79),
    "ppoll": (271, 73),
    "set_robust_list": (273, 99),
    "getrandom": (318, 278),
    "rseq": (334, 293),
}
# Allowed if an argument, masked, has a value: (numbers, argument, mask, values).
MAP_TYPE, MAP_PRIVATE, MAP_GROWSDOWN = 0x0F, 0x02, 0x0100
CLONE_THREAD, CLONE_NEW_NAMESPACES = 0x10000, 0x7E020000
F_GETFD, F_SETFD, F_GETFL = 1, 2, 3
WORD = 0xFFFFFFFF
CONDITIONAL = {
    # RLIMIT_DATA counts private memory only.
    "mmap": ((9, 222), 3, MAP_TYPE | MAP_GROWSDOWN, (MAP_PRIVATE,)),
    "openat": ((257, 56), 2, os.O_ACCMODE | os.O_CREAT | os.O_TRUNC, (os.O_RDONLY,)),
    "fcntl": ((72, 25), 1, WORD, (F_GETFD, F_SETFD, F_GETFL)),
    # A thread, not a process. Of clone3 a filter cannot see the flags; libc then calls clone.
    "clone": ((56, 220), 0, CLONE_THREAD | CLONE_NEW_NAMESPACES, (CLONE_THREAD,)),
    # The process's own limits.
    "prlimit64": ((302, 261), 0, WORD, (0,)),
}
# A signal to the process itself, as abort() sends it.
TGKILL = (234, 131)

ALLOW, KILL_PROCESS, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
# Instructions of classic BPF, from linux/bpf_common.h: load, and, jump if equal, return.
LOAD, AND, JUMP, RETURN = 0x20, 0x54, 0x15, 0x06
# Offsets in seccomp_data, of the low half of an argument on a little-endian machine.
NUMBER, ARCHITECTURE, ARGUMENTS, ARGUMENT_BYTES = 0, 4, 16, 8


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def restrict_calls(libc: ctypes.CDLL) -> bool:
    """Install the filter for this thread and its children; False if the kernel or the architecture has none.

    The process must have no_new_privs.
    """
    if platform.machine() not in ARCHITECTURES:
        return False
    instructions = _build(*ARCHITECTURES[platform.machine()])
    program = _Program(len(instructions) // 8, instructions)
    return bool(libc.prctl(PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), ctypes.byref(program)) == 0)


def _build(architecture: int, column: int) -> bytes:
    parts = [_code(LOAD, ARCHITECTURE), _return_unless(architecture, KILL_PROCESS), _code(LOAD, NUMBER)]
    parts += [_return_if(numbers[column], KILL_PROCESS) for numbers in HOSTILE.values()]
    parts += [_return_if(number, ALLOW) for numbers in NEEDED.values() if (number := numbers[column]) is not None]
    conditions = [*CONDITIONAL.values(), (TGKILL, 0, WORD, (os.getpid(),))]
    for numbers, argument, mask, values in conditions:
        check = _code(LOAD, ARGUMENTS + ARGUMENT_BYTES * argument) + _code(AND, mask)
        check += b"".join(_return_if(value, ALLOW) for value in values) + _code(RETURN, ERRNO | errno.EPERM)
        parts.append(_code(JUMP, numbers[column], otherwise=len(check) // 8) + check)
    return b"".join((*parts, _code(RETURN, ERRNO | errno.ENOSYS)))


def _return_if(value: int, result: int) -> bytes:
    return _code(JUMP, value, otherwise=1) + _code(RETURN, result)


def _return_unless(value: int, result: int) -> bytes:
    return _code(JUMP, value, then=1) + _code(RETURN, result)


def _code(operation: int, operand: int, *, then: int = 0, otherwise: int = 0) -> bytes:
    """One instruction; a jump skips `then` or `otherwise` instructions."""
    return struct.pack("=HBBI", operation, then, otherwise, operand)
