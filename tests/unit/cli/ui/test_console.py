"""The lines that the user reads of a result."""

import io
import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from rich.console import Console

from crease.jobs.v1.job_pb2 import (
    JOB_STATUS_DEEP_RUNNING,
    JOB_STATUS_DONE,
    JOB_STATUS_FAILED,
    JOB_STATUS_QUICK_DONE,
    STAGE_DEEP,
    STAGE_QUICK,
    Job,
    JobStatus,
)
from crease.jobs.v1.library_pb2 import JobEntry
from crease.jobs.v1.session_pb2 import Session
from services.cli.commands.library import listing
from services.cli.ui import console, job_results
from services.rules import printable
from services.rules.options import Correction

RESULTS: dict[str, Any] = {
    "metrics": {
        "head_stability_score": {"value": 0.1257, "unit": "body lengths", "score": 0.64, "confidence": 0.89},
        "front_knee_brace_score": {"value": 133.51, "unit": "deg", "score": 0.61, "confidence": 0.9},
        "elbow_drop_score": {
            "value": None,
            "score": None,
            "unit": "body lengths",
            "confidence": 0,
            "absent_reason": "x",
        },
    },
    "findings": {
        "overall_level": "medium",
        "findings": [
            {
                "code": "KNEE_COLLAPSE",
                "severity": "medium",
                "title": f"Fault number {number}",
                "why": "It leaks [power].",
                "cues": ["Push the [ground] away"],
                "time_seconds": 1.38,
            }
            for number in range(1, 5)
        ],
    },
    "report": {"summary": "Batting: 1 action measured.", "reliability_warning": None},
}


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """The output, as a pipe gets it."""
    out = io.StringIO()
    monkeypatch.setattr(console, "OUT", Console(file=out, highlight=False, markup=False, width=console.PIPE_WIDTH))
    return out


def job(**fields: Any) -> Job:
    made = Job(job_id="j-1", status=JOB_STATUS_DONE, stage="DONE", progress_pct=100)
    json_format.ParseDict(RESULTS, made.results)
    made.MergeFrom(Job(**fields))
    return made


def test_a_result_names_its_level_its_three_worst_findings_and_its_numbers(screen: io.StringIO) -> None:
    """Numbers have their units; the findings are in order, and a fourth one is omitted."""
    job_results.print_results(job())
    text = screen.getvalue()
    assert "Overall level  medium" in text
    assert "0.13 body lengths" in text
    assert "134°" in text
    assert text.index("Fault number 1") < text.index("Fault number 2") < text.index("Fault number 3")
    assert "Fault number 4" not in text
    assert "at 1.4 s" in text


def test_a_result_that_is_not_assessed_has_no_level(screen: io.StringIO) -> None:
    """Its summary says why."""
    results = json.loads(json.dumps(RESULTS))
    reason = "no action found: the hands never move fast"
    results["findings"] = {"overall_level": None, "not_assessed_reason": reason, "findings": []}
    results["report"]["summary"] = f"Not assessed: {reason}. Film one whole stroke."
    unassessed = Job(job_id="j-1", status=JOB_STATUS_DONE, stage="DONE", progress_pct=100)
    json_format.ParseDict(results, unassessed.results)
    job_results.print_results(unassessed)
    assert "Overall level  not assessed" in screen.getvalue()
    assert reason in " ".join(screen.getvalue().split())


def test_a_view_that_the_film_contradicts_is_said(screen: io.StringIO) -> None:
    """As the analyzer words it."""
    sentence = "The film was sent as filmed from the side, but it looks filmed along the pitch, and is measured so."
    results = json.loads(json.dumps(RESULTS))
    results.setdefault("pose", {}).setdefault("pose_summary", {})["view_contradiction"] = sentence
    contradicted = Job(job_id="j-1", status=JOB_STATUS_DONE, stage="DONE", progress_pct=100)
    json_format.ParseDict(results, contradicted.results)
    job_results.print_results(contradicted)
    assert sentence in " ".join(screen.getvalue().split())


@pytest.mark.parametrize("correction", Correction)
def test_a_remedy_of_the_page_has_its_command(screen: io.StringIO, correction: Correction) -> None:
    """The summary names a control of the page; the terminal names the option that does the same."""
    results = json.loads(json.dumps(RESULTS))
    results["report"]["summary"] = f"Not assessed: it is unclear. Say it: {correction.place}."
    unclear = Job(job_id="j-1", status=JOB_STATUS_DONE, stage="DONE", progress_pct=100)
    json_format.ParseDict(results, unclear.results)
    job_results.print_results(unclear)
    assert f"crease reanalyze j-1 {correction.option}" in " ".join(screen.getvalue().split())


