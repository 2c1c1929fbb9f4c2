"""Each program with only the packages of its own image."""

import json
import subprocess
import sys

import pytest

from testing.servers.programs import ROOT, foreign_to

# A module that is None in sys.modules cannot be imported.
IMPORT = """
import importlib, json, sys
sys.modules |= dict.fromkeys(json.loads(sys.argv[1]))
importlib.import_module(sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("group", "module"),
    [
        ("upload", "services.upload.__main__"),
        ("jobs", "services.jobs.__main__"),
        ("relay", "services.jobs.background.outbox_relay"),
        ("controller", "services.controller.__main__"),
        ("analyzer", "services.analyzer.__main__"),
        ("cli", "services.cli.__main__"),
        ("web", "services.web.__main__"),
    ],
)
def test_a_program_imports_nothing_that_its_image_lacks(group: str, module: str) -> None:
    """The test environment has all packages; without this test a foreign import would fail only in a pod."""
    foreign = foreign_to(group)
    assert len(foreign) > 20
    command = [sys.executable, "-c", IMPORT, json.dumps(foreign), module]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
