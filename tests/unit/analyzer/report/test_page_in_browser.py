"""The report in a real browser: it plays, jumps, prints, sends no request, and shows the truth of a known film."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.analyzer.pipeline import Analysis, AnalysisOptions
from services.analyzer.report.metadata import Metadata
from services.analyzer.settings import Settings
from testing.data import motions, reports
from testing.data.videos import BATTER, ROOT, needs_model, truly
from testing.servers.browser import Browser, Page, chromium, needs_chromium

pytestmark = [pytest.mark.slow, needs_chromium]
AXE = ROOT / "build" / "axe" / "axe.min.js"
needs_axe = pytest.mark.skipif(
    not AXE.exists() and not os.environ.get("CI"), reason="axe-core is not at hand (make proof-tools fetches it)"
)
PHONE, TABLET, PROJECTOR = (320, 640), (820, 1180), (1920, 1080)
NOW = "document.getElementById('slider').value"
CLOCK = "document.getElementById('clock').textContent"
SKELETON = "[...document.querySelectorAll('#figure line')].map(l => l.getAttribute('x1')).join()"
CURSORS = "[...document.querySelectorAll('figure.plot')].filter(f => f.dataset.at).map(f => f.dataset.at)"
INPUT = "document.getElementById('slider').dispatchEvent(new Event('input'))"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By name: one stroke, everything that a page can hold, the same with hostile words, no player in view."""
    folder = tmp_path_factory.mktemp("pages")
    stroke = motions.stroke(60, knee_deg=100)
    hostile = dict.fromkeys(("title", "notes", "file_name", "analysed_at"), reports.LONG_HOSTILE)
    written = {
        "stroke": reports.page(stroke, frames=[reports.key_frame(stroke, 1.5)], title="Nets", players=("Asha",)),
        "fullest": reports.fullest(title="Net session", players=("Asha Rao",), notes="Front-foot drives."),
        "hostile": reports.fullest(**hostile, players=(reports.LONG_HOSTILE, reports.HOSTILE)),
        "nobody": reports.page(motions.undetected(30)),
    }
    for name, html in written.items():
        (folder / f"{name}.html").write_text(html, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in written}


@pytest.mark.parametrize("name", ["stroke", "fullest", "hostile", "nobody"])
def test_a_page_sends_no_request_and_logs_no_error(browser: Browser, pages: dict[str, Path], name: str) -> None:
    """Neither on opening nor after a click on every button that plays or jumps."""
    with browser.page(pages[name]) as page:
        page.evaluate("document.querySelectorAll('#go, #back, #on, .jump').forEach(button => button.click())")
        page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        addresses = {url for url in page.requests if not url.startswith("data:")}
        assert addresses == {pages[name].as_uri()}
        assert page.complaints == []


def test_the_policy_blocks_injected_content(browser: Browser, pages: dict[str, Path]) -> None:
    """The browser blocks every script, style, image and request that is not the page's own."""
    with browser.page(pages["stroke"]) as page:
        refused = page.evaluate("""new Promise(done => {
            const seen = [];
            document.addEventListener('securitypolicyviolation', event => seen.push(event.effectiveDirective));
            const script = document.createElement('script');
            script.textContent = 'window.taken = 1';
            document.body.append(script);
            document.body.append(Object.assign(document.createElement('style'), {textContent: 'body { opacity: 0 }'}));
            document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/x.png'}));
            fetch('http://127.0.0.1:9/').catch(() => setTimeout(() => done(seen), 100));
        })""")
        assert {"script-src-elem", "style-src-elem", "img-src", "connect-src"} <= set(refused)
        assert page.evaluate("window.taken") is None


def test_the_slider_moves_the_skeleton_and_all_cursors(browser: Browser, pages: dict[str, Path]) -> None:
    """By keys and by its value; every plot's cursor is at the clock's moment."""
    with browser.page(pages["stroke"]) as page:
        page.evaluate("document.getElementById('slider').focus()")
        before, skeleton = page.evaluate(NOW), page.evaluate(SKELETON)
        page.press("ArrowRight")
        assert int(page.evaluate(NOW)) == int(before) + 1
        page.evaluate(f"document.getElementById('slider').value = 100, {INPUT}")
        assert page.evaluate(SKELETON) != skeleton
        moment = 100 / 60
        assert page.evaluate(CLOCK) == f"{moment:.2f} s"
        assert [float(at) for at in page.evaluate(CURSORS)] == pytest.approx([moment] * 4, abs=0.001)
        # The cursor's x is the moment's on its axis.
        plot, x = page.evaluate("""(() => {
            const data = JSON.parse(document.getElementById('data').textContent);
            return [[data.plots[0].span, data.box], document.querySelector('.cursor').getAttribute('x1')];
        })()""")
        (start, end), box = plot
        right = box["width"] - box["right"]
        assert float(x) == pytest.approx(
            box["left"] + (moment - start) / (end - start) * (right - box["left"]), abs=0.5
        )
        page.evaluate("document.getElementById('back').click()")
        assert page.evaluate(NOW) == "99"
        page.evaluate(f"document.getElementById('slider').value = 0, {INPUT}")
        page.evaluate("document.getElementById('back').click()")
        assert page.evaluate(CLOCK) == "0.00 s"
        assert page.complaints == []


