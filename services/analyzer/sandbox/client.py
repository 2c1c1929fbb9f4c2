"""Opens untrusted files in a separate process with limits: a crash, a hang or high memory use stays in that process.

    caller ──task──▶ server ──fork──▶ guard ──fork──▶ worker ── confines itself, then runs the task
      ▲             (its imports      (kills the worker   │
      │              are done once)    when the caller    │
      │                                ends; reports how  │
      │                                the worker ended)  │
      └────────── JSON on a socket, pixels in shared memory ┘

The server is a new Python process, or a fork of a caller that has imported only what both need (`fork_server`).

A worker that crashes, hangs or exceeds its memory becomes BadInput with a message. A worker answers with JSON and
pixels, never with pickles: a compromised worker cannot make its caller run code. `confinement.py` leaves it no power
but to read the file and compute. `server.py` is the other side.
"""

import atexit
import contextlib
import fcntl
import json
import logging
import math
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from dataclasses import asdict
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from services.analyzer.arrays import Pixels
from services.analyzer.errors import BadInput, Fault
from services.analyzer.sandbox.confinement import protect_memory
from services.analyzer.sandbox.limits import SandboxLimits
from services.analyzer.sandbox.protocol import INTERNAL_ERROR_STATUS, SLOTS, Message, MessageConnection, receive

ROOT = Path(__file__).parents[3]
JOIN_TIMEOUT_SECONDS = 0.5
# A worker may be silent for this many times its CPU limit by the clock: a slow machine is not the file's fault.
CLOCK_SECONDS_PER_CPU_SECOND = 10
# Upper bound until a worker's first message. Before that message the worker has not opened the file.
START_TIMEOUT_SECONDS = 300.0


def run_in_sandbox(
    task: str, arguments: Message, limits: SandboxLimits, picture_bytes: int = 0
) -> Generator[tuple[Message, Pixels], None, Message]:
    """Run one of `server.TASKS` in a process of its own: yields its items, each with its picture; returns its result.

    A picture has at most `picture_bytes`. The caller borrows it until it asks for the next item but one. Raises the
    BadInput of the task, and BadInput if the worker crashed (CRASHED), stalled (TOO_SLOW) or exceeded its memory
    (TOO_MUCH_MEMORY).
    """
    memory = _create_shared_memory(SLOTS * picture_bytes)
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            _server.run([task, arguments, asdict(limits), picture_bytes], theirs, memory)
        pixels = mmap.mmap(memory, SLOTS * picture_bytes, prot=mmap.PROT_READ) if picture_bytes else None
    finally:
        os.close(memory)
    with Connection(ours.detach()) as worker:
        return (yield from _read_items(worker, limits, pixels, picture_bytes))


def _read_items(
    worker: MessageConnection, limits: SandboxLimits, pixels: mmap.mmap | None, picture_bytes: int
) -> Generator[tuple[Message, Pixels], None, Message]:
    if not worker.poll(START_TIMEOUT_SECONDS):
        raise Fault("UNEXPECTED", "Processing failed: the decoding process did not start")
    borrowed: list[int] = []
    while True:
        message = _next_message(worker, limits)
        if message.get("missing"):
            _report_missing(message["missing"], limits)
        if "item" in message:
            borrowed.append(message["slot"])
            yield message["item"], _read_picture(message, pixels, picture_bytes)
            if len(borrowed) > 1:
                _release_slot(worker, borrowed.pop(0))
        elif "result" in message:
            result: Message = message["result"]
            return result
        elif "refused" in message:
            raise BadInput(*message["refused"])
        elif "internal_error" in message:
            raise Fault("UNEXPECTED", f"Processing failed: {message['internal_error']}")
        elif "exited" in message:
            raise _classify_exit(message["exited"], limits)


def _next_message(worker: MessageConnection, limits: SandboxLimits) -> Message:
    """The next message; each one, also `alive`, restarts the time limit."""
    timeout = CLOCK_SECONDS_PER_CPU_SECOND * limits.max_stall_seconds
    if not worker.poll(timeout):
        raise BadInput("TOO_SLOW", f"the video could not be decoded: the decoder sent nothing for {timeout:.0f} s")
    try:
        return receive(worker)
    except (EOFError, OSError):
        raise Fault("UNEXPECTED", "Processing failed: the decoder's guard ended or sent too much") from None


