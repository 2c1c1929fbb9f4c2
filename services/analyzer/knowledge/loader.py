"""What a coach can edit: scales, thresholds and advice in `knowledge/*.yaml`, loaded once and checked on the way in.

One file a discipline, and `shared.yaml` for what is the same in all. A wrong file stops the program and names the
file, the place in it and the fault.
"""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from services import naming

FOLDER = Path(__file__).parent
DISCIPLINES = naming.DISCIPLINES

Text = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Severity = Literal["low", "medium", "high"]
Metric = Literal[
    "head_stability_score",
    "balance_drift_score",
    "front_knee_brace_score",
    "hip_shoulder_separation_timing",
    "elbow_drop_score",
]
Code = Literal["HEAD_MOVEMENT", "BALANCE_DRIFT", "KNEE_COLLAPSE", "ROTATION_TIMING", "ELBOW_DROP"]


class GuidanceError(ValueError):
    """A guidance file does not fit its schema; the message names file, place and fault."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


T = TypeVar("T", bound=_Strict)


class Drill(_Strict):
    """One exercise: what it is called, how it is done, how much of it."""

    name: Text
    how: Text
    dose: Text


class Advice(_Strict):
    """What to tell about one fault. `source` is a publication, or "coaching practice"."""

    title: Text
    why: Text
    source: Text
    cues: Annotated[tuple[Text, ...], Field(min_length=1)]
    drills: Annotated[tuple[Drill, ...], Field(min_length=1)]


class Fault(Advice):
    """A fault that a metric shows: its score, or its value in its own unit (`compare`), is under the threshold."""

    metric: Metric
    compare: Literal["score", "value"]
    threshold: Annotated[float, Field(gt=0)]


class Scale(_Strict):
    """How a value becomes a score: straight lines between (value, score) points, flat beyond the first and last."""

    points: Annotated[tuple[tuple[float, Share], ...], Field(min_length=2)]

    @model_validator(mode="after")
    def _is_monotone(self) -> Self:
        rising = [b[1] - a[1] for a, b in pairwise(self.points)]
        if any(b[0] <= a[0] for a, b in pairwise(self.points)):
            raise ValueError("the values of a scale must increase")
        if not (all(step >= 0 for step in rising) or all(step <= 0 for step in rising)):
            raise ValueError("the scores of a scale must all rise or all fall")
        return self

    def score(self, value: float) -> float:
        """0..1 for a value in the metric's unit."""
        for (x0, y0), (x1, y1) in pairwise(self.points):
            if value <= x1:
                return y0 + (y1 - y0) * max(0.0, value - x0) / (x1 - x0)
        return self.points[-1][1]

    def value(self, score: float) -> float:
        """The value at which the score is just this; the scale's nearer end where it never is."""
        rising = self.points if self.points[0][1] <= self.points[-1][1] else self.points[::-1]
        for (x0, y0), (x1, y1) in pairwise(rising):
            if score <= y1:
                return x0 + (x1 - x0) * max(0.0, score - y0) / (y1 - y0) if y1 > y0 else x1
        return rising[-1][0]


@dataclass(frozen=True)
class Mark:
    """What a metric should reach, in its own unit: `value` or more where `at_least`, else `value` or less.

    threshold: the same as a score, for what is compared by its score; None for what is compared by its value.
    """

    value: float
    at_least: bool
    threshold: float | None


class Guidance(_Strict):
    """All that is particular to one discipline."""

    discipline: naming.Discipline
    scales: dict[Metric, Scale]
    faults: dict[Code, Fault]
    maintenance: Annotated[tuple[Drill, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _can_score(self) -> Self:
        for code, fault in self.faults.items():
            if fault.compare == "score" and fault.metric not in self.scales:
                raise ValueError(f"{code} compares the score of {fault.metric}, which has no scale")
        return self

    def mark(self, metric: str) -> Mark | None:
        """What is asked of a metric; None where no fault is read off it."""
        fault = next((fault for fault in self.faults.values() if fault.metric == metric), None)
        if fault is None:
            return None
        if fault.compare == "value":
            return Mark(fault.threshold, at_least=True, threshold=None)
        scale = self.scales[fault.metric]
        rising = scale.points[0][1] < scale.points[-1][1]
        return Mark(scale.value(fault.threshold), at_least=rising, threshold=fault.threshold)


class Band(_Strict):
    """A severity and the shortfall under which it holds; `under` is left out of the last, which has no end."""

    severity: Severity
    under: Annotated[float, Field(gt=0)] | None = None


class Shared(_Strict):
    """What is the same in all disciplines."""

    severities: Annotated[tuple[Band, ...], Field(min_length=1)]
    sure_from_confidence: Share
    hedge: Text
    reliable_from_detection_rate_percent: Annotated[float, Field(ge=0, le=100)]
    insufficient_visibility: Advice

    @model_validator(mode="after")
    def _has_no_hole(self) -> Self:
        ends = [band.under for band in self.severities]
        bounds = [end for end in ends[:-1] if end is not None]
        if ends[-1] is not None or len(bounds) != len(ends) - 1 or any(b <= a for a, b in pairwise(bounds)):
            raise ValueError("severities must rise in `under`, and only the last may leave it out")
        return self

    def severity(self, shortfall: float) -> Severity:
        """How bad it is to miss a threshold by this much (over 0)."""
        return next(band.severity for band in self.severities if band.under is None or shortfall < band.under)


@cache
def guidance(discipline: str) -> Guidance:
    """The guidance of a discipline. Raises GuidanceError for an unknown one, or a file that does not fit."""
    if discipline not in DISCIPLINES:
        raise GuidanceError(f"unknown discipline {discipline!r}: one of {', '.join(DISCIPLINES)}")
    return read(FOLDER / f"{discipline}.yaml", Guidance)


@cache
def shared() -> Shared:
    """The guidance common to all disciplines. Raises GuidanceError if its file does not fit."""
    return read(FOLDER / "shared.yaml", Shared)


def read(path: Path, schema: type[T]) -> T:
    """One file, checked. Raises GuidanceError."""
    try:
        return schema.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise GuidanceError(f"{path.name}: {faults}") from error
    except (OSError, yaml.YAMLError) as error:
        raise GuidanceError(f"{path.name}: {error}") from error
