"""The report shows its findings and nothing else, is safe to open, and needs no other file."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest

from services.analyzer.biomechanics.events import SIGNED, Event, EventName
from services.analyzer.biomechanics.kinematics import FOOT, HEAD, KNEE, Side, both_sides, landmarks_of
from services.analyzer.biomechanics.measurement import measure
from services.analyzer.biomechanics.model import MeasuredJoints, Obstacle
from services.analyzer.biomechanics.registry import (
    ELBOW_DROP,
    FRONT_KNEE_BRACE,
    HEAD_STABILITY,
    METRICS,
    STRIDE_LENGTH,
    TIMING_REASON,
    TRUNK_LATERAL_FLEXION,
    guidance,
)
from services.analyzer.coaching.findings import find
from services.analyzer.coaching.model import Report
from services.analyzer.coaching.summary import compose
from services.analyzer.pose.landmarks import INDEX, Poses
from services.analyzer.report.annotations import annotate, measured_joints
from services.analyzer.report.html import data_block
from services.analyzer.report.key_frames import moments
from services.analyzer.report.metadata import Metadata
from services.analyzer.report.model import KeyFrame
from services.analyzer.report.page import render
from services.analyzer.report.pictures import main_picture, picture
from services.analyzer.report.player import MOST_FRAMES, player
from services.analyzer.report.plots import action_plots
from services.analyzer.report.tables import nearest_to_marks, number_rows
from services.naming import DISCIPLINES
from services.rules.numbers import format_value
from services.rules.options import Correction
from testing.data import motions
from testing.data.reports import HOSTILE, fullest, key_frame, page, result_of, strokes, with_margins

JPEG = b"\xff\xd8\xff\xe0 not really a picture"
FRONT_KNEE = landmarks_of(Side.LEFT, KNEE)


def report(poses: Poses, discipline: str) -> Report:
    measured = measure(poses, [poses], discipline)
    return compose(measured, find(measured, discipline), discipline)


class Tags(HTMLParser):
    """Every tag with its attributes, and the tags that are open at the end."""

    VOID = ("meta", "br", "image", "line", "circle", "polyline", "rect", "path", "use", "input")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("discipline", SIGNED)
def test_a_report_has_a_week_of_seven_days(discipline: str) -> None:
    """And at most three issues."""
    poses = motions.delivery(30) if discipline == "bowling" else motions.stroke(30)
    made = report(poses, discipline)
    assert [day.day for day in made.one_week_plan] == [1, 2, 3, 4, 5, 6, 7]
    assert len(made.top_issues) <= 3
    assert made.drills
    assert made.reliability_warning is None


def test_a_player_seen_half_the_time_is_warned_of() -> None:
    """Under 60 % the warning has the detection rate."""
    poses = motions.stroke(30)
    poses.image[1::2] = np.nan
    assert "50 %" in (report(poses, "batting").reliability_warning or "")


def test_a_film_without_an_action_is_not_said_to_reach_its_marks() -> None:
    """Nothing was held against a mark, so neither a level nor a finding speaks of one."""
    html = page(motions.still(30))
    assert "Not assessed" in html
    assert "None: the film is not assessed." in html
    assert "no number misses its mark" not in html
    assert '<dl class="drills"></dl>' not in html


def test_a_film_without_the_player_gives_the_advice_to_film_again() -> None:
    """No praise, no drill for the player, no level."""
    made = report(motions.undetected(30), "batting")
    assert "no player was found" in made.summary
    assert made.drills == ()
    assert len(made.one_week_plan) == 1
    html = page(motions.undetected(30))
    assert "Not assessed" in html
    assert "no player in view" in html


def test_a_page_that_asks_for_the_player_begins_with_the_people() -> None:
    """The numbered picture is the first, before any with an angle."""
    frame = key_frame(motions.stroke(30), 1.4)
    shown = [picture(frame, 0), picture(replace(frame, is_first=True), 1)]
    assert main_picture(shown, 1.0) == main_picture(shown, None) == shown[1]


def test_hostile_words_stay_words() -> None:
    """Titles, players, notes and file names are untrusted input."""
    frame = KeyFrame(1.4, JPEG, 1280, 720, motions.stroke(30).image[42], np.ones(33), 1.4, HOSTILE)
    fields = ("title", "notes", "file_name", "camera_view")
    tags, plain = (
        Tags(
            page(
                motions.stroke(30),
                frames=[replace(frame, caption=words)],
                players=(words,),
                **dict.fromkeys(fields, words),
            )
        ).seen
        for words in (HOSTILE, "x")
    )
    assert [tag for tag, _ in tags] == [tag for tag, _ in plain]
    assert {"img", "iframe", "link", "object"}.isdisjoint(tag for tag, _ in tags)
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on") or name == "style"]
    assert json.loads(data_block({"title": HOSTILE})) == {"title": HOSTILE}
    assert "<" not in data_block({"title": HOSTILE})


def test_the_page_stands_alone_under_a_strict_policy() -> None:
    """All addresses are data; the policy has the hashes of the only style and the only script."""
    html = page(motions.stroke(30), frames=[key_frame(motions.stroke(30), 1.4)], title="Net session")
    assert not re.search(r"(?<!www.w3.org/2000)https?://(?!www\.w3\.org/2000/svg)|@import|url\(", html)
    policy = next(a["content"] for tag, a in Tags(html).seen if a.get("http-equiv") == "Content-Security-Policy")
    assert policy
    for kind in ("style", "script"):
        own = re.search(rf"<{kind}>(.*?)</{kind}>", html, re.S)
        assert own
        digest = base64.b64encode(hashlib.sha256(own[1].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_every_tag_is_closed(discipline: str) -> None:
    """With an action, a still player, or no player."""
    for poses in (motions.delivery(30), motions.stroke(30), motions.still(30), motions.undetected(30)):
        assert Tags(page(poses, discipline)).open == []


def test_an_absent_number_is_listed_with_its_reason() -> None:
    """On the page of a stroke that has other numbers."""
    html = page(motions.stroke(30))
    assert TIMING_REASON in html
    assert "deg" in html


def test_a_number_of_another_discipline_is_not_listed_as_absent() -> None:
    """A stroke has no release height, and nobody asks why."""
    html = page(motions.stroke(30))
    assert "Not measured, and why" in html
    assert "Release height" not in html
    assert "no delivery" not in html


def test_key_frames_have_the_visible_bones() -> None:
    """The JPEG is unchanged, both sides have a colour, bones of hidden joints are left out."""
    points, visibility = motions.stroke(30).image[42], np.ones(33)
    whole = page(motions.stroke(30), frames=[KeyFrame(1.4, JPEG, 1280, 720, points, visibility, 1.4, "contact")])
    assert base64.b64encode(JPEG).decode() in whole
    assert 'class="bone left"' in whole
    assert 'class="bone right"' in whole
    bare = page(motions.stroke(30), frames=[KeyFrame(1.4, JPEG, 1280, 720, points, visibility * 0.1, 1.4)])
    assert 'class="bone ' not in bare
    assert page(motions.stroke(30)).count("<image") == 0


@pytest.mark.parametrize("degrees", [60.0, 100.0, 140.0, 175.0])
def test_an_arc_spans_the_angle_that_it_says(degrees: float) -> None:
    """Both ends of its path lie on the bones: the angle between them is the knee's."""
    points = motions.stroke(30, knee_deg=degrees).image[60]
    drawn = annotate(FRONT_KNEE_BRACE, degrees, points, FRONT_KNEE)
    assert drawn
    assert drawn.label == f"{degrees:.0f}°"
    assert drawn.degrees == pytest.approx(degrees, abs=0.1)
    start, end = (np.array(pair.split()[-2:], dtype=float) for pair in drawn.path[1:].split("A"))
    knee = points[INDEX["left_knee"]]
    a, b = ((point - knee) / np.linalg.norm(point - knee) for point in (start, end))
    assert np.degrees(np.arccos(a @ b)) == pytest.approx(degrees, abs=0.5)


