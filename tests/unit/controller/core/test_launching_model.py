"""docs/launching.pml, the model of the protocol: SPIN checks every interleaving."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

MODEL = Path(__file__).parents[4] / "docs" / "launching.pml"
DEEPEST = 1_000_000

pytestmark = [
    pytest.mark.slow,
    # With CI set, missing SPIN is a failure, not a skip.
    pytest.mark.skipif(
        not (shutil.which("spin") and shutil.which("cc")) and not os.environ.get("CI"),
        reason="spin or cc is not installed: apt-get install spin gcc libc6-dev",
    ),
]


@dataclass(frozen=True)
class Checked:
    """SPIN's result: the broken claim (empty: none) and the number of states."""

    broken: str
    states: int


def check(folder: Path, *, of_model: list[str], of_checker: list[str], options: list[str]) -> Checked:
    """Checks all states of the model, or those up to the first broken claim."""
    # SPIN calls its preprocessor without quoting, so the path must not contain spaces.
    shutil.copy(MODEL, folder / "launching.pml")
    run(folder, "spin", "-a", *of_model, "launching.pml")
    run(folder, "cc", "-w", "-O2", "-DMEMLIM=2048", *of_checker, "-o", "pan", "pan.c")
    output = run(folder, "./pan", "-E", f"-m{DEEPEST}", *options)
    assert "max search depth too small" not in output, output
    states = re.search(r"^ *([\d.e+]+) states, stored", output, re.MULTILINE)
    errors = re.search(r"errors: (\d+)", output)
    assert states, output
    assert errors, output
    broken = re.search(r"^pan:1: (.*) \(at depth", output, re.MULTILINE)
    # An incomplete search proves nothing, and only a broken claim may end a search early.
    assert ("Search not completed" in output) == (broken is not None) == (errors[1] != "0"), output
    return Checked(broken[1] if broken else "", int(float(states[1])))


def run(folder: Path, *command: str) -> str:
    """Runs a program and returns its output; fails the test if the program fails."""
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


def safety(folder: Path, *of_model: str) -> Checked:
    """Claims 1 to 5."""
    return check(folder, of_model=list(of_model), of_checker=["-DSAFETY", "-DNOCLAIM"], options=[])


# The numbers of the kinds of fault are the model's.
@pytest.mark.parametrize("kind", [1, 2, 3, 5], ids=["controller", "request", "pod", "hand"])
def test_one_fault_of_any_kind_at_any_moment_makes_no_second_result(tmp_path: Path, kind: int) -> None:
    checked = safety(tmp_path, "-DFAULTS=1", f"-DKIND={kind}", "-DGPU=1")
    assert checked.broken == ""
    assert checked.states > 200_000


def test_without_a_fault_no_launch_is_lost_whether_a_gpu_is_free_or_not(tmp_path: Path) -> None:
    checked = safety(tmp_path, "-DFAULTS=0")
    assert checked.broken == ""
    assert checked.states > 100_000


def test_every_job_comes_to_its_end(tmp_path: Path) -> None:
    checked = check(tmp_path, of_model=["-DFAULTS=0"], of_checker=["-DNFAIR=3"], options=["-a", "-f"])
    assert checked.broken == ""
    assert checked.states > 100_000


@pytest.mark.parametrize(
    ("mutation", "kind", "claim"),
    [
        ("NO_FENCE", 3, "author"),
        ("NAME_AGAIN", 4, "pod_no"),
        ("CONFIRM_FIRST", 1, "ending"),
    ],
)
def test_a_protocol_without_one_of_its_rules_breaks_a_claim(
    tmp_path: Path, mutation: str, kind: int, claim: str
) -> None:
    checked = safety(tmp_path, "-DFAULTS=1", f"-DKIND={kind}", "-DGPU=1", f"-D{mutation}")
    assert checked.broken.startswith("assertion violated")
    assert claim in checked.broken
