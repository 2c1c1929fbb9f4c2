"""A namespace of a cluster, through kubectl: whoever may look there with it, and by the same rights.

kubectl crease … ──▶ kubectl get, logs, annotate, get --raw …/proxy/metrics ──▶ API server
"""

import contextlib
import json
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from services import naming
from services.cli.errors import AWAY, FAILED, USAGE, Trouble
from services.cli.runtime.interface import Check, Run, Told
from services.cli.runtime.prometheus import read_metrics

Object = dict[str, Any]

OURS = f"{naming.NAME_LABEL}={naming.PRODUCT}"
COMPONENT = naming.COMPONENT_LABEL
JOB_LABEL = naming.JOB_LABEL
DRAINED = naming.DRAINED_ANNOTATION
METRICS_PORT = "metrics"
NOWHERE = "127.0.0.1:1"
# Beyond it tokens are refused, and what happened when cannot be told.
MOST_SKEW = timedelta(seconds=10)
# A kubelet renews its Lease every 10 s.
NODE_SILENT = timedelta(seconds=40)
# As services/controller/kubernetes/role.yaml has them.
RIGHTS = {
    "jobs.batch": ("get", "list", "watch", "create", "patch", "delete"),
    "pods": ("list", "watch", "delete"),
    "events": ("list", "create"),
    "leases.coordination.k8s.io": ("get", "create", "update"),
}
BAD_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})


class Kubectl:
    """`arguments` choose the cluster and the namespace; none: those of the current context."""

    def __init__(self, *arguments: str) -> None:
        self.command = ("kubectl", *arguments)

    def __call__(self, *arguments: str, told: Object | None = None) -> str:
        """Standard output. Raises Trouble with kubectl's own words."""
        ended = self.run(*arguments, told=told)
        if ended.returncode:
            said = ended.stderr.strip() or f"exit code {ended.returncode}"
            raise Trouble(f"kubectl {' '.join(arguments[:2])}: {said}", AWAY)
        return ended.stdout

    def run(self, *arguments: str, told: Object | None = None) -> subprocess.CompletedProcess[str]:
        """As it ended. Raises Trouble where there is no kubectl."""
        text = None if told is None else json.dumps(told)
        try:
            return subprocess.run((*self.command, *arguments), input=text, capture_output=True, text=True, check=False)
        except OSError as error:
            raise Trouble(f"kubectl cannot be run: {error.strerror}.", USAGE) from None

    def items(self, kind: str, *arguments: str) -> list[Object]:
        """A list of objects."""
        return list(json.loads(self("get", kind, *arguments, "-o", "json"))["items"])

    @contextlib.contextmanager
    def forward(self, target: str, port: int) -> Iterator[str]:
        """Where a port of a pod or a Service answers on this machine, for as long as the block runs; NOWHERE where it
        cannot be reached. NetworkPolicies do not stand in its way."""
        command = (*self.command, "port-forward", target, f":{port}")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            # It says where it listens, or ends.
            found = re.search(r"127\.0\.0\.1:\d+", process.stdout.readline() if process.stdout else "")
            yield found[0] if found else NOWHERE
        finally:
            process.terminate()
            process.communicate()

    def fetch(self, target: str, port: int) -> str:
        """What a program exposes there. Raises Trouble."""
        with self.forward(target, port) as endpoint:
            return read_metrics(endpoint)

    def show(self, *arguments: str) -> int:
        """Runs it on our own screen; returns its exit code."""
        return subprocess.run((*self.command, *arguments), check=False).returncode


