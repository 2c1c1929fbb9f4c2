"""Which replica works: the holder of a Lease. It saves work, and safety does not rest on it.

    nobody's, or not renewed for leader_seconds ──▶ ours ──▶ renewed every third of that ──▶ given back at the end

How long a Lease was not renewed is told by our own clock from when we saw it change, so that clocks need not agree. A
write carries the version that was read, so that of two who reach for it one is refused.
"""

import asyncio
import time
from typing import Any

from services import naming
from services.controller.core import failpoints
from services.controller.core.failpoints import CrashPoint
from services.controller.core.launcher import Unknown
from services.controller.kubernetes.api_client import Api, Refusal
from services.controller.settings import KubernetesSettings
from services.logs import Logger

Lease = dict[str, Any]
# On the Lease, since it outlives every replica: there, nothing new is launched. Its value is for people.
DRAINED = naming.DRAINED_ANNOTATION


class Leader:
    def __init__(self, api: Api, settings: KubernetesSettings, log: Logger) -> None:
        self._api = api
        self._me = settings.identity
        self._name = settings.leader_lease
        self._namespace = settings.namespace
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{settings.namespace}/leases"
        self._seconds = settings.leader_seconds
        self._log = log
        # Ours until then, by our clock.
        self._until = float("-inf")
        # What was read last, and since when it has not changed.
        self._read: tuple[object, ...] = ()
        self._read_at = float("-inf")
        self._led = False
        self._drained = False

    @property
    def drained(self) -> bool:
        """Whether somebody asked that nothing new be launched, as the Lease said when it was last read."""
        return self._drained

    @property
    def leads(self) -> bool:
        """Whether this replica is the one that works."""
        return not self._name or time.monotonic() < self._until

    async def run(self) -> None:
        """Reaches for the Lease, or renews it, until cancelled; then gives it back."""
        try:
            while self._name:
                try:
                    await self._try()
                except (Refusal, Unknown) as error:
                    self._log.debug("no lease", error=str(error))
                if self.leads != self._led:
                    self._led = self.leads
                    self._log.info("leads" if self._led else "stands by", lease=self._name, identity=self._me)
                await asyncio.sleep(self._seconds / 3)
        finally:
            if self._name and self.leads:
                self._until = float("-inf")
                await self._give_back()

    async def _try(self) -> None:
        # What is asked now holds from now, however long the answer takes.
        asked_at = time.monotonic()
        try:
            lease = await self._api.get(f"{self._path}/{self._name}")
        except Refusal as error:
            if error.code != 404:
                raise
            self._drained = False
            await self._api.post(self._path, self._lease({"metadata": {"name": self._name}, "spec": {}}))
        else:
            self._drained = DRAINED in lease["metadata"].get("annotations", {})
            if not self._may_take(lease["spec"]):
                self._until = float("-inf")
                return
            await self._api.put(f"{self._path}/{self._name}", self._lease(lease))
        self._until = asked_at + self._seconds * 2 / 3
        failpoints.here(CrashPoint.LED)

    def _may_take(self, spec: Lease) -> bool:
        holder = spec.get("holderIdentity")
        read = (holder, spec.get("renewTime"), spec.get("leaseTransitions"))
        if read != self._read:
            self._read, self._read_at = read, time.monotonic()
        given = float(spec.get("leaseDurationSeconds") or self._seconds)
        return holder in (None, "", self._me) or time.monotonic() - self._read_at > given

    def _lease(self, lease: Lease) -> Lease:
        """The Lease, held by us from now."""
        spec = lease["spec"]
        now = self._api.now.isoformat(timespec="microseconds").replace("+00:00", "Z")
        ours = spec.get("holderIdentity") == self._me
        change = {} if ours else {"acquireTime": now, "leaseTransitions": spec.get("leaseTransitions", 0) + 1}
        held = {"holderIdentity": self._me, "leaseDurationSeconds": max(round(self._seconds), 1), "renewTime": now}
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": lease["metadata"],
            "spec": spec | held | change,
        }

    async def _give_back(self) -> None:
        """So that the next one need not wait."""
        try:
            lease = await self._api.get(f"{self._path}/{self._name}")
            if lease["spec"].get("holderIdentity") == self._me:
                lease["spec"]["holderIdentity"] = ""
                await self._api.put(f"{self._path}/{self._name}", lease)
        except (Refusal, Unknown) as error:
            self._log.debug("lease not given back", error=str(error))
