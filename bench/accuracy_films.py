"""Measures what the analyzer claims of whole films, by its own command: real deliveries, rendered films, altered films.

A film that no threshold was chosen on is *held out*. A claim is *sure* from a confidence of 0.5 on. `make accuracy` has
these rows; `python -m bench.accuracy_films` prints them alone, of the model that MEDIAPIPE_POSE_MODEL_PATH names.

film ─▶ filters of FFmpeg ─▶ altered film ─▶ python -m services.analyzer ─▶ results.json ─▶ held against the truth
"""

import csv
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.filter
import numpy as np

from bench.accuracy_claims import Claim, worst
from services.analyzer.arrays import Floats
from services.analyzer.biomechanics.events import close_up_windows
from services.analyzer.biomechanics.measurement import measure
from services.analyzer.biomechanics.model import Measurements
from services.analyzer.pose.landmarks import INDEX, LANDMARKS, Poses
from services.analyzer.settings import BUILT_MODEL
from testing.data import motions
from testing.data.videos import CORPUS, ROOT

RENDERED = CORPUS.parent / "athlete" / "more"
SURE = 0.5
AT_ONCE = 2
# A release is read to a frame; a stroke's hands are fastest around its impact.
RELEASE_FRAMES, SURE_RELEASE_FRAMES, STROKE_SECONDS = 2, 3, 0.3
# A number is wrong if it is off by more than this many of its stated errors.
MOST_ERRORS = 3.0


@dataclass(frozen=True)
class Action:
    """One true action. seconds: of the release, or of bat and ball; contact: of the front foot, if it is known."""

    seconds: float
    contact: float | None = None
    arm: str = ""
    leg: str = ""


@dataclass(frozen=True)
class Film:
    """A film as it is analysed. filters: of FFmpeg, empty for none. truth: its actions; fps: of its pictures.

    slowed: whether parts of it play slowly; tagged: whether the file says so, which a filtered copy does not.
    """

    path: Path
    discipline: str
    truth: tuple[Action, ...] = ()
    fps: float = 30.0
    sample_fps: int = 10
    filters: str = ""
    slowed: bool = False
    tagged: bool = False

    @property
    def is_secretly_slow(self) -> bool:
        return self.slowed and not (self.tagged and not self.filters)


@dataclass(frozen=True)
class Answer:
    """What results.json says of a film."""

    film: Film
    results: dict[str, Any]

    @property
    def summary(self) -> dict[str, Any]:
        return dict(self.results["pose"]["pose_summary"])

    @property
    def is_judged(self) -> bool:
        return self.results["findings"]["not_assessed_reason"] is None

    def moments(self, least: float = 0.0) -> list[dict[str, Any]]:
        """The actions that are claimed with a confidence of `least` or more."""
        wanted = "release" if self.film.discipline == "bowling" else "fastest_hands"
        return [e for e in self.summary["events"] if e["name"] == wanted and e["confidence"] >= least]

    def contacts(self) -> list[float]:
        return [e["time_seconds"] for e in self.summary["events"] if e["name"] == "front_foot_contact"]

    def numbers(self) -> dict[str, tuple[float, float, float]]:
        """By name: value, stated error and confidence of each number that is given."""
        errors, found = self.summary["errors"], {}
        for name, metric in {**self.results["metrics"], **self.summary["measures"]}.items():
            if metric["value"] is not None:
                found[name] = (metric["value"], metric.get("error", errors.get(name)), metric["confidence"])
        return found

    def off(self, moment: dict[str, Any]) -> float:
        """Seconds to the nearest true action; infinite without one."""
        return min((abs(moment["time_seconds"] - true.seconds) for true in self.film.truth), default=float("inf"))

    def is_wrong(self, moment: dict[str, Any]) -> bool:
        """Whether a claimed action is none, or of the other arm."""
        bowling = self.film.discipline == "bowling"
        if self.off(moment) > (SURE_RELEASE_FRAMES / self.film.fps if bowling else STROKE_SECONDS):
            return True
        nearest = min(self.film.truth, key=lambda true: abs(moment["time_seconds"] - true.seconds))
        return bool(bowling and nearest.arm and moment["side"] != nearest.arm)

    def sure_and_wrong(self) -> int:
        return sum(self.is_wrong(moment) for moment in self.moments(SURE)) if self.is_judged else 0


