"""Plans the week after a video: two days to learn, two to repeat at pace, a rest, a game, and another film.

A fault that has several days has another cue and another sentence on each.
"""

from collections.abc import Collection
from typing import NamedTuple

from services.analyzer.biomechanics.model import Measurements, Metric
from services.analyzer.coaching.model import Day, Finding
from services.analyzer.coaching.phrases import lower_first, nearest_to_mark, number_phrase
from services.analyzer.knowledge.loader import Drill

WEEK = ("work", "work", "work", "rest", "work", "game", "film")
WORK_SENTENCES = (
    "{part}: at walking pace, with a stop to look after each one",
    "{part}: at walking pace, one set without a stop",
    "{part}: at match pace",
    "{part}: at match pace, last set filmed",
)
KEEP_UP_SENTENCES = (
    "Keep it up: every repetition counted",
    "Keep it up: the other drill first",
    "Keep it up: at match pace",
    "Keep it up: at match pace, against your count of day 3",
)
REST_SENTENCE = "Rest, or catching and running for fun"
GAME_SENTENCE = "A net or a game, with one thought only"
FILM_SENTENCE = "Film again from the same place"
NOT_ASSESSED_SENTENCE = "Follow the summary first. A plan comes with a film that can be judged"
MOST_DRILLS_A_DAY = 2


class _Work(NamedTuple):
    """One working day: its sentence, its cue and its drills."""

    focus: str
    cue: str | None
    drills: tuple[Drill, ...]


def plan_week(
    measurements: Measurements,
    faults: tuple[Finding, ...],
    drills: tuple[Drill, ...],
    discipline: str,
    too_close: Collection[Metric] = (),
) -> tuple[Day, ...]:
    """Seven days; faults and their cues alternate. too_close: the numbers that are too close to call."""
    work_days = iter(_work_on(faults) if faults else _keep_up(drills))
    cues = [cue for fault in faults for cue in fault.cues]
    days: list[Day] = []
    for number, kind in enumerate(WEEK, start=1):
        if kind == "work":
            days.append(Day(number, *next(work_days)))
        elif kind == "game":
            # The first unused cue; if all are used, the coach picks one of the week.
            used = {day.cue for day in days}
            days.append(Day(number, GAME_SENTENCE, next((cue for cue in cues if cue not in used), None), ()))
        else:
            focus = _film_sentence(measurements, faults, discipline, too_close) if kind == "film" else REST_SENTENCE
            days.append(Day(number, focus, None, ()))
    return tuple(days)


def not_assessed() -> tuple[Day, ...]:
    """The plan after a film that is not assessed. The summary has the one thing to do, which may be no other film."""
    return (Day(1, NOT_ASSESSED_SENTENCE, None, ()),)


def _work_on(faults: tuple[Finding, ...]) -> list[_Work]:
    """The working days of a week with faults."""
    days = []
    for k, sentence in enumerate(WORK_SENTENCES):
        fault, turn = faults[k % len(faults)], k // len(faults)
        cue = fault.cues[turn] if turn < len(fault.cues) else None
        part = fault.metric.label if fault.metric else ""
        days.append(_Work(sentence.format(part=part), cue, _rotated(fault.drills, turn)))
    return days


def _keep_up(drills: tuple[Drill, ...]) -> list[_Work]:
    """The working days of a week without a fault."""
    return [_Work(sentence, None, _rotated(drills, k)) for k, sentence in enumerate(KEEP_UP_SENTENCES)]


def _rotated(drills: tuple[Drill, ...], turn: int) -> tuple[Drill, ...]:
    """At most two drills, another one first at each turn."""
    return tuple(drills[(turn + i) % len(drills)] for i in range(min(MOST_DRILLS_A_DAY, len(drills))))


def _film_sentence(
    measurements: Measurements, faults: tuple[Finding, ...], discipline: str, too_close: Collection[Metric]
) -> str:
    """The day of the film, with the number to compare: that of the first fault, or the one nearest to its mark."""
    if faults and faults[0].metric:
        metric = measurements.metrics[faults[0].metric.name]
    elif nearest := nearest_to_mark(measurements, discipline, too_close):
        metric = nearest
    else:
        return f"{FILM_SENTENCE} and compare"
    return f"{FILM_SENTENCE} and compare: {lower_first(metric.spec.label)} {number_phrase(metric, discipline)}"
