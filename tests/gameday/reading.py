"""Records what an operator reads during a fault, without the firing alerts and without the name of the fault.

# dashboard           each series of each panel by title and legend; series at 0 are left out
# crease status
# crease why JOB      for the newest job
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

# A job's history may be long; its last lines matter.
LAST_LINES = 20


def read(arena: Arena) -> str:
    """The current reading."""
    newest = arena.newest()
    lines = ["# dashboard", *_panels(arena)]
    lines += ["", COMMANDS, *_output(arena, status.show_status)]
    lines += [
        "",
        "# crease why JOB",
        *_output(arena, lambda services, place: explain.show_why(services, place, newest)),
    ]
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


def _output(arena: Arena, command: Callable[[Services, Runtime], None]) -> list[str]:
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
