"""A small Kubernetes API server in memory, with a Job controller, a node and faults on demand.

`Client` implements Api of services/controller/kubernetes/api_client.py. tests/contract/test_launcher.py runs on this
fake and on a real server. An unsupported request fails an assertion.
"""

import asyncio
import copy
import itertools
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from services.controller.core.launcher import Unknown
from services.controller.kubernetes.api_client import Object, Refusal

# The API group of each supported resource.
KINDS = {"jobs": "batch", "leases": "coordination.k8s.io", "workloads": "kueue.x-k8s.io"} | dict.fromkeys(
    ("pods", "nodes", "events", "configmaps", "namespaces"), ""
)
BOOKMARK_SECONDS = 0.05


@dataclass
class Fault:
    """The fault of the next matching request: it is answered with `code`; with `late`, after it was executed."""

    verb: str
    resource: str
    code: int = 0
    late: bool = False


@dataclass
class ApiServer:
    """The store. The controller uses it through `Client`; tests change it directly."""

    objects: dict[str, dict[str, Object]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    # (version, type, resource, object), for watches.
    history: list[tuple[int, str, str, Object]] = field(default_factory=list)
    forgotten_before: int = 0
    # By API group, resource and verb.
    used: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    is_cut: bool = False
    # While set, watches send no events. Events of the `unseen` versions are never sent.
    watches_held: bool = False
    unseen: set[int] = field(default_factory=set)
    # This clock minus the real one.
    ahead: timedelta = timedelta()
    # Whether a Job gets a running pod at once.
    starts_pods: bool = True
    starts: list[str] = field(default_factory=list)
    versions: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.make("namespaces", {"metadata": {"name": "x"}})

    @property
    def now(self) -> str:
        return (datetime.now(UTC) + self.ahead).strftime("%Y-%m-%dT%H:%M:%SZ")

    def put(self, resource: str, body: Object, kind: str = "MODIFIED") -> Object:
        """Stores an object and notifies the watches."""
        version = next(self.versions)
        body = copy.deepcopy(body)
        body["metadata"]["resourceVersion"] = str(version)
        self.objects[resource][body["metadata"]["name"]] = body
        self.history.append((version, kind, resource, body))
        return body

    def make(self, resource: str, body: Object) -> Object:
        """Creates an object, as POST does."""
        body = copy.deepcopy(body)
        if body["metadata"]["name"] in self.objects[resource]:
            raise Refusal(409, "AlreadyExists", f'{resource} "{body["metadata"]["name"]}" already exists')
        body["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": self.now}
        made = self.put(resource, body, "ADDED")
        if resource == "jobs":
            self._start_pod(made)
        return made

    def remove(self, resource: str, name: str) -> None:
        """Removes an object at once, without its dependents."""
        body = self.objects[resource].pop(name, None)
        if body is not None:
            self.history.append((next(self.versions), "DELETED", resource, body))

    def _start_pod(self, job: Object) -> None:
        """Plays the Job controller, the scheduler and the kubelet."""
        if job["spec"].get("suspend") or not self.starts_pods:
            return
        template, name = job["spec"]["template"], job["metadata"]["name"]
        labels = {**template["metadata"]["labels"], "batch.kubernetes.io/job-name": name}
        owner = {"kind": "Job", "name": name, "uid": job["metadata"]["uid"], "controller": True}
        self.make(
            "pods",
            {
                "metadata": {"name": f"{name}-{uuid.uuid4().hex[:5]}", "labels": labels, "ownerReferences": [owner]},
                "spec": {**template["spec"], "nodeName": "node"},
                "status": {"phase": "Running", "startTime": self.now},
            },
        )
        self.starts.append(name)

    def pods_of(self, name: str) -> list[Object]:
        label = "batch.kubernetes.io/job-name"
        return [pod for pod in self.objects["pods"].values() if pod["metadata"]["labels"].get(label) == name]

    def finish(self, name: str, exit_code: int) -> None:
        """Ends the pod and the Job with an exit code."""
        for pod in self.pods_of(name):
            terminated = {"exitCode": exit_code, "reason": "Error" if exit_code else "Completed"}
            status = {"name": "analyzer", "state": {"terminated": terminated}}
            phase = "Failed" if exit_code else "Succeeded"
            self.put("pods", pod | {"status": {**pod["status"], "phase": phase, "containerStatuses": [status]}})
        job = self.objects["jobs"][name]
        message = (
            f"Container analyzer for pod x/{name} failed with exit code {exit_code} matching FailJob rule at index 1"
        )
        failed = {"type": "Failed", "status": "True", "reason": "PodFailurePolicy", "message": message}
        condition = failed if exit_code else {"type": "Complete", "status": "True"}
        self.put(
            "jobs", job | {"status": {"startTime": job["metadata"]["creationTimestamp"], "conditions": [condition]}}
        )

    def delete(self, resource: str, name: str) -> None:
        """Deletes an object; the pods of a Job go first, as by foreground deletion."""
        if resource == "jobs":
            for pod in self.pods_of(name):
                self.remove("pods", pod["metadata"]["name"])
        self.remove(resource, name)

    def live(self) -> list[str]:
        return [name for name, job in self.objects["jobs"].items() if not job.get("status", {}).get("conditions")]


class Client:
    """Api on the store."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) + self._server.ahead

    async def get(self, path: str, **query: Any) -> Object:
        resource, name = _parse(path)
        return await self._answer("get" if name else "list", resource, lambda: self._get(resource, name, query))

    async def post(self, path: str, body: Object) -> Object:
        resource, _ = _parse(path)
        return await self._answer("create", resource, lambda: self._server.make(resource, body))

    async def put(self, path: str, body: Object) -> Object:
        resource, name = _parse(path)
        return await self._answer("update", resource, lambda: self._put(resource, name, body))

    async def patch(self, path: str, body: Object) -> Object:
        resource, name = _parse(path)
        return await self._answer("patch", resource, lambda: self._patch(resource, name, body))

    async def delete(self, path: str, body: Object) -> Object:
        resource, name = _parse(path)
        return await self._answer("delete", resource, lambda: self._delete(resource, name, body))

    async def watch(self, path: str, seconds: float, **query: Any) -> AsyncGenerator[Object, None]:
        server, (resource, _) = self._server, _parse(path)
        server.used[KINDS[resource], resource, "watch"] += 1
        version = int(query["resourceVersion"])
        ends = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < ends:
            if server.is_cut:
                raise Unknown("The watch broke: the connection is cut")
            if version < server.forgotten_before:
                yield {"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}}
                return
            if not server.watches_held:
                for at, kind, of, body in server.history:
                    if at <= version or of != resource:
                        continue
                    version = at
                    if at not in server.unseen and _selected(body, query):
                        sent = copy.deepcopy(body)
                        sent["metadata"]["resourceVersion"] = str(at)
                        yield {"type": kind, "object": sent}
                yield {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(version)}}}
            await asyncio.sleep(BOOKMARK_SECONDS)

    async def _answer(self, verb: str, resource: str, execute: Callable[[], Object]) -> Object:
        server = self._server
        server.used[KINDS[resource], resource, verb] += 1
        await asyncio.sleep(0)
        if server.is_cut:
            raise Unknown("The connection is cut")
        fault = next((one for one in server.faults if (one.verb, one.resource) == (verb, resource)), None)
        if fault is None:
            return copy.deepcopy(execute())
        server.faults.remove(fault)
        if fault.late:
            execute()
        if fault.code in (0, 429) or fault.code >= 500:
            raise Unknown(f"No answer, or {fault.code}")
        raise Refusal(fault.code, "", f"The API server answered {fault.code}")

    def _get(self, resource: str, name: str, query: dict[str, Any]) -> Object:
        if name:
            return self._found(resource, name)
        found = [one for one in self._server.objects[resource].values() if _selected(one, query)]
        start, limit = int(query.get("continue") or 0), int(query.get("limit", 500))
        more = {"continue": str(start + limit)} if found[start + limit :] else {}
        version = self._server.history[-1][0] if self._server.history else 0
        return {"metadata": {"resourceVersion": str(version), **more}, "items": found[start : start + limit]}

    def _found(self, resource: str, name: str) -> Object:
        try:
            return self._server.objects[resource][name]
        except KeyError:
            raise Refusal(404, "NotFound", f'{resource} "{name}" not found') from None

    def _put(self, resource: str, name: str, body: Object) -> Object:
        found = self._found(resource, name)["metadata"]["resourceVersion"]
        if body["metadata"].get("resourceVersion", found) != found:
            raise Refusal(409, "Conflict", "the object has been modified")
        return self._server.put(resource, body)

    def _patch(self, resource: str, name: str, body: Object) -> Object:
        found = copy.deepcopy(self._found(resource, name))
        if body["metadata"].get("uid", found["metadata"]["uid"]) != found["metadata"]["uid"]:
            raise Refusal(409, "Conflict", "the UID in the precondition differs")
        found["metadata"]["labels"] |= body["metadata"]["labels"]
        return self._server.put(resource, found)

    def _delete(self, resource: str, name: str, body: Object) -> Object:
        found = self._found(resource, name)
        if body["preconditions"]["uid"] != found["metadata"]["uid"]:
            raise Refusal(409, "Conflict", "the UID in the precondition differs")
        self._server.delete(resource, name)
        return found


def _parse(path: str) -> tuple[str, str]:
    """The resource and the name of /apis/batch/v1/namespaces/x/jobs/name; for the collection the name is empty."""
    parts = path.strip("/").split("/")
    resource, name = (parts[-1], "") if parts[-1] in KINDS else (parts[-2], parts[-1])
    assert resource in KINDS, path
    return resource, name


def _selected(body: Object, query: dict[str, Any]) -> bool:
    """Matches equalities of labels, and the field selectors of Events that the controller uses."""
    wanted = dict(pair.split("=") for pair in query.get("labelSelector", "").split(",") if pair)
    fields = dict(pair.split("=") for pair in query.get("fieldSelector", "").split(",") if pair)
    assert fields.keys() <= {"involvedObject.kind", "reason", "type"}
    if fields and not fields.items() <= {**body, "involvedObject.kind": body["involvedObject"]["kind"]}.items():
        return False
    labels: dict[str, str] = body["metadata"].get("labels", {})
    return wanted.items() <= labels.items()
