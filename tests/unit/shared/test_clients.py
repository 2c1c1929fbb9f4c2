"""Channels between programs."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from crease_client.errors import Unavailable, from_rpc_error
from services import serving
from services.clients import is_transient, open_aio_channel, open_channel
from testing.servers import certificates
from testing.servers.line import line
from testing.servers.programs import ROOT

# Twice the promise, for a busy machine; `make chaos` measures the promise.
PROGRESS_SECONDS = 40.0

CALL = """
import asyncio, sys
from grpc_health.v1 import health_pb2, health_pb2_grpc
from services.clients import open_aio_channel, open_channel
asked = health_pb2.HealthCheckRequest()
print(health_pb2_grpc.HealthStub(open_channel(sys.argv[1])).Check(asked, timeout=20).status)
async def main():
    async with open_aio_channel(sys.argv[2]) as channel:
        print((await health_pb2_grpc.HealthStub(channel).Check(asked, timeout=20)).status)
asyncio.run(main())
"""


def test_https_endpoints_are_reached_by_tls(tmp_path: Path) -> None:
    """By threads and by asyncio, by the host's name or another, with the authorities that gRPC's variable names."""
    certificate, key = certificates.make(tmp_path, "localhost", "jobs.nets.svc")
    server = grpc.server(ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        called = subprocess.run(
            [sys.executable, "-c", CALL, f"https://localhost:{port}", f"https://127.0.0.1:{port}/jobs.nets.svc"],
            cwd=ROOT,
            env=os.environ | {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(certificate)},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        server.stop(0)
    assert called.stdout.split() == ["1", "1"], called.stderr


async def test_calls_that_a_stopping_server_never_began_may_be_repeated() -> None:
    """They wait in gRPC when the server begins to stop. Programs and the client package call again."""
    server, servicer = grpc.aio.server(), _Streaming()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    with open_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        await asyncio.to_thread(stub.Check, health_pb2.HealthCheckRequest(), timeout=60)
        calls = [stub.Check.future(health_pb2.HealthCheckRequest(), timeout=60) for _ in range(20)]
        # A busy server: its loop serves nothing, and gRPC accepts the calls meanwhile.
        time.sleep(0.5)  # noqa: ASYNC251 (the loop must be busy)
        await server.stop(5)
        failures = [error for one in calls if (error := await asyncio.to_thread(one.exception))]
    assert all(is_transient(error) for error in failures)
    assert all(isinstance(from_rpc_error(error), Unavailable) for error in failures)


class _Streaming(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # grpc_health ships no types
    """Answers, and streams one message; records the end of the stream."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: object) -> health_pb2.HealthCheckResponse:
        return health_pb2.HealthCheckResponse()

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: object
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        try:
            yield health_pb2.HealthCheckResponse()
            await asyncio.Event().wait()
        finally:
            self.left.set()


@pytest.mark.slow
async def test_both_sides_notice_a_silent_peer() -> None:
    """The client's stream ends and its calls are answered again; the server's stream ends too."""
    servicer, asked = _Streaming(), health_pb2.HealthCheckRequest()
    server = grpc.aio.server(options=serving.OPTIONS)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    with line(("127.0.0.1", port)) as wire:
        async with open_aio_channel(wire.endpoint) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            stream = stub.Watch(asked)
            await stream.read()
            wire.silence_open()
            silent_since = time.monotonic()
            while not await _answers(stub):
                pass
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await stream.read()
            assert is_transient(ended.value)
            await servicer.left.wait()
            assert time.monotonic() - silent_since < PROGRESS_SECONDS
            # While no connection can be opened either, an attempt is given up in time.
            wire.silence()
            assert not await _answers(stub)
            await asyncio.sleep(PROGRESS_SECONDS / 2)
            wire.heal()
            healed_at = time.monotonic()
            while not await _answers(stub):
                pass
            assert time.monotonic() - healed_at < PROGRESS_SECONDS
    await server.stop(0)


async def _answers(stub: health_pb2_grpc.HealthStub) -> bool:
    try:
        await stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
    except grpc.aio.AioRpcError as error:
        assert is_transient(error)  # noqa: PT017 (asserts no other error)
        return False
    return True
