"""TCP lines between the programs, in a process of their own: each forwards, and can lose what it carries.

A line listens on one port and connects each client to the next of its backends that accepts, as a Service does.

silence   every open connection carries nothing more and is never closed: its peer has died without a word
swallow   new connections are accepted and never answered
cut       every open connection is reset
delay     every chunk arrives `seconds` later
throttle  new requests are answered 503, as S3 does
heal      new connections work; silenced ones stay silent
"""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from testing.servers.programs import ROOT, free_port
from testing.servers.proxy import THROTTLED

HIGH_WATER_BYTES = 1 << 20


class _Line:
    def __init__(self, backends: Sequence[str]) -> None:
        self.backends = list(backends)
        self.pipes: set[_Pipe] = set()
        self.delay = 0.0
        self.swallows = self.throttles = False
        self._next = 0

    def accept(self) -> "_End":
        pipe = _Pipe(self)
        self.pipes.add(pipe)
        return pipe.client

    async def connect(self, pipe: "_Pipe") -> None:
        """Connects to the next backend that accepts; resets the client if none does."""
        loop = asyncio.get_running_loop()
        for _ in self.backends:
            self._next += 1
            pipe.backend = self.backends[self._next % len(self.backends)]
            with contextlib.suppress(OSError):
                if pipe.backend.startswith("/"):
                    await loop.create_unix_connection(lambda: pipe.server, pipe.backend)
                else:
                    host, _, port = pipe.backend.partition(":")
                    await loop.create_connection(lambda: pipe.server, host, int(port))
                return
        pipe.reset()

    def apply(self, action: str, seconds: float, backend: str) -> None:
        match action:
            case "silence" | "cut":
                for pipe in [one for one in self.pipes if backend in ("", one.backend)]:
                    pipe.silence() if action == "silence" else pipe.reset()
            case "swallow":
                self.swallows = True
            case "throttle":
                self.throttles = True
            case "delay":
                self.delay = seconds
            case "heal":
                self.swallows = self.throttles = False
                self.delay = 0.0


class _Pipe:
    """One client's connection and its backend's."""

    def __init__(self, line: _Line) -> None:
        self.line = line
        self.backend = ""
        self.client, self.server = _End(self), _End(self)
        self.is_silent = False

    def began(self, end: "_End") -> None:
        if end is self.server:
            if self.client.is_closed:
                self.reset()
                return
            for chunk in self.client.early:
                self.server.write(chunk)
            self.client.early.clear()
        elif self.line.swallows:
            self.is_silent = True
        elif not self.line.throttles:
            self.task = asyncio.ensure_future(self.line.connect(self))

    def received(self, end: "_End", data: bytes) -> None:
        if self.is_silent:
            return
        if end is self.client and self.line.throttles:
            end.write(THROTTLED)
            end.close()
            return
        other = self.server if end is self.client else self.client
        if other.transport is None:
            end.early.append(data)
        else:
            other.write_after(data, self.line.delay)

    def ended(self, end: "_End") -> None:
        # The other side never hears of the end of a silent connection.
        other = self.server if end is self.client else self.client
        if not self.is_silent:
            other.close()
        if self.client.is_closed and (self.server.is_closed or self.server.transport is None):
            self.line.pipes.discard(self)

    def silence(self) -> None:
        self.is_silent = True

    def reset(self) -> None:
        for end in (self.client, self.server):
            if end.transport:
                end.transport.abort()


class _End(asyncio.Protocol):
    """One side of a pipe."""

    def __init__(self, pipe: _Pipe) -> None:
        self.pipe = pipe
        self.transport: asyncio.Transport | None = None
        self.is_closed = False
        self.early: list[bytes] = []
        self._free_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        self.pipe.began(self)

    def data_received(self, data: bytes) -> None:
        self.pipe.received(self, data)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_closed = True
        self.pipe.ended(self)

    def write(self, data: bytes) -> None:
        if self.transport and not self.is_closed and not self.pipe.is_silent:
            self.transport.write(data)

    def write_after(self, data: bytes, delay: float) -> None:
        """Writes in order, also where the delay has just become shorter."""
        loop = asyncio.get_running_loop()
        self._free_at = max(self._free_at, loop.time() + delay)
        if self._free_at <= loop.time():
            self.write(data)
        else:
            loop.call_at(self._free_at, self.write, data)

    def close(self) -> None:
        if self.transport:
            loop = asyncio.get_running_loop()
            loop.call_at(max(self._free_at, loop.time()), self.transport.close)


async def _serve(backends: Mapping[str, Sequence[str]], ports: Mapping[str, int]) -> None:
    loop = asyncio.get_running_loop()
    lines = {name: _Line(found) for name, found in backends.items()}
    servers = [await loop.create_server(line.accept, "127.0.0.1", ports[name]) for name, line in lines.items()]
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print("ready", flush=True)  # noqa: T201 (the parent reads it)
    while order := await reader.readline():
        asked = json.loads(order)
        lines[asked["line"]].apply(asked["action"], asked["seconds"], asked["backend"])
    for server in servers:
        server.close()


class Lines:
    """The running lines, by name."""

    def __init__(self, process: "subprocess.Popen[str]", ports: Mapping[str, int]) -> None:
        self._process = process
        self._ports = ports

    @property
    def names(self) -> Sequence[str]:
        return list(self._ports)

    def endpoint(self, name: str) -> str:
        return f"127.0.0.1:{self._ports[name]}"

    def apply(self, line: str, action: str, *, seconds: float = 0.0, backend: str = "") -> None:
        """`backend`: only its connections; empty: all."""
        assert self._process.stdin is not None
        asked = {"line": line, "action": action, "seconds": seconds, "backend": backend}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()


@contextmanager
def lines(backends: Mapping[str, Sequence[str]]) -> Iterator[Lines]:
    """One line per name, until the block ends. A backend is host:port, or the path of a Unix socket."""
    ports: dict[str, Any] = {name: free_port() for name in backends}
    command = [sys.executable, "-m", "testing.chaos.lines", json.dumps(dict(backends)), json.dumps(ports)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Lines(process, ports)
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(sys.argv[1]), json.loads(sys.argv[2])))
