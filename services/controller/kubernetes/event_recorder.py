"""Records the controller's actions, with their reasons, as Kubernetes Events on the Jobs, for `kubectl describe`.

Events are sent in the background, more slowly while many actions run. No action waits for them; an overflow is lost.
"""

import asyncio
import collections
import contextlib
import uuid
from dataclasses import dataclass
from datetime import datetime

from services import naming
from services.controller.core.launcher import Observed, Unknown
from services.controller.kubernetes.api_client import Api, Object, Refusal

MAX_WAITING = 1000
# A pause before each event, and up to BUSY_PAUSES of them while new ones arrive. At 0.02 s a burst of actions was
# measured to take a fifth longer.
PAUSE_SECONDS, BUSY_PAUSES = 0.05, 5
# The API's own limit.
MAX_CHARACTERS = 1024
# Reasons of events that an operator should act on.
WARNINGS = frozenset({"Refused"})


@dataclass(frozen=True)
class _Event:
    at: datetime
    observed: Observed
    reason: str
    message: str


class EventRecorder:
    def __init__(self, api: Api, namespace: str, identity: str) -> None:
        self._api = api
        self._namespace = namespace
        self._identity = identity
        self._waiting: collections.deque[_Event] = collections.deque(maxlen=MAX_WAITING)
        self._added = asyncio.Event()

    def record(self, observed: Observed, reason: str, message: str) -> None:
        """Queues an event; beyond MAX_WAITING the oldest is dropped."""
        self._waiting.append(_Event(self._api.now, observed, reason, message))
        self._added.set()

    async def run(self) -> None:
        """Sends the events until cancelled."""
        path = f"/api/v1/namespaces/{self._namespace}/events"
        while True:
            await self._added.wait()
            while self._waiting:
                for _ in range(BUSY_PAUSES):
                    self._added.clear()
                    await asyncio.sleep(PAUSE_SECONDS)
                    if not self._added.is_set():
                        break
                with contextlib.suppress(Refusal, Unknown):
                    await self._api.post(path, self._to_json(self._waiting.popleft()))

    def _to_json(self, event: _Event) -> Object:
        at = event.at.isoformat(timespec="seconds").replace("+00:00", "Z")
        name = event.observed.name
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{name}.{uuid.uuid4().hex[:16]}", "namespace": self._namespace},
            "involvedObject": {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "namespace": self._namespace,
                "name": name,
                "uid": event.observed.uid,
            },
            "type": "Warning" if event.reason in WARNINGS else "Normal",
            "reason": event.reason,
            "message": event.message[:MAX_CHARACTERS],
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
            "source": {"component": "crease-controller"},
            "reportingComponent": naming.CONTROLLER_COMPONENT,
            "reportingInstance": self._identity,
        }
