"""The page that compares analyses, parsed as a browser does."""

import io
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from crease.jobs.v1 import job_pb2
from services.cli.ui import console, job_results
from services.comparison import page as compare_page
from services.comparison.page import ComparedAnalysis, embed, render
from services.rules.numbers import NUMBERS
from testing.data.clips import even, write_clip
from testing.servers.browser import chromium, needs_chromium

HOSTILE = (
    "</title></style><script>alert(1)</script><img src=x onerror=alert(1)>\u202e\U0001f3cf'\" {{ 7 * 7 }}" + "w" * 5000
)


def reading(job: str, value: float | None, error: float | None = 3.0, unit: str = "deg") -> job_pb2.MetricReading:
    if value is None:
        return job_pb2.MetricReading(job_id=job, absent_reason="front knee not visible")
    return job_pb2.MetricReading(job_id=job, value=value, error=error, unit=unit, score=0.5, confidence=0.9)


def change(value: float, detectable: float) -> job_pb2.MetricChange:
    return job_pb2.MetricChange(
        value=value, detectable=detectable, clear=abs(value) > detectable, unit="deg", score=value / 100
    )


def response(
    *,
    player_ids: Sequence[str] = ("Asha",),
    caveats: Sequence[str] = (),
    metrics: Sequence[job_pb2.MetricComparison] | None = None,
) -> job_pb2.CompareJobsResponse:
    metric = job_pb2.MetricComparison(
        name="front_knee_brace_score",
        readings=[reading("a", 140.0), reading("b", None), reading("c", 155.0)],
        overall=change(15.0, 8.3),
    )
    return job_pb2.CompareJobsResponse(player_ids=player_ids, caveats=caveats, metrics=metrics or [metric])


def test_dates_of_one_day_do_not_lie_on_one_another() -> None:
    """The script adds their time, so that only the first and the last fit."""
    for days, expected in ((("1 May 2026", "2 May 2026", "3 May 2026"), 3), (("1 May 2026",) * 3, 2)):
        made = [ComparedAnalysis(f"Nets {k}", f"{day}, 10:00") for k, day in enumerate(days)]
        metric = job_pb2.MetricComparison(
            name="front_knee_brace_score",
            readings=[reading(name, 140.0) for name in "abc"],
            overall=change(15.0, 8.3),
        )
        html = render(made, response(metrics=[metric]))
        drawing = html[html.index('role="img"') :].partition("</svg>")[0]
        assert len(re.findall(r">\s*\d: ", drawing)) == expected


@pytest.mark.parametrize("given", [False, True])
def test_a_possible_throw_is_named_as_one(given: bool) -> None:
    """Its button shows every film at a moment that no sign proves."""
    thrown = ComparedAnalysis("Nets", "1 May 2026", events={"throw": 1.0}, given=frozenset({"throw"} if given else ()))
    words = re.findall(r"<button[^>]*data-event[^>]*>(.*?)</button>", render([thrown] * 3, response()))
    assert words == ["Throw" if given else "Perhaps a throw"]


def analyses(**fields: Any) -> list[ComparedAnalysis]:
    """Three analyses; `fields` replace those of the third."""
    made = [ComparedAnalysis(f"Nets {k}", f"{k} May 2026, 10:00", "high", events={"release": 0.8 + k}) for k in (1, 2)]
    return [*made, replace(ComparedAnalysis("Nets 3", "3 May 2026, 10:00"), **fields)]


