"""Defines the types of a number: its specification, its reading in one action, and its value in a video.

MetricSpec.read(ActionWindow) ──▶ Reading or Missing, one an action ──median──▶ Metric ──▶ Measurements
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import NamedTuple

from services.analyzer.arrays import Floats
from services.analyzer.biomechanics.action_window import ActionWindow
from services.analyzer.biomechanics.events import Event, EventName
from services.analyzer.biomechanics.foot_contact import Missing
from services.analyzer.biomechanics.kinematics import Side
from services.naming import Discipline
from services.rules.numbers import NUMBERS, Better, Unit


class Plane(StrEnum):
    """The plane that a number is measured in: the image plane, or space."""

    IMAGE = "image"
    SPACE = "space"


class Reliability(StrEnum):
    """Reliability of all numbers of one video."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Evidence(NamedTuple):
    """The value of a number at one moment. time_seconds: of the video."""

    time_seconds: float
    value: float


class Curve(NamedTuple):
    """A number over time. times: (n,) seconds; values: (n,) in its unit."""

    times: Floats
    values: Floats


class MeasuredJoints(NamedTuple):
    """The landmarks that a number was computed from, around a moment."""

    time_seconds: float
    names: tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """One number in one action.

    moments: worst first; none if the number has no moment. frames: detected frames in the window. confidence: 0..1.
    error: standard deviation of the pose model's part, in the number's unit. film_error: what this film adds to it.
    joints: what the number was computed from, over time; annotations draw these.
    curve: the series that the number is taken from; None for a number of one moment. most_error: with a larger one the
    number is absent; None for 2.5 times `error`.
    """

    value: float
    moments: list[Evidence]
    frames: int
    confidence: float
    error: float
    joints: tuple[MeasuredJoints, ...]
    curve: Curve | None = None
    film_error: float = 0.0
    most_error: float | None = None


class AnnotationKind(Enum):
    """What an image shows of a number, on the joints that it was computed from."""

    ANGLE = "arc at the second of three joints"
    LEAN = "arc between the trunk and the vertical"
    STRIDE = "line along the ground between the feet"
    DROP = "vertical line from the height of the second joint to the first"
    RING = "ring around the mean of the joints"


@dataclass(frozen=True)
class AnnotationSpec:
    """How an image shows a number. caption: its words, with {} for the value."""

    kind: AnnotationKind
    caption: str


@dataclass(frozen=True)
class CurveSpec:
    """How a plot shows a number's curve. least_range: the y axis spans this or more, so that noise looks small.

    rank: place among the plots of an action. compared: a point of the curve is the number, so that the plot shows the
    mark; else the number is a spread or a mean of the curve, and no point of it can be held against the mark.
    """

    rank: int
    title: str
    y_axis: str
    least_range: float
    compared: bool = False


@dataclass(frozen=True)
class WorstMomentSpec:
    """How an image shows a number's worst moment. rank: priority among the numbers, where images are limited."""

    rank: int
    caption: str


@dataclass(frozen=True)
class MetricSpec:
    """All that is particular to one number. `registry.py` holds one for each.

    name: its key in results.json, knowledge/*.yaml and `NUMBERS`, which holds its words, unit and direction.
    disciplines: where it is measured. read: measures it in one action.
    single_moment: every moment in the evidence shows the whole number; else only the worst moment of the only action
    does. absent_reason: set if no film gives this number. useful_error: with a larger one the number is but a hint.
    bias: how far the pose model puts this number off the truth, typically; two films of one movement share it.
    """

    name: str
    read: Callable[[ActionWindow], Reading | Missing]
    plane: Plane = Plane.IMAGE
    disciplines: frozenset[Discipline] = frozenset(Discipline)
    curve: CurveSpec | None = None
    annotation: AnnotationSpec | None = None
    worst_moment: WorstMomentSpec | None = None
    single_moment: bool = False
    absent_reason: str | None = None
    useful_error: float = math.inf
    bias: float = 0.0

    @property
    def label(self) -> str:
        """Its one name for people."""
        return NUMBERS[self.name].label

    @property
    def meaning(self) -> str:
        """What it measures, for people."""
        return NUMBERS[self.name].meaning

    @property
    def unit(self) -> Unit:
        """The unit of its values."""
        return NUMBERS[self.name].unit

    @property
    def better(self) -> Better:
        """The direction of its scale."""
        return NUMBERS[self.name].better


