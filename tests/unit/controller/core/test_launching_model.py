"""docs/launching.pml, the protocol as a model: SPIN looks at every interleaving of it."""

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
    pytest.mark.timeout(600),
    # Where CI is set these must run: without SPIN they fail there.
    pytest.mark.skipif(
        not (shutil.which("spin") and shutil.which("cc")) and not os.environ.get("CI"),
        reason="spin or cc is not installed: apt-get install spin gcc libc6-dev",
    ),
]


@dataclass(frozen=True)
class Checked:
    """What SPIN says: the claim that broke (empty: none) and how many states it has seen."""

    broken: str
    states: int


def check(folder: Path, *, of_model: list[str], of_checker: list[str], options: list[str]) -> Checked:
    """All of a model's states, or those up to the first that breaks a claim."""
    # SPIN's own preprocessor call takes no path with spaces, so it gets a bare name.
    shutil.copy(MODEL, folder / "launching.pml")
    run(folder, "spin", "-a", *of_model, "launching.pml")
    run(folder, "cc", "-w", "-O2", "-DMEMLIM=2048", *of_checker, "-o", "pan", "pan.c")
    said = run(folder, "./pan", "-E", f"-m{DEEPEST}", *options)
    assert "max search depth too small" not in said, said
    states = re.search(r"^ *([\d.e+]+) states, stored", said, re.MULTILINE)
    errors = re.search(r"errors: (\d+)", said)
    assert states, said
    assert errors, said
    broken = re.search(r"^pan:1: (.*) \(at depth", said, re.MULTILINE)
    # A search that was cut short has proved nothing; one is only cut short by what it found.
    assert ("Search not completed" in said) == (broken is not None) == (errors[1] != "0"), said
    return Checked(broken[1] if broken else "", int(float(states[1])))


def run(folder: Path, *command: str) -> str:
    """What a program says. Fails where it fails."""
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


def safety(folder: Path, *of_model: str) -> Checked:
    """Claims 1 to 5."""
    return check(folder, of_model=list(of_model), of_checker=["-DSAFETY", "-DNOCLAIM"], options=[])


# The kinds of fault as the model numbers them.
@pytest.mark.parametrize("kind", [1, 2, 3, 5], ids=["controller", "request", "pod", "hand"])
def test_one_fault_of_any_kind_at_any_moment_makes_no_second_result(tmp_path: Path, kind: int) -> None:
    checked = safety(tmp_path, "-DFAULTS=1", f"-DKIND={kind}", "-DGPU=1")
    assert checked.broken == ""
    assert checked.states > 200_000


def test_without_a_fault_no_launch_is_lost_whether_a_gpu_is_free_or_not(tmp_path: Path) -> None:
    checked = safety(tmp_path, "-DFAULTS=0")
    assert checked.broken == ""
    assert checked.states > 100_000


def test_no_job_is_left_that_no_one_will_ever_move(tmp_path: Path) -> None:
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
