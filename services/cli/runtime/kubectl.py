"""Runs kubectl with the operator's own rights, and forwards the services of a namespace through it."""

import contextlib
import functools
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from services import naming
from services.cli.errors import UNAVAILABLE, USAGE, CommandError
from services.cli.runtime.prometheus import fetch_metrics

# A Kubernetes object, as the API server writes it in JSON.
Object = dict[str, Any]

OURS = f"{naming.NAME_LABEL}={naming.PRODUCT}"
# An endpoint that refuses every connection.
NOWHERE = "127.0.0.1:1"


class Kubectl:
    """`arguments` choose the cluster and the namespace; without them, the current context's.

    `release` is needed only in a namespace with several releases.
    """

    def __init__(self, *arguments: str, release: str = "") -> None:
        self.command = ("kubectl", *arguments)
        self._release = release

    @functools.cached_property
    def ours(self) -> str:
        """The label selector of the release. Raises CommandError if the namespace does not have exactly this one."""
        deployments = self.list_objects("deployments", "-l", OURS)
        found = sorted({metadata(one)["labels"].get(naming.INSTANCE_LABEL, "") for one in deployments} - {""})
        chosen = [self._release] if self._release else found
        if self._release and self._release not in found:
            names = ", ".join(found) or "none"
            raise CommandError(f"This namespace has no release {self._release}; its releases: {names}.", USAGE)
        if len(chosen) > 1:
            raise CommandError(f"This namespace has the releases {', '.join(found)}: choose one by --release.", USAGE)
        return ",".join([OURS, *(f"{naming.INSTANCE_LABEL}={name}" for name in chosen)])

    def __call__(self, *arguments: str, body: Object | None = None) -> str:
        """Runs kubectl; returns its standard output. Raises CommandError with its standard error."""
        ended = self.run(*arguments, body=body)
        if ended.returncode:
            cause = ended.stderr.strip() or f"exit code {ended.returncode}"
            raise CommandError(f"kubectl {' '.join(arguments[:2])}: {cause}", UNAVAILABLE)
        return ended.stdout

    def run(self, *arguments: str, body: Object | None = None) -> subprocess.CompletedProcess[str]:
        """Runs kubectl, with `body` as JSON on its standard input. Raises CommandError if kubectl is missing."""
        text = None if body is None else json.dumps(body)
        try:
            return subprocess.run((*self.command, *arguments), input=text, capture_output=True, text=True, check=False)
        except OSError as error:
            raise CommandError(f"kubectl cannot be run: {error.strerror}.", USAGE) from None

    def list_objects(self, kind: str, *arguments: str) -> list[Object]:
        """The objects of a kind. Raises CommandError."""
        return [*json.loads(self("get", kind, *arguments, "-o", "json"))["items"]]

    def list_of_program(self, program: str, kind: str) -> list[Object]:
        """The objects of a kind that belong to one program of the release. Raises CommandError."""
        return self.list_objects(kind, "-l", f"{self.ours},{naming.COMPONENT_LABEL}={program}")

    def find_controller(self) -> Object | None:
        """The Deployment of the release's controller. Raises CommandError."""
        return next(iter(self.list_of_program("controller", "deployments")), None)

    @contextlib.contextmanager
    def forward(self, target: str, port: int) -> Iterator[str]:
        """Forwards a port of a pod or a Service to this machine; yields host:port, or NOWHERE if that fails.

        NetworkPolicies do not apply to forwarded connections.
        """
        command = (*self.command, "port-forward", target, f":{port}")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            # kubectl prints the local address, or ends.
            found = re.search(r"127\.0\.0\.1:\d+", process.stdout.readline() if process.stdout else "")
            yield found[0] if found else NOWHERE
        finally:
            process.terminate()
            process.communicate()

    def fetch_metrics(self, target: str, port: int) -> str:
        """The metrics page of a pod. Raises CommandError."""
        with self.forward(target, port) as endpoint:
            return fetch_metrics(endpoint)

    def show(self, *arguments: str) -> int:
        """Runs kubectl on the user's terminal; returns its exit code."""
        return subprocess.run((*self.command, *arguments), check=False).returncode


@contextlib.contextmanager
def forward_services(kubectl: Kubectl) -> Iterator[Mapping[str, str]]:
    """Forwards jobs and upload; yields the environment variables that name them. By TLS if their Services use it.

    A service that cannot be reached gets the endpoint NOWHERE, so that `doctor` can still run its other checks.
    Raises CommandError if the namespace has no such Service.
    """
    with contextlib.ExitStack() as stack:
        variables, uses_tls = {}, False
        for program in ("jobs", "upload"):
            services = kubectl.list_of_program(program, "services")
            if not services:
                raise CommandError(f"This namespace has no Service of Crease's {program}: name another with -n.", USAGE)
            name, namespace = metadata(services[0])["name"], metadata(services[0])["namespace"]
            port = services[0]["spec"]["ports"][0]
            endpoint = stack.enter_context(kubectl.forward(f"service/{name}", port["port"]))
            if port.get("appProtocol") == "https":
                endpoint, uses_tls = f"https://{endpoint}/{name}.{namespace}.svc", True
            variables[f"CREASE_{program.upper()}_ENDPOINT"] = endpoint
        if uses_tls and (authority := _analyzers_authority(kubectl)):
            file = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".crt"))
            file.write(authority)
            file.flush()
            variables["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = file.name
        yield variables


def _analyzers_authority(kubectl: Kubectl) -> str:
    """The certificate authority that the analyzers trust, in PEM, from the controller's settings.

    Empty if they trust the public authorities.
    """
    controller = kubectl.find_controller()
    if controller is None or not (name := variables_of(controller).get("CREASE_ANALYZER_CA_CONFIG_MAP")):
        return ""
    named = (one for one in kubectl.list_objects("configmaps") if metadata(one)["name"] == name)
    return next((str(one["data"]["ca.crt"]) for one in named), "")


def variables_of(deployment: Object) -> Mapping[str, str]:
    """The environment variables of a Deployment's first container."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    return {one["name"]: one.get("value", "") for one in containers[0].get("env", ())}


def metadata(body: Object) -> Object:
    """The metadata of an object."""
    found: Object = body["metadata"]
    return found


def event_time(event: Object) -> str:
    """When a Kubernetes Event last happened."""
    return str(event.get("lastTimestamp") or event.get("eventTime") or metadata(event).get("creationTimestamp", ""))
