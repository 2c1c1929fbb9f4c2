"""Tries from a real worker what code could try that took a decoder over; prints the outcome of each attack as JSON.

`python -m tests.unit.analyzer.sandbox.attacks FOLDER UID [MISSING]` runs the worker and its caller as the user. MISSING
names a part to leave out: `Landlock`, `seccomp` or `everything`.
An outcome is `done`, the name of an errno, or the name of the signal that ended the worker. The program makes the
folder, with `clip`, which the worker may read, and `secret`, which every user may read and write.
"""

import ctypes
import errno
import json
import mmap

# As another user, this program can read no module of root's.
import multiprocessing.popen_fork  # noqa: F401
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from types import ModuleType
from typing import Any

from services.analyzer.errors import BadInput, Fault
from services.analyzer.sandbox import client, confinement, server
from services.analyzer.sandbox.limits import SandboxLimits
from services.analyzer.settings import Limits

Target = dict[str, Any]
LIBC = ctypes.CDLL(None, use_errno=True)
PTRACE_SEIZE, IO_URING_SETUP, CLONE_NEWUSER, PIDFD_GETFD = 0x4206, 425, 0x10000000, 438
SECRET = ctypes.create_string_buffer(b"of the caller")


# What a kernel without the part does: (module, function, its result).
REPLACED: dict[str, tuple[tuple[ModuleType, str, Any], ...]] = {
    "Landlock": ((confinement, "restrict_files", False),),
    "seccomp": ((confinement, "restrict_calls", False),),
    "everything": (
        (server, "confine", []),
        (server, "close_descriptors", None),
        (server, "_set_limits", None),
        (server, "protect_memory", None),
        (client, "protect_memory", None),
    ),
}


def _check(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


def read_the_video(to: Target) -> None:
    Path(to["path"]).read_bytes()


def read_another_file(to: Target) -> None:
    Path(to["secret"]).read_bytes()


def read_another_file_in_a_thread(to: Target) -> None:
    caught: list[OSError] = []

    def read() -> None:
        try:
            read_another_file(to)
        except OSError as error:
            caught.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    if caught:
        raise caught[0]


def list_a_folder(to: Target) -> None:
    os.listdir(to["folder"])


def write_the_video(to: Target) -> None:
    os.close(os.open(to["path"], os.O_RDWR))


def create_a_file(to: Target) -> None:
    os.close(os.open(f"{to['folder']}/created", os.O_WRONLY | os.O_CREAT))


def truncate_a_file(to: Target) -> None:
    os.truncate(to["secret"], 1)


def link_a_file(to: Target) -> None:
    os.link(to["secret"], f"{to['folder']}/linked")


def change_a_mode(to: Target) -> None:
    os.chmod(to["secret"], 0o600)


def delete_a_file(to: Target) -> None:
    Path(to["folder"], "spare").unlink()


def write_to_the_log(_: Target) -> None:
    if os.fstat(2).st_rdev == os.stat(os.devnull).st_rdev:
        raise PermissionError(errno.EPERM, "")
    os.write(2, b"a line that no program of ours wrote\n")


def use_a_descriptor_of_the_caller(_: Target) -> None:
    """A worker has its socket alone, beside the three standard descriptors."""
    inherited = 0
    for descriptor in range(3, 256):
        try:
            os.fstat(descriptor)
            inherited += 1
        except OSError:
            pass
    if inherited <= 1:
        raise PermissionError(errno.EPERM, "")


def read_the_caller_s_environment(to: Target) -> None:
    Path(f"/proc/{to['caller']}/environ").read_bytes()


def overwrite_the_caller_s_memory(to: Target) -> None:
    with open(f"/proc/{to['caller']}/mem", "r+b", buffering=0) as memory:
        memory.seek(to["address"])
        memory.write(b"overwritten")


def read_the_caller_s_memory(to: Target) -> None:
    with open(f"/proc/{to['caller']}/mem", "rb", buffering=0) as memory:
        memory.seek(to["address"])
        memory.read(8)


def copy_the_caller_s_memory(to: Target) -> None:
    class Span(ctypes.Structure):
        _fields_ = (("start", ctypes.c_void_p), ("length", ctypes.c_size_t))

    buffer = ctypes.create_string_buffer(8)
    here, there = Span(ctypes.addressof(buffer), 8), Span(to["address"], 8)
    _check(LIBC.process_vm_readv(to["caller"], ctypes.byref(here), 1, ctypes.byref(there), 1, 0))


def trace_another_process(to: Target) -> None:
    _check(LIBC.ptrace(PTRACE_SEIZE, to["victim"], None, None))


def take_a_descriptor_of_another_process(to: Target) -> None:
    _check(LIBC.syscall(PIDFD_GETFD, os.pidfd_open(to["victim"]), 0, 0))


def signal_another_process(to: Target) -> None:
    os.kill(to["victim"], signal.SIGCONT)


def signal_a_thread_of_another_process(to: Target) -> None:
    _check(LIBC.tgkill(to["victim"], to["victim"], signal.SIGCONT))


def limit_the_caller(to: Target) -> None:
    resource.prlimit(to["caller"], resource.RLIMIT_CORE, (0, 0))


def slow_the_caller(to: Target) -> None:
    os.setpriority(os.PRIO_PROCESS, to["caller"], 1)


def open_more_files(_: Target) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def use_more_memory(_: Target) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def use_no_cpu_limit(_: Target) -> None:
    if resource.getrlimit(resource.RLIMIT_CPU)[1] != resource.RLIM_INFINITY:
        raise PermissionError(errno.EPERM, "")


def share_memory(_: Target) -> None:
    """Shared memory counts towards no limit."""
    mmap.mmap(-1, 1 << 20).close()


def start_a_program(_: Target) -> None:
    subprocess.run(["/bin/true"], check=True)


def become_a_program(_: Target) -> None:
    os.execv("/bin/true", ["true"])  # noqa: S606


def fork(_: Target) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def connect_to_the_loopback(to: Target) -> None:
    with socket.socket() as caller:
        caller.connect(("127.0.0.1", to["port"]))


def listen_on_the_loopback(_: Target) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))


