"""The cache of a reflector, on an API server that sends scripted events."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from services.controller.kubernetes import reflector as module
from services.controller.kubernetes.api_client import Object, Refusal
from services.controller.kubernetes.observed_state import parse_node
from services.controller.kubernetes.reflector import Reflector


def node(version: str, *, taint: bool = False) -> Object:
    metadata = {"uid": "n1", "name": "n1", "resourceVersion": version}
    return {"metadata": metadata, "spec": {"unschedulable": taint}, "status": {}}


class Scripted:
    """An API server with an empty list, whose watch sends these events."""

    def __init__(self, *events: Object) -> None:
        self._events = events
        self.all_sent = asyncio.Event()

    async def get(self, path: str, **query: Any) -> Object:
        return {"metadata": {"resourceVersion": "1"}, "items": []}

    async def watch(self, path: str, seconds: float, **query: Any) -> AsyncGenerator[Object, None]:
        for event in self._events:
            yield event
        self.all_sent.set()
        await asyncio.Event().wait()


async def test_only_a_change_of_a_cached_field_is_reported() -> None:
    """A change of a field that `parse` drops does not wake the controller."""
    changes = []
    same, other = node("3"), node("4", taint=True)
    api = Scripted(*({"type": "MODIFIED", "object": body} for body in (node("2"), same, other)))
    reflector = Reflector(api, "/api/v1/nodes", parse_node, lambda: changes.append(dict(reflector.items)))
    running = asyncio.create_task(reflector.run())
    await api.all_sent.wait()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert changes == [{}, {"n1": parse_node(same)}, {"n1": parse_node(other)}]


async def test_a_kind_that_the_server_lacks_is_asked_for_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of an operator that is not installed; any other fault is retried sooner."""
    waits = []
    done = asyncio.Event()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            done.set()
            await asyncio.Event().wait()

    class Lacking(Scripted):
        async def get(self, path: str, **query: Any) -> Object:
            raise Refusal(404 if not waits else 403, "", "no such kind, or no right")

    monkeypatch.setattr(asyncio, "sleep", sleep)
    running = asyncio.create_task(Reflector(Lacking(), "/x", parse_node, lambda: None).run())
    await done.wait()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert waits[0] >= module.MISSING_KIND_SECONDS / 2 > module.RETRY_SECONDS >= waits[1]
