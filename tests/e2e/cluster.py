"""A release in a real cluster, driven by helm, kubectl and a coach's client in a pod."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.chart.chart import CHART, ROOT

CLIENT = Path(__file__).with_name("client.py")
KEPT = ROOT / "build" / "e2e"
# Small enough for 20 concurrent analyses on a laptop.
VALUES = {
    "dev.embedded": "true",
    "analyzer.capacity": "4",
    "analyzer.cpu": "50m",
    "analyzer.memory": "1Gi",
    "analyzer.scratch": "512Mi",
}
# Long enough that a killed program restarts within a lease on a slow machine.
LEASE = 'jobs.extraEnv=[{"name": "CREASE_LEASE_SECONDS", "value": "120"}]'
Answer = dict[str, Any]
T = TypeVar("T")


def run(*command: str, stdin: bytes = b"", seconds: float = 300, check: bool = True) -> str:
    """Runs a command; returns its standard output. Raises AssertionError with both outputs if it fails."""
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=seconds, check=False)
    if check and done.returncode:
        raise AssertionError(
            f"{' '.join(command)} exited {done.returncode}:\n{done.stdout.decode()}{done.stderr.decode()}"
        )
    return done.stdout.decode()


def until(condition: Callable[[], T], what: str, seconds: float = 120) -> T:
    """Polls until the condition is true and returns its value; fails after `seconds`."""
    give_up = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < give_up, f"no {what} within {seconds:g} s"
        time.sleep(0.5)
    return answer


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Appends the duration of the block to build/e2e/times."""
    began = time.monotonic()
    yield
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / "times").open("a") as times:
        times.write(f"{time.monotonic() - began:7.1f}s  {what}\n")