def _truth(path: Path) -> dict[str, Any]:
    """The rig of a rendered film."""
    return dict(json.loads(path.with_name(f"{path.stem}_truth.json").read_text()))


def deliveries() -> list[Film]:
    """The eleven real deliveries whose release was read by eye."""
    found = []
    for folder, name in (("bowling", "release_frames.csv"), ("deliveries", "truth.csv")):
        for row in csv.DictReader((CORPUS / folder / name).read_text().splitlines()):
            path = CORPUS / folder / f"{row['clip']}_540p.mp4"
            with av.open(str(path)) as container:
                fps = float(container.streams.video[0].average_rate or 30)
            contact = row.get("contact_frame")
            arm = row["bowling_arm"]
            true = Action(
                int(row["release_frame"]) / fps,
                int(contact) / fps if contact else None,
                arm,
                "right" if arm == "left" else "left",
            )
            found.append(Film(path, "bowling", (true,), fps))
    return found


def rendered() -> list[Film]:
    """The rendered films; the truth is their rig's."""
    found = []
    for path in sorted(RENDERED.glob("*.mp4")):
        true = _truth(path)
        tagged = true["capture_rate_tag"] is not None
        slower = true["slowed_by"] if tagged else 1.0
        strokes = [
            Action(s["impact_time_s"] / slower, s["contact_time_s"] / slower, leg=true["front_leg"])
            for s in true["strokes"]
        ]
        balls = [
            Action(d["release_time_s"] / slower, d["contact_time_s"] / slower, d["arm"], true["front_leg"])
            for d in true["deliveries"]
        ]
        slowed = true["slowed_by"] != 1.0
        truth = (*strokes, *balls)
        found.append(Film(path, true["discipline"], truth, true["fps"], slowed=slowed, tagged=tagged))
    return found


@functools.cache
def _folder() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="crease-accuracy-")


def answers(films: Iterable[Film]) -> list[Answer]:
    """What the analyzer says of each film."""
    with ThreadPoolExecutor(AT_ONCE) as at_once:
        return list(at_once.map(answer, films))


@functools.cache
def answer(film: Film) -> Answer:
    """Raises AssertionError if the analyzer fails."""
    out = Path(tempfile.mkdtemp(dir=_folder().name))
    source = film.path
    if film.filters:
        source = out / "film.mp4"
        alter(film.path, film.filters, source)
    command = [sys.executable, "-m", "services.analyzer", "--video", str(source), "--out", str(out)]
    options = ["--discipline", film.discipline, "--sample-fps", str(film.sample_fps)]
    env = {"MEDIAPIPE_POSE_MODEL_PATH": os.environ.get("MEDIAPIPE_POSE_MODEL_PATH", str(BUILT_MODEL))}
    ended = subprocess.run([*command, *options], cwd=ROOT, env=env, capture_output=True, text=True)
    assert ended.returncode == 0, f"{film.path.name}: {ended.stderr}"
    return Answer(film, json.loads((out / "results.json").read_text()))


def alter(source: Path, filters: str, target: Path) -> None:
    """Writes a film through a chain of FFmpeg's filters, written as for its command line."""
    with av.open(str(source)) as opened, av.open(str(target), "w") as written:
        stream = opened.streams.video[0]
        graph = av.filter.Graph()
        last = graph.add_buffer(template=stream)
        for text in filters.split(";"):
            name, _, options = text.partition("=")
            step = graph.add(name, options)
            last.link_to(step)
            last = step
        last.link_to(graph.add("buffersink"))
        graph.configure()
        out = None
        for frame in [*opened.decode(stream), None]:
            graph.push(frame)
            while True:
                try:
                    picture = graph.pull()
                except (av.BlockingIOError, av.EOFError):
                    break
                assert isinstance(picture, av.VideoFrame)
                if out is None:
                    out = written.add_stream("libx264", rate=30, options={"crf": "18", "preset": "veryfast"})
                    out.width, out.height, out.pix_fmt = picture.width // 2 * 2, picture.height // 2 * 2, "yuv420p"
                    out.codec_context.time_base = picture.time_base or Fraction(1, 90_000)
                picture.pict_type = 0
                written.mux(out.encode(picture.reformat(out.width, out.height, "yuv420p")))
        assert out is not None, f"{filters}: no picture is left"
        written.mux(out.encode(None))


