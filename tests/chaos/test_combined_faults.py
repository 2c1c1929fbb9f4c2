"""One round of the chaos harness (testing/chaos); `make chaos` plays more of them."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from testing.servers.programs import ROOT

ROUND_MINUTES = 6


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_combined_faults_lose_double_and_delay_no_job(tmp_path: Path) -> None:
    """Each job ends once, and each part works again within 20 s after every peer fell silent."""
    command = [sys.executable, "-m", "testing.chaos", "--minutes", str(ROUND_MINUTES), "--keep", str(tmp_path)]
    seed = str(random.randrange(10**6))
    ended = subprocess.run([*command, "--seed", seed], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
