"""What somebody reads who was woken and knows nothing: neither which alert fired nor what was broken goes into it.

# dashboard           each line of each panel by its title and its legend; a line that lies at 0 tells nothing
# crease status
# crease why JOB      of the job that was sent last
"""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from unittest import mock

from rich.console import Console

from scripts import dashboard
from services.cli.api.client import Services
from services.cli.commands import explain, options, status
from services.cli.errors import CommandError
from services.cli.runtime.interface import Runtime
from services.cli.ui import console
from tests.gameday.arena import Arena
from tests.gameday.signs import COMMANDS

# A job's log may be long; what was said last is what counts.
LAST_LINES = 20


def read(arena: Arena) -> str:
    """What is to be read now."""
    newest = arena.newest()
    lines = ["# dashboard", *_panels(arena)]
    lines += ["", COMMANDS, *_said(arena, status.show_status)]
    lines += ["", "# crease why JOB", *_said(arena, lambda services, place: explain.show_why(services, place, newest))]
    text = "\n".join(line.replace(newest, "JOB").replace(str(arena.here.folder), "STATE") for line in lines)
    return f"{text}\n"


def _panels(arena: Arena) -> Iterator[str]:
    for charts in dashboard.ROWS.values():
        for chart in charts:
            for legend, query in chart.queries:
                for labels, value in arena.prometheus.values(query):
                    name = re.sub(r"\{\{(\w+)\}\}", lambda found, of=labels: of.get(found[1], ""), legend)  # type: ignore[misc]
                    if chart.kind == "stat" or (value and math.isfinite(value)):
                        yield f"{chart.title} {name}".strip() + f": {value:.3g}"


def _said(arena: Arena, command: Callable[[Services, Runtime], None]) -> list[str]:
    with _screen() as screen:
        try:
            with options.connect_as_operator(arena.here.folder) as services:
                command(services, arena.place)
        except CommandError as error:
            screen.write(error.sentence)
    return [line.rstrip() for line in screen.getvalue().splitlines()][-LAST_LINES:]


@contextmanager
def _screen() -> Iterator[StringIO]:
    out = StringIO()
    with mock.patch.object(console, "OUT", Console(file=out, highlight=False, markup=False, width=console.PIPE_WIDTH)):
        yield out