def on_deliveries() -> Iterator[Claim]:
    """Eleven real deliveries, sampled at 10 and at 30 frames a second."""
    films = deliveries()
    found = {fps: answers(replace(film, sample_fps=fps) for film in films) for fps in (10, 30)}
    within = {fps: [_released(each) for each in each_fps] for fps, each_fps in found.items()}
    for fps, right in within.items():
        lost = [film.path.stem for film, is_right in zip(films, right, strict=True) if not is_right]
        name = f"eleven deliveries, sample_fps {fps}: releases missed, or over 2 frames off"
        yield Claim(name, len(lost), 1, "of 11", ", ".join(lost))
    both = [answer for each in found.values() for answer in each]
    yield Claim("eleven deliveries, sample_fps 10 and 30: wrong arms or legs", _wrong_sides(both), 0, "of 22")
    sure = sum(each.sure_and_wrong() for each in both)
    yield Claim("eleven deliveries, sample_fps 10 and 30: sure and wrong", sure, 0, "of 22")
    alone = sum(one != other for one, other in zip(*within.values(), strict=True))
    yield Claim("eleven deliveries: found at one rate alone", alone, 0, "of 11")


def _released(answer: Answer) -> bool:
    moments = answer.moments()
    return len(moments) == 1 and answer.off(moments[0]) * answer.film.fps <= RELEASE_FRAMES + 0.5


def _wrong_sides(found: Iterable[Answer]) -> int:
    """How many films with a claimed action name another arm or front leg than the true one."""
    return sum(
        (arm not in (None, each.film.truth[0].arm) and each.film.discipline == "bowling")
        or leg not in (None, each.film.truth[0].leg)
        for each in found
        if each.film.truth and each.moments()
        for arm, leg in [(each.summary["throwing_arm"], each.summary["front_leg"])]
    )


def _mirrored(film: Film) -> Film:
    other = {"left": "right", "right": "left", "": ""}
    turned = tuple(replace(true, arm=other[true.arm], leg=other[true.leg]) for true in film.truth)
    return replace(film, truth=turned, filters="hflip")


# How a rendered film is analysed again: its numbers must stay.
VARIANTS: dict[str, Callable[[Film], Film]] = {
    "sample_fps 30": lambda film: replace(film, sample_fps=30),
    "mirrored": _mirrored,
    "360p": lambda film: replace(film, filters="scale=640:360"),
}


def on_rendered_films() -> Iterator[Claim]:
    """Eleven rendered films: strokes, deliveries, taps, a leave, an aborted run-up, a bystander, slow motion."""
    films = rendered()
    plain = answers(films)
    varied = {words: answers(vary(film) for film in films) for words, vary in VARIANTS.items()}
    every = [*plain, *(each for found in varied.values() for each in found)]
    for words, found in {"as they are": plain, **varied}.items():
        miscounted = [each.film.path.stem for each in found if _miscounts(each)]
        name = f"eleven rendered films, {words}: with actions missed or made up"
        yield Claim(name, len(miscounted), 0, "of 11", ", ".join(miscounted))
    real = [each for each in every if not each.film.is_secretly_slow]
    yield Claim("rendered films, all ways: wrong arms or legs", _wrong_sides(real), 0, f"of {len(real)}")
    sure = sum(each.sure_and_wrong() for each in every)
    yield Claim("rendered films, all ways: sure and wrong", sure, 0, f"of {len(every)}")
    for event, errors, bound in (
        ("release", _release_errors(real), 15),
        ("front-foot contact", _contact_errors(real), 20),
    ):
        rms = 1000 * float(np.sqrt(np.mean(np.square(errors)))) if errors else float("nan")
        yield Claim(f"rendered films, all ways: {event}, RMS", worst([rms]), bound, "ms", f"{len(errors)} moments")
    for words, found in varied.items():
        off = [each for one, other in zip(found, plain, strict=True) for each in _changes(one, other)]
        beyond = [
            f"{film} {name} {100 * change:.0f} %, {scatters:.1f}"
            for film, name, change, scatters in off
            if change > 0.05 and scatters > 1
        ]
        name = f"rendered films, {words}: scored numbers over 5 % and one scatter of the difference off"
        yield Claim(name, len(beyond), 0, f"of {len(off)}", ", ".join(beyond))
    deviations = list(_in_errors(plain))
    for most, expected in ((1, 68), (2, 95)):
        beyond = [f"{name} {deviation:.1f}" for name, deviation in deviations if deviation > most]
        note = f"of {len(deviations)}: {', '.join(beyond)}"
        share = 100 * len(beyond) / len(deviations)
        yield Claim(
            f"rendered films against their rigs: numbers beyond {most} stated errors", share, 100 - expected, "%", note
        )


