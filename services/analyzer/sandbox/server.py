"""Runs the processes of the sandbox: a server that forks a guard and a worker for each task; see `client.py`.

`python -m services.analyzer.sandbox.server FD` serves the socket FD until its other end closes. This module imports
only what decoding needs, because every fork inherits all of it.
"""

import contextlib
import json
import math
import mmap
import os
import resource
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Generator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

# PyAV imports this package at the first file, when a worker can read no module any more.
import av.subtitles.stream  # noqa: F401
import numpy as np

from services.analyzer.arrays import Pixels
from services.analyzer.errors import BadInput
from services.analyzer.malloc import keep_freed_pages
from services.analyzer.sandbox import container, decoder
from services.analyzer.sandbox.confinement import close_descriptors, confine, protect_memory
from services.analyzer.sandbox.limits import SandboxLimits
from services.analyzer.sandbox.protocol import INTERNAL_ERROR_STATUS, SLOTS, Message, MessageConnection, send

# A task yields (item, picture) pairs and returns its result. It calls the third argument to show progress.
Task = Callable[[Message, SandboxLimits, Callable[[], None]], Generator[tuple[Message, Pixels], None, Message]]
TASKS: dict[str, Task] = {"inspect": container.inspect, "decode": decoder.decode}
ALIVE_INTERVAL_SECONDS = 0.5
MAX_OPEN_FILES = 32


def serve(control: socket.socket) -> None:
    """Fork a guard for every request until the client closes its end."""
    keep_freed_pages()
    protect_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the client handles Ctrl-C
    while True:
        size, fds, _, _ = socket.recv_fds(control, 8, 2)
        _reap_guards(block=not size)
        if not size:
            return
        request = _receive_exactly(control, int.from_bytes(size, "big"))
        if os.fork() == 0:
            control.close()
            try:
                _guard(json.loads(request), *fds)
            finally:  # the fork must not return into the server's loop
                os._exit(INTERNAL_ERROR_STATUS)
        for fd in fds:
            os.close(fd)


def _reap_guards(block: bool) -> None:
    """Wait for finished guards, so that their CPU time is counted; each has reported its worker's end already."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, 0 if block else os.WNOHANG)[0]:
            pass


def _receive_exactly(control: socket.socket, size: int) -> bytes:
    parts: list[bytes] = []
    while size > 0:
        part = control.recv(min(size, 1 << 20))
        if not part:
            sys.exit(INTERNAL_ERROR_STATUS)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _guard(request: list[Any], client: int, memory: int) -> None:
    """Start the worker, kill it when the client hangs up, report a failed exit. client, memory: descriptors."""
    pid = os.fork()
    if pid == 0:
        _run_task(request, Connection(client), memory)
    worker = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(worker, select.POLLIN)
    poll.register(client, 0)  # poll reports a hang-up without being asked
    while worker not in (ready := [fd for fd, _ in poll.poll()]):
        if client in ready:
            signal.pidfd_send_signal(worker, signal.SIGKILL)
            poll.unregister(client)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        send(Connection(client), {"exited": status})


def _run_task(request: list[Any], client: MessageConnection, memory: int) -> NoReturn:
    """Run one task under its limits; the last message or the exit status says how it ended."""
    status = 0
    try:
        task, arguments, numbers, picture_bytes = request
        limits = SandboxLimits(**numbers)
        pixels = mmap.mmap(memory, SLOTS * picture_bytes) if picture_bytes else None
        close_descriptors(client.fileno())
        _set_limits(limits)
        missing = confine(Path(arguments["path"]))
        sender = _Sender(client, pixels, picture_bytes, limits.max_stall_seconds)
        try:
            # From here on, the file is responsible for the time.
            send(client, {"alive": True, "missing": missing})
            if not (missing and limits.require_confinement):
                sender.send_all(TASKS[task](arguments, limits, sender.report_alive))
        except BadInput as refusal:
            send(client, {"refused": [refusal.code, refusal.message]})
        except MemoryError:
            megabytes = limits.max_decode_bytes >> 20
            message = f"the video needs over {megabytes} MB of memory to decode"
            send(client, {"refused": ["TOO_MUCH_MEMORY", message]})
        except (ConnectionError, EOFError):
            pass  # the caller needs no more items
        except Exception:
            send(client, {"internal_error": traceback.format_exc(limit=-3)})
    except BaseException:
        status = INTERNAL_ERROR_STATUS
    finally:
        os._exit(status)


def _set_limits(limits: SandboxLimits) -> None:
    """Limit memory, files and CPU time before the worker opens the untrusted file.

    A worker can raise no limit later, except the time between two messages up to the time of a whole pass.
    """
    _, *_, data, _ = (int(pages) for pages in Path("/proc/self/statm").read_text().split())
    max_data = data * resource.getpagesize() + limits.max_decode_bytes
    for kind, limit in (
        (resource.RLIMIT_DATA, max_data),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
        # At the hard limit the kernel sends SIGKILL. `_Sender` keeps a lower soft one, at which it sends SIGXCPU.
        (resource.RLIMIT_CPU, math.ceil(limits.max_decode_seconds + limits.max_stall_seconds) + 2),
    ):
        _, hard = resource.getrlimit(kind)
        limit = limit if hard < 0 else min(limit, hard)
        resource.setrlimit(kind, (limit, limit))


class _Sender:
    """Copies pictures into free slots and sends a message for each.

    Each message renews the worker's CPU limit: the kernel ends a worker that uses `stall_seconds` between two messages.
    """

    def __init__(
        self, client: MessageConnection, pixels: mmap.mmap | None, picture_bytes: int, stall_seconds: float
    ) -> None:
        self._client = client
        self._stall_seconds = stall_seconds
        self._picture_bytes = picture_bytes
        self._pixels = np.frombuffer(pixels, np.uint8) if pixels else np.empty(0, np.uint8)
        self._free_slots = list(range(SLOTS))
        self._renew_cpu_limit()

    def send_all(self, items: Generator[tuple[Message, Pixels], None, Message]) -> None:
        """Send every item of the task, then its result."""
        while True:
            try:
                self._send(*next(items))  # unnamed, so that a picture is freed before the task makes the next one
            except StopIteration as end:
                return send(self._client, {"result": end.value})

    def report_alive(self) -> None:
        """Show progress without an item, at most once per ALIVE_INTERVAL_SECONDS."""
        if time.monotonic() > self._renewed_at + ALIVE_INTERVAL_SECONDS:
            self._renew_cpu_limit()
            send(self._client, {"alive": True})

    def _renew_cpu_limit(self) -> None:
        self._renewed_at = time.monotonic()
        seconds = math.ceil(time.process_time() + self._stall_seconds)
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (min(seconds, hard), hard))

    def _send(self, item: Message, picture: Pixels) -> None:
        while not self._free_slots or self._client.poll():
            self._free_slots += self._client.recv_bytes()
        slot = self._free_slots.pop()
        start = slot * self._picture_bytes
        self._pixels[start : start + picture.size].reshape(picture.shape)[:] = picture
        self._renew_cpu_limit()
        send(self._client, {"item": item, "slot": slot, "shape": picture.shape})


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
