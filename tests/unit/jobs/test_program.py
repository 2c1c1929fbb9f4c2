"""The program `jobs` as a whole."""

import asyncio
import contextlib
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services import metrics
from services.jobs import __main__ as program
from services.jobs.background import expiry
from services.jobs.settings import JobsSettings
from testing.servers.programs import free_port


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> str:
    """Settings of a `jobs` without a database."""
    endpoint = f"127.0.0.1:{free_port()}"
    for name, value in (
        ("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none"), ("ISSUERS", "[]"), ("LISTEN", endpoint),
    ):  # fmt: skip
        monkeypatch.setenv(f"CREASE_{name}", value)
    return endpoint


async def test_a_program_whose_background_loop_is_late_serves_and_is_not_ready(
    monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    """Without its database no loop completes a pass. Calls are still answered, with the reason."""
    monkeypatch.setattr(metrics, "STALLED_SECONDS", 0.5)
    running = asyncio.create_task(program.run(JobsSettings.load()))
    async with grpc.aio.insecure_channel(endpoint) as channel:
        checks: Any = health_pb2_grpc.HealthStub(channel)

        async with asyncio.timeout(30):
            watching = checks.Watch(health_pb2.HealthCheckRequest(service="ready"), wait_for_ready=True)
            async for reply in watching:
                if reply.status == health_pb2.HealthCheckResponse.NOT_SERVING:
                    break
        everything = await checks.Check(health_pb2.HealthCheckRequest(), timeout=30)
        assert everything.status == health_pb2.HealthCheckResponse.SERVING
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


@pytest.mark.usefixtures("endpoint")
async def test_a_sweep_that_breaks_ends_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that no longer sweeps leases must not report healthy."""

    async def broken(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(expiry, "run", broken)
    with pytest.raises(ExceptionGroup) as ended:
        await program.run(JobsSettings.load())
    assert ended.group_contains(RuntimeError, match="a fault of ours")
