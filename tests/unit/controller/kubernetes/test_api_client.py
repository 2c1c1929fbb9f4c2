"""The controller's requests, sent by the real client to a server with scripted faults."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY

from services import logs, traces
from services.controller.core.launcher import Unknown
from services.controller.kubernetes import api_client as module
from services.controller.kubernetes.api_client import Api, Refusal, open_api

PATH = "/apis/batch/v1/namespaces/crease/jobs"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Gives its answers one after the other, repeating the last; records each request with its time."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[tuple[str, float]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, time.monotonic()))
        return await (self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])(request)


def answers(status: int, body: object = None, **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.json_response(body or {}, status=status, headers=named)

    return answer


async def never(_: web.Request) -> web.StreamResponse:
    """The connection stays open without an answer, as behind a firewall that dropped it."""
    await asyncio.sleep(60)
    raise AssertionError("the client should have given up")


async def half(request: web.Request) -> web.StreamResponse:
    """A part of an answer, then the end of the connection."""
    response = web.StreamResponse(headers={"Content-Length": "100"})
    await response.prepare(request)
    await response.write(b'{"kind": ')
    assert request.transport
    request.transport.abort()
    return response


async def hangs_up(request: web.Request) -> web.StreamResponse:
    assert request.transport
    request.transport.abort()
    return web.Response()


async def one_event(request: web.Request) -> web.StreamResponse:
    """One event of a watch, then silence."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b'{"type": "ADDED", "object": {}}\n')
    return await never(request)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def api(server: Server, tmp_path: Path) -> AsyncIterator[Api]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    # An abandoned request ends its handler at once.
    async with TestServer(app, handler_cancellation=True) as running:
        one = {"name": "it", "cluster": {"server": str(running.make_url("")).rstrip("/")}}
        user = {"name": "it", "user": {"token": "secret"}}
        context = {"name": "it", "context": {"cluster": "it", "user": "it"}}
        body = {"clusters": [one], "users": [user], "contexts": [context], "current-context": "it"}
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(body))
        async with open_api(tmp_path / "kubeconfig", 4) as made:
            yield made


async def test_a_throttled_request_is_sent_again_after_retry_after(api: Api, server: Server) -> None:
    """Unchanged, because the server did not execute it."""
    server.answers = [answers(429, Retry_After="1"), answers(200, {"kind": "Job"})]
    assert await api.post(PATH, {}) == {"kind": "Job"}
    (_, refused), (method, again) = server.requests
    assert method == "POST"
    assert again - refused >= 1


async def test_a_request_that_is_always_throttled_is_unknown(api: Api, server: Server) -> None:
    """After a bounded number of tries; none of them is a refusal."""
    server.answers = [answers(429, Retry_After="0")]
    with pytest.raises(Unknown, match="throttled"):
        await api.post(PATH, {})
    assert len(server.requests) == module.TRIES


@pytest.mark.parametrize("status", [401, 500, 503])
async def test_an_error_that_leaves_the_outcome_open_is_unknown(api: Api, server: Server, status: int) -> None:
    """The server may have executed the request, so it is sent once."""
    server.answers = [answers(status, {"reason": "InternalError", "message": "etcdserver: request timed out"})]
    with pytest.raises(Unknown, match=rf"{status} InternalError: etcdserver"):
        await api.post(PATH, {})
    assert len(server.requests) == 1


async def test_a_refusal_has_its_reason(api: Api, server: Server) -> None:
    """Status code, reason and message."""
    server.answers = [answers(409, {"reason": "AlreadyExists", "message": 'jobs "a" already exists'})]
    with pytest.raises(Refusal, match="already exists") as caught:
        await api.post(PATH, {})
    assert (caught.value.code, caught.value.reason) == (409, "AlreadyExists")


