"""A real Kubernetes for tests, by the scripts in testing/cluster: one cluster a run, one namespace a test.

In its pods runs a stand-in for the analyzer, which asks this machine how to end.
"""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from services.controller.settings import KubernetesSettings
from testing.servers.programs import ROOT

SCRIPTS = ROOT / "testing" / "cluster"
ROLE = ROOT / "services" / "controller" / "kubernetes" / "role.yaml"
IMAGE = "localhost/busybox:1"
# The programs of the node, in the order of their start.
NODE = ("containerd", "kubelet")
CLEAR_RUN = """
awk '$2 ~ "^/run/(containerd|netns)/" {print $2}' /proc/mounts | xargs -r umount --lazy
rm -rf /run/containerd /run/netns
"""
# What the cluster's API server calls itself in its tokens.
ISSUER = "https://kubernetes.default.svc.cluster.local"

# Ends with the exit code that Control returns, and on SIGTERM at once; `stubborn` jobs ignore SIGTERM.
STAND_IN = """
case $2 in stubborn*) trap '' TERM;; *) trap 'exit 143' TERM;; esac
while :; do
  code=$(wget -q -O- --header "Authorization: $(cat $CREASE_TOKEN_FILE)" {url}/analysis-$2-$4 2>/dev/null) && exit $code
  sleep 0.1
done
"""