class ClusterPlace:
    """As `Place` says. `now` is our own clock."""

    def __init__(self, kubectl: Kubectl, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._kubectl = kubectl
        self._now = now

    def runs(self, job_id: str) -> Sequence[Run]:
        """As `Place` says: the Kubernetes Jobs, each with its pods."""
        selector = ("-l", f"{JOB_LABEL}={job_id}")
        pods = self._kubectl.items("pods", *selector)
        jobs = sorted(self._kubectl.items("jobs", *selector), key=lambda one: str(_metadata(one)["creationTimestamp"]))
        found = []
        for job in jobs:
            found.append(Run(f"job/{_metadata(job)['name']}", *_job_state(job)))
            mine = [pod for pod in pods if _owner(pod) == _metadata(job)["uid"]]
            found += [Run(f"pod/{_metadata(pod)['name']}", *_pod_state(pod)) for pod in mine]
        return found

    def told(self, job_id: str) -> Sequence[Told]:
        """As `Place` says: Kubernetes Events on its Kubernetes Jobs and pods."""
        prefix = naming.launch_prefix(job_id)
        events = (one for one in self._kubectl.items("events") if one["involvedObject"]["name"].startswith(prefix))
        found = [Told(_event_time(one), one.get("reason", ""), one.get("message", "")) for one in events]
        return sorted(found, key=lambda one: one.at)

    def show_logs(self, job_id: str, *, follow: bool) -> None:
        """As `Place` says: of the newest pod."""
        pods = self._kubectl.items("pods", "-l", f"{JOB_LABEL}={job_id}")
        if not pods:
            raise Trouble("Its pods are gone, and their logs with them: `why` has what was recorded of them.")
        newest = max(pods, key=lambda pod: str(_metadata(pod)["creationTimestamp"]))
        more = ("-f",) if follow else ()
        if self._kubectl.show("logs", f"pod/{_metadata(newest)['name']}", "--all-containers", *more):
            raise Trouble("kubectl could not show the log.", FAILED)

    def drained(self) -> str:
        """As `Place` says: the annotation on the Lease by which the controller's replicas take turns."""
        lease = self._lease()
        return str(_metadata(lease).get("annotations", {}).get(DRAINED, "")) if lease else ""

    def drain(self, why: str) -> None:
        """As `Place` says. The controller reads its Lease every few seconds, and so does one that starts anew."""
        lease = self._lease()
        if lease is None:
            raise Trouble(
                "No controller has a Lease here: is this its namespace, and is CREASE_LEADER_LEASE set?", USAGE
            )
        name = f"lease/{_metadata(lease)['name']}"
        self._kubectl("annotate", "--overwrite", name, f"{DRAINED}={why}" if why else f"{DRAINED}-")

    def metrics(self) -> Mapping[str, str]:
        """As `Place` says: from the pods."""
        found = {}
        for pod in self._kubectl.items("pods", "-l", f"{OURS},{COMPONENT}!=analyzer"):
            if (port := _metrics_port(pod)) is not None:
                with contextlib.suppress(Trouble):
                    name = str(_metadata(pod)["name"])
                    found[name] = self._kubectl.fetch(f"pod/{name}", port)
        return found

    def checks(self) -> Iterator[Check]:
        """As `Place` says."""
        yield from self._programs()
        yield from self._clocks()
        deployments = self._kubectl.items("deployments", "-l", f"{OURS},{COMPONENT}=controller")
        if not deployments:
            advice = "Name the namespace of the release with -n."
            yield Check("controller", False, "no controller is deployed here", advice)
            return
        controller = deployments[0]["spec"]["template"]["spec"]
        yield self._rights(_metadata(deployments[0])["namespace"], controller["serviceAccountName"])
        told = _told(deployments[0])
        yield self._image(told.get("CREASE_ANALYZER_IMAGE", ""))
        yield self._gpus(told)

    def _programs(self) -> Iterator[Check]:
        for one in self._kubectl.items("deployments", "-l", OURS):
            name, wanted = _metadata(one)["name"], one["spec"].get("replicas", 1)
            ready = one.get("status", {}).get("readyReplicas", 0)
            advice = f"kubectl describe deployment/{name}; kubectl logs deployment/{name}"
            yield Check(name, ready >= wanted, f"{ready} of {wanted} replicas are ready", advice)

    def _clocks(self) -> Iterator[Check]:
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        asked_at = self._now()
        made = json.loads(self._kubectl("create", "-f", "-", "-o", "json", told=review))
        server = _time(_metadata(made)["creationTimestamp"])
        # It tells whole seconds, and the answer took its time.
        skew = max(asked_at - server - timedelta(seconds=1), server - self._now(), timedelta())
        words = f"ours and the API server's differ by {skew.total_seconds():.0f} s"
        yield Check("clock", skew <= MOST_SKEW, words, "Set this machine's clock by NTP.")
        late, ahead = [], []
        for lease in self._kubectl.items("leases", "-n", "kube-node-lease"):
            renewed = _time(lease["spec"]["renewTime"])
            if server - renewed > NODE_SILENT:
                late.append(_metadata(lease)["name"])
            elif renewed - server > MOST_SKEW:
                ahead.append(_metadata(lease)["name"])
        words = "; ".join(
            filter(None, (f"silent or behind: {', '.join(late)}" if late else "",
                          f"ahead: {', '.join(ahead)}" if ahead else ""))
        )  # fmt: skip
        advice = "kubectl describe node NAME; set its clock by NTP, or drain and remove it."
        yield Check("nodes", not words, words or "each was heard of, by a clock like the API server's", advice)

    def _rights(self, namespace: str, account: str) -> Check:
        who = f"--as=system:serviceaccount:{namespace}:{account}"
        missing = [
            f"{verb} {resource}"
            for resource, verbs in RIGHTS.items()
            for verb in verbs
            if self._kubectl.run("auth", "can-i", verb, resource, who).stdout.strip() != "yes"
        ]
        words = f"the controller may not {', '.join(missing)}" if missing else "the controller may do all that it does"
        advice = "helm upgrade puts the Role and its RoleBinding back. You yourself need the right to impersonate."
        return Check("rights", not missing, words, advice)

    def _image(self, image: str) -> Check:
        pods = self._kubectl.items("pods", "-l", f"{naming.COMPONENT_LABEL}={naming.ANALYZER_COMPONENT}")
        said = {words for pod in pods for words in _waiting(pod) if words.partition(":")[0] in BAD_IMAGE}
        words = f"{image}: {'; '.join(sorted(said))[:300]}" if said else f"no pod fails to get {image}"
        advice = "Push the image or repair image.registry, image.tag and image.pullSecrets; then retry the failed jobs."
        return Check("image", not said, words, advice)

    def _gpus(self, told: Mapping[str, str]) -> Check:
        resource = told.get("CREASE_GPU_RESOURCE", "")
        if not resource:
            return Check("gpus", True, "none are wanted (analyzer.gpu.resource is empty)")
        chosen = json.loads(told.get("CREASE_GPU_NODE_SELECTOR") or "{}")
        nodes = self._kubectl.items("nodes", *_labelled(chosen))
        offered = {_metadata(one)["name"]: int(one["status"].get("allocatable", {}).get(resource, 0)) for one in nodes}
        bare = [name for name, count in offered.items() if not count] if chosen else []
        words = f"{sum(offered.values())} of {resource} on {sum(map(bool, offered.values()))} nodes"
        if bare:
            words += f"; none on {', '.join(bare)}"
        grows = told.get("CREASE_GPU_SCALES_UP", "") == "true"
        advice = (
            "Is the device plug-in's DaemonSet on these nodes? kubectl get daemonsets -A; until then the CPU does it."
        )
        return Check("gpus", (any(offered.values()) or grows) and not bare, words, advice)

    def _lease(self) -> Object | None:
        leases = self._kubectl.items("leases")
        return next(
            (one for one in leases if str(_metadata(one)["name"]).endswith(naming.CONTROLLER_LEASE_SUFFIX)), None
        )


@contextlib.contextmanager
def forwarded(kubectl: Kubectl) -> Iterator[Mapping[str, str]]:
    """The variables that lead our commands to the Services of a namespace, for as long as the block runs; by TLS where
    they speak it, believing whom the analyses believe.

    Where one cannot be reached, it leads nowhere: `doctor` has more to say than that.
    """
    with contextlib.ExitStack() as stack:
        told, speak_tls = {}, False
        for program in ("jobs", "upload"):
            services = kubectl.items("services", "-l", f"{OURS},{COMPONENT}={program}")
            if not services:
                raise Trouble(f"No Service of Crease's {program} is here: name its namespace with -n.", USAGE)
            name, namespace = _metadata(services[0])["name"], _metadata(services[0])["namespace"]
            port = services[0]["spec"]["ports"][0]
            endpoint = stack.enter_context(kubectl.forward(f"service/{name}", port["port"]))
            if port.get("appProtocol") == "https":
                endpoint, speak_tls = f"https://{endpoint}/{name}.{namespace}.svc", True
            told[f"CREASE_{program.upper()}_ENDPOINT"] = endpoint
        if speak_tls and (authority := _authority(kubectl)):
            file = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".crt"))
            file.write(authority)
            file.flush()
            told["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = file.name
        yield told


def _authority(kubectl: Kubectl) -> str:
    """Whom the analyses believe, in PEM, as the controller is told; empty where these are public authorities."""
    for one in kubectl.items("deployments", "-l", f"{OURS},{COMPONENT}=controller"):
        if name := _told(one).get("CREASE_ANALYZER_CA_CONFIG_MAP"):
            held = (one for one in kubectl.items("configmaps") if _metadata(one)["name"] == name)
            return next((str(one["data"]["ca.crt"]) for one in held), "")
    return ""


def _told(deployment: Object) -> Mapping[str, str]:
    """The variables of its program."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    return {one["name"]: one.get("value", "") for one in containers[0].get("env", ())}


def _metadata(body: Object) -> Object:
    found: Object = body["metadata"]
    return found


def _owner(pod: Object) -> str:
    return next((one["uid"] for one in _metadata(pod).get("ownerReferences", ()) if one.get("controller")), "")


def _job_state(job: Object) -> tuple[str, str]:
    true = {one["type"]: one for one in job.get("status", {}).get("conditions", ()) if one["status"] == "True"}
    for kind in ("Complete", "Failed", "Suspended"):
        if kind in true:
            return kind, " ".join(filter(None, (true[kind].get("reason", ""), true[kind].get("message", ""))))
    return ("Deleting" if "deletionTimestamp" in _metadata(job) else "Open"), ""


def _pod_state(pod: Object) -> tuple[str, str]:
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
    where = f"on {pod['spec']['nodeName']}" if pod["spec"].get("nodeName") else ""
    words = (where, status.get("reason", ""), status.get("message", ""), *unscheduled, *_waiting(pod), *ended)
    return str(status.get("phase", "Unknown")), ", ".join(filter(None, words))


def _waiting(pod: Object) -> Iterator[str]:
    """Why its containers have not begun: the reason, then the cluster's words."""
    for one in pod.get("status", {}).get("containerStatuses", ()):
        if waiting := one.get("state", {}).get("waiting"):
            yield ": ".join(filter(None, (waiting.get("reason", ""), waiting.get("message", ""))))


def _metrics_port(pod: Object) -> int | None:
    ports = (port for one in pod["spec"]["containers"] for port in one.get("ports", ()))
    return next((int(port["containerPort"]) for port in ports if port.get("name") == METRICS_PORT), None)


def _event_time(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or _metadata(event).get("creationTimestamp", ""))


def _labelled(labels: Mapping[str, str]) -> tuple[str, ...]:
    return ("-l", ",".join(f"{key}={value}" for key, value in labels.items())) if labels else ()


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
