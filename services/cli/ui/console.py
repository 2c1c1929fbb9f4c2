"""The screen: progress bars and colour on a terminal, plain lines in a pipe.

Results go to standard output, errors to standard error. Text from a service is never read as markup.
"""

import contextlib
import io
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, JustifyMethod
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.prompt import Prompt
from rich.segment import SegmentLines
from rich.table import Table
from rich.text import Text

from crease.jobs.v1.job_pb2 import Job
from services.rules import stages
from services.rules.printable import PLAIN_ERRORS, replace_unprintable

# A pipe has no width; rich would assume 80 and break lines.
PIPE_WIDTH = 1000
# Of a table's line: more than any that is printed has.
MOST_CHARACTERS = 1_000_000
# Of a column that is folded, in characters.
NARROWEST_COLUMN = 10
OUT = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
ERR = Console(highlight=False, markup=False, stderr=True, width=None if sys.stderr.isatty() else PIPE_WIDTH)


def accept_any_encoding() -> None:
    """Lets both streams write every text: in ASCII a sign that it lacks becomes its words."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=PLAIN_ERRORS)


def can_ask() -> bool:
    """Whether a person sits at both ends: the question and the answer."""
    return sys.stdin.isatty() and OUT.is_terminal


def ask(question: str, choices: Sequence[str]) -> str:
    """Asks until the answer is one of the choices."""
    return Prompt.ask(question, console=OUT, choices=list(choices), case_sensitive=False)


def print_line(text: str | Text = "", style: str = "", *, whole: bool = False) -> None:
    """Prints a sentence. `whole`: on one line, to be copied. Ignores a closed reader. Raises OSError: a full disk."""
    shown = text.copy() if isinstance(text, Text) else Text(text)
    shown.plain = replace_unprintable(shown.plain)
    with contextlib.suppress(BrokenPipeError):
        OUT.print(shown, style=style, soft_wrap=whole)


def print_table(
    titles: Sequence[str], rows: Sequence[Sequence[str]], *, folded: Collection[str] = (), numbers: bool = False
) -> None:
    """Prints a table. In a terminal that is too narrow for it, each row is a paragraph: nothing is cut.

    folded: the titles of columns whose text may continue on the next line.
    numbers: the columns behind the first one are numbers.
    """
    printable = [[replace_unprintable(cell) for cell in row] for row in rows]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for place, title in enumerate(titles):
        justify: JustifyMethod = "right" if numbers and place else "left"
        table.add_column(title, no_wrap=title not in folded, overflow="fold", justify=justify)
    for row in printable:
        table.add_row(*row)
    with contextlib.suppress(BrokenPipeError):
        if not OUT.is_terminal:
            lines = OUT.render_lines(table, OUT.options.update(width=max(_width(table), OUT.width)), pad=False)
            OUT.print(SegmentLines(lines, new_lines=True), end="", crop=False)
        elif _width(table, folded) <= OUT.width:
            OUT.print(table)
        else:
            for first, *others in printable:
                facts = [f"{title} {cell}".strip() for title, cell in zip(titles[1:], others, strict=True) if cell]
                OUT.print(Text(first, "bold"))
                OUT.print(Padding(Text(" · ".join(facts)), (0, 0, 0, 2)))


def _width(table: Table, folded: Collection[str] = ()) -> int:
    """The characters of a table's longest line, with each folded column at its narrowest."""
    options = OUT.options.update(max_width=MOST_CHARACTERS)
    narrow = [column for column in table.columns if column.header in folded]
    for column in narrow:
        column.max_width = NARROWEST_COLUMN
    needed = OUT.measure(table, options=options).maximum
    for column in narrow:
        column.max_width = None
    return needed


def print_aside(text: str | Text) -> None:
    """Prints progress for a person, on one line; nothing in a pipe."""
    if OUT.is_terminal:
        print_line(text, whole=True)


def print_json(value: Mapping[str, Any]) -> None:
    """Prints one JSON object on standard output, in ASCII."""
    print(json.dumps(value, indent=2, sort_keys=True))  # noqa: T201 - a program reads it


@contextlib.contextmanager
def reserve_stdout(wanted: bool) -> Iterator[None]:
    """If `wanted`, text for people goes to standard error during the block."""
    global OUT
    before = OUT
    OUT = ERR if wanted else OUT
    try:
        yield
    finally:
        OUT = before


def print_error(sentence: str) -> None:
    """Prints an error on standard error, in a pipe one line per line of `sentence`."""
    with contextlib.suppress(OSError):
        for text in sentence.splitlines():
            shown = Text.assemble(("crease: ", "bold red"), replace_unprintable(text))
            ERR.print(shown, soft_wrap=not ERR.is_terminal)