def test_each_person_who_may_be_the_player_has_a_command(screen: io.StringIO) -> None:
    """The page shows them with buttons."""
    results = json.loads(json.dumps(RESULTS))
    people = {"candidates": [[0.5, 0.3, 0.2, 0.5], [0.1, 0.2, 0.25, 0.6]]}
    results.setdefault("pose", {}).setdefault("pose_summary", {})["athlete"] = people
    asked = Job(job_id="j-1", status=JOB_STATUS_DONE, stage="DONE", progress_pct=100)
    json_format.ParseDict(results, asked.results)
    job_results.print_results(asked)
    assert "Person 2: crease reanalyze j-1 --athlete-box 0.10,0.20,0.25,0.60" in " ".join(screen.getvalue().split())


def test_an_absent_metric_has_its_reason(screen: io.StringIO) -> None:
    """The reason stands in place of the number."""
    job_results.print_results(job())
    assert "Not measured: elbow: x." in screen.getvalue()


def test_text_from_a_service_is_never_markup(screen: io.StringIO) -> None:
    """Brackets in a sentence stay brackets."""
    job_results.print_results(job())
    assert "Push the [ground] away" in screen.getvalue()


def test_a_quick_result_is_called_provisional(screen: io.StringIO) -> None:
    """The user does not mistake the first 30 seconds for the whole video."""
    job_results.print_results(job(status=JOB_STATUS_QUICK_DONE, stage="QUICK_DONE", results_stage=STAGE_QUICK))
    assert "Provisional" in screen.getvalue()


def test_a_deep_result_whose_film_is_not_made_yet_is_not_provisional(screen: io.StringIO) -> None:
    """Its numbers are final."""
    job_results.print_results(job(status=JOB_STATUS_DEEP_RUNNING, stage="DEEP", results_stage=STAGE_DEEP))
    assert "Provisional" not in screen.getvalue()


def test_a_pipe_gets_one_line_a_stage_with_the_job_s_id(screen: io.StringIO) -> None:
    """No progress bar and no escape sequence."""
    with console.show_progress("Reading") as progress:
        progress(1, 2)
    with console.show_stages() as shown:
        for stage, percent in (("QUEUED", 0), ("QUICK", 10), ("QUICK", 40), ("DONE", 100)):
            shown(Job(job_id="j-1", stage=stage, progress_pct=percent))
    console.print_aside("Video uploaded and queued for analysis.")
    assert screen.getvalue().splitlines() == ["j-1  queued", "j-1  quick analysis", "j-1  done"]


def test_an_id_is_whole_in_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal breaks a long line; nothing is cut or shortened."""
    out = io.StringIO()
    monkeypatch.setattr(console, "OUT", Console(file=out, highlight=False, markup=False, width=30, force_terminal=True))
    job_id = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"
    listed = job()
    listed.job_id = job_id
    listed.created_at.FromDatetime(datetime(2026, 1, 1, tzinfo=UTC))
    listing.print_jobs([JobEntry(job=listed)])
    console.print_aside(f"Video uploaded and queued for analysis (job {job_id}).")
    assert (out.getvalue().count(job_id), out.getvalue().count("3f2504e0")) == (1, 2)
    assert "\N{HORIZONTAL ELLIPSIS}" not in out.getvalue()


def test_a_table_too_wide_for_the_terminal_is_printed_as_paragraphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every word of a row stays with its title, within the width; a pipe gets the table."""
    row = ["3f2504e0", "Nets", "bowling", ""]
    for width, is_terminal, lines in (
        (24, True, ["3f2504e0", "  Title Nets ·", "  Discipline bowling"]),
        (60, True, None),
        (24, False, None),
    ):
        out = io.StringIO()
        screen = Console(file=out, highlight=False, markup=False, width=width, force_terminal=is_terminal)
        monkeypatch.setattr(console, "OUT", screen)
        console.print_table(("Job", "Title", "Discipline", "State"), [row])
        printed = [re.sub(r"\x1b[^m]*m", "", line).rstrip() for line in out.getvalue().splitlines()]
        if lines:
            assert printed == lines
        else:
            assert printed[0].split() == ["Job", "Title", "Discipline", "State"]
            assert printed[2].split() == ["3f2504e0", "Nets", "bowling"]