@pytest.mark.parametrize("broken", [never, half])
async def test_a_partial_answer_or_none_is_unknown(
    api: Api, server: Server, broken: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait is bounded, and the next request is answered."""
    monkeypatch.setattr(module, "CALL_SECONDS", 0.5)
    server.answers = [broken, answers(200, {"kind": "Job"})]
    with pytest.raises(Unknown):
        await api.post(PATH, {})
    monkeypatch.setattr(module, "CALL_SECONDS", 30.0)
    assert await api.get(PATH) == {"kind": "Job"}


async def test_a_silent_watch_is_unknown(api: Api, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A live server ends a watch in time; the events before the silence are delivered."""
    monkeypatch.setattr(module, "WATCH_GRACE_SECONDS", 0.5)
    server.answers = [one_event]
    events = api.watch(PATH, 0)
    assert (await anext(events))["type"] == "ADDED"
    with pytest.raises(Unknown, match="broke"):
        await anext(events)


@pytest.mark.parametrize("minutes", [-5, 5])
async def test_the_time_is_the_servers(api: Api, server: Server, minutes: int) -> None:
    """Ages are measured by the clock that wrote the objects, however wrong this machine's is."""
    theirs = datetime.now(UTC) + timedelta(minutes=minutes)
    server.answers = [answers(200, Date=format_datetime(theirs, usegmt=True))]
    await api.get(PATH)
    assert abs(api.now - theirs) < timedelta(seconds=60)
    assert REGISTRY.get_sample_value("crease_clock_skew_seconds") == pytest.approx(minutes * 60, abs=60)


async def test_every_request_is_counted_by_its_outcome(api: Api, server: Server) -> None:
    """A repeated request counts twice; without an answer the code is 0; a watch has its own verb."""
    kinds = [("POST", "201"), ("GET", "429"), ("GET", "200"), ("DELETE", "403"), ("POST", "0"), ("WATCH", "410")]

    def counted(verb: str, code: str) -> float:
        return REGISTRY.get_sample_value("crease_kube_requests_total", {"verb": verb, "code": code}) or 0.0

    before = {kind: counted(*kind) for kind in kinds}
    server.answers = [
        answers(201),
        answers(429, Retry_After="0.05"),
        answers(200),
        answers(403),
        hangs_up,
        answers(410),
    ]
    with logs.collecting_durations() as waits:
        await api.post(PATH, {})
        await api.get(PATH)
        with pytest.raises(Refusal):
            await api.delete(PATH, {})
        with pytest.raises(Unknown):
            await api.post(PATH, {})
        with pytest.raises(Refusal):
            await anext(api.watch(PATH, 1))
    assert {kind: counted(*kind) - before[kind] for kind in kinds} == dict.fromkeys(kinds, 1)
    assert waits["kube_ms"] > 0


async def test_a_request_is_a_span_of_its_trace(api: Api, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """With OpenTelemetry's attributes; a request outside a trace has no span."""
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(traces, "_tracer", provider.get_tracer("test"))
    server.answers = [answers(201)]
    await api.post(PATH, {})
    with traces.span("launch", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"):
        await api.post(PATH, {})
    posted, launch = spans.get_finished_spans()
    assert (posted.name, posted.kind.name, launch.name) == ("POST", "CLIENT", "launch")
    assert posted.parent
    assert launch.context
    assert posted.attributes
    assert posted.parent.span_id == launch.context.span_id
    assert posted.attributes["http.response.status_code"] == 201


async def test_https_proxy_and_no_proxy_are_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read once: the environment is not read at each request."""
    requests = set[str]()

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.add((await reader.readline()).decode().strip())
        writer.close()

    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as server:
        one = {"clusters": [{"name": "it", "cluster": {"server": "https://kubernetes.invalid:6443"}}],
               "users": [{"name": "it", "user": {}}], "current-context": "it",
               "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}]}  # fmt: skip
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(one))
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        for exceptions, expected in (("", {"CONNECT kubernetes.invalid:6443 HTTP/1.1"}), ("kubernetes.invalid", set())):
            requests.clear()
            monkeypatch.setenv("NO_PROXY", exceptions)
            async with open_api(tmp_path / "kubeconfig", 4) as api:
                with pytest.raises(Unknown):
                    await api.get(PATH)
            assert requests == expected
