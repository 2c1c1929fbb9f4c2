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
        """Whether the objects exist that a pod mounts or pulls with, and Kueue's queue."""
        settings = self._settings
        wanted = [("configmaps", settings.get("CREASE_ANALYZER_CA_CONFIG_MAP", ""))]
        wanted += [("secrets", name) for name in json.loads(settings.get("CREASE_IMAGE_PULL_SECRETS") or "[]")]
        wanted.append((QUEUES, settings.get("CREASE_QUEUE_NAME", "")))
        missing = []
        for kind, name in wanted:
            found = self._kubectl.run("get", kind, name, "-o", "name") if name else None
            if found and found.returncode and "forbidden" not in found.stderr.lower():
                missing.append(found.stderr.strip())
        detail = "; ".join(missing) or "its ConfigMap, Secrets and queue exist, as far as any is configured"
        yield Check("references", not missing, detail, "Create the object, or repair the value that names it.")

    def check_queue(self) -> Iterator[Check]:
        """Whether Kueue's queue admits, and admits to this cluster. Without a queue there is no such check."""
        name = self._settings.get("CREASE_QUEUE_NAME", "")
        found = next((one for one in self._kubectl.list_objects(QUEUES) if metadata(one)["name"] == name), None)
        if found is None:
            # As the check of references reports.
            return
        faults = [
            f"{one.get('reason')}: {one.get('message')}"
            for one in found.get("status", {}).get("conditions", ())
            if one["type"] == "Active" and one["status"] != "True"
        ]
        cluster_queue = found["spec"].get("clusterQueue", "")
        if remote := self._find_remote_checks(cluster_queue):
            faults.append(f"ClusterQueue {cluster_queue} sends Jobs to other clusters by MultiKueue ({remote})")
        detail = "; ".join(faults) or f"LocalQueue {name} admits, by ClusterQueue {cluster_queue}"
        advice = (
            "kubectl describe the LocalQueue and its ClusterQueue. MultiKueue is not supported: "
            "install a release in each cluster instead."
        )
        yield Check("queue", not faults, detail, advice)

    def _find_remote_checks(self, cluster_queue: str) -> str:
        """The names of the queue's admission checks that send a Job to another cluster."""
        remote = {
            metadata(one)["name"]
            for one in self._kubectl.list_objects(ADMISSION_CHECKS)
            if one["spec"].get("controllerName") == MULTI_KUEUE
        }
        queues = self._kubectl.list_objects(CLUSTER_QUEUES) if remote else []
        specs = (one["spec"] for one in queues if metadata(one)["name"] == cluster_queue)
        used = {
            check["name"]
            for spec in specs
            for check in spec.get("admissionChecksStrategy", {}).get("admissionChecks", ())
        }
        return ", ".join(sorted(used & remote))

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


def _is_open(job: Object) -> bool:
    conditions = job.get("status", {}).get("conditions", ())
    is_final = any(one["type"] in ("Complete", "Failed") and one["status"] == "True" for one in conditions)
    return not is_final and "deletionTimestamp" not in metadata(job)
