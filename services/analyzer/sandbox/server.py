"""The processes of the sandbox: a server that forks a guard and a worker for each task; see `client.py`.

`python -m services.analyzer.sandbox.server FD` serves the socket FD until its other end is closed. Nothing is imported
here that decoding does not need: each fork has all of it.
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

import numpy as np

from services.analyzer.errors import BadInput
from services.analyzer.pose.mediapipe_runtime import keep_pages
from services.analyzer.sandbox import container, decoder
from services.analyzer.sandbox.client import OUR_FAULT, SLOTS, Message, Pixels
from services.analyzer.sandbox.limits import Bounds

# A task yields (item, picture) and returns its result; it says now and then, by calling, that it is still at work.
Still = Callable[[], None]
Task = Callable[[Message, Bounds, Still], Generator[tuple[Message, Pixels], None, Message]]
TASKS: dict[str, Task] = {"inspect": container.inspect, "decode": decoder.decode}
STILL_SECONDS = 0.5
MOST_OPEN_FILES = 32


def serve(control: socket.socket) -> None:
    """Fork for every request until there is nobody left to ask."""
    keep_pages()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's to handle
    while True:
        size, fds, _, _ = socket.recv_fds(control, 8, 2)
        _bury(block=not size)
        if not size:
            return
        request = _exactly(control, int.from_bytes(size, "big"))
        if os.fork() == 0:
            control.close()
            try:
                _guard(json.loads(request), *fds)
            finally:  # never back into the server's loop
                os._exit(OUR_FAULT)
        for fd in fds:
            os.close(fd)


def _bury(block: bool) -> None:
    """Wait for guards that are done, so that what they took counts; they told their caller how it went."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, 0 if block else os.WNOHANG)[0]:
            pass


def _exactly(control: socket.socket, size: int) -> bytes:
    parts: list[bytes] = []
    while size > 0:
        part = control.recv(min(size, 1 << 20))
        if not part:
            sys.exit(OUR_FAULT)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _guard(request: list[Any], line: int, memory: int) -> None:
    """Start the worker, end it when nobody listens any more, say how it ended."""
    pid = os.fork()
    if pid == 0:
        _work(request, Connection(line), memory)
    worker = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(worker, select.POLLIN)
    poll.register(line, 0)  # hanging up is always told
    while worker not in (ready := [fd for fd, _ in poll.poll()]):
        if line in ready:
            signal.pidfd_send_signal(worker, signal.SIGKILL)
            poll.unregister(line)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        _tell(Connection(line), {"ended": status})


def _work(request: list[Any], line: "Connection[Any, Any]", memory: int) -> NoReturn:
    """Do one task under its limits; how it ended is the last message, or the exit status."""
    status = 0
    try:
        task, asked, numbers, picture_bytes = request
        bounds = Bounds(**numbers)
        pixels = mmap.mmap(memory, SLOTS * picture_bytes) if picture_bytes else None
        os.close(memory)
        _confine(bounds)
        sender = _Sender(line, pixels, picture_bytes, bounds.max_stall_seconds)
        try:
            _tell(line, {"still": True})  # from here on, what takes time is the file's doing
            sender.send_all(TASKS[task](asked, bounds, sender.still))
        except BadInput as refusal:
            _tell(line, {"refused": [refusal.code, refusal.sentence]})
        except MemoryError:
            most = bounds.max_decode_bytes >> 20
            _tell(line, {"refused": ["TOO_MUCH_MEMORY", f"the video needs over {most} MB of memory to decode"]})
        except (ConnectionError, EOFError):
            pass  # the caller has seen enough
        except Exception:
            _tell(line, {"broken": traceback.format_exc(limit=-3)})
    except BaseException:
        status = OUR_FAULT
    finally:
        os._exit(status)


def _confine(bounds: Bounds) -> None:
    """From here on the file decides what happens, within these limits."""
    _, *_, data, _ = (int(pages) for pages in Path("/proc/self/statm").read_text().split())
    most = data * resource.getpagesize() + bounds.max_decode_bytes
    for kind, limit in (
        (resource.RLIMIT_DATA, most),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, MOST_OPEN_FILES),
    ):
        _limit(kind, limit)


def _limit(kind: int, limit: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (limit if hard < 0 else min(limit, hard), hard))


class _Sender:
    """Puts pictures into free slots and says what lies there.

    Between two signs of life the worker may take so many seconds of CPU time: the kernel ends it after that.
    """

    def __init__(
        self, line: "Connection[Any, Any]", pixels: mmap.mmap | None, picture_bytes: int, stall_seconds: float
    ) -> None:
        self._line = line
        self._stall_seconds = stall_seconds
        self._picture_bytes = picture_bytes
        self._pixels = np.frombuffer(pixels, np.uint8) if pixels else np.empty(0, np.uint8)
        self._free = list(range(SLOTS))
        self._alive()

    def send_all(self, items: Generator[tuple[Message, Pixels], None, Message]) -> None:
        """Everything the task yields, then what it returns."""
        while True:
            try:
                self._send(*next(items))  # no name keeps a picture while the next one is made
            except StopIteration as end:
                return _tell(self._line, {"result": end.value})

    def still(self) -> None:
        """Not an item, but a sign of life."""
        if time.monotonic() > self._said + STILL_SECONDS:
            self._alive()
            _tell(self._line, {"still": True})

    def _alive(self) -> None:
        self._said = time.monotonic()
        _limit(resource.RLIMIT_CPU, math.ceil(time.process_time() + self._stall_seconds))

    def _send(self, item: Message, picture: Pixels) -> None:
        while not self._free or self._line.poll():
            self._free += self._line.recv_bytes()
        slot = self._free.pop()
        start = slot * self._picture_bytes
        self._pixels[start : start + picture.size].reshape(picture.shape)[:] = picture
        self._alive()
        _tell(self._line, {"item": item, "slot": slot, "shape": picture.shape})


def _tell(line: "Connection[Any, Any]", message: Message) -> None:
    line.send_bytes(json.dumps(message).encode())


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
