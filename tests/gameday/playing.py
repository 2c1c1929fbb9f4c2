"""Runs one fault: inject, wait for its alerts, read, repair, wait until the alerts clear."""

import contextlib
import time

from tests.gameday.arena import Arena
from tests.gameday.faults import Fault
from tests.gameday.reading import read
from tests.gameday.signs import NOTHING, file_of, matching_lines, named

# The longest excerpt of a reading in the table.
MOST_CHARACTERS = 160


def play(arena: Arena, fault: Fault, *, keep: bool = False) -> str:
    """Runs the fault and returns its row of the table. `keep` stores the reading."""
    arena.mode("work")
    arena.until(lambda: arena.prometheus.scraped() and arena.all_done(), "all jobs to finish")
    arena.until(lambda: not arena.prometheus.firing(), "no firing alert")
    assert not arena.prometheus.broken(), arena.prometheus.broken()
    say(f"── {fault.name}")
    began = time.monotonic()
    with contextlib.closing(fault.begin(arena)) as steps:
        repair = next(steps)
        missing = {*fault.alerts}

        def fired() -> bool:
            missing.difference_update(arena.prometheus.firing())
            return not missing

        try:
            arena.until(fired, " and ".join(fault.alerts))
            fired_after = time.monotonic() - began
            firing = ", ".join(arena.prometheus.firing())
            say(f"   {', '.join(fault.alerts)} after {fired_after:.1f} s; firing: {firing}")
            evidence = read_until_named(arena, fault, keep=keep)
        finally:
            # Also after a failure: the next fault begins in a system that works.
            began = time.monotonic()
            repair.act()
            next(steps, None)
    arena.until(lambda: not {*fault.alerts} & {*arena.prometheus.firing()}, "the alerts to clear")
    after = time.monotonic() - began
    arena.until(arena.all_done, "every job to finish")
    say(f"   repaired: {repair.description}; cleared after {after:.1f} s")
    cells = (
        fault.name,
        ", ".join(fault.alerts),
        f"{fired_after:.0f} s",
        evidence,
        repair.description,
        f"{after:.0f} s",
    )
    return f"| {' | '.join(cells)} |\n"


def read_nothing(arena: Arena) -> None:
    """Stores the reading of a healthy system, which no row of the page may match."""
    arena.queued(2)
    arena.until(arena.all_done, "the first jobs to finish")
    arena.mode("hold")
    arena.queued(2)
    running = "SELECT count(*) FROM launches WHERE started_at IS NOT NULL AND ended_at IS NULL"
    arena.until(lambda: arena.sql(running) == [(2,)], "two running analyses")
    readings = [""]

    def is_whole() -> bool:
        readings[0] = read(arena)
        return "Queued: 0" in readings[0]

    arena.until(is_whole, "every metric to be scraped")
    assert not named(readings[0]), readings[0]
    NOTHING.write_text(readings[0])


def read_until_named(arena: Arena, fault: Fault, *, keep: bool) -> str:
    """Reads until the reading matches this fault alone; returns the matching lines."""
    readings = [""]

    def is_named() -> bool:
        readings[0] = read(arena)
        return named(readings[0]) == [fault.name]

    try:
        arena.until(is_named, "the reading to name the fault")
    except AssertionError:
        say(f"{readings[0]}\n   named: {named(readings[0])}")
        raise
    if keep:
        file_of(fault.name).write_text(readings[0])
    found = matching_lines(readings[0], fault.name)
    say("".join(f"   {line}\n" for line in found).rstrip())
    held = (" ".join(line.split())[:MOST_CHARACTERS] for line in found if not line.startswith("no "))
    return "; ".join(f"`{line.replace('`', chr(39))}`" for line in held).replace("|", "/")


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 (progress output)
