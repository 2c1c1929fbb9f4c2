"""Elects the working replica: the holder of a Lease. Election saves work; safety does not depend on it.

    free, or not renewed for leader_seconds ──▶ acquired ──▶ renewed every leader_seconds / 3 ──▶ released at the end,
                                                               or as soon as a newer rollout has a ready replica

The age of a Lease is measured on this machine's clock from the last observed change, so that clocks need not agree. A
write carries the version that was read, so that of two competing writes the server refuses one.
"""

import asyncio
import time
from collections.abc import Sequence

from services import naming
from services.controller.core import failpoints
from services.controller.core.failpoints import CrashPoint
from services.controller.core.launcher import Unknown
from services.controller.kubernetes.api_client import Api, Object, Refusal
from services.controller.kubernetes.release import Release
from services.controller.settings import KubernetesSettings
from services.logs import Logger

# A standby reads the Lease this often, so that a released one is acquired soon.
STANDBY_SECONDS = 1.5
# The label of a pod with the template of its rollout.
TEMPLATE = "pod-template-hash"
CONTROLLERS = f"{naming.NAME_LABEL}={naming.PRODUCT},{naming.COMPONENT_LABEL}=controller"


class Leader:
    def __init__(self, api: Api, settings: KubernetesSettings, release: Release, log: Logger) -> None:
        self._api = api
        self._owner = release
        self._identity = settings.identity
        self._name = settings.leader_lease
        self._namespace = settings.namespace
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{settings.namespace}/leases"
        self._seconds = settings.leader_seconds
        self._log = log
        # This replica leads until then, by this machine's clock.
        self._leads_until = float("-inf")
        # The Lease as last read, and when it last changed.
        self._observed: tuple[object, ...] = ()
        self._observed_at = float("-inf")
        self._was_leading = False
        self._drained = False

    @property
    def drained(self) -> bool:
        """Whether the Lease, as last read, says to open no launch."""
        return self._drained

    @property
    def leads(self) -> bool:
        """Whether this replica is the leader."""
        return not self._name or time.monotonic() < self._leads_until

    async def run(self) -> None:
        """Acquires or renews the Lease until cancelled; then releases it."""
        try:
            while self._name:
                try:
                    await self._acquire_or_renew()
                except (Refusal, Unknown) as error:
                    self._log.debug("lease_not_acquired", error=str(error))
                if self.leads != self._was_leading:
                    self._was_leading = self.leads
                    event = "leader_elected" if self._was_leading else "leadership_lost"
                    self._log.info(event, lease=self._name, identity=self._identity)
                renew_seconds = self._seconds / 3
                await asyncio.sleep(renew_seconds if self.leads else min(renew_seconds, STANDBY_SECONDS))
        finally:
            if self._name and self.leads:
                self._leads_until = float("-inf")
                await self._release()

    async def _acquire_or_renew(self) -> None:
        # The Lease holds from the request on, however long the answer takes.
        requested_at = time.monotonic()
        try:
            lease = await self._api.get(f"{self._path}/{self._name}")
        except Refusal as error:
            if error.code != 404:
                raise
            self._drained = False
            await self._api.post(self._path, self._held({"metadata": {"name": self._name}, "spec": {}}))
        else:
            self._drained = naming.DRAINED_ANNOTATION in lease["metadata"].get("annotations", {})
            if not self._may_acquire(lease["spec"]):
                self._leads_until = float("-inf")
                return
            if await self._is_superseded():
                self._leads_until = float("-inf")
                await self._release()
                return
            await self._api.put(f"{self._path}/{self._name}", self._held(lease))
        self._leads_until = requested_at + self._seconds * 2 / 3
        failpoints.hit(CrashPoint.LEASE_ACQUIRED)

    async def _is_superseded(self) -> bool:
        """Whether a newer rollout of this release has a ready replica: launches follow its template from then on."""
        found = await self._api.get(f"/api/v1/namespaces/{self._namespace}/pods", labelSelector=CONTROLLERS)
        pods: Sequence[Object] = found.get("items") or ()
        own = next((pod["metadata"] for pod in pods if pod["metadata"]["name"] == self._identity), None)
        return own is not None and any(
            pod["metadata"]["labels"].get(naming.INSTANCE_LABEL) == own["labels"].get(naming.INSTANCE_LABEL)
            and pod["metadata"]["labels"].get(TEMPLATE) != own["labels"].get(TEMPLATE)
            and pod["metadata"]["creationTimestamp"] > own["creationTimestamp"]
            and "deletionTimestamp" not in pod["metadata"]
            and _is_ready(pod)
            for pod in pods
        )

    def _may_acquire(self, spec: Object) -> bool:
        holder = spec.get("holderIdentity")
        observed = (holder, spec.get("renewTime"), spec.get("leaseTransitions"))
        if observed != self._observed:
            self._observed, self._observed_at = observed, time.monotonic()
        duration = float(spec.get("leaseDurationSeconds") or self._seconds)
        return holder in (None, "", self._identity) or time.monotonic() - self._observed_at > duration

    def _held(self, lease: Object) -> Object:
        """The Lease with this replica as its holder from now on."""
        spec = lease["spec"]
        now = self._api.now.isoformat(timespec="microseconds").replace("+00:00", "Z")
        is_renewal = spec.get("holderIdentity") == self._identity
        change = {} if is_renewal else {"acquireTime": now, "leaseTransitions": spec.get("leaseTransitions", 0) + 1}
        owners = self._owner.owner_references
        held = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(round(self._seconds), 1),
            "renewTime": now,
        }
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": lease["metadata"] | ({"ownerReferences": owners} if owners else {}),
            "spec": spec | held | change,
        }

    async def _release(self) -> None:
        """Clears the holder, so that the next replica need not wait."""
        try:
            lease = await self._api.get(f"{self._path}/{self._name}")
            if lease["spec"].get("holderIdentity") == self._identity:
                lease["spec"]["holderIdentity"] = ""
                await self._api.put(f"{self._path}/{self._name}", lease)
        except (Refusal, Unknown) as error:
            self._log.debug("lease_not_released", error=str(error))


def _is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
