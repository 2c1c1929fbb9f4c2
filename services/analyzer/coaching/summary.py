"""Says what was found in sentences: the summary, the level and the week's plan, all by rules from the findings.

An adjective never stands without its number, and no sentence stands twice in one report: a fault that is worked on
twice in a week has another cue and another sentence each time.
"""

from typing import Any

from services.analyzer.biomechanics.measurement import Measurements, Metric
from services.analyzer.knowledge.loader import Mark, guidance, shared

MOST_ISSUES = 3
UNSEEN = "INSUFFICIENT_POSE_VISIBILITY"

# What a number is called, and what it is.
METRIC_WORDS = {
    "head_stability_score": ("Head", "how far it moves over the feet"),
    "balance_drift_score": ("Balance", "how far the trunk moves off the feet, along the picture"),
    "front_knee_brace_score": ("Front knee", "its smallest angle after the front foot is down; 180° is straight"),
    "hip_shoulder_separation_timing": ("Hip-shoulder timing", "how long the shoulders turn after the hips"),
    "elbow_drop_score": ("Elbow", "how far it is below the shoulder"),
    "stride_length": ("Stride", "between the feet as the front one lands"),
    "run_up_speed_trend": ("Run-up", "share of its speed gained a second, in the last 0.5 s"),
    "release_height": ("Release height", "bowling wrist over the sole of the front foot"),
    "trunk_lateral_flexion_at_release": ("Trunk lean", "away from the bowling arm at release"),
    "front_knee_at_contact": ("Front knee at contact", "as the foot lands"),
    "front_knee_at_release": ("Front knee at the end", "at release; in batting 0.3 s after contact"),
    "front_knee_change": ("Front knee, change", "contact to the end; under 0 it gave way"),
    "bowling_elbow_extension": ("Bowling elbow", "straightening from arm level to release; no verdict on an action"),
}
UNIT_DIGITS = {"deg": 0, "body lengths": 3, "body heights": 2, "1/s": 2, "s": 3}
ACTION_WORDS = {
    "batting": ("stroke", "strokes"),
    "bowling": ("delivery", "deliveries"),
    "wicketkeeping": ("action", "actions"),
    "fielding": ("action", "actions"),
}
COUNT_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")
LEADS = ("First work on this", "Then", "And then")
# Two days to learn, two to repeat at pace, with a rest between; a game; and a film to see what changed.
WEEK = ("work", "work", "work", "rest", "work", "game", "film")
WORK_WORDS = (
    "{part}: at walking pace, with a stop to look after each one",
    "{part}: at walking pace, one set without a stop",
    "{part}: at match pace",
    "{part}: at match pace, last set filmed",
)
KEEP_UP_WORDS = (
    "Keep it up: every repetition counted",
    "Keep it up: the other drill first",
    "Keep it up: at match pace",
    "Keep it up: at match pace, against your count of day 3",
)
REST_WORDS = "Rest, or catching and running for fun"
GAME_WORDS = "A net or a game, with one thought only"
FILM_WORDS = "Film again from the same place"


def compose(measurements: Measurements, findings: dict[str, Any], discipline: str) -> dict[str, Any]:
    """`report` of the results: {summary, top_issues, drills, one_week_plan, reliability_warning}, plain JSON types."""
    top = findings["findings"][:MOST_ISSUES]
    drills = _drills(top) or [drill.model_dump() for drill in guidance(discipline).maintenance]
    return {
        "summary": _summary(measurements, findings["findings"], discipline),
        "top_issues": [
            {key: issue[key] for key in ("code", "severity", "title", "metric", "time_seconds")} for issue in top
        ],
        "drills": drills,
        "one_week_plan": _week(measurements, top, drills, discipline),
        "reliability_warning": _warning(measurements),
    }


def level(results: dict[str, Any]) -> str:
    """The overall level in one sentence, with the numbers that make it one."""
    findings = results["findings"]
    found = findings["findings"]
    if [finding["code"] for finding in found] == [UNSEEN]:
        seen, least = found[0]["value"], found[0]["threshold"]
        return f"Not assessed: the player was seen in {seen:.0f} % of the frames, and {least:.0f} % are needed"
    measured = [metric for metric in results["metrics"].values() if metric["value"] is not None]
    if not found and findings["overall_level"] != "high":
        sure = sum(metric["confidence"] >= shared().sure_from_confidence for metric in measured)
        return f"No level: {count(sure)} of {count(len(measured))} numbers is sure enough to tell"
    name = findings["overall_level"].capitalize()
    if not found:
        return f"{name}: {_reached(len(measured))}"
    furthest = max(_shortfall(finding) for finding in found)
    return (
        f"{name}: {_missed(len(found), len(measured))}, {'' if len(found) == 1 else 'the furthest '}by {furthest:.2f}"
    )


