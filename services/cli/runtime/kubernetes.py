"""A Kubernetes namespace as a runtime, through kubectl: every user of kubectl may use it, with the same rights.

kubectl crease … ──▶ kubectl get, logs, annotate, port-forward ──▶ API server
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from services import naming
from services.cli.errors import INTERNAL, USAGE, CommandError
from services.cli.runtime import cors
from services.cli.runtime.interface import Check, RecordedEvent, Run
from services.cli.runtime.kubectl import Kubectl, Object, event_time, metadata, variables_of
from services.cli.runtime.launch_checks import LaunchChecks

METRICS_PORT = "metrics"
# With more clock skew the services reject tokens, and the order of events is unreliable.
MOST_SKEW = timedelta(seconds=10)
# A kubelet renews its Lease every 10 s.
NODE_SILENT = timedelta(seconds=40)
# The first Linux with Landlock.
LANDLOCK_KERNEL = (5, 13)
# As services/controller/kubernetes/role.yaml has them.
RIGHTS = {
    "jobs.batch": ("get", "list", "watch", "create", "patch", "delete"),
    "pods": ("list", "watch", "delete"),
    "events": ("list", "create"),
    "leases.coordination.k8s.io": ("get", "create", "update"),
    "namespaces": ("get",),
    "configmaps": ("get",),
}
# As its queueRules.
QUEUE_RIGHTS = {"workloads.kueue.x-k8s.io": ("list", "watch")}
BAD_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})


class KubernetesRuntime:
    """A Runtime. `now` is this machine's clock."""

    def __init__(self, kubectl: Kubectl, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._kubectl = kubectl
        self._now = now

    def list_runs(self, job_id: str) -> Sequence[Run]:
        """As Runtime: the Kubernetes Jobs, each with its pods."""
        selector = ("-l", f"{naming.JOB_LABEL}={job_id}")
        pods = self._kubectl.list_objects("pods", *selector)
        jobs = sorted(self._kubectl.list_objects("jobs", *selector), key=_creation_time)
        found = []
        for job in jobs:
            found.append(Run(f"job/{metadata(job)['name']}", *_describe_job(job)))
            owned = [pod for pod in pods if _owner_uid(pod) == metadata(job)["uid"]]
            found += [Run(f"pod/{metadata(pod)['name']}", *_describe_pod(pod)) for pod in owned]
        return found

    def list_events(self, job_id: str) -> Sequence[RecordedEvent]:
        """As Runtime: the Kubernetes Events of its Kubernetes Jobs and pods."""
        prefix = naming.launch_prefix(job_id)
        events = (
            one for one in self._kubectl.list_objects("events") if one["involvedObject"]["name"].startswith(prefix)
        )
        found = [RecordedEvent(event_time(one), one.get("reason", ""), one.get("message", "")) for one in events]
        return sorted(found, key=lambda event: event.at)

    def show_logs(self, job_id: str, *, follow: bool) -> None:
        """As Runtime: of the newest pod."""
        pods = self._kubectl.list_objects("pods", "-l", f"{naming.JOB_LABEL}={job_id}")
        if not pods:
            raise CommandError(f"The pods of job {job_id} are deleted, and so are their logs: see `why {job_id}`.")
        newest = metadata(max(pods, key=_creation_time))["name"]
        options = ("-f",) if follow else ()
        if self._kubectl.show("logs", f"pod/{newest}", "--all-containers", *options):
            raise CommandError(f"kubectl logs pod/{newest} failed.", INTERNAL)

    def drained_by(self) -> str:
        """As Runtime: an annotation on the Lease of the controller's leader election."""
        lease = self._controllers_lease()
        return str(metadata(lease).get("annotations", {}).get(naming.DRAINED_ANNOTATION, "")) if lease else ""

    def drain(self, drained_by: str) -> None:
        """As Runtime. Every controller reads the annotation at its start and then every few seconds."""
        self._annotate_lease(f"{naming.DRAINED_ANNOTATION}={drained_by}")

    def undo_drain(self) -> None:
        """As Runtime."""
        self._annotate_lease(f"{naming.DRAINED_ANNOTATION}-")

    def read_metrics(self) -> Mapping[str, str]:
        """As Runtime: from the pods, by port-forward."""
        found = {}
        for pod in self._kubectl.list_objects("pods", "-l", f"{self._kubectl.ours},{naming.COMPONENT_LABEL}!=analyzer"):
            if (port := _metrics_port(pod)) is not None:
                with contextlib.suppress(CommandError):
                    name = str(metadata(pod)["name"])
                    found[name] = self._kubectl.fetch_metrics(f"pod/{name}", port)
        return found

    def run_checks(self) -> Iterator[Check]:
        """As Runtime: replicas, clocks, nodes, kernels, CORS, rights, GPUs, and what the next analysis needs.

        A check that the operator's rights do not allow is reported as not made.
        """
        yield from self._check_replicas()
        yield from _as_allowed("clock", self._check_clock)
        yield from _as_allowed("nodes", self._check_nodes)
        yield from _as_allowed("sandbox", self._check_kernels)
        yield from _as_allowed(cors.NAME, self._check_page)
        controller = self._kubectl.find_controller()
        if controller is None:
            advice = "Name the namespace of the release with -n."
            yield Check("controller", False, "no controller is deployed here", advice)
            return
        settings = variables_of(controller)
        launches = LaunchChecks(self._kubectl, settings)
        yield from _as_allowed("rights", lambda: self._check_rights(controller, settings))
        yield from _as_allowed("image", lambda: self._check_image(settings))
        yield from _as_allowed("gpus", lambda: self._check_gpus(settings))
        yield from _as_allowed("references", launches.check_references)
        if settings.get("CREASE_QUEUE_NAME"):
            yield from _as_allowed("queue", launches.check_queue)
            yield from _as_allowed("cluster queue", launches.check_cluster_queue)
        yield from _as_allowed("next analysis", launches.check_admission)
        yield from _as_allowed("waiting analyses", lambda: launches.check_waiting(self._read_server_time()))

    def _check_replicas(self) -> Iterator[Check]:
        for deployment in self._kubectl.list_objects("deployments", "-l", self._kubectl.ours):
            name, wanted = metadata(deployment)["name"], deployment["spec"].get("replicas", 1)
            ready = deployment.get("status", {}).get("readyReplicas", 0)
            advice = f"kubectl describe deployment/{name}; kubectl logs deployment/{name}"
            yield Check(name, ready >= wanted, f"{ready} of {wanted} replicas are ready", advice)

    def _read_server_time(self) -> datetime:
        """In whole seconds."""
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        created = json.loads(self._kubectl("create", "-f", "-", "-o", "json", body=review))
        return datetime.fromisoformat(metadata(created)["creationTimestamp"])

    def _check_clock(self) -> Iterator[Check]:
        called_at = self._now()
        server = self._read_server_time()
        # The API server's time is in whole seconds, and lies between the call and the reply.
        skew = max(called_at - server - timedelta(seconds=1), server - self._now(), timedelta())
        detail = f"this machine's clock and the API server's differ by {skew.total_seconds():.0f} s"
        yield Check("clock", skew <= MOST_SKEW, detail, "Set this machine's clock by NTP.")

    def _check_nodes(self) -> Iterator[Check]:
        server = self._read_server_time()
        late, ahead = [], []
        for lease in self._kubectl.list_objects("leases", "-n", "kube-node-lease"):
            renewed = datetime.fromisoformat(lease["spec"]["renewTime"])
            if server - renewed > NODE_SILENT:
                late.append(metadata(lease)["name"])
            elif renewed - server > MOST_SKEW:
                ahead.append(metadata(lease)["name"])
        detail = "; ".join(
            filter(None, (f"silent or behind: {', '.join(late)}" if late else "",
                          f"ahead: {', '.join(ahead)}" if ahead else ""))
        )  # fmt: skip
        advice = "kubectl describe node NAME; set its clock by NTP, or drain and remove it."
        yield Check("nodes", not detail, detail or "every node renews its Lease, by the API server's clock", advice)

    def _check_kernels(self) -> Iterator[Check]:
        """Whether each node's kernel is new enough to confine the decoder; an analyzer logs it if it cannot."""
        nodes = self._kubectl.list_objects("nodes")
        kernels = {metadata(one)["name"]: one["status"].get("nodeInfo", {}).get("kernelVersion", "") for one in nodes}
        old = [f"{name} ({kernel})" for name, kernel in kernels.items() if _is_older(kernel, LANDLOCK_KERNEL)]
        detail = (
            f"no Landlock to confine the decoder of a video on {', '.join(old)}"
            if old
            else "no node's kernel is older than Landlock"
        )
        advice = "Upgrade the nodes' kernel to 5.13, or keep analyses off these nodes with analyzer.nodeSelector."
        yield Check("sandbox", not old, detail, advice)

    def _check_page(self) -> Iterator[Check]:
        """Whether browsers on the page may send videos; nothing without the page."""
        pages, uploads = (self._kubectl.list_of_program(program, "deployments") for program in ("web", "upload"))
        if pages and uploads:
            page = variables_of(pages[0])
            bucket = variables_of(uploads[0]).get("S3_COACH_VIDEOS_BUCKET", "")
            yield cors.check_uploads(page["CREASE_ORIGIN"], page["CREASE_S3_ORIGIN"], bucket)

    def _check_rights(self, controller: Object, settings: Mapping[str, str]) -> Iterator[Check]:
        namespace = metadata(controller)["namespace"]
        account = controller["spec"]["template"]["spec"]["serviceAccountName"]
        impersonation = f"--as=system:serviceaccount:{namespace}:{account}"
        release = settings.get("CREASE_RELEASE", "")
        # The right to a ConfigMap is the right to this one.
        named = {"configmaps": f"configmaps/{release}"}
        missing = []
        rights = RIGHTS | (QUEUE_RIGHTS if settings.get("CREASE_QUEUE_NAME") else {})
        for resource, verbs in rights.items():
            for verb in verbs if resource not in named or release else ():
                answer = self._kubectl.run("auth", "can-i", verb, named.get(resource, resource), impersonation)
                if answer.stdout.strip() not in ("yes", "no"):
                    raise CommandError(f"kubectl auth can-i: {answer.stderr.strip()}")
                if answer.stdout.strip() == "no":
                    missing.append(f"{verb} {resource}")
        detail = f"the controller may not {', '.join(missing)}" if missing else "the controller has every right it uses"
        advice = "helm upgrade restores the Role and its RoleBinding. This check needs the right to impersonate."
        yield Check("rights", not missing, detail, advice)

    def _check_image(self, settings: Mapping[str, str]) -> Iterator[Check]:
        image = settings.get("CREASE_ANALYZER_IMAGE", "")
        cluster = settings.get("CREASE_CLUSTER", "")
        own = f",{naming.CLUSTER_LABEL}={cluster}" if cluster else ""
        pods = self._kubectl.list_objects("pods", "-l", f"{naming.COMPONENT_LABEL}={naming.ANALYZER_COMPONENT}{own}")
        errors = {reason for pod in pods for reason in _waiting_reasons(pod) if reason.partition(":")[0] in BAD_IMAGE}
        detail = f"{image}: {'; '.join(sorted(errors))[:300]}" if errors else f"no pod fails to pull {image}"
        advice = "Push the image or repair image.registry, image.tag and image.pullSecrets; then retry the failed jobs."
        yield Check("image", not errors, detail, advice)

    def _check_gpus(self, settings: Mapping[str, str]) -> Iterator[Check]:
        resource = settings.get("CREASE_GPU_RESOURCE", "")
        if not resource:
            yield Check("gpus", True, "none are configured (analyzer.gpu.resource is empty)")
            return
        selector = json.loads(settings.get("CREASE_GPU_NODE_SELECTOR") or "{}")
        nodes = self._kubectl.list_objects("nodes", *_selector_arguments(selector))
        counts = {metadata(one)["name"]: int(one["status"].get("allocatable", {}).get(resource, 0)) for one in nodes}
        without = [name for name, count in counts.items() if not count] if selector else []
        detail = f"{sum(counts.values())} of {resource} on {sum(map(bool, counts.values()))} nodes"
        if without:
            detail += f"; none on {', '.join(without)}"
        scales_up = settings.get("CREASE_GPU_SCALES_UP", "") == "true"
        advice = (
            "Check the device plug-in's DaemonSet on these nodes (kubectl get daemonsets -A). "
            "Until then analyses run on CPUs."
        )
        yield Check("gpus", (any(counts.values()) or scales_up) and not without, detail, advice)

    def _annotate_lease(self, change: str) -> None:
        lease = self._controllers_lease()
        if lease is None:
            message = "This namespace has no Lease of a controller: name its namespace with -n, and set"
            raise CommandError(f"{message} CREASE_LEADER_LEASE for the controller.", USAGE)
        self._kubectl("annotate", "--overwrite", f"lease/{metadata(lease)['name']}", change)

    def _controllers_lease(self) -> Object | None:
        leases = self._kubectl.list_objects("leases")
        controller = self._kubectl.find_controller()
        if controller and (name := variables_of(controller).get("CREASE_LEADER_LEASE")):
            return next((one for one in leases if metadata(one)["name"] == name), None)
        return next(
            (one for one in leases if str(metadata(one)["name"]).endswith(naming.CONTROLLER_LEASE_SUFFIX)), None
        )


def _as_allowed(name: str, check: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """The check, or its name as not made if the operator lacks a right. Raises CommandError otherwise."""
    try:
        yield from [*check()]
    except CommandError as error:
        if "forbidden" not in str(error).lower():
            raise
        yield Check(name, True, f"not checked: {error}", made=False)


def _is_older(kernel: str, than: tuple[int, int]) -> bool:
    found = re.match(r"(\d+)\.(\d+)", kernel)
    return found is not None and (int(found[1]), int(found[2])) < than


def _creation_time(body: Object) -> str:
    return str(metadata(body)["creationTimestamp"])


def _owner_uid(pod: Object) -> str:
    return next((one["uid"] for one in metadata(pod).get("ownerReferences", ()) if one.get("controller")), "")


def _describe_job(job: Object) -> tuple[str, str]:
    true = {one["type"]: one for one in job.get("status", {}).get("conditions", ()) if one["status"] == "True"}
    for kind in ("Complete", "Failed", "Suspended"):
        if kind in true:
            return kind, " ".join(filter(None, (true[kind].get("reason", ""), true[kind].get("message", ""))))
    return ("Deleting" if "deletionTimestamp" in metadata(job) else "Open"), ""


def _describe_pod(pod: Object) -> tuple[str, str]:
    status = pod.get("status", {})
    unscheduled = (
        str(one.get("message", ""))
        for one in status.get("conditions", ())
        if one["type"] == "PodScheduled" and one["status"] == "False"
    )
    ended = (
        f"exit code {state['exitCode']} {state.get('reason', '')}".strip()
        for one in status.get("containerStatuses", ())
        if (state := one.get("state", {}).get("terminated"))
    )
    node = f"on {pod['spec']['nodeName']}" if pod["spec"].get("nodeName") else ""
    details = (node, status.get("reason", ""), status.get("message", ""), *unscheduled, *_waiting_reasons(pod), *ended)
    return str(status.get("phase", "Unknown")), ", ".join(filter(None, details))


def _waiting_reasons(pod: Object) -> Iterator[str]:
    """Why each waiting container has not started: the reason, then the kubelet's message."""
    for one in pod.get("status", {}).get("containerStatuses", ()):
        if waiting := one.get("state", {}).get("waiting"):
            yield ": ".join(filter(None, (waiting.get("reason", ""), waiting.get("message", ""))))


def _metrics_port(pod: Object) -> int | None:
    ports = (port for one in pod["spec"]["containers"] for port in one.get("ports", ()))
    return next((int(port["containerPort"]) for port in ports if port.get("name") == METRICS_PORT), None)


def _selector_arguments(labels: Mapping[str, str]) -> tuple[str, ...]:
    return ("-l", ",".join(f"{key}={value}" for key, value in labels.items())) if labels else ()