def _report_missing(missing: list[str], limits: SandboxLimits) -> None:
    """Log once what the kernel lacks to confine a worker. Raises Fault if the settings require it."""
    lack = f"the kernel of this machine has no {' and no '.join(missing)}"
    if limits.require_confinement:
        raise Fault("UNEXPECTED", f"Processing failed: {lack}, which CREASE_REQUIRE_CONFINEMENT asks for")
    _warn_once(f"{lack}: a file that takes over its decoder can do more than decode")


@cache
def _warn_once(warning: str) -> None:
    logging.getLogger(__name__).warning(warning)


def _read_picture(message: Message, pixels: mmap.mmap | None, picture_bytes: int) -> Pixels:
    """The picture in the message's slot. Raises Fault if slot or shape is out of range: a worker is not trusted."""
    slot, shape = int(message["slot"]), [int(side) for side in message["shape"]]
    if pixels is None or not 0 <= slot < SLOTS or min(shape) < 1 or math.prod(shape) > picture_bytes:
        raise Fault("UNEXPECTED", "Processing failed: the decoder sent an invalid picture")
    flat = np.frombuffer(pixels, np.uint8, count=math.prod(shape), offset=slot * picture_bytes)
    return flat.reshape(shape)


def _release_slot(worker: MessageConnection, slot: int) -> None:
    with contextlib.suppress(ConnectionError):  # the worker has ended; its earlier messages are still readable
        worker.send_bytes(bytes([slot]))


def _classify_exit(status: int, limits: SandboxLimits) -> Fault:
    """The fault for a worker that ended without a last message. status: as in subprocess, negative for a signal."""
    if -status == signal.SIGXCPU:
        stalled = f"the decoder worked for {limits.max_stall_seconds:.0f} s without a picture"
        return BadInput("TOO_SLOW", f"the video could not be decoded: {stalled}")
    if -status in (signal.SIGKILL, signal.SIGTERM):
        return Fault("KILLED", "Processing failed: another process killed the decoder; probably memory ran out")
    if status == INTERNAL_ERROR_STATUS:
        return Fault("UNEXPECTED", "Processing failed: the decoder could not be started")
    how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    return BadInput("CRASHED", f"the video cannot be decoded: it crashes the decoder ({how})")


def fork_server() -> None:
    """Fork the server from this process now, so that shared imports are done once.

    Call it early: this process must have no threads yet, and the server inherits all of its memory.
    """
    _server.fork()


class _Server:
    """The process that forks workers. It starts at the first request and ends with this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        # Waits for the process to end, at most JOIN_TIMEOUT_SECONDS.
        self._join: Callable[[], object] = lambda: None

    def fork(self) -> None:
        """Fork the server from this process, unless it runs already."""
        if self._socket:
            return
        import cv2  # noqa: F401 (both processes transform pictures with it)

        protect_memory()
        ours, theirs = socket.socketpair()
        process = get_context("fork").Process(target=_serve, args=(ours, theirs), daemon=True)
        with theirs:
            process.start()
        self._socket, self._join = ours, lambda: process.join(JOIN_TIMEOUT_SECONDS)

    def run(self, request: list[Any], socket_for_worker: socket.socket, memory: int) -> None:
        """Start a worker for the request, with this socket and this shared memory."""
        packed = json.dumps(request).encode()
        with self._lock:
            for _ in range(2):  # a killed server is replaced once
                server = self._socket = self._socket or self._start()
                try:
                    header = len(packed).to_bytes(8, "big")
                    socket.send_fds(server, [header], [socket_for_worker.fileno(), memory])
                    server.sendall(packed)
                    return
                except OSError:
                    self._socket = None
        raise Fault("UNEXPECTED", "Processing failed: the decoding process could not be started")

    def _start(self) -> socket.socket:
        protect_memory()
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "services.analyzer.sandbox.server", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
                # A fork does not copy the threads that a library starts at import.
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        self._join = lambda: process.wait(JOIN_TIMEOUT_SECONDS)
        return ours

    def stop(self) -> None:
        """Close the socket, which ends the server, and wait briefly: then its CPU time counts as ours."""
        if self._socket:
            self._socket.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._join()


def _serve(theirs: socket.socket, ours: socket.socket) -> None:
    """Run the server in the forked process."""
    theirs.close()
    from services.analyzer.sandbox.server import serve

    serve(ours)


def _create_shared_memory(size: int) -> int:
    """A descriptor of anonymous memory for pictures; seals fix its size, so that a worker cannot shrink it."""
    memory = os.memfd_create("pictures", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(memory, size)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return memory


_server = _Server()
atexit.register(_server.stop)
