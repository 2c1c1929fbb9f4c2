"""Checks of `crease doctor` for the next analysis: whether the cluster accepts its pod, and what waiting ones lack.

    settings of the controller ──▶ a Kubernetes Job and its pod, sent to the API server as a dry run ──▶ its refusal
    open Kubernetes Jobs, their pods and their Events ──▶ why each has not started

A dry run passes through admission: quotas, LimitRanges, Pod Security, ServiceAccounts, PriorityClasses and webhooks.
"""

import functools
import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from services import naming
from services.cli.errors import CommandError
from services.cli.runtime.interface import Check
from services.cli.runtime.kubectl import Kubectl, Object, event_time, metadata

# An analysis that has not started by then is shown.
STARTED_WITHIN = timedelta(seconds=20)
SHOWN = 3
PROBE = "crease-doctor"
QUEUES, CLUSTER_QUEUES = "localqueues.kueue.x-k8s.io", "clusterqueues.kueue.x-k8s.io"
ADMISSION_CHECKS, WORKLOADS = "admissionchecks.kueue.x-k8s.io", "workloads.kueue.x-k8s.io"
PRIORITY_CLASSES = "workloadpriorityclasses.kueue.x-k8s.io"
# The admission check that sends a Job to another cluster.
MULTI_KUEUE = "kueue.x-k8s.io/multikueue"
HARMLESS_EVENTS = frozenset({"FailedToRetrieveImagePullSecret"})


