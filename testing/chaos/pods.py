"""With `--kubernetes`: one cluster is a real Kubernetes, whose pods hand their launches to the stand-in analyzers.

A pod sends its token by one HTTP request and ends with the exit code of the answer. The request lasts as long as the
launch; a pod that dies ends it.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from testing.servers.kubernetes import Cluster, Namespace, cluster, namespace
from testing.servers.programs import free_port

POD = 'code=$(wget -q -O- --header "Authorization: $(cat $CREASE_TOKEN_FILE)" {url}/$2/$4) && exit $code; exit 70'


@dataclass(frozen=True)
class Pods:
    """`host` and `port`: where the pods find the stand-in analyzers."""

    cluster: Cluster
    namespace: Namespace
    port: int

    @property
    def host(self) -> str:
        return self.cluster.host

    @property
    def api_server(self) -> str:
        return self.cluster.server.removeprefix("https://")

    def env(self, line: str, name: str) -> Mapping[str, str]:
        """Settings of the controller of the cluster `name`, which reaches the API server over a line (host:port)."""
        command = ("sh", "-c", POD.replace("{url}", f"http://{self.host}:{self.port}"), "sh")
        return {
            **self.namespace.env,
            "CREASE_KUBECONFIG": str(self.namespace.kubeconfig_through(line)),
            "CREASE_CLUSTER": name,
            "CREASE_ANALYZER_COMMAND": json.dumps(command),
        }

    def active(self) -> list[str]:
        """The Kubernetes Jobs that have a running pod, or wait for one."""
        return [job["metadata"]["name"] for job in self.namespace.jobs() if job["status"].get("active")]

    def describe(self) -> str:
        """The Kubernetes Jobs, pods and Events, and the node."""
        return "".join(
            self.cluster.kubectl("get", kind, "-n", self.namespace.name, "-o", "yaml")
            for kind in ("jobs", "pods", "events", "nodes")
        )


@contextmanager
def pods(folder: Path) -> Iterator[Pods]:
    with cluster() as made, namespace(made, folder) as space:
        yield Pods(made, space, free_port())
