"""The version is written once, in services/__init__.py, and everything that states a version states that one."""

import subprocess
import sys

import pytest
import yaml
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

from services import VERSION
from services.cli.__main__ import main
from testing.servers.programs import ROOT


def test_the_package_has_the_version() -> None:
    """hatchling reads it, so that a wheel carries it."""
    assert ProjectMetadata(str(ROOT), PluginManager()).version == VERSION


def test_the_chart_and_its_images_have_the_version() -> None:
    chart = yaml.safe_load((ROOT / "deploy" / "helm" / "crease" / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (VERSION, VERSION)


def test_images_are_built_and_labelled_with_the_version() -> None:
    """By the line of scripts/images that computes it."""
    script = (ROOT / "scripts" / "images").read_text().splitlines()
    [line] = [line for line in script if line.startswith("version=")]
    [label] = [line for line in script if "org.opencontainers.image.version" in line]
    done = subprocess.run(
        ["bash", "-c", f"{line}; echo $version"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == VERSION
    assert "=$version" in label


def test_crease_states_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert (stopped.value.code, capsys.readouterr().out) == (0, f"crease {VERSION}\n")


def test_the_analyzer_states_the_version() -> None:
    command = [sys.executable, "-m", "services.analyzer", "--version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"crease {VERSION}\n"
