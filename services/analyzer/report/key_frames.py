"""Picks the moments that a report shows and fetches their pictures: where each finding is worst first, then the events.

A picture carries the numbers that were read at its moment, drawn on the joints they were read off.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

import cv2
import numpy as np

from services.analyzer.artifacts.anonymization import Anonymizer, anonymized
from services.analyzer.artifacts.results_json import Results
from services.analyzer.biomechanics.kinematics import other
from services.analyzer.biomechanics.measurement import Course
from services.analyzer.pose.landmarks import Floats, Poses
from services.analyzer.pose.skeleton import skeleton_at
from services.analyzer.report.annotations import Drawn, draw
from services.analyzer.report.page import MOST_KEY_FRAMES, KeyFrame
from services.analyzer.report.player import Still
from services.analyzer.settings import Limits
from services.analyzer.video.frames import RGB, Losses, Picture, pictures
from services.analyzer.video.probe import Video
from services.analyzer.video.sampling import Indices, every

LONG_SIDE = 720
JPEG_QUALITY = 82
# The film in the player: a second or so of one action, cut out about the athlete. Over the bytes, every other frame.
FILM_LONG_SIDE, FILM_QUALITY, MOST_FILM_BYTES = 960, 66, 1_000_000
FILM_ROOM_SECONDS, LONGEST_FILM_SECONDS, FILM_ROOM = 0.2, 3.0, 0.15
# Two moments nearer than this are one picture with both captions.
APART_SECONDS = 0.05
CAPTIONS = {
    "front_foot_contact": "Front-foot contact",
    "release": "Ball release",
    "fastest_hands": "Hands at their fastest",
    "throw": "Throw",
    "take": "Take",
}
WORST_CAPTIONS = {
    "front_knee_brace_score": "Front knee at its smallest",
    "elbow_drop_score": "Elbow at its lowest",
    "head_stability_score": "Head farthest off",
    "balance_drift_score": "Trunk farthest off",
}
# Read at one moment; the others are of a stretch, and a moment shows them only where it is the one stretch's worst.
MOMENTARY = ("front_knee", "stride_length", "trunk_lateral_flexion")


@dataclass
class Moment:
    """Something to show: `captions` say what happens there, `numbers` are (metric, value) read there."""

    time_seconds: float
    captions: list[str]
    numbers: list[tuple[str, float]] = field(default_factory=list)


def key_frames(
    video: Video,
    poses: Poses,
    results: Results,
    courses: Sequence[Course],
    limits: Limits,
    anonymizer: Anonymizer | None = None,
) -> list[KeyFrame]:
    """The report's pictures with landmarks and numbers, in order of time."""
    chosen = moments(results)
    nearest = {int(np.argmin(np.abs(video.times - moment.time_seconds))): moment for moment in chosen}
    sides = _Sides(results["pose"]["pose_summary"], courses)
    shots = _shots(video, np.array(sorted(nearest), dtype=np.intp), limits, LONG_SIDE, anonymizer)
    return [_key_frame(picture, poses, nearest[picture.index], sides) for picture in shots]


def stills(
    video: Video,
    poses: Poses,
    results: Results,
    courses: Sequence[Course],
    limits: Limits,
    anonymizer: Anonymizer | None = None,
) -> list[Still]:
    """The film under the player's skeleton: the action of the first finding, about the athlete; none of a long one."""
    about = next(iter(_faults(results)), (0.0, ""))[0]
    course = min(courses, key=lambda course: max(course.start - about, about - course.end, 0.0), default=None)
    if course is None or course.end - course.start > LONGEST_FILM_SECONDS:
        return []
    start, end = course.start - FILM_ROOM_SECONDS, course.end + FILM_ROOM_SECONDS
    box = _about(poses, start, end)
    if box is None:
        return []
    shots = _shots(video, every(video.times, start, end), limits, FILM_LONG_SIDE, anonymizer)
    film = [Still(picture.time_seconds, _jpeg(_cut(picture.rgb, box), FILM_QUALITY), box) for picture in shots]
    while sum(len(still.jpeg) for still in film) > MOST_FILM_BYTES:
        film = film[::2]
    return film


def _shots(
    video: Video, wanted: Indices, limits: Limits, long_side: int, anonymizer: Anonymizer | None
) -> Iterator[Picture]:
    """Every picture that leaves this module comes through here, hidden where it must be."""
    return (anonymized(picture, anonymizer) for picture in pictures(video, wanted, limits, Losses(), long_side))


