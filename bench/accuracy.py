"""Measures the accuracy of every number: `python -m bench.accuracy` prints each claim with its error, as a table.

Clips are posed as the product poses a single player. The whole clip is posed at 10 frames a second, then each action at
every frame, plain and mirrored. Each pose is computed once a process. An error is the worst of its row, unless the row
says mean. Rows of missing clips are left out.

XNNPACK, which runs the pose model, has other kernels for AVX-512: they move landmarks by 0.4 to 0.7 px (median), and
by up to a torso. docs/metrics.md names the kernels that its table was measured with.
"""

import csv
import functools
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.accuracy_claims import Claim, absences, clear, given, moment, number, percent_off, worst, wrong
from bench.accuracy_films import GROUPS as FILM_GROUPS
from bench.accuracy_films import as_rigged
from bench.accuracy_motions import on_held_out_motions, on_motions
from services.analyzer.arrays import Indices
from services.analyzer.biomechanics.actions.shots import find_cuts
from services.analyzer.biomechanics.events import close_up_windows
from services.analyzer.biomechanics.kinematics import knee_angle
from services.analyzer.biomechanics.measurement import measure
from services.analyzer.biomechanics.model import Measurements, Metric
from services.analyzer.biomechanics.registry import (
    BALANCE_DRIFT,
    ELBOW_DROP,
    FRONT_KNEE_AT_CONTACT,
    FRONT_KNEE_AT_RELEASE,
    FRONT_KNEE_BRACE,
    FRONT_KNEE_CHANGE,
    HEAD_STABILITY,
    HIP_SHOULDER_TIMING,
    METRICS,
    STRIDE_LENGTH,
)
from services.analyzer.pose.estimator import LandmarkerFactory, estimate_poses
from services.analyzer.pose.flip_average import FlipAverage
from services.analyzer.pose.landmarks import PER_FRAME, Poses, select_frames
from services.analyzer.settings import Accelerator, Settings
from services.analyzer.video.duplicate_frames import DuplicateDetector
from services.analyzer.video.frames import Losses, Picture, pictures
from services.analyzer.video.probe import Video, probe
from services.analyzer.video.sampling import every, on_grid

ROOT = Path(__file__).parents[1]
BATTER, BATTER_TRUTH = ROOT / "samples" / "batter.mp4", ROOT / "samples" / "batter_truth.json"
CORPUS = ROOT.parent / "shared" / "corpus"
DOCS = ROOT / "docs" / "metrics.md"
HEADER, END = "| what | worst error | bound | held | note |\n|---|---|---|---|---|", "<!-- end of the table -->"
BOWLERS = ("bowl_01", "bowl_11", "bowl_14", "bowl_21", "bowl_26")
# Flat foot, read by eye in the 540p clips; the heel touches 1.5 to 3 frames earlier.
FLAT_FOOT_FRAMES = {"bowl_01": 21, "bowl_11": 16, "bowl_14": 17.5, "bowl_21": 27, "bowl_26": 26}
BOWLING_FPS = 29.97
FRAME = 1 / 30
# The scored numbers that a film can give.
ACTION_METRICS = tuple(spec for spec in METRICS if spec.absent_reason is None)
KNEE_METRICS = (FRONT_KNEE_BRACE, FRONT_KNEE_AT_CONTACT, FRONT_KNEE_AT_RELEASE, FRONT_KNEE_CHANGE)
SETTINGS = Settings(accelerator=Accelerator.cpu)


@dataclass(frozen=True)
class Take:
    """A clip as it is posed. fps: rate of the first pass; thin: keep one frame of so many."""

    path: Path
    discipline: str
    mirror: bool = False
    fps: float = 10
    thin: int = 1


@functools.cache
def posing() -> LandmarkerFactory:
    return LandmarkerFactory(SETTINGS.mediapipe_pose_model_path, SETTINGS.accelerator)


@functools.cache
def opened(path: Path) -> Video:
    return probe(path, SETTINGS)


@functools.cache
def posed_take(take: Take) -> tuple[Poses, tuple[Poses, ...]]:
    """Both passes over a clip."""
    times = opened(take.path).times
    frames = np.arange(len(times))[:: take.thin]
    whole = posed_once(take.path, tuple(frames[on_grid(times[frames], take.fps)]), take.mirror)
    closeups = []
    for start, end in close_up_windows(whole, take.discipline, find_cuts(whole, ())):
        closeups.append(
            posed_once(take.path, tuple(frames[every(times[frames], start, end)]), take.mirror, close_up=True)
        )
    return whole, tuple(closeups)