def test_a_skeleton_is_where_the_player_was(browser: Browser, pages: dict[str, Path]) -> None:
    """The drawn left knee is the motion's, in the player's units."""
    poses = motions.stroke(60, knee_deg=100)
    with browser.page(pages["stroke"]) as page:
        page.evaluate(f"document.getElementById('slider').value = 90, {INPUT}")
        ends = page.evaluate(
            "[...document.querySelectorAll('#figure line')].map(l => ['x2', 'y2'].map(name => +l.getAttribute(name)))"
        )
        knee = poses.point("left_knee")[90] * 1000 / poses.width
        assert any(np.allclose(end, knee, atol=0.51) for end in ends)


def test_it_plays_and_stops(browser: Browser, pages: dict[str, Path]) -> None:
    """Frames advance until a click on stop."""
    with browser.page(pages["stroke"]) as page:
        page.evaluate(f"document.getElementById('slider').value = 0, {INPUT}")
        page.evaluate("document.getElementById('go').click()")
        page.wait(f"+{NOW} > 3")
        page.evaluate("document.getElementById('go').click()")
        stopped = page.evaluate(NOW)
        page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert page.evaluate(NOW) == stopped
        assert page.evaluate("document.getElementById('go').getAttribute('aria-pressed')") == "false"


@pytest.mark.parametrize("name", ["stroke", "fullest"])
def test_every_card_jumps_to_its_moment(browser: Browser, pages: dict[str, Path], name: str) -> None:
    """Player, cursors and focus move to the finding's time, and the plots of its action open."""
    with browser.page(pages[name]) as page:
        count = page.evaluate("document.querySelectorAll('.card .jump').length")
        assert count >= 1
        for k in range(count):
            moment = float(page.evaluate(f"document.querySelectorAll('.card .jump')[{k}].dataset.time"))
            page.evaluate(f"document.querySelectorAll('.card .jump')[{k}].click()")
            assert page.evaluate(CLOCK) == f"{moment:.2f} s"
            assert page.evaluate("document.activeElement.id") == "slider"
            cursors = page.evaluate(CURSORS)
            assert cursors
            assert all(float(at) == pytest.approx(moment, abs=0.001) for at in cursors)
            assert page.evaluate(
                "[...document.querySelectorAll('figure.plot')].some(f => f.dataset.at && f.checkVisibility())"
            )


@pytest.mark.parametrize("name", ["stroke", "fullest", "hostile", "nobody"])
def test_it_prints_on_two_pages_of_a4(browser: Browser, pages: dict[str, Path], name: str) -> None:
    """A page without a player needs one."""
    with browser.page(pages[name]) as page:
        printed = page.printed()
        count = len(re.findall(rb"/Type\s*/Page\b", printed))
        assert count == (1 if name == "nobody" else 2)
        boxes = [[float(v) for v in box.split()] for box in re.findall(rb"/MediaBox\s*\[([^\]]*)\]", printed)]
        assert all(box[2:] == pytest.approx([595, 842], abs=2) for box in boxes)


@pytest.mark.parametrize("size", [PHONE, TABLET, PROJECTOR])
@pytest.mark.parametrize("name", ["stroke", "fullest", "hostile", "nobody"])
def test_no_width_scrolls_sideways(browser: Browser, pages: dict[str, Path], name: str, size: tuple[int, int]) -> None:
    """From the smallest phone to a projector; only a table may scroll on its own."""
    with browser.page(pages[name], *size) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]


