"""A report that says what was found and nothing else, is safe to open, and stands alone."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from services.analyzer.biomechanics.measurement import TIMING_REASON, measure
from services.analyzer.coaching.findings import find
from services.analyzer.coaching.summary import compose
from services.analyzer.knowledge.loader import DISCIPLINES, Scale
from services.analyzer.pose.landmarks import Poses
from services.analyzer.report.annotations import draw
from services.analyzer.report.html import data_block
from services.analyzer.report.key_frames import moments
from services.analyzer.report.page import KeyFrame
from services.analyzer.report.player import MOST_FRAMES, player
from services.analyzer.report.plots import action_plots
from testing.data import motions
from testing.data.reports import HOSTILE, fullest, key_frame, page, results, strokes

JPEG = b"\xff\xd8\xff\xe0 not really a picture"


def report(poses: Poses, discipline: str) -> dict[str, Any]:
    measured = measure(poses, [poses], discipline)
    return compose(measured, find(measured, discipline), discipline)


class Tags(HTMLParser):
    """Every tag with its attributes, and what is left open at the end."""

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


@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_a_report_is_plain_json_with_a_week_of_seven_days(discipline: str) -> None:
    """And at most three things to work on."""
    poses = motions.delivery(30) if discipline == "bowling" else motions.stroke(30)
    made = json.loads(json.dumps(report(poses, discipline), allow_nan=False))
    assert set(made) == {"summary", "top_issues", "drills", "one_week_plan", "reliability_warning"}
    assert [day["day"] for day in made["one_week_plan"]] == [1, 2, 3, 4, 5, 6, 7]
    assert len(made["top_issues"]) <= 3
    assert made["drills"]
    assert made["reliability_warning"] is None


def test_a_player_seen_half_the_time_is_warned_of() -> None:
    """Under 60 % detection the report says how much was seen."""
    poses = motions.stroke(30)
    poses.image[1::2] = np.nan
    assert "50 %" in report(poses, "batting")["reliability_warning"]


def test_nobody_in_view_gives_no_advice_but_to_film_again() -> None:
    """No praise, no drill for the player, no level."""
    made = report(motions.nobody(30), "batting")
    assert "nothing was measured" in made["summary"]
    assert len(made["one_week_plan"]) == 1
    html = page(motions.nobody(30))
    assert "Not assessed" in html
    assert "nobody in view" in html


def test_hostile_words_stay_words() -> None:
    """Titles, players, notes and file names come from strangers."""
    frame = KeyFrame(1.4, JPEG, 1280, 720, motions.stroke(30).image[42], np.ones(33), HOSTILE)
    fields = {"title": HOSTILE, "players": (HOSTILE,), "notes": HOSTILE, "file_name": HOSTILE, "camera_view": HOSTILE}
    tags = Tags(page(motions.stroke(30), frames=[frame], **fields)).seen
    plain = Tags(page(motions.stroke(30), frames=[replace(frame, caption="x")], **dict.fromkeys(fields, "x"))).seen
    assert [tag for tag, _ in tags] == [tag for tag, _ in plain]
    assert {"img", "iframe", "link", "object"}.isdisjoint(tag for tag, _ in tags)
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on") or name == "style"]
    assert json.loads(data_block({"title": HOSTILE})) == {"title": HOSTILE}
    assert "<" not in data_block({"title": HOSTILE})


def test_the_page_stands_alone_under_a_strict_policy() -> None:
    """No address but data ones; the only style and script are those whose hashes the policy holds."""
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
    """Whatever there is to show: an action, a still player, nobody."""
    for poses in (motions.delivery(30), motions.stroke(30), motions.still(30), motions.nobody(30)):
        assert Tags(page(poses, discipline)).open == []


def test_what_could_not_be_measured_is_said_with_its_reason() -> None:
    """In the table, beside what could."""
    html = page(motions.stroke(30))
    assert TIMING_REASON in html
    assert "deg" in html


def test_key_frames_are_drawn_with_the_bones_that_were_seen() -> None:
    """The JPEG as it is, both sides told apart, hidden joints left out."""
    points, visibility = motions.stroke(30).image[42], np.ones(33)
    whole = page(motions.stroke(30), frames=[KeyFrame(1.4, JPEG, 1280, 720, points, visibility, "contact")])
    assert base64.b64encode(JPEG).decode() in whole
    assert 'class="bone left"' in whole
    assert 'class="bone right"' in whole
    bare = page(motions.stroke(30), frames=[KeyFrame(1.4, JPEG, 1280, 720, points, visibility * 0.1)])
    assert 'class="bone ' not in bare
    assert page(motions.stroke(30)).count("<image") == 0


@pytest.mark.parametrize("degrees", [60.0, 100.0, 140.0, 175.0])
def test_an_arc_spans_the_angle_that_it_says(degrees: float) -> None:
    """From its path alone: both ends lie on the bones, so the angle between them is the knee's."""
    points = motions.stroke(30, knee_deg=degrees).image[60]
    drawn = draw("front_knee_brace_score", degrees, points, "left")
    assert drawn
    assert drawn.label == f"{degrees:.0f}°"
    assert drawn.degrees == pytest.approx(degrees, abs=0.1)
    start, end = (np.array(pair.split()[-2:], dtype=float) for pair in drawn.path[1:].split("A"))
    joint = points[25]  # the left knee
    ways = [(spot - joint) / np.linalg.norm(spot - joint) for spot in (start, end)]
    assert np.degrees(np.arccos(ways[0] @ ways[1])) == pytest.approx(degrees, abs=0.5)