@functools.cache
def posed_once(path: Path, wanted: tuple[int, ...], mirror: bool, close_up: bool = False) -> Poses:
    """The landmarks of these frames; every run on one kind of CPU gives the same, to the bit."""
    return posed(opened(path), np.array(wanted), mirror, close_up)


@functools.cache
def measured(take: Take) -> Measurements:
    whole, closeups = posed_take(take)
    return measure(whole, list(closeups), take.discipline, cuts=find_cuts(whole, ()))


def posed(video: Video, wanted: Indices, mirror: bool, close_up: bool = False) -> Poses:
    """The wanted frames in one run; a close-up is posed plain and mirrored, without repeated pictures."""
    source = (_flipped(picture, mirror) for picture in pictures(video, wanted, SETTINGS, Losses()))
    stillness = DuplicateDetector()
    with posing().create() as plain, posing().create() as turned:
        if not close_up:
            return estimate_poses(plain, source, video.width, video.height)
        other = FlipAverage(lambda: turned)
        poses = estimate_poses(plain, other.observe(stillness.observe(source)), video.width, video.height, other.choose)
    return select_frames(poses, ~stillness.duplicates())


def _flipped(picture: Picture, mirror: bool) -> Picture:
    return replace(picture, rgb=np.ascontiguousarray(picture.rgb[:, ::-1])) if mirror else picture


# Answers and errors


def truth() -> dict[str, Any]:
    """The rendered batter's true joints, angles and events."""
    return dict(json.loads(BATTER_TRUTH.read_text()))


def release_seconds(clip: str) -> float:
    """When the ball leaves the hand, read by eye to a frame of 29.97 a second."""
    lines = csv.DictReader((CORPUS / "bowling" / "release_frames.csv").read_text().splitlines())
    return next(int(row["release_frame"]) for row in lines if row["clip"] == clip) / BOWLING_FPS


def bowling(clip: str, **how: Any) -> Measurements:
    return measured(Take(CORPUS / "bowling" / f"{clip}.mp4", "bowling", **how))


def hard(clip: str, discipline: str = "bowling") -> Measurements:
    return measured(Take(CORPUS / "hard" / f"{clip}.mp4", discipline))


def on_the_batter() -> Iterator[Claim]:
    """The rendered batter, whose joints are known to a tenth of a millimetre."""
    true = truth()
    for side, bound in (("left", 5), ("right", 7)):
        angles = np.array([frame[f"{side}_knee_angle_image_deg"] for frame in true["frames"]])
        whole, closeups = posed_take(Take(BATTER, "batting"))
        errors = []
        for poses in (whole, *closeups):
            exact = np.interp(poses.times, np.arange(len(angles)) / 30, angles)
            errors.append(float(np.nanmean(np.abs(knee_angle(poses, side) - exact))))
        which = "front" if side == "left" else "rear"
        yield Claim(f"batter: {which} knee in the picture, mean, both passes", worst(errors), bound, "deg")
    contact = true["events"]["front_foot_contact_time_s"]
    for thin, fps in ((1, 30), (2, 15), (3, 10)):
        off = (moment(measured(Take(BATTER, "batting", thin=thin)), "front_foot_contact") - contact) / FRAME
        yield Claim(f"batter filmed at {fps} frames a second: contact", worst([off]), 2, "frames")
    angles = np.array([frame["left_knee_angle_image_deg"] for frame in true["frames"]])
    first = round(30 * contact)
    lowest = first + int(np.argmin(angles[first : first + 10]))
    knee = measured(Take(BATTER, "batting")).metrics[FRONT_KNEE_BRACE.name]
    yield Claim(
        "batter: smallest front knee",
        worst([number(measured(Take(BATTER, "batting")), FRONT_KNEE_BRACE) - angles[lowest]]),
        4,
        "deg",
    )
    yield Claim("batter: when that is", worst([(knee.evidence[0][0] - lowest / 30) / FRAME]), 2, "frames")
    rigged = as_rigged(true, "batting")
    found = measured(Take(BATTER, "batting"))
    for spec, most, unit in (
        (HEAD_STABILITY, 0.01, "bodies"),
        (BALANCE_DRIFT, 0.02, "bodies"),
        (FRONT_KNEE_BRACE, 4, "deg"),
        (ELBOW_DROP, 0.02, "bodies"),
        (FRONT_KNEE_AT_CONTACT, 6, "deg"),
        (FRONT_KNEE_AT_RELEASE, 6, "deg"),
        (FRONT_KNEE_CHANGE, 6, "deg"),
    ):
        off = number(found, spec) - number(rigged, spec)
        yield Claim(f"batter against its rig: {spec.name}", worst([off]), most, unit)
    stride = percent_off(found, rigged, STRIDE_LENGTH)
    yield Claim(f"batter against its rig: {STRIDE_LENGTH.name}", worst([stride]), 10, "%")
    yield Claim(
        "batter: separation timings given", wrong([knee_lag.value is None for knee_lag in _lags()]), 0, "of 2", "absent"
    )
    sides = [measured(Take(BATTER, "batting", mirror=m)).front_leg == s for m, s in ((False, "left"), (True, "right"))]
    yield Claim("batter and mirrored: wrong front legs", wrong(sides), 0, "of 2")
    as_bowling = [np.isnan(moment(measured(Take(BATTER, "bowling")), "release"))]
    yield Claim("batter asked as bowling: releases", wrong(as_bowling), 0, "of 1")
    yield from _at_rates("batter", lambda **how: measured(Take(BATTER, "batting", **how)))


