"""`crease` as typed: exit codes and sentences, and no traceback without CREASE_DEBUG."""

from pathlib import Path

import pytest

from services.cli import __main__ as command
from services.cli.api import endpoints, video_file
from services.cli.ui import console


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
