"""kubectl as `crease` uses it, on the API server in memory (api_server.py). Fails on any other use."""

import contextlib
import json
import subprocess
from collections.abc import Iterator

from services.cli.errors import CommandError
from services.cli.runtime.kubectl import Kubectl, Object
from testing.fakes.api_server import ApiServer


class FakeKubectl(Kubectl):
    """`others`: objects of kinds that the server lacks. `denied`: verbs and resources that the controller may not use.
    `refused`: why a dry run of a kind fails. `forbidden`: resources that the operator may not read.
    `exposed`: the metrics pages of pods by name. `shown`: the arguments of each `show`.
    """

    def __init__(self, server: ApiServer, release: str = "") -> None:
        super().__init__(release=release)
        self.server = server
        self.others: dict[str, list[Object]] = {"deployments": [], "services": []}
        self.denied: set[tuple[str, str]] = set()
        self.refused: dict[str, str] = {}
        self.forbidden: set[str] = set()
        self.exposed: dict[str, str] = {}
        self.shown: list[tuple[str, ...]] = []

    def run(self, *arguments: str, body: Object | None = None) -> subprocess.CompletedProcess[str]:
        match arguments:
            case ("get", kind, *_) if kind in self.forbidden:
                return _failed(f"Error from server (Forbidden): {kind} is forbidden")
            case ("get", kind, name, "-o", "name"):
                names = [one["metadata"]["name"] for one in self._objects(kind, [])]
                return _output(name) if name in names else _failed(f'{kind} "{name}" not found')
            case ("create", "--dry-run=server", "-f", "-", "-o", "name"):
                assert body is not None
                return _failed(self.refused[body["kind"]]) if body["kind"] in self.refused else _output("made")
            case ("get", kind, *rest):
                chosen = [one for one in self._objects(kind, rest) if _selected(one, rest)]
                return _output(json.dumps({"items": chosen}))
            case ("annotate", "--overwrite", target, change):
                self._annotate(target, change)
                return _output("")
            case ("auth", "can-i", verb, resource, impersonation):
                assert impersonation.startswith("--as=system:serviceaccount:")
                return _output("no" if (verb, resource) in self.denied else "yes")
            case ("create", "-f", "-", "-o", "json"):
                assert body is not None
                return _output(json.dumps({**body, "metadata": {"creationTimestamp": self.server.now}}))
        raise AssertionError(f"this fake kubectl has no command {arguments}")

    @contextlib.contextmanager
    def forward(self, target: str, port: int) -> Iterator[str]:
        yield f"127.0.0.1:{port}"

    def fetch_metrics(self, target: str, port: int) -> str:
        if target not in self.exposed:
            raise CommandError(f"No metrics at {target}:{port}")
        return self.exposed[target]

    def show(self, *arguments: str) -> int:
        self.shown.append(arguments)
        return 0

    def _objects(self, kind: str, rest: list[str]) -> list[Object]:
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


def _output(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess((), 0, text, "")


def _failed(message: str) -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess((), 1, "", message)


def _selected(body: Object, rest: list[str]) -> bool:
    """Whether an object matches the label selector after `-l`, of equalities and inequalities."""
    if "-l" not in rest:
        return True
    labels = body["metadata"].get("labels", {})
    for term in rest[rest.index("-l") + 1].split(","):
        key, _, value = term.partition("!=" if "!=" in term else "=")
        if (labels.get(key) == value) == ("!=" in term):
            return False
    return True
