"""What the user reads of a result."""

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf import json_format
from rich.console import Console

from crease.jobs.v1.job_pb2 import JOB_STATUS_DONE, JOB_STATUS_FAILED, JOB_STATUS_QUICK_DONE, STAGE_QUICK, Job
from services.cli import show

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
                "cues": ["Push the ground away"],
                "time_seconds": 1.38,
            }
            for number in range(1, 5)
        ],
    },
    "report": {"summary": "Batting: 1 action measured.", "reliability_warning": None},
}


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is printed, as a pipe would get it."""
    out = io.StringIO()
    monkeypatch.setattr(show, "OUT", Console(file=out, highlight=False, markup=False, width=show.PIPE_WIDTH))
    return out


def job(**fields: Any) -> Job:
    made = Job(job_id="j-1", status=JOB_STATUS_DONE, stage="DONE", progress_pct=100)
    json_format.ParseDict(RESULTS, made.results)
    made.MergeFrom(Job(**fields))
    return made


def test_a_result_names_its_level_its_three_worst_findings_and_its_numbers(screen: io.StringIO) -> None:
    """Numbers come with their units, findings in order, and no fourth one."""
    show.results(job())
    text = screen.getvalue()
    assert "Overall level  medium" in text
    assert "0.13 body lengths" in text
    assert "134 deg" in text
    assert text.index("Fault number 1") < text.index("Fault number 2") < text.index("Fault number 3")
    assert "Fault number 4" not in text
    assert "at 1.4 s" in text


def test_what_was_not_measured_says_why(screen: io.StringIO) -> None:
    """An absent number is named with its reason, never shown as a number."""
    show.results(job())
    assert "Not measured: elbow height: x." in screen.getvalue()


def test_words_from_a_service_are_never_markup(screen: io.StringIO) -> None:
    """Brackets in a sentence stay brackets."""
    show.results(job())
    assert "It leaks [power]." in screen.getvalue()


def test_a_quick_result_is_called_provisional(screen: io.StringIO) -> None:
    """Nobody takes the first 30 seconds for the whole video."""
    show.results(job(status=JOB_STATUS_QUICK_DONE, stage="QUICK_DONE", results_stage=STAGE_QUICK))
    assert "Provisional" in screen.getvalue()


def test_a_pipe_gets_plain_lines(screen: io.StringIO) -> None:
    """No bar, no spinner, no escape sequence where a program reads."""
    with show.bar("Reading") as progress:
        progress(1, 2)
    with show.stages() as shown:
        for stage, percent in (("QUEUED", 0), ("QUICK", 10), ("QUICK", 40), ("DONE", 100)):
            shown(Job(stage=stage, progress_pct=percent))
    lines = screen.getvalue().splitlines()
    assert [line.split(" s  ")[1] for line in lines] == ["queued", "quick analysis", "done"]
    assert "\x1b" not in screen.getvalue()


def test_a_job_is_one_line_however_long_its_error_is(screen: io.StringIO) -> None:
    """`crease jobs | grep` works, and finds failures by their code."""
    failed = Job(job_id="j-1", status=JOB_STATUS_FAILED, failure_code="NOT_A_VIDEO", error_message="too long " * 30)
    failed.created_at.FromDatetime(datetime(2026, 1, 1, tzinfo=UTC))
    show.jobs([failed, job()])
    assert [line.split()[0] for line in screen.getvalue().splitlines() if line.startswith("j-1")] == ["j-1", "j-1"]
    assert "NOT_A_VIDEO" in screen.getvalue()
    assert "too long" not in screen.getvalue()