def count(number: int) -> str:
    """Two for 2; figures from nine on."""
    return COUNT_WORDS[number] if number < len(COUNT_WORDS) else str(number)


def shown(value: float, unit: str, error: float | None = None) -> str:
    """A number as a person reads it: `132° ± 3°`, `0.124 ± 0.006 body lengths`."""
    digits = UNIT_DIGITS.get(unit, 2)
    sign = "°" if unit == "deg" else ""
    number = f"{value:.{digits}f}{sign}".replace("-", "−")
    around = f" ± {error:.{digits}f}{sign}" if error else ""
    # A share of a speed gained in a second reads as that.
    name = "" if unit == "deg" else " a second" if unit == "1/s" else f" {unit}"
    return f"{number}{around}{name}"


def mark_words(mark: Mark, unit: str) -> str:
    """`120° or more`."""
    return f"{shown(mark.value, unit)} or {'more' if mark.at_least else 'less'}"


def trust(confidence: float) -> str:
    """A confidence in a word."""
    return "high" if confidence >= 0.75 else "medium" if confidence >= shared().sure_from_confidence else "low"


def _summary(measurements: Measurements, found: list[dict[str, Any]], discipline: str) -> str:
    measured = {name: metric for name, metric in measurements.metrics.items() if metric.value is not None}
    if not measured:
        return "The player could not be followed in this film, so nothing was measured. Film again and have another go."
    if any(finding["code"] == UNSEEN for finding in found):
        return _unjudged(measurements, discipline, len(measured))
    faults = found
    sentences = [_where(measurements, discipline, len(faults), len(measured))]
    if faults:
        sentences += [_advice(LEADS[i], faults[i], measurements, discipline) for i in range(min(len(faults), 3))]
    elif nearest := _nearest(measurements, discipline):
        part = _lower(METRIC_WORDS[nearest][0])
        sentences.append(f"Nearest to its mark is the {part}: {_number(nearest, measured[nearest], discipline)}.")
    missing = len(measurements.metrics) - len(measured)
    if missing:
        of = count(len(measurements.metrics))
        sentences.append(f"{count(missing).capitalize()} of {of} numbers could not be measured.")
    return " ".join(sentences)


def _where(measurements: Measurements, discipline: str, missed: int, measured: int) -> str:
    """In how many actions how many numbers miss their mark."""
    place = _place(measurements.actions, discipline)
    return f"{place}, {_missed(missed, measured) if missed else _reached(measured)}."


def _place(actions: int, discipline: str) -> str:
    one, several = ACTION_WORDS[discipline]
    if not actions:
        return "In the whole clip, as no action was found in it"
    return f"In {count(actions)} {one if actions == 1 else several}"


def _unjudged(measurements: Measurements, discipline: str, measured: int) -> str:
    """A film that shows too little: its numbers stand, but nobody is told what to make of them."""
    least = shared().reliable_from_detection_rate_percent
    numbers = "one number was" if measured == 1 else f"{count(measured)} numbers were"
    return (
        f"{_place(measurements.actions, discipline)}, {numbers} measured, but not judged: the player was seen in "
        f"{measurements.detection_rate_percent:.0f} % of the frames, and {least:.0f} % are needed."
    )


def _reached(numbers: int) -> str:
    if numbers == 1:
        return "the one number reaches its mark"
    return f"{'both' if numbers == 2 else f'all {count(numbers)}'} numbers reach their mark"


def _missed(missed: int, numbers: int) -> str:
    if missed == numbers > 1:
        return f"{'both' if numbers == 2 else f'all {count(numbers)}'} numbers miss their mark"
    if missed == 1:
        return f"one of {count(numbers)} numbers misses its mark"
    return f"{count(missed)} of {count(numbers)} numbers miss their mark"


def _advice(lead: str, finding: dict[str, Any], measurements: Measurements, discipline: str) -> str:
    title, hedge = finding["title"], f"{shared().hedge}: "
    lead = f"{lead}, perhaps" if title.startswith(hedge) else lead
    metric = measurements.metrics[finding["metric"]]
    number = _number(finding["metric"], metric, discipline, finding["time_seconds"])
    return f"{lead}: {_lower(title.removeprefix(hedge))} ({number})."


