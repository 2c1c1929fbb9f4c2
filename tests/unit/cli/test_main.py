"""`crease` as typed: exit codes and sentences, and no traceback without CREASE_DEBUG."""

import argparse
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from services.cli import __main__ as command
from services.cli.api import endpoints, video_file
from services.cli.commands import analyze
from services.cli.errors import CommandError
from services.cli.ui import console
from testing.data.videos import BATTER, ROOT


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (["analyze", "nothing.mp4"], 2),
        (["analyze", __file__], 65),
        (["jobs"], 69),
        (["report", "some-job"], 69),
        (["demo", "nothing.mp4"], 2),
    ],
)
def test_a_mistake_is_one_sentence_and_an_exit_code(
    arguments: list[str],
    exit_code: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Standard output stays empty; standard error has one line that begins with `crease:`."""
    monkeypatch.chdir(tmp_path)
    for name in endpoints.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert command.main([*arguments, "--state", str(tmp_path / "state")]) == exit_code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("crease: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("fps", ["0", "31", "ten", "-1", "1.5"])
def test_a_sample_rate_out_of_range_is_rejected_before_a_call(fps: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Usage, with exit code 2."""
    with pytest.raises(SystemExit) as caught:
        command.main(["analyze", "x.mp4", "--sample-fps", fps])
    assert caught.value.code == 2
    assert "from 1 to 30" in capsys.readouterr().err


def test_an_unexpected_error_is_one_sentence_and_a_traceback_on_request(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """CREASE_DEBUG=1 prints the traceback."""

    def broken(*_: object) -> None:
        raise RuntimeError("no idea")

    monkeypatch.setattr(video_file, "check", broken)
    assert command.main(["analyze", "x.mp4"]) == 70
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("CREASE_DEBUG", "1")
    assert command.main(["analyze", "x.mp4"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_an_error_of_several_lines_is_printed_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    """`crease up` lists every missing prerequisite, not only the first one."""
    console.print_error("one\ntwo")
    assert capsys.readouterr().err == "crease: one\ncrease: two\n"


# Unbuffered, argparse ignores that its help cannot be written.
HIDDEN = (*endpoints.VARIABLES, "PYTHONUNBUFFERED")


def run(*arguments: str, **options: object) -> "subprocess.CompletedProcess[bytes]":
    """`crease` in a process of its own, without services in its environment."""
    environment = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    environment |= options.pop("environment", {})  # type: ignore[call-overload]
    command_line = (sys.executable, "-m", "services.cli", *arguments)
    return subprocess.run(command_line, cwd=ROOT, env=environment, check=False, **options)  # type: ignore[call-overload,no-any-return]


def test_a_full_disk_ends_in_one_sentence() -> None:
    """Standard output goes to /dev/full, which is always full."""
    with open("/dev/full", "wb") as full:
        ended = run("analyze", "--help", stdout=full, stderr=subprocess.PIPE)
    assert ended.returncode == 70
    assert ended.stderr.decode() == "crease: The output cannot be used: No space left on device.\n"


@pytest.mark.parametrize("command", [("--help",), ("compare", "--help"), ("analyze", str(BATTER))])
def test_ascii_output_is_written_whole(command: tuple[str, ...], tmp_path: Path) -> None:
    """PYTHONIOENCODING=ascii: each sign that ASCII lacks becomes its words, and nothing fails."""
    ended = run(
        *command, *(() if "--help" in command else ("--state", str(tmp_path))),
        environment={"PYTHONIOENCODING": "ascii"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert ended.returncode in (0, 2, 69)
    assert (ended.stdout + ended.stderr).isascii()
    assert b"failed unexpectedly" not in ended.stderr


@pytest.mark.parametrize(
    "arguments", [["jobs"], ["status"], ["up"], ["analyze", str(BATTER), "--discipline", "batting"]]
)
def test_a_state_folder_that_is_a_file_is_named(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One sentence with the path and the reason."""
    for name in endpoints.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "state"
    file.write_text("a file")
    assert command.main([*arguments, "--state", str(file)]) in (2, 70)
    err = capsys.readouterr().err
    assert err.startswith(f"crease: The state folder {file} cannot be used: ")
    assert err.count("\n") == 1


def test_a_discipline_is_stated_or_asked_for_and_never_assumed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a terminal its absence is one sentence that lists the disciplines; on one it is a question."""
    assert command.main(["analyze", str(BATTER), "--state", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err == (
        "crease: The discipline is missing: add --discipline with batting, bowling, wicketkeeping or fielding.\n"
    )
    ours, theirs = pty.openpty()
    asking = (
        "import argparse; from services.cli.commands import analyze; "
        "print('answer', analyze.stated_discipline(argparse.Namespace(discipline=None)))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", asking], cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs
    ) as asked:
        os.close(theirs)
        os.write(ours, b"football\nbowling\n")
        shown = b""
        while b"answer bowling" not in shown:
            shown += os.read(ours, 4096)
    os.close(ours)
    assert asked.returncode == 0
    assert shown.count(b"What does the film show?") == 2


def test_no_analysis_has_a_discipline_by_default() -> None:
    """Not even a call from another command."""
    with pytest.raises(TypeError):
        analyze.AnalysisOptions()  # type: ignore[call-arg]
    with pytest.raises(CommandError, match="--discipline"):
        analyze.stated_discipline(argparse.Namespace(discipline=None))