@needs_axe
@pytest.mark.parametrize(("size", "scheme"), [(PHONE, "light"), (PROJECTOR, "dark")])
@pytest.mark.parametrize("name", ["fullest", "hostile", "nobody"])
def test_axe_finds_nothing_serious(
    browser: Browser, pages: dict[str, Path], name: str, size: tuple[int, int], scheme: str
) -> None:
    """axe-core's rules for WCAG 2.2 A and AA, on a phone in light and on a projector in dark colours."""
    with browser.page(pages[name], *size) as page:
        page.prefer(scheme)
        assert serious(page) == []


def test_a_missing_film_is_reported(browser: Browser, pages: dict[str, Path]) -> None:
    """The page requests the film only after a click, and shows a sentence if it is missing."""
    with browser.page(pages["stroke"]) as page:
        page.evaluate("document.getElementById('open-film').click()")
        page.wait("document.getElementById('film').hidden")
        assert "overlay.mp4 is not in the folder" in page.evaluate("document.getElementById('unseen').textContent")


@pytest.mark.parametrize(("zone", "shown"), [("UTC", "8:00"), ("Asia/Kolkata", "1:30")])
def test_the_time_is_in_the_zone_of_the_reader(browser: Browser, tmp_path: Path, zone: str, shown: str) -> None:
    """The analyzer writes it with its own zone."""
    path = tmp_path / "report.html"
    path.write_text(reports.page(motions.undetected(30), analysed_at="2026-01-01T20:00:00+00:00"), encoding="utf-8")
    with browser.page(path) as page:
        page.move_to(zone)
        page.open(path)
        assert shown in page.evaluate("document.querySelector('time').textContent").replace("20:00", "8:00")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_s_first_screen_says_what_to_do(browser: Browser, pages: dict[str, Path], scheme: str) -> None:
    """The level, the first finding, its cue and its drill, without a touch."""
    with browser.page(pages["fullest"], 390, 844) as page:
        page.prefer(scheme)
        for part in (".level-words", ".first strong", ".first .say", ".first .do"):
            assert page.evaluate(f"document.querySelector('{part}').getBoundingClientRect().bottom") < 844


@pytest.mark.parametrize("name", ["stroke", "fullest"])
def test_labels_lie_inside_their_pictures(browser: Browser, pages: dict[str, Path], name: str) -> None:
    """As the browser draws the letters, with their outline."""
    with browser.page(pages[name]) as page:
        outside = page.evaluate("""[...document.querySelectorAll('.strip svg')].flatMap(svg => {
            const view = svg.viewBox.baseVal;
            return [...svg.querySelectorAll('.number-label')].filter(label => {
                const box = label.getBBox();
                return box.x < view.x || box.y < view.y
                    || box.x + box.width > view.x + view.width || box.y + box.height > view.y + view.height;
            }).map(label => label.textContent);
        })""")
        assert outside == []


@pytest.mark.parametrize("name", ["stroke", "fullest"])
def test_a_printed_caption_is_whole(browser: Browser, pages: dict[str, Path], name: str) -> None:
    """No figure hides a line of its words."""
    with browser.page(pages[name], 794, 1123) as page:
        page.prefer("light", "print")
        cut = page.evaluate(
            "[...document.querySelectorAll('figcaption')].filter(c => c.scrollHeight > c.clientHeight + 1).length"
        )
        assert cut == 0


@needs_model
def test_the_film_opens_wide_at_its_frame_and_closes(browser: Browser, batter: tuple[dict[str, Any], Path]) -> None:
    """On a phone it is as wide as the screen; it shows the frame of the skeleton, not the one before."""
    results, folder = batter
    [event] = [each for each in results["pose"]["pose_summary"]["events"] if each["name"] == "fastest_hands"]
    with browser.page(folder / "report.html", 390, 844) as page:
        page.evaluate(f"document.querySelector('.events .jump[data-time=\"{event['time_seconds']:.3f}\"]').click()")
        page.evaluate("document.getElementById('open-film').click()")
        page.wait("document.getElementById('film').readyState >= 2 && !document.getElementById('film').seeking")
        assert page.evaluate("document.getElementById('film').getBoundingClientRect().width") > 340
        at = page.evaluate("document.getElementById('film').currentTime")
        assert 0 < at - event["frame_seconds"] < 0.005
        page.evaluate("document.getElementById('open-film').click()")
        assert page.evaluate("document.getElementById('film').hidden")
        assert page.evaluate("document.getElementById('open-film').textContent") == "Film beside it"


