"""A worker that an untrusted file took over can do nothing but compute, read that file and answer its caller."""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from services.analyzer.sandbox import seccomp
from services.analyzer.sandbox.protocol import receive
from testing.data.clips import even, write_clip
from testing.data.videos import ROOT
from tests.unit.analyzer.sandbox.attacks import ATTACKS

ALLOWED = "read_the_video"
# 65532 is the user of the analyzer's pod. Only root can become another user.
USERS = (0, 65532) if os.geteuid() == 0 else (os.geteuid(),)
# No library of a decoder tries these, so the kernel ends the worker.
FATAL = {
    "become_a_program",
    "connect_to_the_loopback",
    "copy_the_caller_s_memory",
    "listen_on_the_loopback",
    "make_a_namespace",
    "trace_another_process",
    "use_io_uring",
}
# Only Landlock tells one file from another.
DENIED_BY_LANDLOCK_ALONE = {"read_another_file", "read_another_file_in_a_thread"}
HEADERS = {
    Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"): 0,
    Path("/usr/include/asm-generic/unistd.h"): 1,
}

_confinement = subprocess.run(
    [sys.executable, "-m", "services.analyzer.sandbox.confinement"], cwd=ROOT, capture_output=True, text=True
)
needs_confinement = pytest.mark.skipif(
    _confinement.returncode != 0, reason=f"this kernel lacks {_confinement.stderr.strip()}"
)


@cache
def outcomes(user: int, missing: str = "") -> dict[str, str]:
    """The outcome of each attack, all from workers of one caller."""
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)
        program = (sys.executable, "-m", "tests.unit.analyzer.sandbox.attacks")
        command = [*program, f"{parent}/attacked", str(user), missing]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(ran.stdout)
    return found


@needs_confinement
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("attack", sorted(ATTACKS.keys() - {ALLOWED}))
def test_a_worker_has_no_power_but_to_decode(attack: str, user: int) -> None:
    """The kernel denies each attack, as root too; a call that no decoder makes ends the worker."""
    denials = {"SIGSYS"} if attack in FATAL else {"EPERM", "EACCES", "ENOSYS"}
    assert outcomes(user)[attack] in denials


@needs_confinement
@pytest.mark.parametrize("user", USERS)
def test_a_worker_reads_its_video_and_leaves_its_caller_alone(user: int) -> None:
    """The file itself is readable, and the caller's memory unchanged after all attacks."""
    assert (outcomes(user)[ALLOWED], outcomes(user)["memory"]) == ("done", "of the caller")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has every power")
def test_each_attack_succeeds_in_a_worker_that_is_not_confined() -> None:
    """The attacks are real: without the confinement, root performs every one."""
    found = outcomes(0, "everything")
    assert {attack: found[attack] for attack in ATTACKS} == dict.fromkeys(ATTACKS, "done")


@needs_confinement
@pytest.mark.parametrize("user", USERS)
def test_a_kernel_without_landlock_denies_all_but_reading_files(user: int) -> None:
    """The caller's memory and environment stay closed too, because its processes are not dumpable."""
    found = outcomes(user, "Landlock")
    assert {attack for attack in ATTACKS if found[attack] == "done"} == {ALLOWED, *DENIED_BY_LANDLOCK_ALONE}


@needs_confinement
@pytest.mark.parametrize("user", USERS)
def test_a_kernel_without_seccomp_still_protects_files_and_processes(user: int) -> None:
    """Landlock denies files, TCP, tracing and signals; the limits hold."""
    found = outcomes(user, "seccomp")
    done = {attack for attack in ATTACKS if found[attack] == "done"}
    assert not done & {"list_a_folder", *DENIED_BY_LANDLOCK_ALONE, *(FATAL - {"make_a_namespace", "use_io_uring"})}


LACKING = """
import sys
from pathlib import Path
from services.analyzer.sandbox import client, confinement
from services.analyzer.settings import Limits
from services.analyzer.video.probe import probe
confinement.restrict_files = lambda libc, readable: False
client.fork_server()
for _ in range(2):
    print(probe(Path(sys.argv[1]), Limits.load()).codec)
"""


def _run_without_landlock(video: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", LACKING, str(video)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | settings)


@needs_confinement
def test_what_the_kernel_lacks_is_logged_once(tmp_path: Path) -> None:
    """One warning names it, however many videos are read; the analysis runs."""
    ran = _run_without_landlock(write_clip(tmp_path / "clip.mp4", even(30, 2)))
    assert ran.stdout.split() == ["h264", "h264"]
    assert re.findall("has no (.*):", ran.stderr) == ["Landlock"]


@needs_confinement
def test_a_setting_refuses_every_video_on_such_a_kernel(tmp_path: Path) -> None:
    """The fault names what is missing and the setting; it does not blame the file."""
    video = write_clip(tmp_path / "clip.mp4", even(30, 2))
    ran = _run_without_landlock(video, CREASE_REQUIRE_CONFINEMENT="true")
    assert ran.stdout == ""
    assert "Fault: Processing failed: the kernel of this machine has no Landlock" in ran.stderr
    assert "CREASE_REQUIRE_CONFINEMENT" in ran.stderr


def test_a_message_beyond_the_bound_is_not_received() -> None:
    """A worker announces a message of a gigabyte: its caller stops before it makes room for it."""
    ours, theirs = socket.socketpair()
    with theirs, Connection(ours.detach()) as worker:
        theirs.sendall((1 << 30).to_bytes(4, "big"))
        with pytest.raises(OSError, match="bad message length"):
            receive(worker)


@pytest.mark.parametrize(("header", "column"), HEADERS.items(), ids=("x86_64", "aarch64"))
def test_the_filter_has_the_kernel_s_numbers(header: Path, column: int) -> None:
    """Each call of the filter has the number that the kernel's headers give it on both architectures."""
    if not header.exists():
        pytest.skip(f"{header} is absent")
    defined = dict(re.findall(r"#define __NR(?:3264)?_(\w+) (\d+)", header.read_text()))
    numbers = {**seccomp.HOSTILE, **seccomp.NEEDED, "tgkill": seccomp.TGKILL}
    numbers |= {name: condition[0] for name, condition in seccomp.CONDITIONAL.items()}
    # The generic header calls it by its older name, and has no poll.
    expected = {name: defined.get(name) or defined.get(name.removeprefix("new")) for name in numbers}
    assert expected == {name: None if pair[column] is None else str(pair[column]) for name, pair in numbers.items()}