def test_a_lean_is_drawn_between_trunk_and_upright() -> None:
    """It spans the trunk's angle from vertical."""
    leaning = motions.from_behind(motions.delivery(30), 20)
    drawn = annotate(TRUNK_LATERAL_FLEXION, 20.0, leaning.image[len(leaning) // 2], both_sides("hip", "shoulder"))
    assert drawn
    assert drawn.degrees == pytest.approx(20, abs=1)


def test_no_annotation_has_an_undetected_joint() -> None:
    """A number whose joints are NaN is not drawn."""
    undetected = np.full((33, 2), np.nan)
    arm = landmarks_of(Side.LEFT, ("elbow", "shoulder"))
    for spec, joints in (
        (FRONT_KNEE_BRACE, FRONT_KNEE),
        (STRIDE_LENGTH, both_sides(*FOOT)),
        (ELBOW_DROP, arm),
        (HEAD_STABILITY, HEAD),
    ):
        assert annotate(spec, 1.0, undetected, joints) is None


@pytest.mark.parametrize("discipline", ["fielding", "wicketkeeping"])
@pytest.mark.parametrize("side", [Side.LEFT, Side.RIGHT])
def test_the_annotated_elbow_is_the_measured_one(discipline: str, side: Side) -> None:
    """A throw is measured on the throwing arm, opposite to the front leg: the picture marks that arm too.

    The arms differ: the throwing elbow goes up, the other one hangs 45 px below its shoulder.
    """
    poses = motions.delivery(30, side=side)
    poses.image[:, [INDEX[f"{side}_{part}"] for part in ("shoulder", "elbow", "wrist")], 0] += 200
    measured = measure(poses, [poses], discipline)
    assert measured.front_leg not in (side, None)
    evidence = measured.metrics[ELBOW_DROP.name].evidence[0]
    frame = int(np.argmin(np.abs(poses.times - evidence.time_seconds)))
    joints = measured_joints(measured.traces, ELBOW_DROP, evidence.time_seconds)
    annotation = annotate(ELBOW_DROP, evidence.value, poses.image[frame], joints)
    assert annotation
    x = float(annotation.path.rpartition("L")[2].split()[0])
    assert x == pytest.approx(poses.point(f"{side}_elbow")[frame, 0], abs=0.1)


def test_the_annotated_knee_is_the_label_that_was_measured() -> None:
    """Where the legs' labels are swapped for a while, so are the joints of the annotation."""
    poses = motions.legs_swapped(motions.stroke(30), 1.54, 1.64)
    traces = measure(poses, [poses], "batting").traces
    for seconds, side in ((1.45, Side.LEFT), (1.6, Side.RIGHT)):
        assert measured_joints(traces, FRONT_KNEE_BRACE, seconds) == landmarks_of(side, KNEE)


def test_a_number_that_was_not_measured_has_no_joints() -> None:
    """And so no annotation."""
    measured = measure(motions.still(30), [], "fielding")
    assert measured_joints(measured.traces, FRONT_KNEE_BRACE, 1.0) == ()
    assert annotate(FRONT_KNEE_BRACE, 140.0, motions.still(30).image[0], ()) is None
    assert all(isinstance(entry, MeasuredJoints) for entry in measured.traces[0].joints[HEAD_STABILITY.name])


def test_the_claimed_action_and_the_findings_have_the_first_moments() -> None:
    """The moment of the action comes first; each finding has an image at its own worst moment."""
    whole, _, measured = strokes()
    result = result_of(measured, "batting", whole)
    found = result.findings.findings
    claimed, *chosen = moments(result)
    assert claimed.time_seconds in [round(each.time_seconds, 3) for each in measured.repetitions]
    assert found
    assert [moment.time_seconds for moment in chosen[: len(found)]] == [finding.time_seconds for finding in found]
    assert all(finding.title in moment.captions for finding, moment in zip(found, chosen, strict=False))
    assert len(chosen) <= 5


def test_every_event_has_a_caption() -> None:
    """The page names each kind of action in plain words."""
    poses = motions.stroke(30)
    measured = measure(poses, [poses], "fielding")
    for name, words in (
        (EventName.THROW, "Perhaps a throw"),
        (EventName.TAKE, "Perhaps a take"),
        (EventName.RELEASE, "Ball release"),
    ):
        result = result_of(replace(measured, events=[Event(name, 1.65, 0.9)]), "fielding", poses)
        assert words in [caption for moment in moments(result) for caption in moment.captions]


@pytest.mark.parametrize("given", [False, True])
def test_a_possible_throw_is_never_named_as_a_fact(given: bool) -> None:
    """Neither in a plot nor in the player's list; a given one is."""
    poses = motions.stroke(30)
    measured = measure(poses, [poses], "fielding")
    measured = replace(measured, events=[Event(EventName.THROW, 1.65, 0.9, given=given)])
    words = "throw" if given else "throw?"
    [plot, *_] = action_plots(measured.traces[0], measured, {})
    assert [event.label for event in plot.events] == [words]
    html = render(result_of(measured, "fielding", poses), poses, metadata=Metadata("fielding"))
    assert re.findall(r"</button>\s+(throw\??)", html) == [words]


def test_a_plot_shows_the_number_and_its_mark() -> None:
    """The lowest point of the knee's curve is the knee's number; the mark is the threshold in degrees."""
    poses = motions.stroke(30, knee_deg=110)
    measured = measure(poses, [poses], "batting")
    knee = measured.metrics["front_knee_brace_score"]
    html = page(poses)
    assert "front foot down" in html
    assert "mark 120" in html
    plots = action_plots(measured.traces[0], measured, {})
    assert plots[0].spec is FRONT_KNEE_BRACE
    assert min(value for _, value in plots[0].readout) == pytest.approx(knee.value, abs=0.1)
    assert len({plot.span for plot in plots}) == 1
    assert "polyline" not in page(motions.undetected(30))


@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_only_a_curve_that_is_compared_has_the_mark_in_its_plot(discipline: str) -> None:
    """A spread or a mean of a curve cannot be held against a point of it."""
    poses = motions.delivery(30) if discipline == "bowling" else motions.stroke(30)
    measured = measure(poses, [poses], discipline)
    marks = {spec.name: guidance(discipline).mark(spec.name) for spec in METRICS}
    plots = [plot for trace in measured.traces for plot in action_plots(trace, measured, marks)]
    assert len(plots) > 1
    for plot in plots:
        assert plot.spec.curve
        assert (plot.mark is not None) == plot.spec.curve.compared
        assert plot.mark is None or plot.mark.label.startswith("our mark ")


def test_the_first_lines_are_the_first_finding_with_its_cue_and_its_drill() -> None:
    """Before the summary, the claims and the pictures."""
    html = fullest()
    first = html.index("Work on these three")
    assert first < html.index("Say: “") < html.index("Do: ") < html.index("First work on this")
    assert html.index("Do: ") < html.index("What was measured") < html.index("Key moments")


def test_without_a_finding_the_first_lines_are_what_to_keep_doing() -> None:
    """The drills of the discipline, then the numbers that are nearest to our marks."""
    result = result_of(with_margins("batting", **{spec.name: 0.1 for spec in METRICS if not spec.absent_reason}),
                       "batting", motions.stroke(30))  # fmt: skip
    html = render(result, motions.stroke(30), metadata=Metadata(discipline="batting"))
    drill = result.report.drills[0]
    assert html.index("Keep it up") < html.index(f"Do: {drill.name}, {drill.dose}") < html.index("Nearest to our marks")


def test_numbers_that_are_too_close_to_call_are_not_near_a_mark_that_they_reach() -> None:
    """Of one film, the head alone is clear of its mark: the page must not list the others as reaching theirs."""
    measured = with_margins("batting", head_stability_score=0.2, balance_drift_score=0.001, front_knee_brace_score=0.3)
    findings = find(measured, "batting")
    rows = number_rows(measured.metrics.values(), {spec.name: guidance("batting").mark(spec.name) for spec in METRICS})
    assert [metric.spec.name for metric in findings.too_close] == ["balance_drift_score"]
    nearest = [row.metric.spec.name for row in nearest_to_marks(rows, findings.too_close)]
    assert nearest == ["head_stability_score", "front_knee_brace_score"]
    html = render(result_of(measured, "batting", motions.stroke(30)), motions.stroke(30), metadata=Metadata("batting"))
    assert "compare: head" in html


def test_a_number_has_one_error_in_the_whole_page() -> None:
    """That from the truth: a mark has no bias of the pose model."""
    measured = with_margins("batting", elbow_drop_score=0.01, head_stability_score=0.1, front_knee_brace_score=0.3)
    html = render(result_of(measured, "batting", motions.stroke(30)), motions.stroke(30), metadata=Metadata("batting"))
    elbow = measured.metrics["elbow_drop_score"]
    assert elbow.value is not None
    shown = format_value(elbow.value, elbow.unit, elbow.error)
    assert html.count(f"{elbow.value:.2f} ± ") == html.count(shown) > 1


def test_a_film_that_is_not_assessed_has_no_score_and_no_mark() -> None:
    """Its numbers stand without a judgement, and no sentence explains a mark that is not there."""
    measured = replace(with_margins("bowling", head_stability_score=0.1), obstacle=Obstacle("it is slowed", "Film it."))
    poses = motions.delivery(30)
    html = render(result_of(measured, "bowling", poses), poses, metadata=Metadata("bowling"))
    words = re.sub(r"<(style|script).*?</\1>", "", html, flags=re.DOTALL)
    assert f"{measured.metrics['head_stability_score'].value:.3f}" in words
    assert re.findall(r'class="score">(.*?)</td>', words) == ["–"]
    assert "our mark" not in words
    assert "no number has a score or a mark" in words


def test_the_correction_of_a_moment_names_its_control_of_the_page() -> None:
    """A coach has a page, and no command line."""
    words = unescape(fullest())
    assert f"Give the right moment, and everything is measured again: {Correction.MOMENT.place}." in words
    assert "reanalyze" not in words


def test_lengths_are_in_centimetres_too_where_the_height_is_known() -> None:
    """A body length is 0.779 of the height: 0.140 of 180 cm are 20 cm."""
    head = with_margins("batting", head_stability_score=0.0).metrics["head_stability_score"]
    metric = replace(head, value=0.14, random_error=0.01)
    [row] = number_rows([metric], {}, 180.0)
    assert row.shown == "0.140 ± 0.010 body lengths (20 ± 1 cm)"
    [plain] = number_rows([metric], {})
    assert plain.shown == "0.140 ± 0.010 body lengths"


def test_no_length_in_centimetres_claims_to_be_exact() -> None:
    """A height is known to a centimetre; the mark and the picture speak of centimetres as the number does."""
    measured = with_margins("batting", head_stability_score=0.1, balance_drift_score=0.1)
    exact = [replace(metric, random_error=0.0004) for metric in measured.present()]
    marks = {spec.name: guidance("batting").mark(spec.name) for spec in METRICS}
    for row in number_rows(exact, marks, 150.0):
        assert re.search(r"\(\d+ ± [1-9]\d* cm\)$", row.shown)
        assert re.search(r"body lengths \(\d+ cm\) or less$", row.mark or "")
    frame = key_frame(motions.stroke(30), 1.4)
    [knee] = frame.annotations
    head = replace(knee, spec=HEAD_STABILITY, value=0.2)
    shown = picture(replace(frame, annotations=(knee, head)), 0, 180.0)
    assert [each.label for each in shown.annotations] == ["140°", "28 cm"]
    assert "head 0.20 body lengths (28 cm) off its mean place" in shown.numbers
    assert "cm" not in picture(replace(frame, annotations=(knee, head)), 0).alt


def test_a_picture_names_a_finding_once() -> None:
    """Its title, and not its worst moment too."""
    whole, _, measured = strokes()
    result = result_of(measured, "batting", whole)
    found = [finding.metric for finding in result.findings.findings]
    captions = [caption for moment in moments(result) for caption in moment.captions]
    assert found
    for spec in found:
        assert spec
        assert spec.worst_moment
        assert spec.worst_moment.caption not in captions


def test_the_reading_beside_a_ring_is_the_value_of_the_ring() -> None:
    """Where the cursor stands on a worst moment, which lies between two samples."""
    _, _, measured = strokes()
    trace = measured.traces[0]
    plots = {plot.spec.name: plot for plot in action_plots(trace, measured, {})}
    seen = 0
    for name, plot in plots.items():
        for moment in measured.everything[name].evidence:
            if trace.start <= moment.time_seconds <= trace.end:
                nearest = min(plot.readout, key=lambda at: abs(at[0] - moment.time_seconds))
                assert nearest == pytest.approx(moment, abs=0.0006)
                seen += 1
    assert seen > 1


def test_advice_about_a_film_is_nothing_to_say_to_a_player() -> None:
    """It has no priority among a player's faults either."""
    html = page(motions.undetected(30))
    assert "How to film" in html
    assert "<h4>Say</h4>" not in html
    assert "high priority" not in html


def test_labels_lie_inside_their_picture_and_not_on_one_another() -> None:
    """Also of joints at the edge of the crop, and of two at one place."""
    poses = motions.stroke(30)
    frame = key_frame(poses, 1.0)
    [annotation] = frame.annotations
    for corner in ((-50.0, -50.0), (5000.0, 5000.0), annotation.label_at):
        placed = picture(replace(frame, annotations=(replace(annotation, label_at=corner),) * 3), 0)
        x, y, width, height = (float(side) for side in placed.box.split())
        places = [each.label_at for each in placed.annotations]
        assert all(x < left < x + width and y < top < y + height for left, top in places)
        tops = sorted(top for _, top in places)
        assert all(b - a > placed.label_size for a, b in pairwise(tops))


def test_the_player_has_every_frame_of_an_action_and_stays_small() -> None:
    """Half an hour loses frames outside of the actions, never inside."""
    poses = motions.still(10, seconds=1800)
    packed = player(poses, [(100.0, 110.0)], [])
    assert len(packed["times"]) <= MOST_FRAMES + 1
    assert sum(100 <= t <= 110 for t in packed["times"]) == 101
    assert len(packed["frames"]) == len(packed["faint"]) == len(packed["times"])


def test_half_a_minute_with_all_there_is_stays_under_3_mb() -> None:
    """With six pictures as large as those of grass, eight strokes and every finding."""
    html = fullest()
    assert len(html.encode()) < 3_000_000
    assert Tags(html).open == []