def _lags() -> list[Metric]:
    return [
        measured(Take(BATTER, "batting", mirror=mirror)).metrics[HIP_SHOULDER_TIMING.name] for mirror in (False, True)
    ]


def _at_rates(words: str, measured_as: Callable[..., Measurements]) -> Iterator[Claim]:
    """One clip sampled at 5, 10 and 15 frames a second, then filmed at 15 and 10; the reference is sampled at 30."""
    reference = measured_as(fps=30)
    sampled = [measured_as(fps=max(10, fps)) for fps in (5, 10, 15)]
    filmed = [measured_as(thin=thin) for thin in (2, 3)]
    for how, takes in (("sample_fps 5, 10, 15 against 30", sampled), ("filmed at 15 and 10 against 30", filmed)):
        pairs = [(take.metrics[spec.name], reference.metrics[spec.name]) for take in takes for spec in ACTION_METRICS]
        both = [(one, other) for one, other in pairs if one.value is not None and other.value is not None]
        note = f"{len(pairs) - len(both)} of {len(pairs)} absent" if len(both) < len(pairs) else ""
        values = [100 * ((one.value or 0) / (other.value or 1) - 1) for one, other in both]
        yield Claim(f"{words}, {how}: every value", worst(given(values)), 5, "%", note)
        scores = [(one.score or 0) - (other.score or 0) for one, other in both]
        yield Claim(f"{words}, {how}: every score", worst(given(scores)), 0.05, "", note)
        differ, of = clear([(take, reference) for take in takes if take.actions == reference.actions])
        yield Claim(f"{words}, {how}: changes called clear", differ, 0, f"of {of}")


def on_a_balancing_man() -> Iterator[Claim]:
    """Pose2Sim's demonstration, against its triangulation from four cameras."""
    path = CORPUS / "pose2sim" / "cam01.mp4"
    lines = csv.DictReader((path.parent / "ref_keypoints2d_single_cam01.csv").read_text().splitlines())
    frames = [{key: float(value) for key, value in line.items() if value} for line in lines]
    whole, closeups = posed_take(Take(path, "batting", fps=30))
    for side in ("left", "right"):
        joints = [
            np.array([[f[f"{side[0].upper()}{part}_{axis}"] for axis in "xy"] for f in frames])
            for part in ("Hip", "Knee", "Ankle")
        ]
        u, v = joints[0] - joints[1], joints[2] - joints[1]
        cosine = (u * v).sum(axis=1) / np.linalg.norm(u, axis=1) / np.linalg.norm(v, axis=1)
        exact = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
        errors = [
            float(
                np.nanmean(np.abs(knee_angle(poses, side) - np.interp(poses.times, np.arange(len(exact)) / 60, exact)))
            )
            for poses in (whole, *closeups)
        ]
        yield Claim(f"pose2sim: {side} knee in the picture, mean", worst(errors), 12, "deg")
    for discipline in ("bowling", "batting", "fielding"):
        none = [measured(Take(path, discipline)).actions == 0]
        yield Claim(f"pose2sim asked as {discipline}: actions", wrong(none), 0, "of 1")
    for discipline in ("bowling", "batting", "fielding"):
        none = [measured(Take(CORPUS / "walk" / "walk_vp9.mp4", discipline)).actions == 0]
        yield Claim(f"a somersault and a walker asked as {discipline}: actions", wrong(none), 0, "of 1")