def test_a_folded_column_keeps_the_table_in_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long title takes more lines; the other columns stay beside it."""
    out = io.StringIO()
    screen = Console(file=out, highlight=False, markup=False, width=40, force_terminal=True)
    monkeypatch.setattr(console, "OUT", screen)
    console.print_table(("Job", "Title", "State"), [["3f2504e0", "Nets " * 12, "done"]], folded=("Title",))
    lines = re.sub(r"\x1b[^m]*m", "", out.getvalue()).splitlines()
    assert lines[0].split() == ["Job", "Title", "State"]
    assert lines[2].split()[0] == "3f2504e0"
    assert lines[2].split()[-1] == "done"
    assert max(map(len, lines)) <= 40
    assert out.getvalue().count("Nets") == 12


def test_a_running_stage_shows_the_time_that_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The percentage comes every few seconds; the clock beside it never stands still."""
    out = io.StringIO()
    screen = Console(file=out, highlight=False, markup=False, width=100, force_terminal=True)
    monkeypatch.setattr(console, "OUT", screen)
    clock = iter(float(second) for second in range(10_000))
    monkeypatch.setattr(screen, "get_time", lambda: next(clock))
    with console.show_stages() as shown:
        shown(Job(job_id="j-1", stage="QUICK", progress_pct=10))
    times = set(re.findall(r"\d:\d\d:\d\d", out.getvalue()))
    assert len(times) >= 2


@pytest.mark.parametrize(
    ("zone", "shown"), [("UTC", "2026-01-01 20:00:00 UTC"), ("Asia/Kolkata", "2026-01-02 01:30:00 IST")]
)
def test_times_are_in_the_zone_of_the_reader(zone: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times of the services have no zone and are UTC; those of the runtime carry theirs."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert console.format_time(datetime(2026, 1, 1, 20)) == shown
        assert console.format_recorded("2026-01-01T20:00:00Z") == shown
        assert console.format_recorded("t1") == "t1"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_every_status_is_in_words() -> None:
    """As `crease status` shows them."""
    names = [name.removeprefix("JOB_STATUS_").lower() for name in JobStatus.keys()]  # noqa: SIM118
    words = [console.describe_status(name) for name in names]
    assert len(set(words)) == len(words) > 8
    assert not any("_" in word for word in words)


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m<script>\u202e\u2066RTL \u05e9\u05dc\u05d5\u05dd \U0001f3cf" + "x" * 5000


@pytest.mark.parametrize("terminal", [True, False])
def test_text_from_a_service_cannot_control_the_terminal(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    """Escape sequences, bells and direction marks are replaced; all other characters stay."""
    output, errors = io.StringIO(), io.StringIO()
    for name, file in (("OUT", output), ("ERR", errors)):
        replacement = Console(file=file, highlight=False, markup=False, width=200, force_terminal=terminal)
        monkeypatch.setattr(console, name, replacement)
    results = json.loads(json.dumps(RESULTS))
    results["metrics"]["elbow_drop_score"]["absent_reason"] = HOSTILE
    results["metrics"]["front_knee_brace_score"]["unit"] = HOSTILE
    results["findings"] |= {"overall_level": HOSTILE}
    results["findings"]["findings"][0] |= {"title": HOSTILE, "severity": HOSTILE, "cues": [HOSTILE]}
    results["report"] |= {"summary": HOSTILE}
    made = Job(job_id="j", status=JOB_STATUS_FAILED, stage=HOSTILE, failure_code=HOSTILE)
    json_format.ParseDict(results, made.results)
    job_results.print_results(made)
    listing.print_jobs([JobEntry(job=made, session=Session(title=HOSTILE, player_ids=[HOSTILE]))])
    console.print_report_path(Path(HOSTILE))
    console.print_error(HOSTILE)
    for text in (output.getvalue(), errors.getvalue()):
        ours = re.sub(r"\x1b\[[0-9;]*m", "", text)
        assert "\x1b" not in ours
        assert not printable.UNPRINTABLE.search(ours)
        assert "<script>" in ours
        assert "\U0001f3cf" in ours


def test_json_is_one_object_in_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    """Text for people goes to standard error; the JSON keeps every character."""
    with console.reserve_stdout(True):
        console.print_line("for a person")
        console.print_json({"title": HOSTILE})
    out = capsys.readouterr().out
    assert json.loads(out) == {"title": HOSTILE}
    assert out.isascii()
    assert "\x1b" not in out


def test_a_job_is_one_line_however_long_its_error_is(screen: io.StringIO) -> None:
    """`crease jobs | grep CODE` finds failures."""
    failed = Job(job_id="j-1", status=JOB_STATUS_FAILED, failure_code="NOT_A_VIDEO", error_message="too long " * 30)
    failed.created_at.FromDatetime(datetime(2026, 1, 1, tzinfo=UTC))
    listing.print_jobs([JobEntry(job=failed), JobEntry(job=job())])
    assert [line.split()[0] for line in screen.getvalue().splitlines() if line.startswith("j-1")] == ["j-1", "j-1"]
    assert "NOT_A_VIDEO" in screen.getvalue()
    assert "too long" not in screen.getvalue()
