"""What the user sees: plain lines where a program reads them, bars and colour where a person does.

Results go to standard output, troubles to standard error. Nothing from a service is taken for markup.
"""

import contextlib
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from crease.jobs.v1.job_pb2 import (
    JOB_STATUS_DONE,
    JOB_STATUS_FAILED,
    STAGE_QUICK,
    CompareJobsResponse,
    Job,
    MetricChange,
)

# A pipe has no width; rich would take 80 and break lines in the middle.
PIPE_WIDTH = 1000
OUT = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
ERR = Console(highlight=False, markup=False, stderr=True, width=None if sys.stderr.isatty() else PIPE_WIDTH)

STAGES = {
    "AWAITING_UPLOAD": "waiting for its video",
    "QUEUED": "queued",
    "QUICK": "quick analysis",
    "QUICK_DONE": "quick result is in",
    "DEEP_QUEUED": "queued for the deep analysis",
    "DEEP": "deep analysis",
    "DONE": "done",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
}
# The words of report.html.
METRICS = {
    "head_stability_score": "Head stability",
    "balance_drift_score": "Balance",
    "front_knee_brace_score": "Front knee",
    "hip_shoulder_separation_timing": "Hip-shoulder timing",
    "elbow_drop_score": "Elbow height",
}
LEVELS = {"high": "bold green", "medium": "bold yellow", "low": "bold red"}
SEVERITIES = {"high": "red", "medium": "yellow", "low": "cyan"}
MOST_ISSUES = 3
# Control characters other than a line's end, and those that change the direction of writing.
UNSEEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def line(text: str | Text = "", style: str = "", *, whole: bool = False) -> None:
    """A sentence, wrapped between words; `whole`: not wrapped, to be copied. A reader that went away stops nothing."""
    shown = text.copy() if isinstance(text, Text) else Text(text)
    shown.plain = clean(shown.plain)
    with contextlib.suppress(OSError):
        OUT.print(shown, style=style, soft_wrap=whole)


def aside(text: str | Text) -> None:
    """How something goes, for a person who looks on; nothing in a pipe."""
    if OUT.is_terminal:
        line(text)


def clean(text: str) -> str:
    """The same text, as long, without what would command a terminal or turn its writing round."""
    return UNSEEN.sub("\N{REPLACEMENT CHARACTER}", text)


def as_json(value: Mapping[str, Any]) -> None:
    """One JSON object on standard output, in ASCII, whatever else is shown."""
    print(json.dumps(value, indent=2, sort_keys=True))  # noqa: T201 - it is read by a program


@contextlib.contextmanager
def only_json(wanted: bool) -> Iterator[None]:
    """While the block runs all that is for a person goes to standard error, if `wanted`."""
    global OUT
    before = OUT
    OUT = ERR if wanted else OUT
    try:
        yield
    finally:
        OUT = before


def trouble(sentence: str) -> None:
    """What went wrong, on standard error."""
    with contextlib.suppress(OSError):
        for part in sentence.splitlines():
            ERR.print(Text.assemble(("crease: ", "bold red"), clean(part)), soft_wrap=True)


def surprise(error: BaseException) -> None:
    """A fault of our own: one sentence, and the traceback only for who asks."""
    if os.environ.get("CREASE_DEBUG") == "1":
        traceback.print_exception(error, file=sys.stderr)
    said = f": {error}" if str(error) else ""
    trouble(f"Something broke that should not ({type(error).__name__}{said}). CREASE_DEBUG=1 shows where.")


def part(name: str, sentence: str) -> None:
    """What became of a part of the laptop."""
    style = "green" if sentence.endswith("ready") else "yellow"
    line(Text.assemble((f"{name:<12}", "bold"), (sentence, style)))


def check(what: str, words: str, *, well: bool, advice: str) -> None:
    """What `doctor` found, and what to do about it."""
    line(
        Text.assemble((f"{what:<24}", "bold"), ("ok    ", "green") if well else ("FAULT ", "bold red"), words),
        whole=True,
    )
    if not well and advice:
        line(f"{'':<30}{advice}", whole=True)


def ready(folder: Path) -> None:
    """Everything answers."""
    line()
    line("Crease is ready.", "bold green")
    line("  analyse a video   crease analyze VIDEO   (in another terminal)")
    line(f"  state and logs    {folder}", whole=True)
    line("  end it            Ctrl-C")


@contextlib.contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar of bytes, which disappears when it is full; nothing in a pipe. The block calls it with done and all."""
    left = TimeRemainingColumn(compact=True)
    columns = (TextColumn(f"{what:<10}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), left)
    with Progress(*columns, console=OUT, transient=True, disable=not OUT.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, all: progress.update(task, completed=done, total=all)


@contextlib.contextmanager
def stages() -> Iterator[Callable[[Job], None]]:
    """Shows a person a job's stages, each once as a line, and how far it is; nothing in a pipe."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    began, last = time.monotonic(), ""
    with Progress(*columns, console=OUT, transient=True, disable=not OUT.is_terminal) as progress:
        task = progress.add_task("", total=100)

        def shown(job: Job) -> None:
            nonlocal last
            if job.stage != last:
                last = job.stage
                aside(Text.assemble((f"{time.monotonic() - began:6.1f} s  ", "dim"), stage_words(job)))
            progress.update(task, completed=job.progress_pct, description=stage_words(job).capitalize())

        yield shown