class Control:
    """Serves each stand-in its exit code, and records each caller with its token."""

    def __init__(self, host: str) -> None:
        self.tokens: dict[str, str] = {}
        self.starts: list[str] = []
        self.endings: dict[str, int] = {}
        control = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.strip("/")
                if control.tokens.get(name) != self.headers["Authorization"]:
                    control.tokens[name] = self.headers["Authorization"]
                    control.starts.append(name)
                exit_code = control.endings.get(name)
                body = b"" if exit_code is None else str(exit_code).encode()
                self.send_response(404 if exit_code is None else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://{host}:{self._server.server_port}"

    @property
    def command(self) -> tuple[str, ...]:
        return ("sh", "-c", STAND_IN.replace("{url}", self.url), "sh")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass(frozen=True)
class Cluster:
    """A running cluster, and the faults that a test may inject."""

    number: int
    home: Path

    @property
    def run(self) -> Path:
        return self.home / f"run-{self.number}"

    @property
    def admin(self) -> Path:
        return self.run / "admin.kubeconfig"

    @property
    def host(self) -> str:
        """The address of this machine in the pod network."""
        return f"10.251.{self.number}.1"

    @property
    def server(self) -> str:
        return f"https://10.251.{self.number}.2:6443"

    # A registry on the node itself, without TLS.
    registry = "localhost:5000"

    def run_registry(self) -> None:
        """Answers 404 to every request, until the cluster is stopped."""
        command = [
            sys.executable,
            "-m",
            "http.server",
            "5000",
            "--bind",
            "127.0.0.1",
            "--directory",
            str(self.run / "sv"),
        ]
        init = (self.run / "init.pid").read_text().strip()
        subprocess.Popen(
            ["nsenter", "--target", init, "--net", "--pid", *command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kubectl(self, *arguments: str, document: object = None) -> str:
        command = [str(self.home / "bin" / "kubectl"), "--kubeconfig", str(self.admin), *arguments]
        text = None if document is None else json.dumps(document)
        ended = subprocess.run(command, input=text, capture_output=True, text=True)
        assert ended.returncode == 0, f"{' '.join(arguments)}: {ended.stderr}"
        return ended.stdout

    def apply(self, body: Mapping[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", document=body)

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def sv(self, *arguments: str) -> None:
        """Stops or continues a program of the cluster: kill, pause, cont, down, up."""
        subprocess.run(["sv", *arguments], check=True, env={**os.environ, "SVDIR": str(self.run / "sv")})

    def lose_power(self) -> None:
        """Stops the node at once: its programs and its containers die, and /run is lost. The control plane stays."""
        self.sv("down", *NODE)
        self.sv("kill", *NODE)
        init = int((self.run / "init.pid").read_text())
        shims = [one for one in psutil.Process(init).children() if one.name().startswith("containerd-shim")]
        for process in [*shims, *(one for shim in shims for one in shim.children(recursive=True))]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        subprocess.run(["nsenter", f"--target={init}", "--mount", "--pid", "sh", "-euc", CLEAR_RUN], check=True)

    def boot_node(self) -> None:
        self.sv("up", *NODE)


@dataclass
class Namespace:
    """One namespace, with the controller's ServiceAccount and Role."""

    cluster: Cluster
    control: Control
    folder: Path
    name: str = field(default_factory=lambda: f"test-{uuid.uuid4().hex[:8]}")

    def make(self) -> None:
        """Creates the namespace and waits for the controller manager, which recovers slowly from an earlier test."""
        role = yaml.safe_load(ROLE.read_text())
        self.cluster.kubectl("create", "namespace", self.name)
        for account in ("crease-controller", "crease-analyzer"):
            self.cluster.kubectl("create", "serviceaccount", account, "-n", self.name)
        group, kinds = "rbac.authorization.k8s.io", (("Role", "rules"), ("ClusterRole", "clusterRules"))
        subject = {"kind": "ServiceAccount", "name": "crease-controller", "namespace": self.name}
        for kind, rules in kinds:
            metadata = {"name": f"crease-controller-{self.name}", "namespace": self.name}
            api = {"apiVersion": f"{group}/v1", "metadata": metadata}
            more = role["queueRules"] if kind == "Role" else []
            self.cluster.apply({**api, "kind": kind, "rules": role[rules] + more})
            ref = {"apiGroup": group, "kind": kind, "name": metadata["name"]}
            self.cluster.apply({**api, "kind": f"{kind}Binding", "subjects": [subject], "roleRef": ref})
        self._write_kubeconfig()
        self.cluster.kubectl("wait", "--for=create", "serviceaccount/default", "-n", self.name, "--timeout=60s")

    def _write_kubeconfig(self) -> None:
        config = yaml.safe_load(self.cluster.admin.read_text())
        token = self.cluster.kubectl("create", "token", "crease-controller", "-n", self.name, "--duration=2h").strip()
        config["users"][0]["user"] = {"token": token}
        self.kubeconfig.write_text(yaml.safe_dump(config))

    @property
    def kubeconfig(self) -> Path:
        return self.folder / f"{self.name}.kubeconfig"

    def kubeconfig_through(self, line: str) -> Path:
        """The kubeconfig with the API server reached through a line (host:port), by the name in its certificate."""
        config = yaml.safe_load(self.kubeconfig.read_text())
        config["clusters"][0]["cluster"] |= {"server": f"https://{line}", "tls-server-name": "kubernetes"}
        path = self.folder / "line.kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path

    @property
    def env(self) -> dict[str, str]:
        """Settings of a controller for this namespace."""
        return {
            "CREASE_LAUNCHER": "kubernetes",
            "CREASE_KUBECONFIG": str(self.kubeconfig),
            "CREASE_NAMESPACE": self.name,
            "CREASE_CLUSTER": "nets",
            "CREASE_CAPACITY": "20",
            "CREASE_TICK_SECONDS": "0.2",
            "CREASE_LINGER_SECONDS": "5",
            "CREASE_ORPHAN_GRACE_SECONDS": "1",
            "CREASE_LEADER_SECONDS": "3",
            "CREASE_ANALYZER_IMAGE": IMAGE,
            "CREASE_ANALYZER_COMMAND": json.dumps(self.control.command),
            "CREASE_ANALYZER_CPU": "5m",
            "CREASE_ANALYZER_MEMORY": "16Mi",
            "CREASE_ANALYZER_SCRATCH": "8Mi",
            "CREASE_ANALYZER_GRACE_SECONDS": "2",
        }

    def issuer(self) -> dict[str, Any]:
        """The cluster's own issuer of its pods' tokens, in CREASE_ISSUERS; its keys are read by a token."""
        reader = self.folder / f"{self.name}.reader.jwt"
        binding = [
            "--clusterrole=system:service-account-issuer-discovery",
            f"--serviceaccount={self.name}:crease-controller",
        ]
        self.cluster.kubectl("create", "clusterrolebinding", f"reader-{self.name}", *binding)
        reader.write_text(self.cluster.kubectl("create", "token", "crease-controller", "-n", self.name))
        return {
            "kind": "cluster",
            "issuer": ISSUER,
            "jwks_url": f"{self.cluster.server}/openid/v1/jwks",
            "jwks_ca_file": str(self.cluster.run / "pki" / "ca.crt"),
            "jwks_token_file": str(reader),
            "subjects": {f"system:serviceaccount:{self.name}:crease-analyzer": "analyzer"},
        }

    def settings(self, **fields: Any) -> KubernetesSettings:
        values: dict[str, Any] = {name.removeprefix("CREASE_").lower(): value for name, value in self.env.items()}
        others = {"jobs_endpoint": "-", "upload_endpoint": "-", "token_file": self.folder / "token"}
        return KubernetesSettings(**values | others | fields)

    def jobs(self) -> list[Any]:
        return list(self.cluster.get("jobs", "-n", self.name)["items"])

    def pods(self) -> list[Any]:
        return list(self.cluster.get("pods", "-n", self.name)["items"])

    def events(self) -> list[Any]:
        return list(self.cluster.get("events", "-n", self.name)["items"])

    def finish(self, name: str, exit_code: int) -> None:
        self.control.endings[name] = exit_code


class Line:
    """A connection between a controller and the API server: forwards until it is cut."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._is_cut = False

    @property
    def is_open(self) -> bool:
        return self._server is not None

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    def kubeconfig(self, namespace: "Namespace") -> Path:
        """The kubeconfig of the namespace, with the API server reached through this connection."""
        assert self._server is not None
        return namespace.kubeconfig_through(f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}")

    def cut(self) -> None:
        self._is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    async def close(self) -> None:
        self.cut()
        if self._server:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        host, port = self._cluster.server.removeprefix("https://").split(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        self._writers |= {writer, far_writer}
        await asyncio.gather(_pass(reader, far_writer), _pass(far_reader, writer))
        self._writers -= {writer, far_writer}


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


def cannot() -> str:
    """Why this machine cannot run a cluster; empty if it can."""
    if os.geteuid() != 0:
        return "a cluster needs root: its node has namespaces and control groups of its own"
    if not (home() / "built").exists():
        return "no cluster is installed: `make cluster` does that, with Go, in some minutes"
    if shutil.which("sv") is None:
        return "a cluster needs runit; testing/cluster/install brings it"
    return ""


def home() -> Path:
    return Path(os.environ.get("CREASE_CLUSTER_HOME", Path.home() / ".cache" / "crease-cluster"))


@contextlib.contextmanager
def cluster(*how: str) -> Iterator[Cluster]:
    """Runs a cluster until the block ends; skips the test, with the reason, where it cannot.

    `--control-plane`: without a node.
    """
    if reason := cannot():
        pytest.skip(reason)
    made = Cluster(int(os.environ.get("CREASE_CLUSTER", "0")), home())
    subprocess.run([SCRIPTS / "down"], check=True)
    subprocess.run([SCRIPTS / "up", *how], check=True, capture_output=True)
    try:
        yield made
    finally:
        subprocess.run([SCRIPTS / "down"], check=True)


def start_kueue(cluster: Cluster) -> None:
    """Runs Kueue beside the cluster until the cluster stops; skips the test, with the reason, where it is not built."""
    if not (home() / "kueue" / "built").exists():
        pytest.skip("no Kueue is built: `make cluster` does that, with Go and its module proxy, in some minutes")
    env = {**os.environ, "CREASE_CLUSTER": str(cluster.number)}
    subprocess.run([SCRIPTS / "kueue" / "up"], check=True, capture_output=True, env=env)


@contextlib.contextmanager
def namespace(cluster: Cluster, folder: Path) -> Iterator[Namespace]:
    """A new namespace; its objects are deleted with the cluster."""
    control = Control(cluster.host)
    made = Namespace(cluster, control, folder)
    made.make()
    try:
        yield made
    finally:
        cluster.kubectl("delete", "namespace", made.name, "--wait=false")
        control.close()
