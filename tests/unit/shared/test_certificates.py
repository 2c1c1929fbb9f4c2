"""Certificates and authorities that are renewed while a server and its clients run."""

import shutil
from pathlib import Path

import grpc
import grpc.aio
import pytest
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY

from services.clients import open_aio_channel
from services.tls.server import ServerCertificate
from testing.servers import certificates

CALL_SECONDS = 10


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


async def call(channel: grpc.aio.Channel) -> int:
    reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=CALL_SECONDS)
    return int(reply.status)


async def test_a_renewed_certificate_and_authority_need_no_restart(
    made: dict[str, tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next handshake shows the new certificate, and an open channel trusts the new authority."""
    install(made, "old")
    certificate, key = made["used"]
    monkeypatch.setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", str(certificate))
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    log = structlog.testing.CapturingLogger()
    credentials = ServerCertificate(certificate, key, None, log).credentials()
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        async with open_aio_channel(f"https://localhost:{port}") as channel:
            assert await call(channel) == health_pb2.HealthCheckResponse.SERVING
            install(made, "new")
            assert await call(channel) == health_pb2.HealthCheckResponse.SERVING
        # A client that still has the old authority only.
        old = grpc.ssl_channel_credentials(made["old"][0].read_bytes())
        async with grpc.aio.secure_channel(f"localhost:{port}", old) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(channel)
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    finally:
        await server.stop(None)
    assert [one.method_name for one in log.calls] == ["info"]


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