def _about(poses: Poses, start: float, end: float) -> tuple[float, float, float, float] | None:
    """(x, y, width, height), as shares of the picture, of all that the athlete is in meanwhile; None if not seen."""
    there = poses.image[(poses.times >= start) & (poses.times <= end)].reshape(-1, 2)
    there = there[np.isfinite(there).all(axis=1)] / (poses.width, poses.height)
    if not len(there):
        return None
    low, high = there.min(axis=0), there.max(axis=0)
    room = FILM_ROOM * (high - low).max()
    (left, top), (right, bottom) = np.clip(low - room, 0, 1), np.clip(high + room, 0, 1)
    return (
        (float(left), float(top), float(right - left), float(bottom - top)) if right > left and bottom > top else None
    )


def _cut(rgb: RGB, box: tuple[float, float, float, float]) -> RGB:
    height, width = rgb.shape[:2]
    x, y, across, down = box
    return np.ascontiguousarray(
        rgb[int(y * height) : max(int((y + down) * height), 1), int(x * width) : max(int((x + across) * width), 1)]
    )


def moments(results: Results) -> list[Moment]:
    """At most as many as a report holds, the most telling first; what is near another is told with it."""
    chosen: list[Moment] = []
    for time_seconds, caption in chain(_faults(results), _worst(results), _events(results)):
        same = next((known for known in chosen if abs(known.time_seconds - time_seconds) < APART_SECONDS), None)
        if same is not None:
            same.captions += [caption] if caption not in same.captions else []
        elif len(chosen) < MOST_KEY_FRAMES:
            chosen.append(Moment(time_seconds, [caption]))
    for moment in chosen:
        moment.numbers = list(_numbers(results, moment.time_seconds))
    return chosen


def _faults(results: Results) -> list[tuple[float, str]]:
    found = results["findings"]["findings"]
    return [(finding["time_seconds"], finding["title"]) for finding in found if finding["time_seconds"] is not None]


def _worst(results: Results) -> Iterator[tuple[float, str]]:
    for name, caption in WORST_CAPTIONS.items():
        if evidence := results["metrics"].get(name, {}).get("evidence"):
            yield evidence[0]["time_seconds"], caption


def _events(results: Results) -> list[tuple[float, str]]:
    """Those of the action nearest to the first finding, then the rest."""
    events = results["pose"]["pose_summary"]["events"]
    about = next(iter(_faults(results)), (0.0, ""))[0]
    events = sorted(events, key=lambda event: abs(event["time_seconds"] - about))
    return [(event["time_seconds"], CAPTIONS.get(event["name"], event["name"])) for event in events]


def _numbers(results: Results, at: float) -> Iterator[tuple[str, float]]:
    """Every (metric, value) that was read about this moment, those with a score first."""
    summary = results["pose"]["pose_summary"]
    for name, metric in chain(results["metrics"].items(), summary.get("measures", {}).items()):
        evidence = metric["evidence"]
        if not name.startswith(MOMENTARY):
            evidence = evidence[:1] if summary["actions"] <= 1 else []
        near = [(abs(e["time_seconds"] - at), e["value"]) for e in evidence]
        if near and min(near)[0] < APART_SECONDS:
            yield name, min(near)[1]


class _Sides:
    """Which leg or arm a number is of, by its label in the picture, which is not always the true one."""

    def __init__(self, summary: Results, courses: Sequence[Course]) -> None:
        self._standing = sorted(standing for course in courses for standing in course.standing)
        arm = summary["throwing_arm"]
        self._front_arm = other(arm) if arm else summary["front_leg"]

    def of(self, metric: str, at: float) -> str | None:
        """`left` or `right`; None where it was not seen."""
        if metric.startswith("elbow"):
            return self._front_arm
        if not self._standing:
            return None
        time, side = min(self._standing, key=lambda standing: abs(standing[0] - at))
        return side if abs(time - at) <= 2 * APART_SECONDS else None


def _key_frame(picture: Picture, poses: Poses, moment: Moment, sides: _Sides) -> KeyFrame:
    height, width = picture.rgb.shape[:2]
    points, visibility = skeleton_at(poses, picture.time_seconds)
    points = points * (width / poses.width, height / poses.height)
    return KeyFrame(
        time_seconds=picture.time_seconds,
        jpeg=_jpeg(picture.rgb, JPEG_QUALITY),
        width=width,
        height=height,
        points=points,
        visibility=visibility,
        caption="; ".join(moment.captions),
        moment_seconds=moment.time_seconds,
        marks=tuple(_marks(moment, points, sides)),
    )


def _marks(moment: Moment, points: Floats, sides: _Sides) -> Iterator[Drawn]:
    """The moment's numbers, one a joint: the first that was read there."""
    taken: list[list[str]] = []
    for metric, value in moment.numbers:
        part = metric.split("_")[:2]  # the front knee has several numbers, and one place
        drawn = draw(metric, value, points, sides.of(metric, moment.time_seconds))
        if drawn and part not in taken:
            taken.append(part)
            yield drawn


def _jpeg(rgb: RGB, quality: int) -> bytes:
    _, jpeg = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return jpeg.tobytes()
