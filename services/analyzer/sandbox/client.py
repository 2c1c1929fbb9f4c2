"""Runs what opens a stranger's file in a process of its own, under limits: what the file breaks there, stays there.

    caller ──task─▶ server ──fork─▶ guard ──fork─▶ worker ── limits, then the task
      ▲             (imports done    (ends the worker  │
      │              once)            when the caller   │
      │                               goes; tells how   │
      │                               it ended)         │
      └───────── JSON on a socket, pixels in shared memory ┘

The server is a Python of its own, or a fork of a caller that has imported nothing yet but what both need (`prepare`).

A worker that crashes, hangs or eats memory is BadInput with a sentence. What comes back is JSON and pixels, never
pickles: a worker that was taken over cannot make its caller run anything. `server.py` is the other side.
"""

import atexit
import contextlib
import fcntl
import json
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
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services import exit_codes
from services.analyzer.errors import BadInput, Fault
from services.analyzer.sandbox.limits import Bounds

# How many pictures lie in memory: two that are lent, and those that a worker is ahead.
SLOTS = 3
ROOT = Path(__file__).parents[3]
Message = dict[str, Any]
Pixels = NDArray[np.uint8]
# The worker's own mistakes end with this, so that they are not taken for the file's.
OUR_FAULT = exit_codes.INTERNAL
FAREWELL_SECONDS = 0.5
# A worker is left so many times as long by the clock as it may work without a sign of life: a machine that has little
# time to give is not the file's doing.
PATIENCE = 10
# Until a worker's first word, before which it has not touched the file: a wait for that is the machine's doing.
START_SECONDS = 300.0


def apart(
    task: str, asked: Message, bounds: Bounds, picture_bytes: int = 0
) -> Generator[tuple[Message, Pixels], None, Message]:
    """Run one of `server.TASKS` in a process of its own: yields its items, each with its picture, returns its result.

    A picture, at most `picture_bytes` large, is lent until the next item but one is asked for. Raises what the task
    raises, and BadInput where it crashed (CRASHED), stood still (TOO_SLOW) or wanted more memory than it may
    (TOO_MUCH_MEMORY).
    """
    memory = _shared(SLOTS * picture_bytes)
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            _server.run([task, asked, asdict(bounds), picture_bytes], theirs, memory)
        pixels = mmap.mmap(memory, SLOTS * picture_bytes, prot=mmap.PROT_READ) if picture_bytes else None
    finally:
        os.close(memory)
    with Connection(ours.detach()) as line:
        return (yield from _items(line, bounds, pixels, picture_bytes))


def _items(
    line: "Connection[Any, Any]", bounds: Bounds, pixels: mmap.mmap | None, picture_bytes: int
) -> Generator[tuple[Message, Pixels], None, Message]:
    if not line.poll(START_SECONDS):
        raise Fault("UNEXPECTED", "Processing failed: no process for decoding could be started")
    lent: list[int] = []
    while True:
        message = _next(line, bounds)
        if "item" in message:
            lent.append(message["slot"])
            yield message["item"], _picture(message, pixels, picture_bytes)
            if len(lent) > 1:
                _give_back(line, lent.pop(0))
        elif "result" in message:
            result: Message = message["result"]
            return result
        elif "refused" in message:
            raise BadInput(*message["refused"])
        elif "broken" in message:
            raise Fault("UNEXPECTED", f"Processing failed: {message['broken']}")
        elif "ended" in message:
            raise _verdict(message["ended"], bounds)


def _next(line: "Connection[Any, Any]", bounds: Bounds) -> Message:
    """The next message; every one, even that it is still at work, shows that the worker does not stand still."""
    patience = PATIENCE * bounds.max_stall_seconds
    if not line.poll(patience):
        raise BadInput("TOO_SLOW", f"the video could not be decoded: nothing came for {patience:.0f} s")
    try:
        message: Message = json.loads(line.recv_bytes())
    except (EOFError, ConnectionError):
        raise Fault("UNEXPECTED", "Processing failed: the decoder's guard went away") from None
    return message


