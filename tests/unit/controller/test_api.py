"""Requests to an API server, and what is counted of them: over real HTTP, with a server that says what it is told."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from prometheus_client import REGISTRY

from services import logs
from services.controller.api import Api, Refusal, connected
from services.controller.launcher import Unknown

AHEAD = timedelta(seconds=90)


class Server:
    """Answers with these statuses, one after the other; 0 hangs up."""

    def __init__(self) -> None:
        self.statuses: list[int] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        status = self.statuses.pop(0)
        if status == 0:
            assert request.transport is not None
            request.transport.close()
        headers = {"Date": format_datetime(datetime.now(UTC) + AHEAD, usegmt=True), "Retry-After": "0.05"}
        return web.json_response({"reason": "Said", "message": "So it is"}, status=status or 200, headers=headers)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def api(server: Server, tmp_path: Path) -> AsyncIterator[Api]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    [(host, port)] = runner.addresses
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump({
        "current-context": "c", "users": [{"name": "u", "user": {"token": "t"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://{host}:{port}"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }))  # fmt: skip
    async with connected(tmp_path / "kubeconfig", 2) as made:
        yield made
    await runner.cleanup()


def counted(verb: str, code: str) -> float:
    return REGISTRY.get_sample_value("crease_kube_requests_total", {"verb": verb, "code": code}) or 0.0


async def test_every_request_is_counted_by_what_came_of_it(api: Api, server: Server) -> None:
    """One that the server has no room for is sent again; what got no answer is 0; a watch is told from a list."""
    kinds = [("POST", "201"), ("GET", "429"), ("GET", "200"), ("DELETE", "403"), ("POST", "0"), ("WATCH", "410")]
    before = {kind: counted(*kind) for kind in kinds}
    server.statuses = [201, 429, 200, 403, 0, 410]
    with logs.spending() as spent:
        await api.post("/jobs", {})
        await api.get("/jobs")
        with pytest.raises(Refusal, match="So it is"):
            await api.delete("/jobs/a", {})
        with pytest.raises(Unknown):
            await api.post("/jobs", {})
        with pytest.raises(Refusal):
            await anext(api.watch("/jobs", 1))
    assert {kind: counted(*kind) - before[kind] for kind in kinds} == dict.fromkeys(kinds, 1)
    assert spent["kube_ms"] > 0
    assert REGISTRY.get_sample_value("crease_clock_skew_seconds") == pytest.approx(AHEAD.total_seconds(), abs=2)