@dataclass
class Release:
    """One `helm install` of the chart in a namespace that enforces the level `restricted`."""

    namespace: str
    name: str = "crease"
    values: dict[str, str] = field(default_factory=dict)

    def kubectl(self, *arguments: str, **options: Any) -> str:
        return run("kubectl", "--namespace", self.namespace, *arguments, **options)

    def helm(self, *arguments: str, **options: Any) -> str:
        return run("helm", "--namespace", self.namespace, *arguments, **options)

    def create_namespace(self) -> None:
        run("kubectl", "create", "namespace", self.namespace)
        run("kubectl", "label", "namespace", self.namespace, "pod-security.kubernetes.io/enforce=restricted",
            "pod-security.kubernetes.io/enforce-version=latest")  # fmt: skip

    def install(self) -> None:
        self._roll_out("install", str(CHART), *self.options())

    def upgrade(self, **changed: str) -> None:
        """Upgrades with changed values; every program restarts."""
        self.values |= changed
        self._roll_out("upgrade", str(CHART), *self.options())

    def rollback(self, revision: int) -> None:
        self._roll_out("rollback", str(revision))

    def _roll_out(self, command: str, *arguments: str) -> None:
        """Runs helm and waits until all pods are ready; on failure keeps logs under build/e2e/."""
        try:
            with timed(f"helm {command}, until all is ready"):
                self.helm(command, self.name, *arguments, "--wait", "--timeout", "10m", seconds=660)
        except AssertionError:
            self.keep_logs(f"{command}-{self.namespace}")
            raise

    def await_programs(self) -> None:
        """Waits until the node and every program are ready."""
        run("kubectl", "wait", "--for=condition=Ready", "nodes", "--all", "--timeout=300s", seconds=330)
        self.kubectl("wait", "--for=condition=Available", "deployments", "--all", "--timeout=300s", seconds=330)

    def options(self) -> list[str]:
        """The options of helm that set the values."""
        # The registry, for a cluster that pulls images.
        registry = {"image.registry": os.environ["REGISTRY"]} if os.environ.get("REGISTRY") else {}
        given = VALUES | registry | self.values
        return ["--set-json", LEASE, *(part for key, value in given.items() for part in ("--set", f"{key}={value}"))]

    def get(self, kind: str, *arguments: str) -> list[Answer]:
        """All objects of a kind, as the API returns them."""
        items: list[Answer] = json.loads(self.kubectl("get", kind, "--output", "json", *arguments))["items"]
        return items

    def pods(self, component: str) -> list[Answer]:
        return self.get("pods", "--selector", f"app.kubernetes.io/component={component}")

    def launches(self, job_id: str) -> list[Answer]:
        """The Kubernetes Jobs of a job in order of their launches."""
        found = self.get("jobs.batch", "--selector", f"crease.dev/job={job_id}")
        return sorted(found, key=lambda one: int(one["metadata"]["name"].rpartition("-")[2]))

    def status(self, job_id: str, launch_no: int) -> str:
        """The status label of a launch's Kubernetes Job; empty if there is none."""
        made = {
            one["metadata"]["name"]: one["metadata"]["labels"]["crease.dev/status"] for one in self.launches(job_id)
        }
        return str(made.get(f"analysis-{job_id}-{launch_no}", ""))

    # --- a coach's client
    def give(self, video: Path) -> str:
        """Copies a video into the coach's pod; returns its path there."""
        place = f"/tmp/{video.name}"
        keep = f"import shutil, sys; shutil.copyfileobj(sys.stdin.buffer, open({place!r}, 'wb'))"
        self.kubectl(
            "exec", "--stdin", f"deploy/{self.name}-trial", "--", "python", "-c", keep, stdin=video.read_bytes()
        )
        return place

    def ask(self, *arguments: str, seconds: float = 300) -> list[Answer]:
        """Runs tests/e2e/client.py in the coach's pod; returns its answers."""
        command = ("exec", "--stdin", f"deploy/{self.name}-trial", "--", "python", "-", *arguments)
        output = self.kubectl(*command, stdin=CLIENT.read_bytes(), seconds=seconds + 30)
        return [json.loads(line) for line in output.splitlines()]

    def submit(self, video: str = "/samples/batter.mp4", count: int = 1, *more: str) -> list[str]:
        return [answer["job_id"] for answer in self.ask("submit", video, str(count), *more)]

    def wait(self, *jobs: str, seconds: float = 600) -> list[Answer]:
        return self.ask("wait", str(seconds), *jobs, seconds=seconds)

    def answers(self, *arguments: str) -> bool:
        """Whether the client gets an answer."""
        try:
            return bool(self.ask(*arguments))
        except AssertionError:
            return False

    def job(self, job_id: str) -> Answer:
        return self.ask("get", job_id)[0]

    def explain(self, job_id: str) -> Answer:
        return self.ask("explain", job_id)[0]

    # --- faults
    def kill(self, component: str) -> None:
        """Force-deletes the component's pods without a grace period."""
        self.kubectl(
            "delete", "pod", "--selector", f"app.kubernetes.io/component={component}", "--grace-period=0", "--force"
        )

    # --- cleanup
    def remove(self) -> None:
        self.helm("uninstall", self.name, "--wait", "--timeout", "4m", check=False)
        run("kubectl", "delete", "namespace", self.namespace, "--wait=true", "--timeout=240s", check=False)

    def keep_logs(self, test: str) -> Path:
        """Stores logs, events and descriptions under build/e2e/."""
        folder = KEPT / test
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, command in self._evidence():
            (folder / name).write_text(self.kubectl(*command, check=False))
        return folder

    def _evidence(self) -> Iterator[tuple[str, Sequence[str]]]:
        yield "all.txt", ("get", "all,events,leases,secrets,networkpolicies", "--output", "wide")
        yield "jobs.txt", ("get", "jobs.batch", "--label-columns", "crease.dev/status,crease.dev/accelerator")
        yield "describe.txt", ("describe", "pods,jobs.batch")
        yield "events.txt", ("get", "events", "--sort-by", ".lastTimestamp")
        for pod in self.get("pods"):
            name = pod["metadata"]["name"]
            yield f"{name}.log", ("logs", name, "--all-containers", "--prefix")
            yield f"{name}.previous.log", ("logs", name, "--all-containers", "--previous")


@contextmanager
def in_a_namespace(name: str, **values: str) -> Iterator[Release]:
    """A release to install in a namespace of its own; both are removed at the end."""
    made = Release(name, values=values)
    made.create_namespace()
    try:
        yield made
    finally:
        made.remove()


def has_own_cluster() -> bool:
    """Whether the cluster is that of testing/cluster, whose programs a test may break."""
    return "CREASE_CLUSTER_SCRIPTS" in os.environ


def sv(*arguments: str) -> str:
    """Controls a program of testing/cluster: `sv("pause", "kubelet")`."""
    script = f'. "{ROOT}/testing/cluster/env"; sv {" ".join(arguments)}'
    return run("bash", "-c", script)
