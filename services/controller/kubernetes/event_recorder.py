"""Kubernetes Events on the Jobs: what the controller did and why, for `kubectl describe` and `kubectl events`.

They are told on the side, slower while much happens: nothing waits for them, and what cannot be told in time is lost.
"""

import asyncio
import collections
import contextlib
import uuid
from datetime import datetime

from services import naming
from services.controller.core.launcher import Seen, Unknown
from services.controller.kubernetes.api_client import Api, Refusal

MOST_WAITING = 1000
# Between two, and so many of them while more comes: at 0.02 s telling slowed a burst of work by a fifth.
PAUSE_SECONDS, BUSY_PAUSES = 0.05, 5
# The API's own limit.
MOST_CHARACTERS = 1024


class Teller:
    def __init__(self, api: Api, namespace: str, identity: str) -> None:
        self._api = api
        self._namespace = namespace
        self._identity = identity
        self._waiting: collections.deque[tuple[datetime, Seen, str, str]] = collections.deque(maxlen=MOST_WAITING)
        self._any = asyncio.Event()

    def tell(self, seen: Seen, what: str, why: str) -> None:
        """Notes it; the oldest goes where too many wait."""
        self._waiting.append((self._api.now, seen, what, why))
        self._any.set()

    async def run(self) -> None:
        """Tells, for ever."""
        path = f"/api/v1/namespaces/{self._namespace}/events"
        while True:
            await self._any.wait()
            while self._waiting:
                for _ in range(BUSY_PAUSES):
                    self._any.clear()
                    await asyncio.sleep(PAUSE_SECONDS)
                    if not self._any.is_set():
                        break
                with contextlib.suppress(Refusal, Unknown):
                    await self._api.post(path, self._event(*self._waiting.popleft()))

    def _event(self, at: datetime, seen: Seen, what: str, why: str) -> dict[str, object]:
        now = at.isoformat(timespec="seconds").replace("+00:00", "Z")
        about = {"apiVersion": "batch/v1", "kind": "Job", "namespace": self._namespace,
                 "name": seen.name, "uid": seen.uid}  # fmt: skip
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{seen.name}.{uuid.uuid4().hex[:16]}", "namespace": self._namespace},
            "involvedObject": about,
            "type": "Normal",
            "reason": what,
            "message": why[:MOST_CHARACTERS],
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "source": {"component": "crease-controller"},
            "reportingComponent": naming.CONTROLLER_COMPONENT,
            "reportingInstance": self._identity,
        }
