"""Certificates and authorities that are renewed while a server and its clients run."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
import pytest
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY

from crease_client.channels import open_aio_client_channel, open_client_channel
from services.clients import open_aio_channel, open_channel
from services.tls.server import ServerCertificate
from testing.servers import certificates

CALL_SECONDS = 30
SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest.fixture
def made(tmp_path: Path) -> dict[str, tuple[Path, Path]]:
    """Two certificates for localhost, each its own authority; the files of `used` are those of the first."""
    folders = {name: tmp_path / name for name in ("old", "new", "used")}
    for folder in folders.values():
        folder.mkdir()
    files = {name: certificates.make(folders[name], "localhost") for name in ("old", "new")}
    files["used"] = folders["used"] / "tls.crt", folders["used"] / "tls.key"
    return files


def install(made: dict[str, tuple[Path, Path]], name: str) -> None:
    """Replaces the files as a Kubernetes Secret does: new files take the places of the old ones."""
    for source, used in zip(made[name], made["used"], strict=True):
        shutil.copy(source, used.with_suffix(".next"))
        used.with_suffix(".next").rename(used)


@dataclass
class Renewing:
    """A server with TLS whose files a test renews."""

    certificate: ServerCertificate
    checks: health.aio.HealthServicer
    port: int = 0
    server: grpc.aio.Server | None = None

    @property
    def endpoint(self) -> str:
        return f"https://localhost:{self.port}"

    async def restart(self) -> None:
        """Ends every connection."""
        if self.server:
            await self.server.stop(None)
        self.server = grpc.aio.server()
        health_pb2_grpc.add_HealthServicer_to_server(self.checks, self.server)
        self.port = self.server.add_secure_port(f"127.0.0.1:{self.port}", self.certificate.credentials())
        await self.server.start()


async def call(channel: grpc.aio.Channel, *, wait_for_ready: bool = True) -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    reply = await stub.Check(health_pb2.HealthCheckRequest(), timeout=CALL_SECONDS, wait_for_ready=wait_for_ready)
    return int(reply.status)


def check(channel: grpc.Channel) -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=CALL_SECONDS, wait_for_ready=True)
    return int(reply.status)


@pytest.fixture
async def renewing(made: dict[str, tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Renewing]:
    """A server of `used`, which clients trust."""
    install(made, "old")
    certificate, key = made["used"]
    monkeypatch.setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", str(certificate))
    log = structlog.testing.CapturingLogger()
    running = Renewing(ServerCertificate(certificate, key, None, log), health.aio.HealthServicer())
    await running.restart()
    assert running.server
    try:
        yield running
        # A client that still has the old authority only.
        old = grpc.ssl_channel_credentials(made["old"][0].read_bytes())
        async with grpc.aio.secure_channel(running.endpoint.removeprefix("https://"), old) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(channel, wait_for_ready=False)
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    finally:
        await running.server.stop(None)
    assert [one.method_name for one in log.calls] == ["info"]


@pytest.mark.parametrize("opening", [open_aio_channel, lambda endpoint: open_aio_client_channel(endpoint, [])])
async def test_a_renewed_certificate_and_authority_need_no_restart(
    opening: Callable[[str], grpc.aio.Channel], renewing: Renewing, made: dict[str, tuple[Path, Path]]
) -> None:
    """The next handshake shows the new certificate, and an open channel trusts the new authority."""
    async with opening(renewing.endpoint) as channel:
        assert await call(channel) == SERVING
        install(made, "new")
        await renewing.restart()
        assert await call(channel) == SERVING


@pytest.mark.parametrize("opening", [open_channel, open_client_channel])
async def test_a_blocking_channel_trusts_a_renewed_authority(
    opening: Callable[[str], grpc.Channel], renewing: Renewing, made: dict[str, tuple[Path, Path]]
) -> None:
    """As the analyzer and the client commands have it."""
    with opening(renewing.endpoint) as channel:
        assert await asyncio.to_thread(check, channel) == SERVING
        install(made, "new")
        await renewing.restart()
        assert await asyncio.to_thread(check, channel) == SERVING


@pytest.mark.parametrize("opening", [open_channel, open_client_channel])
async def test_a_stream_goes_on_while_the_authority_is_renewed(
    opening: Callable[[str], grpc.Channel], renewing: Renewing, made: dict[str, tuple[Path, Path]]
) -> None:
    """Later calls have a connection of their own."""
    with opening(renewing.endpoint) as channel:
        stream = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=CALL_SECONDS)
        assert (await asyncio.to_thread(next, stream)).status == SERVING
        install(made, "new")
        assert await asyncio.to_thread(check, channel) == SERVING
        await renewing.checks.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        assert (await asyncio.to_thread(next, stream)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        stream.cancel()


async def test_a_certificate_without_its_key_leaves_the_old_one_in_use(made: dict[str, tuple[Path, Path]]) -> None:
    """A half-written pair must not stop the server; the log names the file."""
    install(made, "old")
    certificate, key = made["used"]
    log = structlog.testing.CapturingLogger()
    server = ServerCertificate(certificate, key, None, log)
    before = server._read_if_changed()
    shutil.copy(made["new"][1], key)
    assert server._read_if_changed() is before
    [error] = log.calls
    assert (error.method_name, error.kwargs["file"]) == ("error", str(certificate))
    with pytest.raises(ValueError, match=r"is not the key of"):
        ServerCertificate(certificate, key, None, log)


async def test_the_expiry_of_a_certificate_is_a_metric(made: dict[str, tuple[Path, Path]]) -> None:
    """In Unix time, by file; the certificates of this test expire within two hours."""
    install(made, "old")
    certificate, key = made["used"]
    ServerCertificate(certificate, key, None, structlog.testing.CapturingLogger())
    name, labels = "crease_certificate_expires_timestamp_seconds", {"file": str(certificate)}
    expires = REGISTRY.get_sample_value(name, labels)
    assert expires
    assert 0 < expires - certificate.stat().st_mtime <= 2 * 3600
