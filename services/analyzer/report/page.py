"""Writes `report.html`, the page that a coach opens: one file for phone, projector and paper, without a network.

result, poses, key frames, stills ─▶ tables, pictures, plots, player data ─▶ report.html with page.css and report.js
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.analyzer.artifacts.result import AnalysisResult
from services.analyzer.biomechanics.events import EventName
from services.analyzer.biomechanics.labels import action_noun, claim, short_event_caption
from services.analyzer.biomechanics.model import Measurements
from services.analyzer.biomechanics.registry import METRICS, guidance
from services.analyzer.coaching.model import Level
from services.analyzer.coaching.summary import level_sentence
from services.analyzer.knowledge.loader import Mark, Severity
from services.analyzer.pose.landmarks import Poses
from services.analyzer.report.html import data_block, write_page
from services.analyzer.report.metadata import Metadata
from services.analyzer.report.model import KeyFrame, Still
from services.analyzer.report.pictures import Picture, main_picture, picture
from services.analyzer.report.player import player
from services.analyzer.report.plots import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Plot, action_plots
from services.analyzer.report.tables import (
    absent_numbers,
    facts,
    finding_cards,
    nearest_to_marks,
    number_rows,
    repetition_table,
)
from services.naming import CAMERA_VIEWS, DISCIPLINES
from services.rules.options import Correction

# Longer notes are folded.
NOTES_SHOWN = 280
# With more events the player's list leaves out contacts.
MOST_EVENTS = 6
LEVEL_SIGNS: dict[Level | None, str] = {Level.HIGH: "●●●", Level.MEDIUM: "●●○", Level.LOW: "●○○"}
SEVERITY_SIGNS = {Severity.HIGH: "▲▲▲", Severity.MEDIUM: "▲▲", Severity.LOW: "▲"}
PLOT_BOX = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM}


@dataclass(frozen=True)
class Claim:
    """What the report claims of one action."""

    time_seconds: float
    text: str


@dataclass(frozen=True)
class PlotGroup:
    """The plots of one action. span: seconds; open: whether the page shows them at first."""

    name: str
    span: tuple[float, float]
    plots: list[Plot]
    open: bool


def render(
    result: AnalysisResult,
    posed: Poses,
    key_frames: Sequence[KeyFrame] = (),
    metadata: Metadata | None = None,
    stills: Sequence[Still] = (),
) -> str:
    """The HTML of one result. posed: the frames that the player steps through; stills: the film behind them."""
    metadata = metadata or Metadata()
    measurements, findings, report = result.measurements, result.findings, result.report
    # Without a verdict no number is held against a mark.
    marks = {} if findings.not_assessed_reason else _marks(metadata.discipline)
    groups = _plot_groups(measurements, findings.first_moment, marks, metadata.discipline)
    plots = [plot for group in groups for plot in group.plots]
    scored = number_rows(measurements.metrics.values(), marks, metadata.height_cm)
    pictures = [picture(frame, number, metadata.height_cm) for number, frame in enumerate(key_frames)]
    return write_page(
        "report.html",
        script="report.js",
        title=metadata.title or f"{metadata.discipline or 'video'} analysis".capitalize(),
        who=[
            ", ".join(metadata.players),
            metadata.discipline.capitalize(),
            _filmed(metadata.camera_view) if not measurements.contradiction else "",
        ],
        analysed_at=(metadata.analysed_at, _format_time(metadata.analysed_at)),
        notes=(metadata.notes[:NOTES_SHOWN], metadata.notes[NOTES_SHOWN:]),
        level=level_sentence(measurements, findings, metadata.discipline),
        level_name=findings.overall_level or "",
        level_sign=LEVEL_SIGNS.get(findings.overall_level, ""),
        provisional=result.run.provisional,
        followed=result.run.followed,
        extent=result.run.extent,
        measurement_notes=measurements.notes,
        main_picture=main_picture(pictures, findings.first_moment),
        claims=_claims(measurements),
        claim_picture=_claim_picture(pictures, measurements),
        pictures=sorted(pictures, key=lambda picture: picture.moment),
        cards=finding_cards(findings.findings, measurements, marks, metadata.height_cm),
        severity_signs=SEVERITY_SIGNS,
        groups=groups,
        plot_box=PLOT_BOX,
        has_player=bool(posed.detected.any()),
        events=_event_list(measurements),
        data=data_block({**player(posed, [group.span for group in groups], plots, stills), "box": PLOT_BOX}),
        scored=scored,
        nearest=nearest_to_marks(scored, findings.too_close),
        unscored=number_rows(measurements.measures.values(), {}, metadata.height_cm),
        repetitions=repetition_table(measurements, metadata.discipline),
        absent=absent_numbers(measurements.everything.values(), metadata.discipline),
        report=report,
        correction=Correction.MOMENT.place,
        facts=facts(result, metadata),
    )


def _filmed(camera_view: str) -> str:
    """`filmed from the side`; empty without a view."""
    return f"filmed {CAMERA_VIEWS.get(camera_view, camera_view)}" if camera_view else ""


def _format_time(at: str) -> str:
    """A time with its zone, as a browser without a script shows it; any other text as it is."""
    try:
        return datetime.fromisoformat(at).strftime("%-d %B %Y, %H:%M %Z")
    except ValueError:
        return at


def _marks(discipline: str) -> dict[str, Mark | None]:
    """The marks of a discipline, by name of the number; empty for an unknown discipline."""
    if discipline not in DISCIPLINES:
        return {}
    guide = guidance(discipline)
    return {spec.name: guide.mark(spec.name) for spec in METRICS}


def _claims(measurements: Measurements) -> list[Claim]:
    return [Claim(each.time_seconds, claim(each)) for each in measurements.repetitions]


def _claim_picture(pictures: Sequence[Picture], measurements: Measurements) -> Picture | None:
    """The picture of an action's moment; None if there is none."""
    moments = {round(each.time_seconds, 3) for each in measurements.repetitions}
    return next((picture for picture in pictures if round(picture.moment, 3) in moments), None)


def _plot_groups(
    measurements: Measurements, moment: float | None, marks: dict[str, Mark | None], discipline: str
) -> list[PlotGroup]:
    """The plots, an action a group; the group with the moment of the first finding is open."""
    actions = [plots for trace in measurements.traces if (plots := action_plots(trace, measurements, marks))]
    spans = [plots[0].span for plots in actions]
    shown = next((k for k, (start, end) in enumerate(spans) if moment is not None and start <= moment <= end), 0)
    noun = action_noun(discipline).singular.capitalize()
    return [
        PlotGroup(f"{noun} {k + 1} of {len(actions)}", spans[k], plots, k == shown) for k, plots in enumerate(actions)
    ]


def _event_list(measurements: Measurements) -> list[tuple[float, str]]:
    """(seconds, caption) of each event; of many, without contacts."""
    events = measurements.events
    if len(events) > MOST_EVENTS:
        events = [event for event in events if event.name is not EventName.FRONT_FOOT_CONTACT]
    return [(event.time_seconds, short_event_caption(event)) for event in events]
