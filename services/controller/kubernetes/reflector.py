"""Caches one kind of object of the API server, kept fresh by a list and then a watch.

list, in pages ─▶ watch, with bookmarks ─┬─ ended by its timeout ─▶ watch again, from the last version
      ▲                                  ├─ 410 Gone, or broken ──┐
      └──────────────────────────────────┴─ every relist_seconds ─┘

A failed list changes nothing: the cache stays and ages, and its readers check the age. Deleted objects are kept as
tombstones for TOMBSTONE_SECONDS, because their last state may show how a workload ended.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Generic, Protocol, TypeVar

from services.controller.core.launcher import Unknown
from services.controller.kubernetes.api_client import Object, Refusal

PAGE_SIZE = 500
# The server ends a watch after this time, so that a dead stream is noticed soon.
WATCH_SECONDS = 25.0
RETRY_SECONDS = 1.0
# The API server lacks the kind of objects until its operator is installed.
MISSING_KIND_SECONDS = 30.0
TOMBSTONE_SECONDS = 900.0


class ListerWatcher(Protocol):
    """The part of Api that a reflector needs."""

    async def get(self, path: str, **query: Any) -> Object: ...

    def watch(self, path: str, seconds: float, **query: Any) -> AsyncGenerator[Object, None]: ...


class Item(Protocol):
    @property
    def uid(self) -> str: ...


T = TypeVar("T", bound=Item)


class Reflector(Generic[T]):
    """`parse` keeps the needed part of an object. `changed` is called after the first list and after each change."""

    def __init__(
        self,
        api: ListerWatcher,
        path: str,
        parse: Callable[[Object], T],
        changed: Callable[[], None],
        *,
        selector: str = "",
        relist_seconds: float = 300.0,
    ) -> None:
        self._api = api
        self._path = path
        self._parse = parse
        self._changed = changed
        self._selector = selector
        self._relist_seconds = relist_seconds
        # By uid.
        self.items: dict[str, T] = {}
        self._tombstones: dict[str, tuple[float, T]] = {}
        # When `add` put an item in: a list that was requested earlier does not contain it.
        self._added: dict[str, float] = {}
        self._fresh_at = float("-inf")
        self.error = "it has not been listed yet"

    @property
    def age_seconds(self) -> float:
        """Seconds since the cache last matched the server; infinite before the first list."""
        return time.monotonic() - self._fresh_at

    @property
    def tombstones(self) -> Mapping[str, T]:
        """The last state of recently deleted objects, by uid."""
        return {uid: item for uid, (_, item) in self._tombstones.items()}

    def add(self, item: T) -> None:
        """Adds a new object before the watch reports it; a cached state is newer and stays."""
        if item.uid not in self.items and item.uid not in self._tombstones:
            self._added[item.uid] = time.monotonic()
            self.items[item.uid] = item

    async def run(self) -> None:
        """Keeps the cache fresh until cancelled."""
        while True:
            try:
                version = await self._list()
                await self._watch_until_relist(version)
            except (Unknown, Refusal) as error:
                self.error = str(error)
                # Spread out, so that not every controller lists at once after an outage of the server.
                is_missing = isinstance(error, Refusal) and error.code == 404
                seconds = MISSING_KIND_SECONDS if is_missing else RETRY_SECONDS
                await asyncio.sleep(seconds * random.uniform(0.5, 1.0))  # noqa: S311 (spreads load)

    async def _list(self) -> str:
        found: dict[str, T] = {}
        token, version = "", ""
        # The list is at least as fresh as its request.
        requested_at = time.monotonic()
        while True:
            page = await self._api.get(self._path, labelSelector=self._selector, limit=PAGE_SIZE, **{"continue": token})
            found |= {item.uid: item for item in map(self._parse, page.get("items") or ())}
            version, token = page["metadata"]["resourceVersion"], page["metadata"].get("continue", "")
            if not token:
                break
        self._added = {uid: at for uid, at in self._added.items() if at >= requested_at}
        found |= {uid: item for uid, item in self.items.items() if uid in self._added and uid not in found}
        self._keep_tombstones({uid: item for uid, item in self.items.items() if uid not in found})
        self.items = found
        self._mark_fresh(requested_at)
        self._changed()
        return str(version)

    async def _watch_until_relist(self, version: str) -> None:
        """Watches until the next list is due. Returns early on 410 Gone."""
        relist_at = time.monotonic() + self._relist_seconds
        while time.monotonic() < relist_at:
            stream = self._api.watch(self._path, WATCH_SECONDS, labelSelector=self._selector, resourceVersion=version)
            async with aclosing(stream):
                async for event in stream:
                    if event["type"] == "ERROR":
                        if event["object"].get("code") == 410:
                            return
                        raise Unknown(f"The watch failed: {event['object'].get('message', '')}")
                    version = event["object"]["metadata"]["resourceVersion"]
                    self._apply(event["type"], event["object"])
            # The server ended the watch by its timeout, so every event until now has arrived.
            self._mark_fresh(time.monotonic())

    def _apply(self, kind: str, body: Object) -> None:
        self._mark_fresh(time.monotonic())
        if kind == "BOOKMARK":
            return
        item = self._parse(body)
        if kind == "DELETED":
            self.items.pop(item.uid, None)
            self._keep_tombstones({item.uid: item})
        elif self.items.get(item.uid) == item:
            # Added by this process, or changed in a part that `parse` drops.
            return
        else:
            self.items[item.uid] = item
        self._changed()

    def _mark_fresh(self, at: float) -> None:
        self._fresh_at = at
        self.error = ""

    def _keep_tombstones(self, deleted: Mapping[str, T]) -> None:
        now = time.monotonic()
        self._tombstones |= {uid: (now, item) for uid, item in deleted.items()}
        # The dict is in the order of deletion, so the first fresh one ends the loop.
        for uid, (since, _) in list(self._tombstones.items()):
            if now - since < TOMBSTONE_SECONDS:
                break
            del self._tombstones[uid]
