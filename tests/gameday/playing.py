"""One fault, from its beginning to the silence after its repair."""

import contextlib
import time

from tests.gameday.arena import Arena
from tests.gameday.faults import Fault
from tests.gameday.reading import read
from tests.gameday.signs import NOTHING, evidence, file_of, named

# Of a line that was read, on the page.
MOST_CHARACTERS = 160


def play(arena: Arena, fault: Fault, *, keep: bool = False) -> str:
    """Breaks it, waits for its alerts, reads, repairs, waits for silence; a row of the table. `keep`: what was read."""
    arena.mode("work")
    arena.until(lambda: arena.prometheus.scraped() and arena.all_done(), "rest")
    arena.until(lambda: not arena.prometheus.firing(), "silence before it")
    assert not arena.prometheus.broken(), arena.prometheus.broken()
    say(f"── {fault.what}")
    began = time.monotonic()
    with contextlib.closing(fault.begin(arena)) as steps:
        repair = next(steps)
        missing = {*fault.alerts}

        def fired() -> bool:
            missing.difference_update(arena.prometheus.firing())
            return not missing

        arena.until(fired, " and ".join(fault.alerts))
        fired_after = time.monotonic() - began
        say(f"   {', '.join(fault.alerts)} after {fired_after:.1f} s; firing: {', '.join(arena.prometheus.firing())}")
        told = look(arena, fault, keep=keep)
        began = time.monotonic()
        repair.act()
        next(steps, None)
    arena.until(lambda: not {*fault.alerts} & {*arena.prometheus.firing()}, "the repair")
    after = time.monotonic() - began
    arena.until(arena.all_done, "every job to rest")
    say(f"   repaired: {repair.words}; silent after {after:.1f} s")
    cells = (fault.what, ", ".join(fault.alerts), f"{fired_after:.0f} s", told, repair.words, f"{after:.0f} s")
    return f"| {' | '.join(cells)} |\n"


def read_nothing(arena: Arena) -> None:
    """Keeps what is read of a system at work, which no row of the page may fit."""
    arena.queued(2)
    arena.until(arena.all_done, "the first jobs")
    arena.mode("hold")
    arena.queued(2)
    running = "SELECT count(*) FROM launches WHERE started_at IS NOT NULL AND ended_at IS NULL"
    arena.until(lambda: arena.sql(running) == [(2,)], "two at work")
    readings = [""]

    def is_whole() -> bool:
        readings[0] = read(arena)
        return "Queued: 0" in readings[0]

    arena.until(is_whole, "every number to be there")
    assert not named(readings[0]), readings[0]
    NOTHING.write_text(readings[0])


def look(arena: Arena, fault: Fault, *, keep: bool) -> str:
    """Reads until it fits this fault and no other; returns what was telling."""
    readings = [""]

    def is_named() -> bool:
        readings[0] = read(arena)
        return named(readings[0]) == [fault.what]

    try:
        arena.until(is_named, "what is read to name it")
    except AssertionError:
        say(f"{readings[0]}\n   named: {named(readings[0])}")
        raise
    if keep:
        file_of(fault.what).write_text(readings[0])
    found = evidence(readings[0], fault.what)
    say("".join(f"   {line}\n" for line in found).rstrip())
    held = (" ".join(line.split())[:MOST_CHARACTERS] for line in found if not line.startswith("no "))
    return "; ".join(f"`{line.replace('`', chr(39))}`" for line in held).replace("|", "/")


def say(words: str) -> None:
    print(words, flush=True)  # noqa: T201 (what happens is watched)