def _miscounts(answer: Answer) -> bool:
    """Whether the actions found are not those played. A film that is said to be slowed claims none."""
    if answer.film.is_secretly_slow and not answer.is_judged:
        return False
    moments = answer.moments()
    return len(moments) != len(answer.film.truth) or any(answer.is_wrong(moment) for moment in moments)


def _release_errors(found: Iterable[Answer]) -> list[float]:
    return [
        answer.off(moment)
        for answer in found
        if answer.film.discipline == "bowling" and answer.film.truth
        for moment in answer.moments()
    ]


def _contact_errors(found: Iterable[Answer]) -> list[float]:
    return [
        min(abs(at - true.contact) for true in answer.film.truth if true.contact is not None)
        for answer in found
        for at in answer.contacts()
        if answer.film.truth
    ]


def _changes(one: Answer, other: Answer) -> Iterator[tuple[str, str, float, float]]:
    """Film, number, share and scatters by which scored numbers of two ways differ, for films judged both ways."""
    if not (one.is_judged and other.is_judged):
        return
    given, reference = one.numbers(), other.numbers()
    for name in one.results["metrics"]:
        if name in reference and name in given:
            value, true = given[name][0], reference[name][0]
            scatter = np.hypot(one.summary["scatter"][name], other.summary["scatter"][name])
            yield one.film.path.stem, name, abs(value / true - 1), abs(value - true) / scatter


def as_rigged(true: dict[str, Any], discipline: str) -> Measurements:
    """The measurements of the rendered joints; a landmark that the rig lacks is replaced by a near joint."""
    frames, camera = true["frames"], true["camera"]
    n = len(frames)
    image: Floats = np.full((n, len(LANDMARKS), 2), np.nan)
    world: Floats = np.zeros((n, len(LANDMARKS), 3))
    axes = np.array([camera["right"], np.negative(camera["up"]), camera["forward"]])
    for name in LANDMARKS:
        joint = name if name in frames[0]["joints_2d_px"] else _substitute(name)
        image[:, INDEX[name]] = [frame["joints_2d_px"][joint] for frame in frames]
        world[:, INDEX[name]] = [axes @ frame["joints_3d_m"][joint] for frame in frames]
    sure = np.full((n, len(LANDMARKS)), 0.99)
    times = np.array([frame["time_s"] for frame in frames])
    poses = Poses(times, image, world, sure, sure, np.ones(n), true["width_px"], true["height_px"])
    windows = close_up_windows(poses, discipline)
    return measure(poses, [motions.between(poses, start, end) for start, end in windows], discipline)


def _substitute(name: str) -> str:
    side = "left" if "left" in name else "right"
    return f"{side}_eye" if "eye" in name else f"{side}_index" if "thumb" in name else "nose"


