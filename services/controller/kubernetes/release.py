"""The release that this controller belongs to: a ConfigMap of the chart, which owns all that the controller creates.

    release deleted ──▶ ConfigMap deleted ──▶ Kubernetes deletes the Kubernetes Jobs, their pods and the Lease

Its UID marks the Kubernetes Jobs, so that two releases of one namespace never take each other's. The UID of the
namespace and the name of the ConfigMap own the cluster's name at `jobs`.
"""

import asyncio
from collections.abc import Mapping

from services import naming
from services.controller.core.launcher import Unknown
from services.controller.kubernetes.api_client import Api, Object, Refusal
from services.controller.settings import KubernetesSettings

READ_SECONDS = 15.0
RETRY_SECONDS = 1.0


class Release:
    """As last read. Without CREASE_RELEASE there is no ConfigMap, and the created objects have no owner."""

    def __init__(self, api: Api, settings: KubernetesSettings) -> None:
        self._api = api
        self._name = settings.release
        self._namespace = f"/api/v1/namespaces/{settings.namespace}"
        self._suffix = settings.release or settings.leader_lease
        self._namespace_uid = ""
        self._uid = ""
        self._is_missing = False
        self._error = "it has not been read yet"

    @property
    def owner(self) -> str:
        """The owner of the cluster's name. Raises Unknown until the namespace has been read."""
        if not self._namespace_uid:
            raise Unknown(f"The owner of the cluster's name is unknown: {self._error}")
        return f"{self._namespace_uid}/{self._suffix}"

    @property
    def labels(self) -> dict[str, str]:
        """The labels of a created Kubernetes Job. Raises Unknown while the ConfigMap is missing."""
        if not self._name:
            return {}
        if self._is_missing or not self._uid:
            raise Unknown(f"The ConfigMap {self._name} of this release cannot be read: {self._error}")
        return {naming.RELEASE_LABEL: self._uid}

    @property
    def owner_references(self) -> list[Object]:
        """The owners of a created object; empty while the ConfigMap is missing."""
        if self._is_missing or not self._uid:
            return []
        return [{"apiVersion": "v1", "kind": "ConfigMap", "name": self._name, "uid": self._uid}]

    def is_other(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels are those of another release."""
        return bool(self._uid) and labels.get(naming.RELEASE_LABEL, self._uid) != self._uid

    def is_unmarked(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels name no release, as those that an older version wrote."""
        return bool(self._name) and naming.RELEASE_LABEL not in labels

    async def run(self) -> None:
        """Reads the release again and again, until cancelled: a deleted ConfigMap may be created anew."""
        while True:
            try:
                await self._read()
                self._error = ""
            except (Refusal, Unknown) as error:
                self._error = str(error)
            await asyncio.sleep(RETRY_SECONDS if self._error else READ_SECONDS)

    async def _read(self) -> None:
        if not self._namespace_uid:
            self._namespace_uid = (await self._api.get(self._namespace))["metadata"]["uid"]
        if not self._name:
            return
        try:
            self._uid = (await self._api.get(f"{self._namespace}/configmaps/{self._name}"))["metadata"]["uid"]
            self._is_missing = False
        except Refusal:
            # The UID stays: by it, the Kubernetes Jobs that Kubernetes is deleting are still recognised.
            self._is_missing = True
            raise
