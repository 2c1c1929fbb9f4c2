"""The copy of what the API server holds, kept from a list and a watch that tell what they are told to."""

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


class Told:
    """An API server with nothing on its list, which then tells of these."""

    def __init__(self, *events: Object) -> None:
        self._events = events
        self.all_told = asyncio.Event()

    async def get(self, path: str, **query: Any) -> Object:
        return {"metadata": {"resourceVersion": "1"}, "items": []}

    async def watch(self, path: str, seconds: float, **query: Any) -> AsyncGenerator[Object, None]:
        for event in self._events:
            yield event
        self.all_told.set()
        await asyncio.Event().wait()


async def test_only_a_change_in_what_is_kept_is_told() -> None:
    """An object that we have just made, or whose status moves on in ways that nobody asks for, wakes nobody."""
    changes = []
    same, other = node("3"), node("4", taint=True)
    api = Told(*({"type": "MODIFIED", "object": body} for body in (node("2"), same, other)))
    reflector = Reflector(api, "/api/v1/nodes", parse_node, lambda: changes.append(dict(reflector.items)))  # type: ignore[arg-type]
    running = asyncio.create_task(reflector.run())
    await api.all_told.wait()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert changes == [{}, {"n1": parse_node(same)}, {"n1": parse_node(other)}]