def on_bowlers() -> Iterator[Claim]:
    """Five right-arm bowlers; release and flat foot read by eye."""
    plain = {clip: bowling(f"{clip}_540p") for clip in BOWLERS}
    turned = {clip: bowling(f"{clip}_540p", mirror=True) for clip in BOWLERS}
    yield Claim("five bowlers: release", worst([_release_off(m, clip) for clip, m in plain.items()]), 1, "frames")
    for thin, fps in ((2, 15), (3, 10)):
        off = [_release_off(bowling(f"{clip}_540p", thin=thin), clip) for clip in BOWLERS]
        yield Claim(f"five bowlers filmed at {fps}: release", worst(given(off)), 2, "frames", absences(off))
    yield Claim(
        "five bowlers, sample_fps 5 and 10: release",
        worst([_release_off(m, c) for c, m in plain.items()]),
        2,
        "frames",
        "5 is raised to 10",
    )
    feet = [moment(m, "front_foot_contact") * BOWLING_FPS - FLAT_FOOT_FRAMES[clip] for clip, m in plain.items()]
    yield Claim("five bowlers: contact", worst(feet), 2, "frames", ", ".join(f"{x:+.1f}" for x in feet))
    right = [(m.throwing_arm, m.front_leg) == ("right", "left") for m in plain.values()]
    left = [(m.throwing_arm, m.front_leg) == ("left", "right") for m in turned.values()]
    yield Claim("five bowlers and mirrored: wrong arms or legs", wrong(right + left), 0, "of 10")
    for spec in ACTION_METRICS:
        off = [percent_off(turned[clip], plain[clip], spec) for clip in BOWLERS]
        yield Claim(f"five bowlers, mirrored against plain: {spec.name}", worst(given(off)), 3, "%", absences(off))
    for spec in ACTION_METRICS:
        off = [percent_off(bowling(f"{clip}_2160p"), plain[clip], spec) for clip in ("bowl_01", "bowl_14")]
        yield Claim(f"two bowlers, 2160p against 540p: {spec.name}", worst(given(off)), 5, "%", absences(off))
    differ, of = clear([(bowling(f"{clip}_2160p"), plain[clip]) for clip in ("bowl_01", "bowl_14")])
    yield Claim("two bowlers, 2160p against 540p: changes called clear", differ, 0, f"of {of}")
    yield Claim("five bowlers in one clip: deliveries missed or made up", abs(_joined() - 5), 0, "of 5")
    for clip in ("bowl_14", "bowl_26"):
        yield from _at_rates(clip, functools.partial(bowling, f"{clip}_540p"))


def _joined() -> int:
    """How many deliveries are found in the five clips, joined half a second apart."""
    wholes = [posed_take(Take(CORPUS / "bowling" / f"{clip}_540p.mp4", "bowling", fps=30))[0] for clip in BOWLERS]
    starts = np.cumsum([0.0] + [float(whole.times[-1]) + 0.5 for whole in wholes[:-1]])
    columns: dict[str, Any] = {part: np.concatenate([getattr(whole, part) for whole in wholes]) for part in PER_FRAME}
    columns["times"] = np.concatenate([whole.times + start for whole, start in zip(wholes, starts, strict=True)])
    over = replace(wholes[0], **columns)
    return measure(over, [], "bowling", cuts=tuple(starts[1:])).actions


