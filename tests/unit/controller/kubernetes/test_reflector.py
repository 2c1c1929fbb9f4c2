"""The cache of a reflector, on an API server that sends scripted events."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from services.controller.kubernetes.api_client import Object
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
