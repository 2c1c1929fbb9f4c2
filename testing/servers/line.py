"""A TCP line between a program and its server that can break, or fall silent: no byte arrives, nothing is closed."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

CHUNK_BYTES = 65536


@dataclass
class Line:
    """Forwards connections to a host and port, or to the path of a Unix socket.

    A connection that was open during a silence stays silent for ever, as after a machine or a router has died.
    """

    target: tuple[str, int] | str
    listener: socket.socket
    is_silent: bool = False
    _open: list["_Connection"] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def silence(self) -> None:
        """Silences all connections, and those made from now on."""
        self.is_silent = True
        self.silence_open()

    def silence_open(self) -> None:
        """Silences the open connections alone."""
        for one in self._open:
            one.is_silent = True

    def cut(self) -> None:
        """Breaks the open connections; new ones work."""
        broken, self._open = self._open, []
        for connection in broken:
            connection.close()

    def heal(self) -> None:
        """Forwards new connections again."""
        self.is_silent = False

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self._open.append(_Connection(client, self._dial(), self.is_silent))
                self._open[-1].start()

    def _dial(self) -> socket.socket:
        if isinstance(self.target, tuple):
            return socket.create_connection(self.target)
        server = socket.socket(socket.AF_UNIX)
        server.connect(self.target)
        return server

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()


class _Connection:
    def __init__(self, client: socket.socket, server: socket.socket, is_silent: bool) -> None:
        self.ends = (client, server)
        self.is_silent = is_silent

    def start(self) -> None:
        client, server = self.ends
        for source, sink in ((client, server), (server, client)):
            threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def close(self) -> None:
        for end in self.ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        """Forwards until one end closes. In a silence bytes and ends are lost."""
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                if not self.is_silent:
                    sink.sendall(data)
            if not self.is_silent:
                sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def line(target: tuple[str, int] | str) -> Iterator[Line]:
    """A line to a server, until the block ends."""
    running = Line(target, socket.create_server(("127.0.0.1", 0)))
    threading.Thread(target=running.serve, daemon=True).start()
    try:
        yield running
    finally:
        running.close()


@contextlib.contextmanager
def postgres_line(database_url: str) -> Iterator[tuple[Line, str]]:
    """A line to a PostgreSQL that listens on a Unix socket, and the URL of the database by that line."""
    parts = urlsplit(database_url)
    [folder] = parse_qs(parts.query)["host"]
    with line(f"{folder}/.s.PGSQL.5432") as running:
        yield running, f"postgresql://postgres@127.0.0.1:{running.port}{parts.path}"