@pytest.fixture(scope="module")
def batter(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The rendered batter's results, and the folder with the page."""
    folder = tmp_path_factory.mktemp("batter")
    about = Metadata(title="Nets", discipline="batting")
    results = Analysis(BATTER, AnalysisOptions("batting"), Settings.load(), about).deep(folder, lambda _: None)
    return results, folder


@needs_model
def test_the_angle_in_the_picture_is_the_tables_and_the_truth(
    browser: Browser, batter: tuple[dict[str, Any], Path]
) -> None:
    """Each arc has the table's number, spans the true knee's angle in its frame, and its frame is the moment's.

    Label and arc differ by one frame's noise, which the filter removes.
    """
    results, folder = batter
    true_knee = truly("left_knee_angle_image_deg")
    with browser.page(folder / "report.html") as page:
        arcs = page.evaluate("""[...document.querySelectorAll('.strip figure')].flatMap(figure =>
            [...figure.querySelectorAll('.number[data-degrees]')].map(arc => ({
                metric: arc.dataset.metric, value: +arc.dataset.value, degrees: +arc.dataset.degrees,
                label: arc.nextElementSibling.textContent, time: +figure.dataset.time, frame: +figure.dataset.frameTime,
                row: +document.querySelector(`tr[data-metric=${arc.dataset.metric}]`).dataset.value,
                cell: document.querySelector(`tr[data-metric=${arc.dataset.metric}] td.value`).textContent,
            })))""")
        assert page.complaints == []
    everything = {**results["metrics"], **results["pose"]["pose_summary"]["measures"]}
    assert {"front_knee_brace_score", "front_knee_at_contact"} <= {arc["metric"] for arc in arcs}
    for arc in arcs:
        metric = everything[arc["metric"]]
        assert arc["value"] == arc["row"] == metric["value"]
        assert arc["cell"].startswith(arc["label"])
        assert min(abs(arc["time"] - moment["time_seconds"]) for moment in metric["evidence"]) < 0.05
        assert abs(arc["frame"] - arc["time"]) <= 0.5 / 30 + 0.001
        assert arc["degrees"] == pytest.approx(arc["value"], abs=5)
        assert arc["degrees"] == pytest.approx(true_knee[round(arc["frame"] * 30)], abs=8)


@needs_model
def test_the_player_has_the_film_behind_the_skeleton(browser: Browser, batter: tuple[dict[str, Any], Path]) -> None:
    """Each frame of the stroke has its own image in place; other frames have the skeleton alone."""
    results, folder = batter
    contact = results["pose"]["pose_summary"]["events"][0]["time_seconds"]
    with browser.page(folder / "report.html") as page:
        shown = page.evaluate(f"""JSON.parse(document.getElementById('data').textContent).times.map((time, k) => {{
            const slider = document.getElementById('slider'), picture = document.querySelector('#figure image');
            slider.value = k;
            slider.dispatchEvent(new Event('input'));
            return [time, picture.style.display === 'none' ? null : picture.getAttribute('href')];
        }}).filter(([time]) => Math.abs(time - {contact}) < 0.3 || time > 3)""")
        assert page.complaints == []
    during = [href for time, href in shown if time <= 3]
    assert all(href and href.startswith("data:image/jpeg;base64,") for href in during)
    assert len(set(during)) == len(during) >= 15
    assert not any(href for time, href in shown if time > 3)
    assert (folder / "report.html").stat().st_size < 3_000_000


@needs_model
def test_the_film_beside_it_is_in_sync(browser: Browser, batter: tuple[dict[str, Any], Path]) -> None:
    """The overlay decodes in the browser and seeks to the slider's moment, under the page's own policy."""
    _, folder = batter
    with browser.page(folder / "report.html") as page:
        page.evaluate("document.getElementById('open-film').click()")
        page.wait("document.getElementById('film').readyState >= 2")
        page.evaluate(f"document.getElementById('slider').value = 20, {INPUT}")
        moment = float(page.evaluate(CLOCK).split()[0])
        assert page.evaluate("document.getElementById('film').currentTime") == pytest.approx(moment, abs=0.006)
        assert page.complaints == []


def serious(page: Page) -> list[str]:
    """The violations that axe-core calls serious or critical, each with its first element."""
    page.evaluate(AXE.read_text(encoding="utf-8") + "; 0")
    rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    found = page.evaluate(f"axe.run(document, {json.dumps(rules)}).then(result => result.violations)")
    assert found is not None
    return [
        f"{violation['id']}: {violation['nodes'][0]['html'][:120]} {violation['nodes'][0]['failureSummary']}"
        for violation in found
        if violation["impact"] in ("serious", "critical")
    ]