def _in_errors(found: Iterable[Answer]) -> Iterator[tuple[str, float]]:
    """(film and number, deviation from the rig in stated errors), of films in real time that are judged."""
    for each in found:
        if each.film.slowed or not each.is_judged or not each.film.truth:
            continue
        rigged = as_rigged(_truth(each.film.path), each.film.discipline).everything
        for name, (value, error, _) in each.numbers().items():
            if (exact := rigged[name].value) is not None:
                yield f"{each.film.path.stem} {name}", abs(value - exact) / error


# Each makes another film of one, of which a claim must be right, or absent: whether the actions survive, and filters.
ALTERATIONS = {
    "a growing zoom": (True, "zoompan=z='1+0.006*on':x='iw/2-iw/zoom/2':y='ih/2-ih/zoom/2':d=1:s=960x540:fps=30"),
    "a pan": (True, "scale=1200:-2;crop=960:540:'min(240,t*120)':60"),
    "a shaking hand": (True, "crop=900:500:'30+25*sin(t*17)':'20+15*cos(t*13)'"),
    "the top cropped": (True, "crop=iw:ih*0.6:0:ih*0.4"),
    "the legs cropped": (True, "crop=iw:ih*0.62:0:0"),
    "dark and noisy": (True, "lutyuv=y=val*0.45;noise=alls=25:allf=t"),
    "small": (True, "scale=320:-2"),
    "half of its frames": (True, "fps=15"),
    "a covered moment": (True, "drawbox=x=0:y=0:w=iw:h=ih*0.5:color=gray:t=fill:enable='between(mod(n,40),15,19)'"),
    "upside down": (False, "vflip;hflip"),
    "reversed": (False, "reverse"),
    "twice as slow": (False, "setpts=2*PTS"),
    "four times as slow": (False, "setpts=4*PTS"),
    "twice as fast": (False, "setpts=0.5*PTS"),
    "a cut": (False, "select='lt(mod(n,30),18)';setpts=N/30/TB"),
}


def altered() -> list[Film]:
    """Films that nobody filmed so, and films asked for as another discipline. None set a threshold."""
    bowlers = {film.path.stem: film for film in deliveries()}
    more = {film.path.stem: film for film in rendered()}
    films = [bowlers["bowl_26_540p"], bowlers["bowl_36_540p"], more["side_leave_rh30"], more["bowl_quick_la60"]]
    found = [
        replace(film, filters=filters, truth=film.truth if survives else ())
        for survives, filters in ALTERATIONS.values()
        for film in films
    ]
    as_other = [
        replace(film, discipline="batting" if film.discipline == "bowling" else "bowling", truth=())
        for film in (*bowlers.values(), *more.values())
    ]
    return [*found, *as_other]


def on_altered_films() -> Iterator[Claim]:
    """Films zoomed, panned, cropped, darkened, cut, reversed, slowed; and films asked for as another discipline."""
    films = altered()
    found = answers(films)
    sure = [
        f"{each.film.path.stem} {each.film.filters or each.film.discipline}" for each in found if each.sure_and_wrong()
    ]
    yield Claim("held out: altered films: sure and wrong actions", len(sure), 0, f"of {len(films)}", "; ".join(sure))
    plain = {film.path: answer(replace(film, filters="")) for film in (*deliveries(), *rendered())}
    off, given = [], 0
    for each in found:
        if each.film.discipline != plain[each.film.path].film.discipline or not each.is_judged:
            continue
        reference = plain[each.film.path].numbers()
        for name in each.results["metrics"]:
            value, error, confidence = each.numbers().get(name, (0, 0, 0))
            if confidence >= SURE and name in reference:
                given += 1
                if abs(value - reference[name][0]) > MOST_ERRORS * np.hypot(error, reference[name][1]):
                    off.append(f"{each.film.path.stem} {each.film.filters.split('=')[0]} {name}")
    name = "held out: altered films: sure scored numbers over 3 stated errors off"
    yield Claim(name, len(off), 0, f"of {given}", "; ".join(off))


GROUPS: tuple[Callable[[], Iterator[Claim]], ...] = (on_deliveries, on_rendered_films, on_altered_films)


def main() -> None:
    for group in GROUPS:
        for claim in group():
            sys.stdout.write(f"{claim}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
