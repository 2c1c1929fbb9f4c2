"""A copy of one kind of object that the API server holds, kept by a list and then a watch.

list, in pages ─▶ watch, with bookmarks ─┬─ ended in its time ─▶ watch on, from where it ended
      ▲                                  ├─ 410 Gone, or broken ─┐
      └──────────────────────────────────┴─ every relist_seconds ┘

A list that failed changes nothing: the copy stays as it was and grows old. Who reads it asks how old it is.
What is gone is remembered for a while: its last words may tell how it ended.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Generic, Protocol, TypeVar

from services.controller.core.launcher import Unknown
from services.controller.kubernetes.api_client import Api, Object, Refusal

PAGE = 500
# The server ends a watch after this long, so that a stream that has died in silence is noticed soon.
WATCH_SECONDS = 25.0
AGAIN_SECONDS = 1.0
TOMBSTONE_SECONDS = 900.0


class Known(Protocol):
    @property
    def uid(self) -> str: ...


K = TypeVar("K", bound=Known)


class Reflector(Generic[K]):
    """`parse` keeps of an object what is needed, nothing more; `changed` is called after each change, and once the
    first list is in."""

    def __init__(
        self,
        api: Api,
        path: str,
        parse: Callable[[Object], K],
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
        self.items: dict[str, K] = {}
        self._gone: dict[str, tuple[float, K]] = {}
        # What was put in by hand, and when: a list that was asked for earlier does not know of it.
        self._added: dict[str, float] = {}
        self._fresh_at = float("-inf")
        self.trouble = "it was not listed yet"

    @property
    def age_seconds(self) -> float:
        """Since the copy was last known to be as the server's; infinite before the first list."""
        return time.monotonic() - self._fresh_at

    @property
    def gone(self) -> Mapping[str, K]:
        """What was there not long ago, as it was last seen."""
        return {uid: last for uid, (_, last) in self._gone.items()}

    def add(self, item: K) -> None:
        """What was just created, until the watch tells of it. What is known already is known better."""
        if item.uid not in self.items and item.uid not in self._gone:
            self._added[item.uid] = time.monotonic()
            self.items[item.uid] = item

    async def run(self) -> None:
        """Keeps the copy, for ever."""
        while True:
            try:
                version = await self._list()
                await self._follow(version)
            except (Unknown, Refusal) as error:
                self.trouble = str(error)
                # Not all of them at once, after the server was away.
                await asyncio.sleep(AGAIN_SECONDS * random.uniform(0.5, 1.0))  # noqa: S311 (spreads load)

    async def _list(self) -> str:
        found: dict[str, K] = {}
        token, version = "", ""
        # A list is as old as when it was asked for.
        began = time.monotonic()
        while True:
            page = await self._api.get(self._path, labelSelector=self._selector, limit=PAGE, **{"continue": token})
            found |= {item.uid: item for item in map(self._parse, page.get("items") or ())}
            version, token = page["metadata"]["resourceVersion"], page["metadata"].get("continue", "")
            if not token:
                break
        self._added = {uid: at for uid, at in self._added.items() if at >= began}
        found |= {uid: item for uid, item in self.items.items() if uid in self._added and uid not in found}
        self._bury({uid: item for uid, item in self.items.items() if uid not in found})
        self.items = found
        self._refresh(began)
        self._changed()
        return str(version)

    async def _follow(self, version: str) -> None:
        """Watches until it is time for another list. Returns early where the server has forgotten the version."""
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
                    self._take(event["type"], event["object"])
            # It ended in its time, so nothing was left to tell.
            self._refresh(time.monotonic())

    def _take(self, kind: str, body: Object) -> None:
        self._refresh(time.monotonic())
        if kind == "BOOKMARK":
            return
        item = self._parse(body)
        if kind == "DELETED":
            self.items.pop(item.uid, None)
            self._bury({item.uid: item})
        elif self.items.get(item.uid) == item:
            # What we have made ourselves, or what has changed is not kept.
            return
        else:
            self.items[item.uid] = item
        self._changed()

    def _refresh(self, at: float) -> None:
        self._fresh_at = at
        self.trouble = ""

    def _bury(self, dead: Mapping[str, K]) -> None:
        now = time.monotonic()
        self._gone |= {uid: (now, item) for uid, item in dead.items()}
        # In the order of their ends.
        for uid, (since, _) in list(self._gone.items()):
            if now - since < TOMBSTONE_SECONDS:
                break
            del self._gone[uid]