class Tags(HTMLParser):
    """Every element with its attributes, the text, and the elements that are still open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "line", "circle", "polyline", "br", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def skeleton(tags: Tags) -> list[tuple[str, list[str]]]:
    return [(tag, sorted(attributes)) for tag, attributes in tags.found]


def test_hostile_text_changes_no_element_of_the_page() -> None:
    """Hostile titles, players, caveats, metrics and reasons: the same elements with the same attributes."""
    metric = job_pb2.MetricComparison(
        name=HOSTILE,
        readings=[reading("a", 140.0, unit=HOSTILE), reading("b", None), reading("c", 155.0)],
        overall=job_pb2.MetricChange(absent_reason=HOSTILE),
    )
    metric.readings[1].absent_reason = HOSTILE
    fields = {
        "title": HOSTILE,
        "date": HOSTILE,
        "level": HOSTILE,
        "video_absent_reason": HOSTILE,
        "events": {HOSTILE: 1.0},
    }
    hostile = render(analyses(**fields), response(player_ids=[HOSTILE], caveats=[HOSTILE], metrics=[metric]))
    plain = render(analyses(video_absent_reason="none"), response(caveats=["x"]))
    bad, good = Tags(hostile), Tags(plain)
    assert bad.open == good.open == []
    errors = ("line", ["class", "x1", "x2", "y1", "y2"])
    assert skeleton(bad) == skeleton(good)
    assert errors in skeleton(good)
    assert "{{ 7 * 7 }}" in "".join(bad.words)


def test_the_page_makes_no_request() -> None:
    """A strict policy with the hashes of its own style and script, and no URL in the file."""
    html = render(analyses(video=embed(b"\0\1\2")), response())
    assert re.findall(r"(?:src|href)=\"(?!data:)", html) == []
    assert "://" not in html
    policy = next(a["content"] for t, a in Tags(html).found if a.get("http-equiv") == "Content-Security-Policy")
    assert policy
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "data:video/mp4;base64,AAEC" in html


def test_each_change_is_in_words_under_a_summary() -> None:
    """A head that moves more has got worse, though its line rises: words, a sign and a class say so."""
    worse = job_pb2.MetricComparison(
        name="head_stability_score",
        readings=[reading(job, value, 0.009, "body lengths") for job, value in (("a", 0.145), ("b", 0.195))],
        overall=job_pb2.MetricChange(value=0.05, detectable=0.025, clear=True, unit="body lengths", score=-0.09),
    )
    better = job_pb2.MetricComparison(
        name="front_knee_brace_score", readings=[reading("a", 140.0), reading("b", 155.0)], overall=change(15.0, 8.3)
    )
    tags = Tags(render(analyses()[:2], response(metrics=[better, worse])))
    text = " ".join(" ".join(tags.words).split())
    assert "First (1: 1 May) against last (2: 2 May)." in text
    assert "✔ Better: Front knee." in text
    assert "✘ Worse: Head." in text
    assert "✘ Worse: 0.050 body lengths more, 2.0 times the 0.025 body lengths that errors alone make." in text
    assert "↓ down is better" in text
    classes = [a.get("class") for tag, a in tags.found if tag == "p"]
    assert "verdict worse" in classes
    assert "verdict better" in classes


def test_each_number_has_its_one_name_on_the_page_and_on_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of the analyzer's report, for every number that there is."""
    metrics = [
        job_pb2.MetricComparison(
            name=name,
            readings=[reading(job, value, 1.0, number.unit) for job, value in (("a", 100.0), ("b", 110.0))],
            overall=job_pb2.MetricChange(value=10.0, detectable=2.8, clear=True, unit=number.unit),
        )
        for name, number in NUMBERS.items()
    ]
    compared = response(metrics=metrics)
    headings = re.findall(
        r"<h3><bdi>(.*?)</bdi> <span class=\"meaning\"><bdi>(.*?)</bdi>", render(analyses()[:2], compared)
    )
    assert sorted(headings) == sorted((number.label, number.meaning) for number in NUMBERS.values())
    out = io.StringIO()
    monkeypatch.setattr(console, "OUT", Console(file=out, highlight=False, markup=False, width=console.PIPE_WIDTH))
    job_results.print_changes(compared)
    lines = out.getvalue().splitlines()
    for number in NUMBERS.values():
        assert any(line.startswith(f"{number.label}  ") for line in lines)


def test_the_page_names_no_job_by_its_id() -> None:
    """A caveat and a reason name the analysis by its number in the page."""
    long_id = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"
    metric = job_pb2.MetricComparison(
        name="stride_length",
        readings=[reading("other", 0.5), reading(long_id, 0.6)],
        overall=job_pb2.MetricChange(absent_reason=f"job {long_id} was not assessed: two people"),
    )
    html = render(analyses()[:2], response(metrics=[metric], caveats=[f"job {long_id} was not assessed: two people"]))
    assert long_id not in html
    assert html.count("Analysis 2 was not assessed") == 2


def test_a_missing_number_is_a_gap_with_its_reason() -> None:
    """No line crosses an absent value; each point has its number, and its error as a bar."""
    tags = Tags(render(analyses(), response()))
    kinds = [tag for tag, _ in tags.found]
    assert (kinds.count("circle"), kinds.count("line"), kinds.count("polyline")) == (2, 2, 0)
    text = " ".join(tags.words)
    assert "2: front knee not visible." in text
    assert "140°" in text
    assert "155°" in text
    [spoken] = [a["aria-label"] for t, a in tags.found if t == "svg"]
    assert spoken == "1: 140° ± 3°; 2: not measured; 3: 155° ± 3°"


