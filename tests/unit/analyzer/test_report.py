"""A report that says what was found and nothing else, is safe to open, and stands alone."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from services.analyzer.find import find
from services.analyzer.guidance import DISCIPLINES
from services.analyzer.measure import TIMING_REASON, Measurements, measure
from services.analyzer.report import About, KeyFrame, compose, render
from services.analyzer.series import Poses
from tests import motions

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7 * 7 }}"
JPEG = b"\xff\xd8\xff\xe0 not really a picture"


def results(measured: Measurements, discipline: str, whole: Poses) -> dict[str, Any]:
    findings = find(measured, discipline)
    summary = {
        "total_frames": len(whole),
        "sampled_frames": len(whole),
        "frames_with_pose": int(whole.detected.sum()),
        "detection_rate_percent": measured.detection_rate_percent,
        "video_fps": 30.0,
        "model": "pose_landmarker_full",
        "width": 1280,
        "height": 720,
        "duration_seconds": 3.0,
        "damaged": False,
        **measured.summary(),
    }
    return {
        "pose": {"pose_summary": summary},
        "metrics": {name: metric.as_dict() for name, metric in measured.metrics.items()},
        "findings": findings,
        "report": compose(measured, findings, discipline),
    }


def page(poses: Poses, discipline: str = "batting", frames: list[KeyFrame] | None = None, **about: Any) -> str:
    closeups = [poses] if poses.detected.any() else []
    measured = measure(poses, closeups, discipline)
    return render(results(measured, discipline, poses), poses, closeups, frames or [], About(**about))


def report(poses: Poses, discipline: str) -> dict[str, Any]:
    measured = measure(poses, [poses], discipline)
    return compose(measured, find(measured, discipline), discipline)


class Tags(HTMLParser):
    """Every tag with its attributes, and what is left open at the end."""

    VOID = ("meta", "br", "image", "line", "circle", "polyline")

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
    html = page(motions.stroke(30), frames=[frame], **fields)
    tags = Tags(html).seen
    assert {"script", "img", "iframe", "link", "object"}.isdisjoint(tag for tag, _ in tags)
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on") or name == "style"]
    assert "{{ 7 * 7 }}" in html


def test_the_page_stands_alone_under_a_strict_policy() -> None:
    """No address but data ones; the only style is the one whose hash the policy holds."""
    frame = KeyFrame(1.4, JPEG, 1280, 720, motions.stroke(30).image[42], np.ones(33), "contact")
    html = page(motions.stroke(30), frames=[frame], title="Net session")
    assert not re.search(r"https?:|//[a-z]|@import|url\(", html)
    style = re.search(r"<style>(.*?)</style>", html, re.S)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = next(a["content"] for tag, a in Tags(html).seen if a.get("http-equiv") == "Content-Security-Policy")
    assert policy
    assert f"style-src 'sha256-{digest}'" in policy
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


def test_the_plot_marks_the_events() -> None:
    """The knee from contact on, or the head where no knee is."""
    html = page(motions.stroke(30))
    assert "Front knee in the picture" in html
    assert "front foot down" in html
    assert "Head over the feet" in page(motions.sway(30, 0.1))
    assert "polyline" not in page(motions.nobody(30))
