"""Prints the results of a job, and the changes between jobs."""

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import json_format
from rich.text import Text

from crease.jobs.v1.job_pb2 import (
    STAGE_QUICK,
    CompareJobsResponse,
    Job,
    MetricReading,
)
from services.cli.ui.console import describe_stage, print_line, print_table
from services.comparison.changes import change_of, in_order
from services.rules import numbers
from services.rules.changes import Verdict, summarize
from services.rules.options import option_of
from services.rules.printable import replace_unprintable

LEVELS = {"high": "bold green", "medium": "bold yellow", "low": "bold red"}
SEVERITIES = {"high": "red", "medium": "yellow", "low": "cyan"}
VERDICTS = {
    Verdict.BETTER: "bold green",
    Verdict.WORSE: "bold red",
    Verdict.CHANGED: "bold",
    Verdict.NO_CLEAR_CHANGE: "",
    Verdict.NOT_COMPARABLE: "dim",
}
NAME_WIDTH = 24
MOST_ISSUES = 3
# Actions whose moments are printed.
MOST_CLAIMS = 8


def print_results(job: Job) -> None:
    """Prints the findings, the measured numbers and the reasons of the absent ones."""
    found: dict[str, Any] = json_format.MessageToDict(job.results)
    findings, report = found.get("findings", {}), found.get("report", {})
    print_line()
    if job.results_stage == STAGE_QUICK:
        print_line(f"Provisional: only the quick result is ready ({describe_stage(job)}).", "yellow")
    _print_level(findings, report)
    summary = found.get("pose", {}).get("pose_summary", {})
    if summary.get("view_contradiction"):
        print_line(str(summary["view_contradiction"]), "yellow")
    _print_corrections(job, str(report.get("summary", "")), summary)
    for repetition in summary.get("repetitions", [])[:MOST_CLAIMS]:
        if repetition.get("claim"):
            print_line(f"{repetition['claim']}.")
    _print_issues(findings.get("findings", [])[:MOST_ISSUES])
    _print_metrics(found.get("metrics", {}), summary.get("errors", {}))


def _print_corrections(job: Job, remedy: str, summary: Mapping[str, Any]) -> None:
    """Prints the commands that do what a remedy asks of a coach at the page."""
    people = summary.get("athlete", {}).get("candidates", [])
    for number, box in enumerate(people, start=1):
        sides = ",".join(f"{side:.2f}" for side in box)
        print_line(f"Person {number}: crease reanalyze {job.job_id} --athlete-box {sides}")
    if option := option_of(remedy):
        print_line(f"With the command line: crease reanalyze {job.job_id} {option}")


def _print_level(findings: Mapping[str, Any], report: Mapping[str, Any]) -> None:
    level = describe_level(findings)
    print_line(Text.assemble("Overall level  ", (level, LEVELS.get(level, "bold")), " (high is good)"))
    for sentence in (report.get("summary"), report.get("reliability_warning")):
        if sentence:
            print_line(str(sentence))


def describe_level(findings: Mapping[str, Any]) -> str:
    """The overall level of an analysis, or `not assessed`; `not known` for results without either."""
    if findings.get("not_assessed_reason"):
        return "not assessed"
    return str(findings.get("overall_level") or "not known")


def lower_first(text: str) -> str:
    """The text with a lower-case first letter."""
    return text[:1].lower() + text[1:]


def _print_issues(issues: Sequence[Mapping[str, Any]]) -> None:
    for number, issue in enumerate(issues, start=1):
        severity = str(issue.get("severity", ""))
        title = f"{number}. {issue.get('title') or issue.get('code', '')}"
        print_line()
        print_line(
            Text.assemble(
                (title, "bold"),
                "  ",
                (severity, SEVERITIES.get(severity, "")),
                _format_value(issue),
                _format_seconds(issue),
            )
        )
        for cue in issue.get("cues", [])[:1]:
            print_line(f"   {cue}")


def _format_value(issue: Mapping[str, Any]) -> str:
    return "" if issue.get("value") is None else f"  {format_quantity(issue)}"


def _format_seconds(issue: Mapping[str, Any]) -> str:
    seconds = issue.get("time_seconds")
    return "" if seconds is None else f"  at {seconds:.1f} s"


def _print_metrics(metrics: Mapping[str, Mapping[str, Any]], errors: Mapping[str, float | None]) -> None:
    # A protobuf Struct keeps no order.
    names = sorted(metrics)
    measured = {name: metrics[name] for name in names if not metrics[name].get("absent_reason")}
    print_line()
    if measured:
        rows = [
            [
                numbers.label(name),
                format_quantity(metric, errors.get(name)),
                f"{metric['score']:.2f}",
                f"{metric['confidence']:.2f}",
            ]
            for name, metric in measured.items()
        ]
        print_table(("Measured", "", "Score 0-1", "Confidence"), rows, numbers=True)
    for name in names:
        if name not in measured:
            print_line(
                Text(f"Not measured: {lower_first(numbers.label(name))}: {metrics[name]['absent_reason']}.", "dim")
            )


def format_quantity(metric: Mapping[str, Any], error: float | None = None) -> str:
    """A value of results with its unit, and with its error if known."""
    return replace_unprintable(numbers.format_value(metric["value"], str(metric.get("unit", "")), error))


def print_changes(compared: CompareJobsResponse) -> None:
    """Prints what became of each number from the first analysis to the last, a summary, then the caveats."""
    metrics = in_order(compared.metrics)
    changes = [change_of(metric) for metric in metrics]
    count = max((len(metric.readings) for metric in compared.metrics), default=0)
    print_line(f"Analysis 1, the first, against analysis {count}, the last:")
    for verdict, style in VERDICTS.items():
        if said := summarize(changes, verdict):
            print_line(said, style)
    print_line()
    for metric, change in zip(metrics, changes, strict=True):
        if change.verdict is Verdict.NOT_COMPARABLE:
            continue
        first, last = (_format_reading(reading) for reading in (metric.readings[0], metric.readings[-1]))
        name = f"{replace_unprintable(numbers.label(change.name)):<{NAME_WIDTH}}"
        print_line(Text.assemble((name, "bold"), f"{first} to {last}. ", (change.sentence, VERDICTS[change.verdict])))
    for caveat in compared.caveats:
        print_line(f"Caveat: {caveat}.", "yellow")


def _format_reading(reading: MetricReading) -> str:
    """A reading with its unit."""
    return numbers.format_value(reading.value, reading.unit)