def _number(name: str, metric: Metric, discipline: str, worst_at: float | None = None) -> str:
    """Value, error, where it was worst, and what is asked."""
    mark = guidance(discipline).mark(name)
    assert metric.value is not None  # noqa: S101 - what was found, or is nearest to its mark, was measured
    at = "" if worst_at is None else f", worst at {worst_at:.2f} s"
    asked = f"; the mark is {mark_words(mark, metric.unit)}" if mark else ""
    return f"{shown(metric.value, metric.unit, metric.error)}{at}{asked}"


def _nearest(measurements: Measurements, discipline: str) -> str | None:
    """The metric whose score is least over its mark."""
    margins = {}
    for name, metric in measurements.metrics.items():
        mark = guidance(discipline).mark(name)
        if metric.score is not None and mark and mark.threshold is not None:
            margins[name] = metric.score - mark.threshold
    return min(margins, key=lambda name: margins[name], default=None)


def _shortfall(finding: dict[str, Any]) -> float:
    reached = finding["score"] if finding["score"] is not None else finding["value"]
    return float(finding["threshold"] - reached)


def _lower(title: str) -> str:
    return title[0].lower() + title[1:]


def _drills(issues: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The issues' drills, the first of each issue first, none twice."""
    most = max((len(issue["drills"]) for issue in issues), default=0)
    rounds = [issue["drills"][k] for k in range(most) for issue in issues if k < len(issue["drills"])]
    return list({drill["name"]: drill for drill in rounds}.values())


def _week(
    measurements: Measurements, issues: list[dict[str, Any]], drills: list[dict[str, Any]], discipline: str
) -> list[dict[str, Any]]:
    """Seven days {day, focus, cue, drills}; issues and their cues take turns. A film of nobody needs another film."""
    if issues and all(issue["code"] == UNSEEN for issue in issues):
        return [{"day": 1, "focus": "Film again, with this in mind", "cue": issues[0]["cues"][0], "drills": drills}]
    faults = [issue for issue in issues if issue["code"] != UNSEEN]
    works = iter(_keep_up(drills) if not faults else _works(faults))
    cues = [cue for issue in faults for cue in issue["cues"]]
    days, said = [], set()
    for day, kind in enumerate(WEEK, start=1):
        focus, cue, todays = next(works) if kind == "work" else (REST_WORDS, None, [])
        if kind == "game":
            # A cue that is still unsaid; where all were said, the coach picks from the week.
            focus, cue = GAME_WORDS, next((cue for cue in cues if cue not in said), None)
        elif kind == "film":
            focus = _film(measurements, faults, discipline)
        said.add(cue)
        days.append({"day": day, "focus": focus, "cue": cue, "drills": todays})
    return days


def _works(faults: list[dict[str, Any]]) -> list[tuple[str, str | None, list[dict[str, Any]]]]:
    """Each working day's sentence, cue and drills."""
    works = []
    for k, words in enumerate(WORK_WORDS):
        fault, turn = faults[k % len(faults)], k // len(faults)
        cue = fault["cues"][turn] if turn < len(fault["cues"]) else None
        own = fault["drills"]
        todays = [own[(turn + i) % len(own)] for i in range(min(2, len(own)))]
        works.append((words.format(part=METRIC_WORDS[fault["metric"]][0]), cue, todays))
    return works


def _keep_up(drills: list[dict[str, Any]]) -> list[tuple[str, str | None, list[dict[str, Any]]]]:
    todays = [[drills[(k + i) % len(drills)] for i in range(min(2, len(drills)))] for k in range(len(KEEP_UP_WORDS))]
    return [(words, None, chosen) for words, chosen in zip(KEEP_UP_WORDS, todays, strict=True)]


def _film(measurements: Measurements, faults: list[dict[str, Any]], discipline: str) -> str:
    """What the next film is held against: the number of the first fault, or the one nearest to its mark."""
    name = faults[0]["metric"] if faults else _nearest(measurements, discipline)
    if name is None:
        return f"{FILM_WORDS} and compare"
    part = _lower(METRIC_WORDS[name][0])
    return f"{FILM_WORDS} and compare: {part} {_number(name, measurements.metrics[name], discipline)}"


def _warning(measurements: Measurements) -> str | None:
    least = shared().reliable_from_detection_rate_percent
    if measurements.detection_rate_percent >= least:
        return None
    seen = f"The player was seen in {measurements.detection_rate_percent:.0f} % of the frames looked at"
    if all(metric.value is None for metric in measurements.metrics.values()):
        return f"{seen}. Nothing could be measured."
    return f"{seen}, under the {least:.0f} % that these numbers need. Take them as a hint, and film again if you can."
