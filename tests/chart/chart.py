"""Renders the chart with `helm template`. `python -m tests.chart.chart` writes the golden files."""

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "crease"
GOLDEN = Path(__file__).parent / "golden"
SIZES = sorted(file.name.removesuffix("-values.yaml") for file in (CHART / "ci").iterdir())
RELEASE, NAMESPACE = "crease", "nets"

Manifest = dict[str, Any]


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the helm of the virtual environment, without a cluster."""
    command = [str(Path(sys.executable).with_name("helm")), *arguments]
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "KUBECONFIG": os.devnull}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def values(size: str) -> str:
    return str(CHART / "ci" / f"{size}-values.yaml")


@cache
def text(size: str) -> str:
    """The rendered text of a size, with the random passwords of a trial masked."""
    rendered = helm("template", RELEASE, str(CHART), "--namespace", NAMESPACE, "--values", values(size))
    assert rendered.returncode == 0, rendered.stderr
    password = re.search(r"^  password: (\w+)$", rendered.stdout, re.MULTILINE)
    key = re.search(r"^  AWS_SECRET_ACCESS_KEY: (\w+)$", rendered.stdout, re.MULTILINE)
    masked = rendered.stdout
    for found, mask in ((password, "PASSWORD"), (key, "KEY")):
        masked = masked.replace(found[1], mask) if found else masked
    return masked


@cache
def manifests(size: str) -> list[Manifest]:
    return [manifest for manifest in yaml.load_all(text(size), yaml.CSafeLoader) if manifest]


def of_kind(size: str, kind: str) -> dict[str, Manifest]:
    """The manifests of a kind, by component."""
    found = (manifest for manifest in manifests(size) if manifest["kind"] == kind)
    return {one["metadata"]["labels"]["app.kubernetes.io/component"]: one for one in found}


def pods(size: str) -> dict[str, Manifest]:
    """The pod specs of the chart by component."""
    templated = of_kind(size, "Deployment") | of_kind(size, "Job")
    bare = {name: pod["spec"] for name, pod in of_kind(size, "Pod").items()}
    return {name: one["spec"]["template"]["spec"] for name, one in templated.items()} | bare


def main() -> None:
    for size in SIZES:
        (GOLDEN / f"{size}.yaml").write_text(text(size))


if __name__ == "__main__":
    main()
