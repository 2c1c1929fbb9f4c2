"""Real programs for tests: each started as in production, on a free port, and stopped at the end."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from crease_client.calls import ON_BEHALF_OF
from services import dev_issuer

ROOT = Path(__file__).parents[2]
READY_SECONDS = 60
# What asyncio logs of an exception in a task without an awaiter.
UNRETRIEVED = "exception was never retrieved"
OURS = {"services", "crease", "crease_client", "testing", "tests", "bench", "scripts"}


_given: set[int] = set()


def free_port() -> int:
    """A free port that was not returned before: the kernel may return the same unused port twice."""
    while True:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = int(listener.getsockname()[1])
        if port not in _given:
            _given.add(port)
            return port


def foreign_to(group: str) -> list[str]:
    """Installed packages that the image of a program lacks: those in no lock of the program."""
    lock = (ROOT / "locks" / f"{group}.txt").read_text()
    locked = {_distribution(name) for name in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)}
    return [
        top
        for top, distributions in packages_distributions().items()
        if top not in OURS and not locked & set(map(_distribution, distributions))
    ]


def _distribution(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass
class Program:
    """One program as a process in its own process group. `authority`: of its certificate, where it serves TLS."""

    name: str
    env: Mapping[str, str]
    log: Path
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None
    authority: Path | None = None
    arguments: tuple[str, ...] = ()

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the started program."""
        assert self.process is not None, f"{self.name} is not started"
        return self.process.pid

    def start(self) -> "Program":
        keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        env = keep | {"CREASE_LISTEN": self.endpoint} | dict(self.env)
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", f"services.{self.name}", *self.arguments]
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._wait_until_serving()
        return self

    def _wait_until_serving(self) -> None:
        give_up = time.monotonic() + READY_SECONDS
        while True:
            try:
                # Anew, because the authority may be renewed meanwhile.
                with self._open_channel() as channel:
                    health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2)
                return
            except grpc.RpcError:
                assert self.process is not None
                assert self.process.poll() is None, f"{self.name} ended:\n{self.log.read_text()}"
                assert time.monotonic() < give_up, f"{self.name} is not serving:\n{self.log.read_text()}"
                time.sleep(0.05)

    def _open_channel(self) -> grpc.Channel:
        if self.authority is None:
            return grpc.insecure_channel(self.endpoint)
        trusted = grpc.ssl_channel_credentials(self.authority.read_bytes())
        return grpc.secure_channel(self.endpoint, trusted, [("grpc.ssl_target_name_override", "localhost")])

    def kill(self) -> None:
        """Crashes the program by SIGKILL."""
        self.stop(signal.SIGKILL)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(timeout=30)
        self.process = None


@contextmanager
def running(program: Program) -> Iterator[Program]:
    """The started program, until the block ends. Fails if a task of the program ended unnoticed."""
    try:
        yield program.start()
    finally:
        program.stop(signal.SIGKILL)
    unnoticed = [line for line in program.log.read_text().splitlines() if UNRETRIEVED in line]
    assert not unnoticed, unnoticed


# Internal services and what they may: everything, one right alone, or everything for one owner alone.
SERVICES: dict[str, dict[str, Any]] = {
    "everything": dev_issuer.EVERYTHING,
    "reader": {"may": ["read"], "owners": ["*"]},
    "listener": {"may": ["events"], "owners": ["*"]},
    "tutor": {"may": ["read", "write", "events"], "owners": ["coach:coach-1"]},
    "club": {"may": ["read", "write", "events"], "owners": ["org:o-1"]},
}


@dataclass(frozen=True)
class Laptop:
    """The laptop's issuer: tokens for any caller, and for SERVICES. others: the issuers that are trusted beside it."""

    folder: Path
    others: tuple[dict[str, Any], ...] = ()

    @property
    def env(self) -> dict[str, str]:
        return {"CREASE_ISSUERS": json.dumps([*dev_issuer.issuers(self.folder, SERVICES), *self.others])}

    def person(self, subject: str = "coach-1", **claims: Any) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {dev_issuer.person(self.folder, subject, **claims)}"),)

    def service(self, name: str = "everything", on_behalf_of: str = "") -> tuple[tuple[str, str], ...]:
        metadata = (("authorization", f"Bearer {dev_issuer.service(self.folder, name)}"),)
        return metadata + (((ON_BEHALF_OF, on_behalf_of),) if on_behalf_of else ())

    def program(self, name: str, *, behind: str | None = None) -> tuple[tuple[str, str], ...]:
        metadata = (("authorization", f"Bearer {dev_issuer.program(self.folder, name)}"),)
        return metadata + ((("crease-user", dev_issuer.person(self.folder, behind)),) if behind else ())

    def pod(self, name: str, uid: str | None = None) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {dev_issuer.pod(self.folder, name, uid=uid)}"),)

    def token_file(self, name: str) -> Path:
        path = self.folder / f"{name}.jwt"
        path.write_text(dev_issuer.program(self.folder, name))
        return path


def lease(secret: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a call with a lease."""
    return (("authorization", f"Lease {secret}"),)