class LaunchChecks:
    """`settings`: the variables of the controller's container."""

    def __init__(self, kubectl: Kubectl, settings: Mapping[str, str]) -> None:
        self._kubectl = kubectl
        self._settings = settings

    def check_waiting(self, now: datetime) -> Iterator[Check]:
        """Why analyses that exist have not started. `now`: by the API server's clock."""
        selector = ("-l", f"{naming.CLUSTER_LABEL}={self._settings.get('CREASE_CLUSTER', '')}")
        pods = self._kubectl.list_objects("pods", *selector)
        waiting = []
        for job in self._kubectl.list_objects("jobs", *selector):
            if _is_open(job) and datetime.fromisoformat(metadata(job)["creationTimestamp"]) < now - STARTED_WITHIN:
                own = [pod for pod in pods if metadata(pod)["name"].startswith(f"{metadata(job)['name']}-")]
                if not any(pod.get("status", {}).get("phase") == "Running" for pod in own):
                    waiting.append((job, own))
        shown = "; ".join(f"{metadata(job)['name']}: {self._cause(job, own)}" for job, own in waiting[:SHOWN])
        detail = f"{len(waiting)} have not started. {shown}" if waiting else "none waits in the cluster"
        yield Check("waiting analyses", not waiting, detail, "kubectl crease why JOB; docs/operating.md, Failures")

    def check_admission(self) -> Iterator[Check]:
        """Whether the API server would accept the next Kubernetes Job and its pod."""
        refused = [error for body in (self._job(), self._pod()) if (error := self._dry_run(body))]
        detail = "; ".join(refused) or "the API server accepts a Kubernetes Job and its pod"
        advice = "Repair the object that the message names: quota, LimitRange, Pod Security level, account or webhook."
        yield Check("next analysis", not refused, detail, advice)

    def check_references(self) -> Iterator[Check]:
        """Whether the objects exist that a pod mounts or pulls with, and Kueue's queue and priority."""
        settings = self._settings
        wanted = [("configmaps", settings.get("CREASE_ANALYZER_CA_CONFIG_MAP", ""))]
        wanted += [("secrets", name) for name in json.loads(settings.get("CREASE_IMAGE_PULL_SECRETS") or "[]")]
        wanted.append((QUEUES, settings.get("CREASE_QUEUE_NAME", "")))
        wanted.append((PRIORITY_CLASSES, settings.get("CREASE_QUEUE_PRIORITY_CLASS", "")))
        missing = []
        for kind, name in wanted:
            found = self._kubectl.run("get", kind, name, "-o", "name") if name else None
            if found and found.returncode and "forbidden" not in found.stderr.lower():
                missing.append(found.stderr.strip())
        detail = "; ".join(missing) or "its ConfigMap, Secrets and queue exist, as far as any is configured"
        yield Check("references", not missing, detail, "Create the object, or repair the value that names it.")

    def check_queue(self) -> Iterator[Check]:
        """Whether Kueue's LocalQueue admits. Without one there is no such check: that of references reports it."""
        if (queue := self._local_queue) is not None:
            fault = _inactive(queue)
            detail = fault or f"LocalQueue {metadata(queue)['name']} admits"
            yield Check("queue", not fault, detail, "kubectl describe the LocalQueue.")

    def check_cluster_queue(self) -> Iterator[Check]:
        """Whether the ClusterQueue behind it admits, and admits to this cluster."""
        name = self._local_queue["spec"].get("clusterQueue", "") if self._local_queue else ""
        queue = next((one for one in self._kubectl.list_objects(CLUSTER_QUEUES) if metadata(one)["name"] == name), None)
        if queue is None:
            return
        faults = [fault] if (fault := _inactive(queue)) else []
        if remote := self._find_remote_checks(queue):
            faults.append(f"ClusterQueue {name} sends Jobs to other clusters by MultiKueue ({remote})")
        advice = "kubectl describe the ClusterQueue. MultiKueue is not supported: install a release in each cluster."
        yield Check("cluster queue", not faults, "; ".join(faults) or f"ClusterQueue {name} admits", advice)

    def _find_remote_checks(self, cluster_queue: Object) -> str:
        """The names of the queue's admission checks that send a Job to another cluster."""
        strategy = cluster_queue["spec"].get("admissionChecksStrategy", {})
        used = {one["name"] for one in strategy.get("admissionChecks", ())}
        checks = self._kubectl.list_objects(ADMISSION_CHECKS) if used else []
        remote = {metadata(one)["name"] for one in checks if one["spec"].get("controllerName") == MULTI_KUEUE}
        return ", ".join(sorted(used & remote))

    @functools.cached_property
    def _local_queue(self) -> Object | None:
        name = self._settings.get("CREASE_QUEUE_NAME", "")
        return next((one for one in self._kubectl.list_objects(QUEUES) if metadata(one)["name"] == name), None)

    @functools.cached_property
    def _warnings(self) -> list[Object]:
        """The Events of the namespace that report a failure."""
        return self._kubectl.list_objects("events", "--field-selector", "type=Warning")

    def _cause(self, job: Object, pods: list[Object]) -> str:
        if job["spec"].get("suspend"):
            return f"suspended until its queue admits it: {self._holds.get(metadata(job)['uid'], 'no Workload')}"
        names = {metadata(one)["name"] for one in (job, *pods)}
        events = [
            one
            for one in self._warnings
            if one["involvedObject"]["name"] in names and one.get("reason") not in HARMLESS_EVENTS
        ]
        newest = max(events, key=event_time, default=None)
        return f"{newest.get('reason')}: {newest.get('message')}" if newest else "the cluster gives no reason yet"

    @functools.cached_property
    def _holds(self) -> Mapping[str, str]:
        """Why Kueue holds a Job, by its uid: the messages of its Workload's conditions that are not met."""
        return {
            owner["uid"]: "; ".join(
                f"{one.get('reason')}: {one.get('message')}"
                for one in body.get("status", {}).get("conditions", ())
                if (one["type"] in ("QuotaReserved", "Admitted") and one["status"] != "True")
                or (one["type"] == "Evicted" and one["status"] == "True")
            )
            for body in self._kubectl.list_objects(WORKLOADS)
            for owner in metadata(body).get("ownerReferences", ())
        }

    def _dry_run(self, body: Object) -> str:
        ended = self._kubectl.run("create", "--dry-run=server", "-f", "-", "-o", "name", body=body)
        if "cannot create resource" in ended.stderr:
            # The operator's own right, which a forbidden pod does not lack.
            raise CommandError(ended.stderr.strip())
        return ended.stderr.strip() if ended.returncode else ""

    def _job(self) -> Object:
        template = {"metadata": {"labels": self._labels()}, "spec": self._pod_spec()}
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": PROBE, "labels": self._labels()},
            "spec": {"suspend": True, "template": template},
        }

    def _pod(self) -> Object:
        found = {"name": PROBE, "labels": self._labels()}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": found, "spec": self._pod_spec()}

    def _labels(self) -> dict[str, str]:
        return {naming.NAME_LABEL: naming.PRODUCT, naming.COMPONENT_LABEL: naming.ANALYZER_COMPONENT}

    def _pod_spec(self) -> Object:
        settings = self._settings
        equal = {
            "memory": settings.get("CREASE_ANALYZER_MEMORY", "2Gi"),
            "ephemeral-storage": settings.get("CREASE_ANALYZER_SCRATCH", "8Gi"),
        }
        container = {
            "name": naming.ANALYZER_COMPONENT,
            "image": settings.get("CREASE_ANALYZER_IMAGE", ""),
            "resources": {"requests": {"cpu": settings.get("CREASE_ANALYZER_CPU", "1"), **equal}, "limits": equal},
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        optional = {
            "serviceAccountName": settings.get("CREASE_ANALYZER_SERVICE_ACCOUNT", ""),
            "priorityClassName": settings.get("CREASE_PRIORITY_CLASS", ""),
            "runtimeClassName": settings.get("CREASE_RUNTIME_CLASS", ""),
        }
        return {
            "restartPolicy": "Never",
            "containers": [container],
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            **{key: value for key, value in optional.items() if value},
        }


def _inactive(queue: Object) -> str:
    """Why a queue does not admit; empty if it does."""
    conditions = queue.get("status", {}).get("conditions", ())
    inactive = (one for one in conditions if one["type"] == "Active" and one["status"] != "True")
    return "; ".join(f"{one.get('reason')}: {one.get('message')}" for one in inactive)


def _is_open(job: Object) -> bool:
    conditions = job.get("status", {}).get("conditions", ())
    is_final = any(one["type"] in ("Complete", "Failed") and one["status"] == "True" for one in conditions)
    return not is_final and "deletionTimestamp" not in metadata(job)
