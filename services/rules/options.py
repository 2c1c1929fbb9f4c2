"""The ways in which a user states facts of a video: options of `crease` and the analyzer, controls of the page."""

import argparse
import math
from collections.abc import Sequence
from enum import Enum

from services.naming import GIVEN_EVENTS, Discipline
from services.rules.limits import CAPTURE_FPS_RULE, IN_PICTURE_RULE, MAX_GIVEN_EVENTS, is_capture_fps, is_in_picture

# Of a player: a child of two years, the tallest adults.
MIN_HEIGHT_CM, MAX_HEIGHT_CM = 80, 250
# A name and seconds.
StatedEvent = tuple[str, float]
# Of the part of the page in which a coach corrects an analysis.
CORRECTIONS_TITLE = "Not right?"


class Correction(Enum):
    """What a user may correct. `control`: its words in the page; `option`: of the command line, for programs alone."""

    SLOW_MOTION = ("Slow motion", "--capture-fps FPS")
    MOMENT = ("Another moment", "--event NAME=SECONDS")
    PERSON = ("Another person", "--athlete-box LEFT,TOP,WIDTH,HEIGHT")

    def __init__(self, control: str, option: str) -> None:
        self.control = control
        self.option = option

    @property
    def place(self) -> str:
        """Where a coach finds it: `“Slow motion” under “Not right?” on the film's page`."""
        return f"“{self.control}” under “{CORRECTIONS_TITLE}” on the film's page"


def option_of(remedy: str) -> str:
    """The option of the correction that a remedy names; empty if it names none."""
    return next((correction.option for correction in Correction if correction.place in remedy), "")


def add_footage(parser: argparse.ArgumentParser) -> None:
    """Adds --athlete-box and --capture-fps."""
    parser.add_argument(
        "--athlete-box",
        type=parse_box,
        metavar="LEFT,TOP,WIDTH,HEIGHT",
        help="box around the athlete in the first frame, in fractions of the picture",
    )
    parser.add_argument(
        "--capture-fps",
        type=parse_capture_fps,
        metavar="FPS",
        help="frames a second at which the camera recorded, for slow motion; 0: as the file says",
    )


def add_events(parser: argparse.ArgumentParser) -> None:
    """Adds --event."""
    parser.add_argument(
        "--event",
        type=parse_event,
        action="append",
        default=[],
        metavar="NAME=SECONDS",
        help=f"moment of an action, instead of the one that was found; may be repeated: {', '.join(_all_names())}",
    )


def check_events(events: Sequence[StatedEvent], discipline: str) -> str:
    """Why these events cannot be given for a discipline, a sentence; empty if they can."""
    if len(events) > MAX_GIVEN_EVENTS:
        return f"--event may be given {MAX_GIVEN_EVENTS} times at most"
    names = GIVEN_EVENTS[Discipline(discipline)]
    wrong = next((name for name, _ in events if name not in names), None)
    return "" if wrong is None else f"--event {wrong}: in {discipline} it must be one of {', '.join(names)}"


def parse_box(text: str) -> tuple[float, float, float, float]:
    """The box of `LEFT,TOP,WIDTH,HEIGHT`."""
    try:
        left, top, width, height = (float(side) for side in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError("must be LEFT,TOP,WIDTH,HEIGHT, such as 0.4,0.2,0.2,0.6") from None
    if not is_in_picture(left, top, width, height):
        raise argparse.ArgumentTypeError(IN_PICTURE_RULE)
    return left, top, width, height


def parse_capture_fps(text: str) -> float:
    """A capture rate."""
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not is_capture_fps(rate):
        raise argparse.ArgumentTypeError(CAPTURE_FPS_RULE)
    return rate


def parse_height_cm(text: str) -> float:
    """A player's height in centimetres."""
    try:
        height = float(text)
    except ValueError:
        height = math.nan
    if not MIN_HEIGHT_CM <= height <= MAX_HEIGHT_CM:
        raise argparse.ArgumentTypeError(f"must be centimetres from {MIN_HEIGHT_CM} to {MAX_HEIGHT_CM}")
    return height


def parse_event(text: str) -> StatedEvent:
    """The event of `NAME=SECONDS`."""
    name, _, seconds = text.partition("=")
    try:
        at = float(seconds)
    except ValueError:
        at = math.nan
    if name not in _all_names() or not (math.isfinite(at) and at >= 0):
        names = ", ".join(_all_names())
        raise argparse.ArgumentTypeError(f"must be NAME=SECONDS, such as release=1.02; names: {names}")
    return name, at


def _all_names() -> list[str]:
    return list(dict.fromkeys(name for names in GIVEN_EVENTS.values() for name in names))
