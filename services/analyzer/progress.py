"""Reports how far an analysis is: a callback that takes 0 to 1, and ways to nest it."""

from collections.abc import Callable

Progress = Callable[[float], None]


def part_of(progress: Progress, start: float, end: float) -> Progress:
    """A callback for one part of the work, 0 to 1, that reports to `progress` between `start` and `end`."""
    return lambda fraction: progress(start + (end - start) * fraction)


def monotonic(progress: Progress) -> Progress:
    """A callback that never reports less than before: the whole-clip pass restarts when it finds a crowd."""
    highest = -1.0

    def report(fraction: float) -> None:
        nonlocal highest
        highest = max(highest, fraction)
        progress(highest)

    return report
