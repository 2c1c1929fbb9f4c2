"""The numbers of one player over time, as the page draws them: each with its error, the best so far and our mark."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from google.protobuf.timestamp_pb2 import Timestamp

from crease.jobs.v1.library_pb2 import Trend, TrendPoint
from crease.jobs.v1.session_pb2 import CameraView
from services.naming import CAMERA_VIEWS
from services.rules import numbers
from services.rules.changes import detectable_change
from services.rules.numbers import Better

# The drawing. BESIDE: room for the marks' value; ABOVE and BELOW: for the values and the dates.
WIDTH, HEIGHT, BESIDE, ABOVE, BELOW = 320, 150, 16, 24, 30
VIEWS = {CameraView.Value(f"CAMERA_VIEW_{view.upper()}"): words for view, words in CAMERA_VIEWS.items()}
DIRECTIONS = {Better.HIGHER: "up is better", Better.LOWER: "down is better"}


@dataclass(frozen=True)
class Dot:
    """One film in the drawing. `bar`: both ends of its error; `doubtful`: it may show another player."""

    x: float
    y: float
    bar: tuple[float, float] | None
    doubtful: bool
    best: bool


@dataclass(frozen=True)
class Row:
    """One film in the table."""

    job_id: str
    time: Timestamp
    value: str
    doubtful: bool
    best: bool


@dataclass(frozen=True)
class Drawn:
    """One number over time. `best` and `mark` are empty for a number without a good direction, or without a mark.

    `best_is_clear`: whether it is better than the last film, or than the next best, by more than errors make.
    """

    label: str
    meaning: str
    view: str
    direction: str
    last: Row
    best: Row | None
    best_is_clear: bool
    mark: str
    mark_y: float | None
    rows: list[Row]
    dots: list[Dot] = field(default_factory=list)

    @property
    def line(self) -> str:
        """The points of the curve, without doubtful ones."""
        return " ".join(f"{dot.x},{dot.y}" for dot in self.dots if not dot.doubtful)


def draw(trends: Iterable[Trend]) -> list[Drawn]:
    """The numbers with a good direction first, each in its words."""
    drawn = [_draw(trend) for trend in trends]
    return sorted(drawn, key=lambda one: (not one.direction, one.label, one.view))


def view_to_keep(trends: Iterable[Trend]) -> str:
    """The side from which most films were made, in words; empty where none was said."""
    films: dict[str, set[str]] = {}
    for trend in trends:
        films.setdefault(VIEWS.get(trend.camera_view, ""), set()).update(point.job_id for point in trend.points)
    return max(films, key=lambda view: len(films[view]), default="")


def _draw(trend: Trend) -> Drawn:
    points = list(trend.points)
    best = _best(trend.name, points)
    rows = [_row(trend, point, best=point is best) for point in points]
    # The newest mark: those of finished reports may be older.
    marks = [point.mark for point in points if point.HasField("mark")]
    ends = [end for point in points for end in (point.value - point.error, point.value + point.error)] + marks[-1:]
    low, span = min(ends), (max(ends) - min(ends)) or 1.0

    def y(value: float) -> float:
        return round(HEIGHT - BELOW - (HEIGHT - ABOVE - BELOW) * (value - low) / span, 1)

    dots = [
        Dot(
            x=_x(index, len(points)),
            y=y(point.value),
            bar=(y(point.value - point.error), y(point.value + point.error)) if point.error else None,
            doubtful=point.names_others,
            best=point is best,
        )
        for index, point in enumerate(points)
    ]
    return Drawn(
        label=numbers.label(trend.name),
        meaning=numbers.meaning(trend.name),
        view=VIEWS.get(trend.camera_view, ""),
        direction=DIRECTIONS.get(numbers.better(trend.name), ""),
        last=rows[-1],
        best=next((row for row in rows if row.best), None),
        best_is_clear=best is not None and _is_clear(best, points),
        mark=_mark(trend, marks[-1]) if marks else "",
        mark_y=y(marks[-1]) if marks else None,
        rows=rows,
        dots=dots,
    )


def _best(name: str, points: Sequence[TrendPoint]) -> TrendPoint | None:
    """The best film that shows this player for sure; None for a number of which neither way is better."""
    sure = [point for point in points if not point.names_others]
    match numbers.better(name):
        case Better.HIGHER:
            return max(sure, key=lambda point: point.value, default=None)
        case Better.LOWER:
            return min(sure, key=lambda point: point.value, default=None)
        case _:
            return None


def _is_clear(best: TrendPoint, points: Sequence[TrendPoint]) -> bool:
    """Whether the best film differs from the last one, or from the next best if it is the last, beyond their errors."""
    others = [point for point in points if point is not best and not point.names_others]
    other = min(others, key=lambda point: abs(point.value - best.value), default=None)
    other = other if best is points[-1] else points[-1]
    return other is None or abs(best.value - other.value) > detectable_change(best.error, other.error)


def _mark(trend: Trend, mark: float) -> str:
    """`0.10 body lengths or less`."""
    way = {Better.HIGHER: " or more", Better.LOWER: " or less"}.get(numbers.better(trend.name), "")
    return f"{numbers.format_value(mark, trend.unit)}{way}"


def _row(trend: Trend, point: TrendPoint, *, best: bool) -> Row:
    error = point.error if point.HasField("error") else None
    value = numbers.format_value(point.value, trend.unit, error)
    return Row(point.job_id, point.time, value, point.names_others, best)


def _x(index: int, count: int) -> float:
    """At even steps; one film in the middle."""
    return round(BESIDE + (WIDTH - 2 * BESIDE) * (index / (count - 1) if count > 1 else 0.5), 1)