def stage_words(job: Job) -> str:
    """Where a job stands, in words."""
    return STAGES.get(job.stage, job.stage.lower() or "unknown")


def results(job: Job) -> None:
    """The findings of a job, its numbers, and what could not be measured."""
    found: dict[str, Any] = json_format.MessageToDict(job.results)
    findings, report = found.get("findings", {}), found.get("report", {})
    line()
    if job.status != JOB_STATUS_DONE or job.results_stage == STAGE_QUICK:
        line(f"Provisional: only the quick analysis is in ({stage_words(job)}).", "yellow")
    _level(findings, report)
    _issues(findings.get("findings", [])[:MOST_ISSUES])
    errors = found.get("pose", {}).get("pose_summary", {}).get("errors", {})
    _numbers(found.get("metrics", {}), errors)


def _level(findings: Mapping[str, Any], report: Mapping[str, Any]) -> None:
    level = str(findings.get("overall_level", "unknown"))
    line(Text.assemble("Overall level  ", (level, LEVELS.get(level, "bold")), " (high is good)"))
    for sentence in (report.get("summary"), report.get("reliability_warning")):
        if sentence:
            line(str(sentence))


def _issues(issues: Sequence[Mapping[str, Any]]) -> None:
    for number, issue in enumerate(issues, start=1):
        severity = str(issue.get("severity", ""))
        title = f"{number}. {issue.get('title') or issue.get('code', '')}"
        line()
        line(
            Text.assemble(
                (title, "bold"), "  ", (severity, SEVERITIES.get(severity, "")), _number(issue), _moment(issue)
            )
        )
        for cue in issue.get("cues", [])[:1]:
            line(f"   {cue}")


def _number(issue: Mapping[str, Any]) -> str:
    return "" if issue.get("value") is None else f"  {quantity(issue)}"


def _moment(issue: Mapping[str, Any]) -> str:
    seconds = issue.get("time_seconds")
    return "" if seconds is None else f"  at {seconds:.1f} s"


def _numbers(metrics: Mapping[str, Mapping[str, Any]], errors: Mapping[str, float | None]) -> None:
    # A Struct keeps no order.
    names = sorted(metrics, key=lambda name: (list(METRICS).index(name) if name in METRICS else len(METRICS), name))
    measured = {name: metrics[name] for name in names if not metrics[name].get("absent_reason")}
    line()
    if measured:
        table = Table("Measured", "", "Score 0-1", "Confidence", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for column in table.columns[1:]:
            column.justify = "right"
        for name, metric in measured.items():
            value = quantity(metric, errors.get(name))
            table.add_row(clean(metric_words(name)), value, f"{metric['score']:.2f}", f"{metric['confidence']:.2f}")
        OUT.print(table)
    for name in names:
        if name not in measured:
            line(Text(f"Not measured: {metric_words(name).lower()}: {metrics[name]['absent_reason']}.", "dim"))


def metric_words(name: str) -> str:
    """A metric's name for people."""
    return METRICS.get(name, name.replace("_", " ").capitalize())


def quantity(metric: Mapping[str, Any], error: float | None = None) -> str:
    """A value with its unit, and its error where that is known, in as many digits as it deserves."""
    value, unit = metric["value"], str(metric.get("unit", ""))
    digits = {"deg": 0, "percent of frames": 0}.get(unit, 2)
    scatter = f" ± {error:.{digits}f}" if error else ""
    return clean(f"{value:.{digits}f}{scatter} {unit}").strip()


def jobs(listed: Sequence[Job]) -> None:
    """One line a job, newest first."""
    if not listed:
        line("No job yet: `crease analyze VIDEO` makes one.")
        return
    table = Table("Job", "Created", "State", "", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in table.columns[:3]:
        column.no_wrap = True
    for job in listed:
        created = job.created_at.ToDatetime().astimezone() if job.HasField("created_at") else None
        table.add_row(
            job.job_id, f"{created:%d %b %H:%M}" if created else "", clean(stage_words(job)), clean(_note(job))
        )
    OUT.print(table)


def _note(job: Job) -> str:
    if job.status == JOB_STATUS_FAILED:
        # The sentence is for `crease report`.
        return job.failure_code
    return "" if job.status == JOB_STATUS_DONE else f"{job.progress_pct} %"


def report(path: Path) -> None:
    """Where the report is."""
    line()
    line(Text.assemble("Report  ", (str(path), "bold")), whole=True)


def changes(compared: CompareJobsResponse, words: Callable[[MetricChange], tuple[str, str]]) -> None:
    """A line for each number that can be compared, the clear changes marked; then what to mind."""
    for metric in compared.metrics:
        kind, sentence = words(metric.overall)
        if kind != "unknown":
            style = "bold" if kind == "clear" else "dim"
            line(Text.assemble((f"{metric_words(metric.name):<28}", "bold"), (sentence, style)))
    for caveat in compared.caveats:
        line(f"Mind: {caveat}.", "yellow")