def print_write_error(error: OSError) -> None:
    """Prints that a file or the output cannot be written, in one sentence."""
    print_error(f"{error.filename or 'The output'} cannot be used: {error.strerror or error}.")


def print_unexpected(exception: BaseException) -> None:
    """Prints an exception that no code expected: one sentence, and a traceback if CREASE_DEBUG=1."""
    if os.environ.get("CREASE_DEBUG") == "1":
        traceback.print_exception(exception, file=sys.stderr)
    message = f": {exception}" if str(exception) else ""
    print_error(
        f"Crease failed unexpectedly ({type(exception).__name__}{message}). Set CREASE_DEBUG=1 for a traceback."
    )


def print_program(name: str, sentence: str) -> None:
    """Prints the state of a program of the laptop."""
    style = "green" if sentence.endswith("ready") else "yellow"
    print_line(Text.assemble((f"{name:<12}", "bold"), (sentence, style)))


def print_check(name: str, detail: str, *, ok: bool, advice: str, made: bool = True) -> None:
    """Prints a check of `doctor`, with its advice if it is not ok."""
    outcome = (("ok    ", "green") if made else ("?     ", "yellow")) if ok else ("FAULT ", "bold red")
    print_line(Text.assemble((f"{name:<24}", "bold"), outcome, detail), whole=True)
    if not ok and advice:
        print_line(f"{'':<30}{advice}", whole=True)


def print_ready(folder: Path, jobs: str, upload: str, page: str = "", *, is_open: bool = False) -> None:
    """Prints that `crease up` is ready, and the next commands. is_open: to the devices of the network."""
    print_line()
    print_line("Crease is ready.", "bold green")
    if page:
        print_line(f"  page              {page}", whole=True)
        print_line("                    (signs one browser in, once; `crease open` prints another one)")
    if is_open:
        print_line("  open to           all devices in this network: the page, behind its sign-in,")
        print_line("                    and S3, for signed addresses. Nothing is encrypted:")
        print_line("                    use --lan only in a network that you trust.")
    print_line("  analyse a video   crease analyze VIDEO --discipline bowling   (in another terminal)")
    print_line(f"  for programs      jobs {jobs}, upload {upload}, token {folder}/tokens/coach", whole=True)
    print_line(f"  state and logs    {folder}", whole=True)
    print_line("  stop              Ctrl-C")


@contextlib.contextmanager
def show_progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar during the block; nothing in a pipe. Yields a function of the bytes done and all bytes."""
    remaining = TimeRemainingColumn(compact=True)
    columns = (TextColumn(f"{label:<10}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), remaining)
    with Progress(*columns, console=OUT, transient=True, disable=not OUT.is_terminal) as progress:
        task = progress.add_task(label, total=None)
        yield lambda done, all: progress.update(task, completed=done, total=all)


@contextlib.contextmanager
def show_stages() -> Iterator[Callable[[Job], None]]:
    """Shows a job's stages and progress during the block; in a pipe one line a stage. Yields a function of the job."""
    percentage = TextColumn("{task.percentage:>3.0f} %")
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), percentage, TimeElapsedColumn())
    started, last = time.monotonic(), ""
    with Progress(*columns, console=OUT, transient=True, disable=not OUT.is_terminal) as progress:
        task = progress.add_task("", total=100)

        def show(job: Job) -> None:
            nonlocal last
            if job.stage != last:
                last = job.stage
                if OUT.is_terminal:
                    print_line(Text.assemble((f"{time.monotonic() - started:6.1f} s  ", "dim"), describe_stage(job)))
                else:
                    print_line(f"{job.job_id}  {describe_stage(job)}", whole=True)
            progress.update(task, completed=job.progress_pct, description=describe_stage(job).capitalize())

        yield show


def describe_stage(job: Job) -> str:
    """A job's stage, for people."""
    return stages.describe(job.stage)


def describe_status(status: str) -> str:
    """A job's status, as the metrics spell it, for people: `quick_running` is `quick analysis`."""
    return stages.STAGES.get(status.upper().removesuffix("_RUNNING"), status.replace("_", " "))


def format_time(at: datetime) -> str:
    """A time in the zone of this machine, with the zone, to the second. A time without a zone is in UTC."""
    local = (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone()
    return f"{local:%Y-%m-%d %H:%M:%S %Z}"


def format_recorded(at: str) -> str:
    """`format_time` of a time as another program recorded it; any other text as it is."""
    try:
        return format_time(datetime.fromisoformat(at))
    except ValueError:
        return at


def print_report_path(path: Path) -> None:
    """Prints the path of a report."""
    print_line()
    print_line(Text.assemble("Report  ", (str(path), "bold")), whole=True)