def use_io_uring(_: Target) -> None:
    os.close(_check(LIBC.syscall(IO_URING_SETUP, 8, ctypes.create_string_buffer(120))))


def make_a_namespace(_: Target) -> None:
    _check(LIBC.unshare(CLONE_NEWUSER))


ATTACKS: dict[str, Callable[[Target], None]] = {
    attack.__name__: attack
    for attack in (
        read_the_video,
        read_another_file,
        read_another_file_in_a_thread,
        list_a_folder,
        write_the_video,
        create_a_file,
        truncate_a_file,
        link_a_file,
        change_a_mode,
        delete_a_file,
        write_to_the_log,
        use_a_descriptor_of_the_caller,
        read_the_caller_s_environment,
        overwrite_the_caller_s_memory,
        read_the_caller_s_memory,
        copy_the_caller_s_memory,
        trace_another_process,
        take_a_descriptor_of_another_process,
        signal_another_process,
        signal_a_thread_of_another_process,
        limit_the_caller,
        slow_the_caller,
        open_more_files,
        use_more_memory,
        use_no_cpu_limit,
        share_memory,
        start_a_program,
        become_a_program,
        fork,
        connect_to_the_loopback,
        listen_on_the_loopback,
        use_io_uring,
        make_a_namespace,
    )
}


def attack(target: Target, _: SandboxLimits, report_alive: Callable[[], None]) -> Generator[Any, None, dict[str, str]]:
    """A task of the sandbox: one attack."""
    yield from ()
    try:
        ATTACKS[target["attack"]](target)
    except OSError as error:
        return {"outcome": errno.errorcode.get(error.errno or 0, repr(error))}
    except ValueError as error:  # of setrlimit
        return {"outcome": "EPERM" if "maximum limit" in str(error) else repr(error)}
    return {"outcome": "done"}


def outcome_of(target: Target) -> str:
    """Run one attack in a worker of its own."""
    try:
        next(client.run_in_sandbox("attack", target, Limits().for_sandbox))
    except StopIteration as end:
        return str(end.value["outcome"])
    except BadInput as ended:
        return ended.message.rpartition("(")[2].rstrip(")")
    except Fault as ended:
        return "done" if "guard ended" in ended.message else ended.message
    raise AssertionError


def main(folder: str, user: str, missing: str = "") -> None:
    server.TASKS["attack"] = attack
    _make_files(Path(folder))
    for module, name, result in REPLACED.get(missing, ()):
        setattr(module, name, lambda *_, result=result: result)
    if os.getuid() != int(user):
        os.setgid(int(user))
        os.setuid(int(user))
        if missing == "everything":  # a change of the user protects the memory too
            confinement._set(LIBC, confinement.PR_SET_DUMPABLE, 1)
    victim = os.fork()
    if victim == 0:
        signal.pause()
    try:
        outcomes = _try_all(folder, victim)
    finally:
        os.kill(victim, signal.SIGKILL)
    sys.stdout.write(json.dumps({**outcomes, "memory": SECRET.value.decode()}))


def _make_files(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)
    for name in ("clip", "secret", "spare"):
        (folder / name).write_text(name)
        (folder / name).chmod(0o666)


def _try_all(folder: str, victim: int) -> dict[str, str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client.fork_server()
        target: Target = {
            "path": f"{folder}/clip",
            "secret": f"{folder}/secret",
            "folder": folder,
            "caller": os.getpid(),
            "address": ctypes.addressof(SECRET),
            "victim": victim,
            "port": listener.getsockname()[1],
        }
        return {name: outcome_of({**target, "attack": name}) for name in ATTACKS}


if __name__ == "__main__":
    main(*sys.argv[1:])