@pytest.mark.parametrize("values", [(5.0, 5.0), (0.0, 0.0), (-1e9, 1e9), (1e-12, 2e-12)])
def test_every_number_lies_in_its_drawing(values: tuple[float, float]) -> None:
    """Also equal, zero, huge and tiny numbers."""
    metric = job_pb2.MetricComparison(
        name="x", readings=[reading(k, v, None) for k, v in zip("ab", values, strict=True)]
    )
    tags = Tags(render(analyses()[:2], response(metrics=[metric])))
    places = [(float(a["cx"] or -1), float(a["cy"] or -1)) for tag, a in tags.found if tag == "circle"]
    assert len(places) == 2
    assert all(0 < x < compare_page.WIDTH and 0 < y < compare_page.HEIGHT for x, y in places)


@pytest.mark.slow
@needs_chromium
def test_in_a_browser_videos_pause_at_the_same_event_and_nothing_leaves_the_page(tmp_path: Path) -> None:
    """Hostile text at a phone's width: none of its scripts run, no console error, no request, no sideways scroll."""
    video = write_clip(tmp_path / "video.mp4", even(30, 60), size=(320, 240)).read_bytes()
    fields = {"title": HOSTILE, "video": embed(video), "events": {"release": 1.26}, "frames": {"release": 1.267}}
    made = [
        ComparedAnalysis("Nets 1", "1 May 2026, 10:00", "high", video=embed(video), events={"release": 0.5}),
        *analyses(**fields)[1:],
    ]
    out = tmp_path / "compare.html"
    out.write_text(render(made, response(player_ids=[HOSTILE], caveats=[HOSTILE])), encoding="utf-8")
    with chromium() as browser, browser.page(out, width=360, height=740) as tab:
        tab.wait("[...document.querySelectorAll('video')].every(v => v.readyState >= 2 && !v.seeking)")
        at = tab.evaluate("[...document.querySelectorAll('video')].map(v => v.currentTime)")
        assert at == pytest.approx([0.501, 1.268], abs=1e-3)
        captions = tab.evaluate("[...document.querySelectorAll('.at')].map(e => e.textContent)")
        assert captions == [" · Ball release at 0.50 s", "", " · Ball release at 1.26 s"]
        for control, wanted in (("on", 0.534), ("back", 0.501), ("back", 0.467)):
            tab.evaluate(f"document.getElementById('{control}').click()")
            tab.wait("[...document.querySelectorAll('video')].every(v => !v.seeking)")
            at = tab.evaluate("[...document.querySelectorAll('video')].map(v => v.currentTime)")
            assert at == pytest.approx([wanted, wanted + 0.767], abs=2e-3)
        tab.evaluate("document.getElementById('slider').value = 0.2")
        tab.evaluate("document.getElementById('slider').dispatchEvent(new Event('input'))")
        assert tab.evaluate("document.getElementById('clock').textContent") == "0.20 s after Ball release"
        assert tab.evaluate("[...document.querySelectorAll('video')].map(v => v.playbackRate)") == [0.25, 0.25]
        tab.evaluate("document.querySelector('[data-speed=\"0.5\"]').click()")
        assert tab.evaluate("[...document.querySelectorAll('video')].map(v => v.playbackRate)") == [0.5, 0.5]
        tab.evaluate("document.getElementById('play').click()")
        tab.wait("document.querySelector('video').currentTime > 0.72")
        tab.evaluate("document.getElementById('play').click()")
        tab.wait("[...document.querySelectorAll('video')].every(v => !v.seeking)")
        [first, last] = tab.evaluate("[...document.querySelectorAll('video')].map(v => v.currentTime)")
        assert last - first == pytest.approx(0.767, abs=2e-3)
        tab.evaluate("document.getElementById('over').click()")
        tab.evaluate("document.getElementById('mix').value = 0.3")
        tab.evaluate("document.getElementById('mix').dispatchEvent(new Event('input'))")
        laid = tab.evaluate("""[...document.querySelectorAll('video')].map(video => {
            const {x, y, width, height} = video.getBoundingClientRect();
            return [x, y, width, height, Number(getComputedStyle(video).opacity)];
        })""")
        assert laid[0][:4] == laid[1][:4]
        assert [one[4] for one in laid] == [1, 0.3]
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert tab.evaluate("document.images.length") == 0
        assert tab.complaints == []
        assert [url for url in tab.requests if not url.startswith(("data:", out.as_uri()))] == []