def _picture(message: Message, pixels: mmap.mmap | None, picture_bytes: int) -> Pixels:
    """What lies in the slot that the message names; a worker that names what is not there is not believed."""
    slot, shape = int(message["slot"]), [int(side) for side in message["shape"]]
    if pixels is None or not 0 <= slot < SLOTS or min(shape) < 1 or math.prod(shape) > picture_bytes:
        raise Fault("UNEXPECTED", "Processing failed: the decoder sent what is no picture")
    flat = np.frombuffer(pixels, np.uint8, count=math.prod(shape), offset=slot * picture_bytes)
    return flat.reshape(shape)


def _give_back(line: "Connection[Any, Any]", slot: int) -> None:
    with contextlib.suppress(ConnectionError):  # the worker is done; what it said before is still to be read
        line.send_bytes(bytes([slot]))


def _verdict(status: int, bounds: Bounds) -> Fault:
    """What a worker's end means that said nothing itself. status: as of subprocess, negative for a signal."""
    if -status == signal.SIGXCPU:
        stuck = f"it kept the decoder at work for {bounds.max_stall_seconds:.0f} s without a picture"
        return BadInput("TOO_SLOW", f"the video could not be decoded: {stuck}")
    if -status in (signal.SIGKILL, signal.SIGTERM):
        return Fault("KILLED", "Processing failed: the decoder was killed from outside, by lack of memory most likely")
    if status == OUR_FAULT:
        return Fault("UNEXPECTED", "Processing failed: the decoder could not be started")
    how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    return BadInput("CRASHED", f"the video cannot be decoded: it crashes the decoder ({how})")


def prepare() -> None:
    """Fork the server off now, so that what both import is imported once.

    For a program that has hardly begun: no threads run in it yet, and what it holds already, the server holds too.
    """
    _server.fork()


class _Server:
    """The process that forks workers: started once, when first needed; it goes when this one goes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        # Waits for its end, not for long.
        self._farewell: Callable[[], object] = lambda: None

    def fork(self) -> None:
        """Begin as a fork of this process, unless there is a server."""
        if self._socket:
            return
        import cv2  # noqa: F401 (both turn pictures with it)

        ours, theirs = socket.socketpair()
        process = get_context("fork").Process(target=_serve, args=(ours, theirs), daemon=True)
        with theirs:
            process.start()
        self._socket, self._farewell = ours, lambda: process.join(FAREWELL_SECONDS)

    def run(self, request: list[Any], line: socket.socket, memory: int) -> None:
        """Have a worker do the request, with these two as its own."""
        packed = json.dumps(request).encode()
        with self._lock:
            for _ in range(2):  # one that was killed is started anew
                server = self._socket = self._socket or self._start()
                try:
                    socket.send_fds(server, [len(packed).to_bytes(8, "big")], [line.fileno(), memory])
                    server.sendall(packed)
                    return
                except OSError:
                    self._socket = None
        raise Fault("UNEXPECTED", "Processing failed: no process for decoding could be started")

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "services.analyzer.sandbox.server", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
                # Threads that a library starts at import would not live through a fork.
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        self._farewell = lambda: process.wait(FAREWELL_SECONDS)
        return ours

    def stop(self) -> None:
        """Let it go, and see it off for as long as that is quick: what it took counts as ours then."""
        if self._socket:
            self._socket.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._farewell()


def _serve(theirs: socket.socket, ours: socket.socket) -> None:
    """In the fork: the other side, for as long as there is this one."""
    theirs.close()
    from services.analyzer.sandbox.server import serve

    serve(ours)


def _shared(size: int) -> int:
    """Anonymous memory for pictures, of a size that nobody can change under its reader."""
    memory = os.memfd_create("pictures", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(memory, size)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return memory


_server = _Server()
atexit.register(_server.stop)
