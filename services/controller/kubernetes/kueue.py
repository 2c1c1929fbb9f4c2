"""Parses Kueue's Workloads, which say why a queue holds a Kubernetes Job. Pure.

Workload                              obstacle
───────────────────────────────────   ──────────────────────────────────────────────
no quota is reserved                  reason and message of the condition QuotaReserved
quota is reserved, a check is open    name, state and message of each such check
evicted                               the eviction, then the above
admitted                              none
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

GROUP, VERSION, RESOURCE = "kueue.x-k8s.io", "v1beta2", "workloads"
QUEUE_LABEL = f"{GROUP}/queue-name"
PRIORITY_LABEL = f"{GROUP}/priority-class"

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Workload:
    uid: str
    # The Kubernetes Job that it stands for.
    job_uid: str
    # Why the Job is suspended, in Kueue's words; empty once it is admitted.
    obstacle: str
    # Why Kueue has suspended the Job again, in its words; empty after the next admission.
    eviction: str
    # The other clusters to which MultiKueue would send the Job.
    remote_clusters: tuple[str, ...]


def parse_workload(body: Json) -> Workload:
    """A Workload, from the API's JSON."""
    status = body.get("status", {})
    conditions = {one["type"]: one for one in status.get("conditions", ())}
    eviction = _describe_eviction(conditions)
    is_admitted = conditions.get("Admitted", {}).get("status") == "True" and not eviction
    owner = next((one["uid"] for one in body["metadata"].get("ownerReferences", ()) if one.get("controller")), "")
    remote = (status.get("clusterName", ""), *status.get("nominatedClusterNames", ()))
    return Workload(
        uid=body["metadata"]["uid"],
        job_uid=owner,
        obstacle="" if is_admitted else "; ".join(filter(None, (eviction, *_obstacles(conditions, status)))),
        eviction=eviction,
        remote_clusters=tuple(filter(None, remote)),
    )


def _obstacles(conditions: Mapping[str, Json], status: Json) -> Iterator[str]:
    reserved = conditions.get("QuotaReserved", {})
    if reserved.get("status") != "True":
        yield _describe(reserved)
        return
    for check in status.get("admissionChecks", ()):
        if check["state"] != "Ready":
            yield f"admission check {check['name']}: {check['state']}: {check.get('message', '')}"


def _describe_eviction(conditions: Mapping[str, Json]) -> str:
    """With the details of a preemption, which have a condition of their own."""
    evicted, preempted = conditions.get("Evicted", {}), conditions.get("Preempted", {})
    if evicted.get("status") != "True":
        return ""
    cause = preempted if evicted.get("reason") == "Preempted" and preempted.get("status") == "True" else evicted
    return ": ".join(dict.fromkeys(filter(None, (evicted.get("reason"), cause.get("reason"), cause.get("message")))))


def _describe(condition: Json) -> str:
    return ": ".join(filter(None, (condition.get("reason"), condition.get("message"))))
