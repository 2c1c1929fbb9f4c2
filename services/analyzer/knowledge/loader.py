"""Loads and validates `knowledge/*.yaml`: the scales, thresholds and advice that a coach can edit.

One file a discipline, and `shared.yaml` for all disciplines. An invalid file stops the program with an error that names
the file, the key and the fault.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from services.naming import DISCIPLINES, Discipline

FOLDER = Path(__file__).parent


class Severity(StrEnum):
    """Severity of a finding."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class FaultCode(StrEnum):
    """Codes of the faults that a guidance file describes."""

    HEAD_MOVEMENT = "HEAD_MOVEMENT"
    BALANCE_DRIFT = "BALANCE_DRIFT"
    KNEE_COLLAPSE = "KNEE_COLLAPSE"
    ROTATION_TIMING = "ROTATION_TIMING"
    ELBOW_DROP = "ELBOW_DROP"


def _known_metric(name: str, info: ValidationInfo) -> str:
    """The name, if the caller of `read` gave it as a scored metric; any name if the caller gave none."""
    metrics = info.context
    if metrics is not None and name not in metrics:
        raise ValueError(f"unknown metric {name!r}: one of {', '.join(metrics)}")
    return name


Text = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]
MetricName = Annotated[str, AfterValidator(_known_metric)]


class GuidanceError(ValueError):
    """A guidance file does not fit its schema. The message names the file, the key and the fault."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


T = TypeVar("T", bound=_Strict)


class Drill(_Strict):
    """One exercise. how: instructions; dose: how many repetitions."""

    name: Text
    how: Text
    dose: Text


class Advice(_Strict):
    """Advice for one fault. why_source: the publication that holds what `why` says; None: coaching practice."""

    title: Text
    why: Text
    why_source: Text | None = None
    cues: Annotated[tuple[Text, ...], Field(min_length=1)]
    drills: Annotated[tuple[Drill, ...], Field(min_length=1)]


class MarkOrigin(StrEnum):
    """Whose a mark is: of whoever wrote the file, or of a study."""

    JUDGEMENT = "judgement"
    STUDY = "study"


class StatedMark(_Strict):
    """A value to reach, in the metric's unit, and whose it is.

    Of a study: its citation, how many people it measured, who they were, and in which plane.
    """

    value: float
    origin: Annotated[MarkOrigin, Field(alias="from")]
    study: Text | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    who: Text | None = None
    plane: Literal["image", "space"] | None = None

    @model_validator(mode="after")
    def _names_its_study(self) -> Self:
        facts = {name: getattr(self, name) for name in ("study", "n", "who", "plane")}
        missing = [name for name, fact in facts.items() if fact is None]
        if self.origin is MarkOrigin.STUDY and missing:
            raise ValueError(f"a mark from a study needs {', '.join(missing)}")
        if self.origin is MarkOrigin.JUDGEMENT and len(missing) < len(facts):
            raise ValueError(f"a mark from judgement has no {', '.join(name for name in facts if name not in missing)}")
        return self


class Fault(Advice):
    """A fault: the metric misses the mark."""

    metric: MetricName
    mark: StatedMark


class Scale(_Strict):
    """Maps a value to a score: straight lines between (value, score) points, constant beyond the first and last."""

    points: Annotated[tuple[tuple[float, Share], ...], Field(min_length=2)]

    @model_validator(mode="after")
    def _is_monotone(self) -> Self:
        rising = [b[1] - a[1] for a, b in pairwise(self.points)]
        if any(b[0] <= a[0] for a, b in pairwise(self.points)):
            raise ValueError("the values of a scale must increase")
        if not (all(step >= 0 for step in rising) or all(step <= 0 for step in rising)):
            raise ValueError("the scores of a scale must all rise or all fall")
        return self

    @property
    def rises(self) -> bool:
        """Whether a larger value has a better score."""
        return self.points[0][1] < self.points[-1][1]

    def score(self, value: float) -> float:
        """Score, 0..1, of a value in the metric's unit."""
        for (x0, y0), (x1, y1) in pairwise(self.points):
            if value <= x1:
                return y0 + (y1 - y0) * max(0.0, value - x0) / (x1 - x0)
        return self.points[-1][1]


@dataclass(frozen=True)
class Mark:
    """The value that a player aims at, in the metric's unit: `value` or more if `at_least`, else `value` or less.

    threshold: the same as a score, 0..1. stated: the mark in the file, with whose it is.
    """

    value: float
    at_least: bool
    threshold: float
    stated: StatedMark


class Guidance(_Strict):
    """Scales, faults and drills of one discipline. maintenance: drills for a player without a fault."""

    discipline: Discipline
    scales: dict[MetricName, Scale]
    faults: dict[FaultCode, Fault]
    maintenance: Annotated[tuple[Drill, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _can_score(self) -> Self:
        for code, fault in self.faults.items():
            if fault.metric not in self.scales:
                raise ValueError(f"{code} marks {fault.metric}, which has no scale")
        return self

    def mark(self, metric: str) -> Mark | None:
        """The mark of a metric; None if no fault depends on it."""
        fault = next((fault for fault in self.faults.values() if fault.metric == metric), None)
        if fault is None:
            return None
        scale, value = self.scales[fault.metric], fault.mark.value
        return Mark(value, scale.rises, round(scale.score(value), 3), fault.mark)


class Band(_Strict):
    """A severity and the upper bound of its shortfall; the last band has no upper bound."""

    severity: Severity
    under: Annotated[float, Field(gt=0)] | None = None


class Shared(_Strict):
    """Guidance for all disciplines. hedge: the words before a finding of low confidence.

    worst_under_18: by metric, the upper bound of a severity where the player may be under 18. worst_unsure: that of a
    finding of low confidence.
    """

    severities: Annotated[tuple[Band, ...], Field(min_length=1)]
    worst_under_18: dict[str, Severity]
    worst_unsure: Severity
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
        """Severity of a shortfall, which is threshold less score, and over 0."""
        return next(band.severity for band in self.severities if band.under is None or shortfall < band.under)


def load_guidance(discipline: str, metrics: Collection[str]) -> Guidance:
    """The guidance of a discipline, which may name only the given metrics.

    Raises GuidanceError for an unknown discipline, or an invalid file. Callers use `biomechanics.registry.guidance`.
    """
    if discipline not in DISCIPLINES:
        raise GuidanceError(f"unknown discipline {discipline!r}: one of {', '.join(DISCIPLINES)}")
    return read(FOLDER / f"{discipline}.yaml", Guidance, metrics)


@cache
def shared() -> Shared:
    """The guidance for all disciplines. Raises GuidanceError if its file is invalid."""
    return read(FOLDER / "shared.yaml", Shared)


def read(path: Path, schema: type[T], metrics: Collection[str] | None = None) -> T:
    """Reads and validates one file. metrics: the names that it may use; None allows all. Raises GuidanceError."""
    try:
        return schema.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")), context=metrics)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise GuidanceError(f"{path.name}: {faults}") from error
    except (OSError, yaml.YAMLError) as error:
        raise GuidanceError(f"{path.name}: {error}") from error