def test_a_lean_is_drawn_between_trunk_and_upright() -> None:
    """As far as the trunk leans."""
    leaning = motions.from_behind(motions.delivery(30), 20)
    drawn = draw("trunk_lateral_flexion_at_release", 20.0, leaning.image[len(leaning) // 2], None)
    assert drawn
    assert drawn.degrees == pytest.approx(20, abs=1)


def test_nothing_is_drawn_on_joints_that_were_not_seen() -> None:
    """Not even a part of it."""
    nobody = np.full((33, 2), np.nan)
    for metric in ("front_knee_brace_score", "stride_length", "elbow_drop_score", "head_stability_score"):
        assert draw(metric, 1.0, nobody, "left") is None


def test_a_moment_is_the_findings_and_the_worst_comes_first() -> None:
    """A finding has its picture at its own time, whatever else there is to show."""
    whole, _, measured = strokes()
    filed = results(measured, "batting", whole)
    found = filed["findings"]["findings"]
    chosen = moments(filed)
    assert found
    assert [m.time_seconds for m in chosen[: len(found)]] == [finding["time_seconds"] for finding in found]
    assert all(finding["title"] in m.captions for finding, m in zip(found, chosen, strict=False))
    assert len(chosen) <= 6


def test_throws_and_takes_have_words() -> None:
    """Every action that can be found is named on the page as a person names it."""
    poses = motions.stroke(30)
    for name, words in (("throw", "Throw"), ("take", "Take"), ("release", "Ball release")):
        filed = results(measure(poses, [poses], "fielding"), "fielding", poses)
        filed["pose"]["pose_summary"]["events"] = [{"name": name, "time_seconds": 1.65, "confidence": 0.9}]
        assert words in [caption for moment in moments(filed) for caption in moment.captions]


def test_a_plot_shows_the_number_and_its_mark() -> None:
    """The lowest place of the knee's curve is the knee's number; the mark is the threshold in degrees."""
    poses = motions.stroke(30, knee_deg=110)
    measured = measure(poses, [poses], "batting")
    knee = measured.metrics["front_knee_brace_score"]
    html = page(poses)
    assert "front foot down" in html
    assert "mark 120" in html
    worst = {name: list(metric.evidence) for name, metric in measured.metrics.items()}
    plots = action_plots(measured.courses[0], measured.events, {}, worst)
    assert plots[0].metric == "front_knee_brace_score"
    assert min(value for _, value in plots[0].readout) == pytest.approx(knee.value, abs=0.1)
    assert len({plot.span for plot in plots}) == 1
    assert "polyline" not in page(motions.nobody(30))


def test_a_scale_read_backwards_gives_the_value_of_a_score() -> None:
    """Rising and falling, and its ends beyond them."""
    for points in (((60.0, 0.0), (120.0, 0.5), (180.0, 1.0)), ((0.0, 1.0), (0.35, 0.0))):
        scale = Scale(points=points)
        for score in (0.0, 0.25, 0.5, 0.9, 1.0):
            assert scale.score(scale.value(score)) == pytest.approx(score)


def test_the_player_has_every_frame_of_an_action_and_stays_small() -> None:
    """Half an hour is thinned outside of the actions, never inside."""
    poses = motions.still(10, seconds=1800)
    packed = player(poses, [(100.0, 110.0)], [])
    assert len(packed["times"]) <= MOST_FRAMES + 1
    assert sum(100 <= t <= 110 for t in packed["times"]) == 101
    assert len(packed["frames"]) == len(packed["faint"]) == len(packed["times"])


def test_half_a_minute_with_all_there_is_stays_under_3_mb() -> None:
    """Six pictures as heavy as grass, eight strokes, every finding; and it is whole."""
    html = fullest()
    assert len(html.encode()) < 3_000_000
    assert Tags(html).open == []