@dataclass(frozen=True)
class Metric:
    """One number of a video. `value` is None exactly if `absent_reason` is set.

    score: 0..1, 1 is best; None without a value or a scale. confidence: 0..1. evidence: worst moment first.
    random_error: standard deviation over films of these actions, in the number's unit; None without a value.
    actions_error: standard error of the median over the actions, which differ; 0 for one action.
    """

    spec: MetricSpec
    value: float | None
    score: float | None
    confidence: float
    frames_used: int
    evidence: tuple[Evidence, ...] = ()
    absent_reason: str | None = None
    random_error: float | None = None
    actions_error: float = 0.0

    @classmethod
    def absent(cls, spec: MetricSpec, reason: str) -> "Metric":
        """A number that was not measured."""
        return cls(spec, None, None, 0.0, 0, absent_reason=reason)

    @property
    def error(self) -> float | None:
        """The stated error: how far the number typically is from that of the same actions' true joints."""
        return None if self.random_error is None else round(math.hypot(self.random_error, self.spec.bias), 4)

    @property
    def scatter(self) -> float | None:
        """Standard deviation over films of the player: other actions, and the same bias of the model."""
        return None if self.random_error is None else round(math.hypot(self.random_error, self.actions_error), 4)

    @property
    def unit(self) -> Unit:
        """The unit of value, evidence and error."""
        return self.spec.unit


@dataclass(frozen=True)
class Repetition:
    """One action of several. side: its arm. values: by name of the number, None if it was not measured.

    given: the moments that the client stated.
    """

    name: EventName
    time_seconds: float
    side: Side
    contact_seconds: float | None
    front_leg: Side | None
    values: dict[str, float | None]
    given: frozenset[EventName] = frozenset()


@dataclass(frozen=True)
class Trace:
    """One action, or the whole clip, over time: what plots and annotations draw.

    start, end: the window in seconds. curves, joints: by name of the number, if it was measured.
    """

    start: float
    end: float
    curves: dict[str, Curve]
    joints: dict[str, tuple[MeasuredJoints, ...]]


@dataclass(frozen=True)
class Obstacle:
    """Why the numbers of a video are not judged. reason: a clause. remedy: a sentence, the one thing to change.

    unclear: whether a look at more frames may show what was not found.
    """

    reason: str
    remedy: str
    unclear: bool = False


@dataclass(frozen=True)
class Measurements:
    """All numbers of one video.

    metrics, measures: by name, with and without a score, in the order of the registry. actions: how many were measured.
    notes: sentences about how the numbers were measured. repetitions: in order of time. traces: one for each action,
    or one for the whole clip. obstacle: why the numbers are not judged; None if they are. doubt: why none of them is
    sure; None if some may be. end_on: whether the camera looks along the pitch, None if unknown. contradiction: a
    sentence, if the client names another view than is seen.
    """

    metrics: dict[str, Metric]
    events: list[Event]
    front_leg: Side | None
    throwing_arm: Side | None
    detection_rate_percent: float
    reliability: Reliability
    actions: int
    notes: tuple[str, ...] = ()
    measures: dict[str, Metric] = field(default_factory=dict)
    repetitions: tuple[Repetition, ...] = ()
    traces: tuple[Trace, ...] = ()
    obstacle: Obstacle | None = None
    doubt: Obstacle | None = None
    end_on: bool | None = None
    contradiction: str | None = None

    @property
    def everything(self) -> dict[str, Metric]:
        """Scored numbers, then the others, by name."""
        return self.metrics | self.measures

    def present(self) -> list[Metric]:
        """The scored numbers that were measured."""
        return [metric for metric in self.metrics.values() if metric.value is not None]
