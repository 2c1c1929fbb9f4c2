"""The words, the unit and the good direction of every number: the analyzer measures them, every client shows them."""

import math
from dataclasses import dataclass
from enum import Enum, StrEnum


class Unit(StrEnum):
    """Units of numbers, as results.json spells them; centimetres are for people alone."""

    BODY_LENGTHS = "body lengths"
    BODY_HEIGHTS = "body heights"
    DEGREES = "deg"
    SECONDS = "s"
    PER_SECOND = "1/s"
    PERCENT_OF_FRAMES = "percent of frames"
    CENTIMETRES = "cm"

    @property
    def digits(self) -> int:
        """The most decimals that a person reads."""
        whole = (Unit.DEGREES, Unit.PERCENT_OF_FRAMES, Unit.PER_SECOND, Unit.CENTIMETRES)
        return 0 if self in whole else 3 if self in (Unit.BODY_LENGTHS, Unit.SECONDS) else 2

    @property
    def scale(self) -> float:
        """What a person reads for 1: a share a second is read in percent."""
        return 100.0 if self is Unit.PER_SECOND else 1.0

    @property
    def sign(self) -> str:
        """The sign behind a number, with its space if it has one; empty if the unit is a word."""
        return {Unit.DEGREES: "°", Unit.PER_SECOND: " %"}.get(self, "")

    @property
    def words(self) -> str:
        """The unit behind a number and its sign, with the space between; empty for degrees."""
        return {Unit.DEGREES: "", Unit.PERCENT_OF_FRAMES: " % of frames", Unit.PER_SECOND: " a second"}.get(
            self, f" {self}"
        )


class Better(Enum):
    """Which change of a number is an improvement; UNJUDGED leaves that to the coach."""

    LOWER = "lower"
    HIGHER = "higher"
    UNJUDGED = "unjudged"


@dataclass(frozen=True)
class Number:
    """How people read one number. label: its one name. better: the direction of its scale; UNJUDGED without a score."""

    label: str
    meaning: str
    unit: Unit
    better: Better = Better.UNJUDGED


# By the key of results.json.
NUMBERS = {
    "head_stability_score": Number("Head", "how far it moves over the feet", Unit.BODY_LENGTHS, Better.LOWER),
    "balance_drift_score": Number(
        "Balance", "how far the trunk moves off the feet, along the picture", Unit.BODY_LENGTHS, Better.LOWER
    ),
    "front_knee_brace_score": Number(
        "Front knee",
        "its smallest angle after the front foot is down, smoothed; 180° is straight",
        Unit.DEGREES,
        Better.HIGHER,
    ),
    "hip_shoulder_separation_timing": Number(
        "Hip-shoulder timing", "how long the shoulders turn after the hips", Unit.SECONDS, Better.HIGHER
    ),
    "elbow_drop_score": Number("Elbow", "how far it is below the shoulder", Unit.BODY_LENGTHS, Better.LOWER),
    "stride_length": Number("Stride", "between the feet as the front one lands", Unit.BODY_HEIGHTS),
    "run_up_speed_trend": Number("Run-up", "speed gained in the last 0.5 s; under 0 it slows", Unit.PER_SECOND),
    "release_height": Number("Release height", "bowling wrist over the sole of the front foot", Unit.BODY_HEIGHTS),
    "trunk_lateral_flexion_at_release": Number("Trunk lean", "away from the bowling arm at release", Unit.DEGREES),
    "front_knee_at_contact": Number("Front knee at contact", "as the foot lands", Unit.DEGREES),
    "front_knee_at_release": Number(
        "Front knee at the end", "at release; in batting 0.3 s after contact", Unit.DEGREES
    ),
    "front_knee_change": Number("Front knee change", "contact to the end; under 0 it bends", Unit.DEGREES),
    "bowling_elbow_extension": Number(
        "Bowling elbow", "straightening from arm level to release; no verdict on an action", Unit.DEGREES
    ),
    "head_over_feet": Number(
        "Head over the feet", "across the pitch as the hands are lowest; over 0 towards the off side", Unit.BODY_LENGTHS
    ),
    "head_height": Number("Head height", "over the soles as the hands are lowest", Unit.BODY_HEIGHTS),
    "base_width": Number("Base", "between the feet across the pitch as the hands are lowest", Unit.BODY_HEIGHTS),
    "stroke_trunk_lean": Number(
        "Lean in the stroke",
        "of the trunk across the pitch as the hands are lowest; over 0 towards the off side",
        Unit.DEGREES,
    ),
    "hands_path_width": Number(
        "Path of the hands", "how far the hands go across the pitch in the downswing", Unit.BODY_LENGTHS
    ),
    "downswing_time": Number("Downswing", "until the hands are lowest, from when they leave their top", Unit.SECONDS),
}


def label(name: str) -> str:
    """A number's one name for people; for a number that this version does not know, its key as words."""
    return NUMBERS[name].label if name in NUMBERS else name.removesuffix("_score").replace("_", " ").capitalize()


def meaning(name: str) -> str:
    """What a number measures; empty for a number that this version does not know."""
    return NUMBERS[name].meaning if name in NUMBERS else ""


def better(name: str) -> Better:
    """The good direction of a number; UNJUDGED for a number that this version does not know."""
    return NUMBERS[name].better if name in NUMBERS else Better.UNJUDGED


# Without an error a number has no more decimals than these.
MOST_DIGITS_WITHOUT_ERROR = 2
# An error has two figures up to this leading figure, above it one (Particle Data Group).
LAST_LEAD_OF_TWO_FIGURES = 3.55


def digits(unit: str, error: float | None = None) -> int:
    """The decimals that an error allows, as a person reads it; -1 for tens. Without an error at most two."""
    known = _known(unit)
    most = known.digits if known else MOST_DIGITS_WITHOUT_ERROR
    if not error:
        return min(most, MOST_DIGITS_WITHOUT_ERROR)
    exponent = math.floor(math.log10(error))
    figures = 2 if error / 10**exponent < LAST_LEAD_OF_TWO_FIGURES else 1
    return min(most, figures - 1 - exponent)


def format_number(value: float, unit: str, error: float | None = None) -> str:
    """A number without its unit's name: `132° ± 3°`, `0.124 ± 0.006`, `0.12 ± 0.06`."""
    number = format_rounded(value, unit, error)
    return f"{number} ± {format_rounded(error, unit, error)}" if error else number


def format_rounded(value: float, unit: str, error: float | None) -> str:
    """A number with the decimals that an error allows, without the error and its unit's name: `0.12`."""
    known = _known(unit)
    scale = known.scale if known else 1.0
    decimals = digits(unit, error * scale if error else None)
    rounded = round(value * scale, decimals) + 0.0  # -0.0 becomes 0.0
    return f"{rounded:.{max(decimals, 0)}f}{known.sign if known else ''}".replace("-", "−")


def format_value(value: float, unit: str, error: float | None = None) -> str:
    """A number with its unit: `132° ± 3°`, `0.124 ± 0.006 body lengths`."""
    return f"{format_number(value, unit, error)}{unit_words(unit)}"


def unit_words(unit: str) -> str:
    """`Unit.words` of a unit as results spell it, which a later version may have added."""
    known = _known(unit)
    return known.words if known else f" {unit}".rstrip()


def _known(unit: str) -> Unit | None:
    return Unit(unit) if unit in tuple(Unit) else None
