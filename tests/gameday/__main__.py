"""`make gameday`: each fault in turn, which alert told of it and how soon, and whether its page's command repaired it.

Writes what happened into docs/operating.md. Fails where another alert fired, or none, or the repair repaired nothing.
"""

import contextlib
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.gameday.arena import Arena, arena
from tests.gameday.faults import FAULTS, PAGE, Fault
from tests.gameday.prometheus import FASTER

BEGIN, END = "<!-- written by make gameday -->", "<!-- until here -->"
HEAD = (
    "| fault | alert | it fired after | said by | and that says | repaired by | silent again after |\n"
    "|---|---|---|---|---|---|---|\n"
)


def main() -> None:
    named = sys.argv[1:]
    faults = [fault for fault in FAULTS if not named or fault.alert in named]
    with tempfile.TemporaryDirectory(prefix="crease-gameday-") as folder:
        Path(folder).chmod(0o711)
        with arena(Path(folder)) as made:
            rows = [play(made, fault) for fault in faults]
    if not named:
        write(rows)


def play(arena: Arena, fault: Fault) -> str:
    """Breaks it, waits for its alert, looks, repairs, waits for silence; a row of the table."""
    arena.mode("work")
    arena.until(lambda: arena.prometheus.scraped() and arena.all_done(), "rest")
    arena.until(lambda: not arena.prometheus.firing(), "silence before it")
    assert not arena.prometheus.broken(), arena.prometheus.broken()
    say(f"── {fault.what}")
    began = time.monotonic()
    with contextlib.closing(fault.begin(arena)) as steps:
        repair = next(steps)
        arena.until(lambda: fault.alert in arena.prometheus.firing(), fault.alert)
        fired = time.monotonic() - began
        say(f"   {fault.alert} after {fired:.1f} s: {arena.prometheus.firing()[fault.alert]}")
        asked, words = look(arena, fault)
        say(f"   {asked}: {words}")
        began = time.monotonic()
        repair.act()
        next(steps, None)
    arena.until(lambda: fault.alert not in arena.prometheus.firing(), "the repair")
    after = time.monotonic() - began
    arena.until(arena.all_done, "every job to rest")
    say(f"   repaired: {repair.words}; silent after {after:.1f} s")
    cells = (fault.what, fault.alert, f"{fired:.0f} s", asked, words.replace("|", "/"), repair.words, f"{after:.0f} s")
    return f"| {' | '.join(cells)} |\n"


def look(arena: Arena, fault: Fault) -> tuple[str, str]:
    """What an operator who knows nothing reads: the command, and its line that names the fault."""
    arguments = [fault.command, *([newest(arena)] if fault.command == "why" else [])]
    lines: list[str] = []

    def said() -> bool:
        lines[:] = [line for line in arena.crease(*arguments, ok=False).splitlines() if fault.words in line]
        return bool(lines)

    arena.until(said, f"`crease {fault.command}` to say {fault.words!r}")
    return f"`crease {fault.command}`", " ".join(lines[0].replace(str(arena.here.folder), "STATE").split())[:200]


def newest(arena: Arena) -> str:
    """The job that was sent last."""
    rows = arena.sql("SELECT id FROM video_analysis_jobs ORDER BY created_at DESC LIMIT 1")
    return str(rows[0][0])


def write(rows: list[str]) -> None:
    """Puts the table into its place on the page."""
    before, rest = PAGE.read_text().split(BEGIN)
    _, after = rest.split(END)
    how = (
        f"Played on {datetime.now(UTC):%d %B %Y}, on real programs, PostgreSQL, S3 and Prometheus of one machine; "
        f"analyses are stand-ins. Every duration and age in the rules is divided by {FASTER}: a second here is a "
        "minute there; the grace of 30 s before a ghost counts as one is not. *After* counts from the first step of the fault, or of the repair.\n\n"
    )
    PAGE.write_text(f"{before}{BEGIN}\n\n{how}{HEAD}{''.join(rows)}\n{END}{after}")


def say(words: str) -> None:
    print(words, flush=True)  # noqa: T201 (what happens is watched)


if __name__ == "__main__":
    main()
