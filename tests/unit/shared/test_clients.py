"""Channels between programs."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2_grpc

from testing.servers import certificates
from testing.servers.programs import ROOT

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
