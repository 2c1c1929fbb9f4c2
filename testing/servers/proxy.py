"""A TCP proxy that injects connection faults."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

CHUNK_BYTES = 65536
THROTTLED = (
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: 79\r\nConnection: close\r\n\r\n"
    b"<Error><Code>SlowDown</Code><Message>Please reduce your rate</Message></Error>\n"
)
BROKEN = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass
class Proxy:
    """`fault`: the fault of each new connection. `only`: the HTTP method to which it applies.

    none        forwards everything
    throttled   answers 503 SlowDown
    broken      answers 500
    cut         forwards half of the first response, then resets
    half_open   accepts the request, never responds and never closes
    short       forwards the response with a Content-Length below that of its body
    """

    host: str
    port: int
    listener: socket.socket
    # TLS towards clients, as `localhost`.
    tls: ssl.SSLContext | None = None
    fault: str = "none"
    only: bytes = b""
    _open: list[socket.socket] = field(default_factory=list)

    @property
    def url(self) -> str:
        port = self.listener.getsockname()[1]
        return f"https://localhost:{port}" if self.tls else f"http://127.0.0.1:{port}"

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self._open.append(client)
                threading.Thread(target=self._handle, args=(client,), daemon=True).start()

    def _handle(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self.tls:
                client = self.tls.wrap_socket(client, server_side=True)
            while request := _read(client):
                fault = self.fault if request.startswith(self.only) else "none"
                if fault == "half_open":
                    # The reference keeps the socket open.
                    client.recv(1)
                    return
                if fault in ("throttled", "broken"):
                    client.sendall(THROTTLED if fault == "throttled" else BROKEN)
                    break
                reply = self._pass(request)
                client.sendall(_with_fault(reply, fault))
                if fault != "none" or not reply:
                    break
            if self.fault == "cut":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()

    def _pass(self, request: bytes) -> bytes:
        """The server's response, by a new connection: the server closes idle ones."""
        with socket.create_connection((self.host, self.port)) as server:
            self._open.append(server)
            server.sendall(request)
            return _read(server, request.startswith(b"HEAD"))

    def close(self) -> None:
        for one in (self.listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def _with_fault(reply: bytes, fault: str) -> bytes:
    match fault:
        case "cut":
            return reply[: len(reply) // 2]
        case "short":
            head, _, body = reply.partition(b"\r\n\r\n")
            lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
            return b"\r\n".join([*lines, b"Content-Length: %d" % (len(body) // 2)]) + b"\r\n\r\n" + body
        case _:
            return reply


def _read(source: socket.socket, is_head: bool = False) -> bytes:
    """One raw HTTP message with its body; empty at end of stream."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = source.recv(CHUNK_BYTES)
        if not chunk:
            return b""
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while not is_head and lengths and len(body) < lengths[0]:
        chunk = source.recv(CHUNK_BYTES)
        if not chunk:
            return b""
        body += chunk
    return head + b"\r\n\r\n" + body


@contextlib.contextmanager
def proxy(url: str, tls: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """A proxy before a server, until the block ends."""
    host, _, port = url.removeprefix("http://").partition(":")
    running = Proxy(host, int(port), socket.create_server(("127.0.0.1", 0)), tls)
    threading.Thread(target=running.serve, daemon=True).start()
    try:
        yield running
    finally:
        running.close()