def on_hard_copies() -> Iterator[Claim]:
    """Copies of bowl_01 with rotation, dropped frames, HEVC and a mirror, and clips without a detectable player."""
    copies = ("rot90_tag", "vfr_dropped", "hevc", "mirrored_left_arm")
    yield Claim(
        "bowl_01 rotated, dropped, HEVC, mirrored: release",
        worst([_release_off(hard(c), "bowl_01") for c in copies]),
        1,
        "frames",
    )
    arms = [hard(c).throwing_arm == ("left" if "left" in c else "right") for c in copies]
    yield Claim("the same: wrong arms", wrong(arms), 0, "of 4")
    left, right = hard("mirrored_left_arm"), bowling("bowl_01_540p")
    off = [percent_off(left, right, spec) for spec in ACTION_METRICS]
    yield Claim("bowl_01 mirrored and coded again against plain: every value", worst(given(off)), 3, "%", absences(off))
    contacts = [(moment(hard(c), "front_foot_contact") * BOWLING_FPS - FLAT_FOOT_FRAMES["bowl_01"]) for c in copies]
    words = ", ".join(f"{x:+.1f}" for x in contacts)
    yield Claim("bowl_01 rotated, dropped, HEVC, mirrored: contact", worst(contacts), 2, "frames", words)
    differ, of = clear([(hard(c), right) for c in (*copies, "lowlight_noise")])
    yield Claim("bowl_01 in five copies against plain: changes called clear", differ, 0, f"of {of}")
    empty = [hard(c, d) for c in ("dark_undetectable", "no_person", "tiny_person_360p") for d in ("batting", "bowling")]
    absent = [metric.value is None for m in empty for metric in m.everything.values()]
    yield Claim("nobody in view: numbers given", wrong(absent), 0, f"of {len(absent)}")
    noisy = _release_off(hard("lowlight_noise"), "bowl_01")
    yield Claim("bowl_01 dark and noisy: wrong releases", wrong([np.isnan(noisy) or abs(noisy) <= 2]), 0, "of 1")
    others = [number(hard("legs_cropped"), spec) > 0 for spec in (HEAD_STABILITY, BALANCE_DRIFT, ELBOW_DROP)]
    yield Claim("legs cropped: head, balance, elbow missing", wrong(others), 0, "of 3")
    knees = [hard("legs_cropped").everything[spec.name].value is None for spec in KNEE_METRICS]
    yield Claim("legs cropped: knee numbers given", wrong(knees), 0, f"of {len(knees)}")


def on_a_golfer() -> Iterator[Claim]:
    """A golf swing as batting, filmed from behind. The rule for two similar swings was derived from it."""
    swing = functools.partial(Take, CORPUS / "golf" / "iphone_golf_rot_vfr.mov", "batting")
    plain, turned = measured(swing()), measured(swing(mirror=True))
    off = [percent_off(turned, plain, spec) for spec in ACTION_METRICS]
    yield Claim("a golf swing, mirrored against plain: every value", worst(given(off)), 3, "%", absences(off))
    yield from _at_rates("a golf swing", lambda **how: measured(swing(**how)))


def on_held_out_clips() -> Iterator[Claim]:
    """Films that no threshold was chosen on: three bowlers filmed at lower rates."""
    for clip in ("bowl_01", "bowl_11", "bowl_21"):
        reference = bowling(f"{clip}_540p")
        takes = [take for thin in (2, 3) if (take := bowling(f"{clip}_540p", thin=thin)).actions]
        for spec in ACTION_METRICS:
            off = [percent_off(take, reference, spec) for take in takes]
            yield Claim(f"held out: {clip}, filmed at 15 and 10: {spec.name}", worst(given(off)), 5, "%", absences(off))
        differ, of = clear([(take, reference) for take in takes])
        yield Claim(f"held out: {clip}, filmed at 15 and 10: changes called clear", differ, 0, f"of {of}")


def _release_off(measurements: Measurements, clip: str) -> float:
    return (moment(measurements, "release") - release_seconds(clip)) * BOWLING_FPS


GROUPS: tuple[Callable[[], Iterator[Claim]], ...] = (
    on_motions,
    on_held_out_motions,
    on_the_batter,
    on_a_balancing_man,
    on_bowlers,
    on_hard_copies,
    on_a_golfer,
    on_held_out_clips,
)
NEED_CORPUS = (on_a_balancing_man, on_bowlers, on_hard_copies, on_a_golfer, on_held_out_clips)


def table(page: str) -> tuple[int, int]:
    """Start and end of the table in docs/metrics.md."""
    return page.index(HEADER), page.index(END)


def main() -> None:
    """Prints the table and writes it into docs/metrics.md, unless clips are missing."""
    lines = [HEADER]
    for group in (*GROUPS, *FILM_GROUPS):
        if group in (*NEED_CORPUS, *FILM_GROUPS) and not CORPUS.exists():
            continue
        for claim in group():
            lines.append(str(claim))
            sys.stdout.write(lines[-1] + "\n")
            sys.stdout.flush()
    if CORPUS.exists():
        page = DOCS.read_text()
        start, end = table(page)
        DOCS.write_text(page[:start] + "\n".join(lines) + "\n\n" + page[end:])


if __name__ == "__main__":
    main()
