"""kubectl as `crease` uses it, on the API server in memory (api_server.py). What it does not know, it refuses."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from typing import Any

from services.cli.errors import Trouble
from services.cli.runtime.kubernetes import Kubectl
from testing.fakes.api_server import ApiServer

Object = dict[str, Any]


class FakeKubectl(Kubectl):
    """`others` are objects of kinds that the server does not hold; `denied`, what the controller may not;
    `exposed`, the metrics of pods by name."""

    def __init__(self, server: ApiServer) -> None:
        super().__init__()
        self.server = server
        self.others: dict[str, list[Object]] = {"deployments": [], "services": []}
        self.denied: set[tuple[str, str]] = set()
        self.exposed: dict[str, str] = {}
        self.shown: list[tuple[str, ...]] = []

    def run(self, *arguments: str, told: Object | None = None) -> subprocess.CompletedProcess[str]:
        match arguments:
            case ("get", kind, *rest):
                chosen = [one for one in self._held(kind, rest) if _selected(one, rest)]
                return _said(json.dumps({"items": chosen}))
            case ("annotate", "--overwrite", target, change):
                self._annotate(target, change)
                return _said("")
            case ("auth", "can-i", verb, resource, who):
                assert who.startswith("--as=system:serviceaccount:")
                return _said("no" if (verb, resource) in self.denied else "yes")
            case ("create", "-f", "-", "-o", "json"):
                assert told is not None
                return _said(json.dumps({**told, "metadata": {"creationTimestamp": self.server.now}}))
        raise AssertionError(f"unknown to this kubectl: {arguments}")

    @contextlib.contextmanager
    def forward(self, target: str, port: int) -> Iterator[str]:
        yield f"127.0.0.1:{port}"

    def fetch(self, target: str, port: int) -> str:
        if target not in self.exposed:
            raise Trouble(f"No metrics at {target}:{port}")
        return self.exposed[target]

    def show(self, *arguments: str) -> int:
        self.shown.append(arguments)
        return 0

    def _held(self, kind: str, rest: list[str]) -> list[Object]:
        if "kube-node-lease" in rest:
            return self.others.get("node leases", [])
        return self.others[kind] if kind in self.others else list(self.server.objects[kind].values())

    def _annotate(self, target: str, change: str) -> None:
        kind, _, name = target.partition("/")
        assert kind == "lease"
        lease = json.loads(json.dumps(self.server.objects["leases"][name]))
        annotations = lease["metadata"].setdefault("annotations", {})
        key, given, value = change.partition("=")
        if given:
            annotations[key] = value
        else:
            annotations.pop(key.removesuffix("-"), None)
        self.server.put("leases", lease)


def _said(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess((), 0, text, "")


def _selected(body: Object, rest: list[str]) -> bool:
    """By `-l`, in equalities and inequalities."""
    if "-l" not in rest:
        return True
    labels = body["metadata"].get("labels", {})
    for term in rest[rest.index("-l") + 1].split(","):
        key, _, value = term.partition("!=" if "!=" in term else "=")
        if (labels.get(key) == value) == ("!=" in term):
            return False
    return True
